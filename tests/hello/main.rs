//! The file system of the crate's documentation, mounted and used.

#[expect(clippy::cast_possible_truncation, dead_code, reason = "an example for readers")]
mod example {
    include!("hello.rs");

    pub(super) fn mount(mountpoint: &std::path::Path) -> Session {
        Session::mount(Arc::new(Hello), &Options::new(mountpoint))
            .expect("mount; this test needs /dev/fuse and root")
    }
}

use std::fs;

#[test]
fn the_documented_file_system_is_listed_read_and_unmounted() {
    let mountpoint = tempfile::tempdir().expect("make a mount point");
    let session = example::mount(mountpoint.path());
    let names: Vec<_> = fs::read_dir(mountpoint.path())
        .expect("list")
        .map(|entry| entry.expect("read an entry").file_name())
        .collect();
    assert_eq!(names, ["hello"]);
    let file = mountpoint.path().join("hello");
    assert_eq!(fs::read_to_string(&file).expect("read"), "hello\n");
    assert_eq!(fs::metadata(&file).expect("stat").len(), 6);
    let missing = fs::metadata(mountpoint.path().join("other")).expect_err("there is one file");
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    let refused = fs::write(&file, "x").expect_err("nothing can be written");
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSYS));
    let requests = session.info().metrics.requests().0;
    assert!(requests["READ"].count >= 1 && requests["READDIR"].count >= 1, "{requests:?}");
    drop(session);
    assert_eq!(fs::read_dir(mountpoint.path()).expect("list").count(), 0, "still mounted");
}
