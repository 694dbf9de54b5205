//! What is mounted inside the source.

use super::*;

/// A source with a directory `covered`, on which a part is mounted that holds `file`.
fn covered(may_wait: bool) -> (Source, TempDir, Part) {
    let mut source = Source::new(By::Handle, 100);
    fs::create_dir(source.path("covered")).expect("mkdir");
    let other = tempfile::tempdir().expect("another directory");
    fs::write(other.path().join("file"), "inside").expect("make a file");
    let mounted = Mounted { root: path_fd(other.path()), keeps_birth: true, may_wait };
    let part = source.table.attach(Part::MAIN, Path::new("covered"), mounted).expect("attach");
    (source, other, part)
}

#[test]
fn the_directory_that_is_mounted_on_is_found_as_what_is_mounted() {
    let (source, other, part) = covered(false);
    let found = source.find("covered").expect("find it");
    let ino = fs::metadata(other.path()).expect("stat").ino();
    assert_eq!((found.part, found.stat.st_ino), (part, ino));
}

#[test]
fn a_part_that_may_not_answer_is_left_to_a_thread_that_may_wait() {
    let (source, _other, part) = covered(true);
    source.make("file");
    std::thread::scope(|scope| {
        let impatient = scope.spawn(|| {
            caller::be_impatient();
            let aside = || caller::while_patient(|| source.find("covered").map(|found| found.part));
            assert_eq!(source.find("file").map(|found| found.part), Ok(Part::MAIN));
            (source.find("covered").map(|found| found.part), aside())
        });
        let found = impatient.join().expect("no assertion failed");
        assert_eq!(found, (Err(Errno::EWOULDBLOCK), Ok(part)));
    });
    assert_eq!(source.find("covered").map(|found| found.part), Ok(part), "this one may wait");
}
