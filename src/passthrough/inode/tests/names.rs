//! Where there are no handles, and nothing but names leads to an inode.

use super::*;

#[test]
fn without_handles_an_inode_is_found_where_it_was_moved() {
    let source = Source::new(By::Name, 1);
    fs::create_dir_all(source.path("a/b")).expect("mkdir");
    fs::write(source.path("a/b/file"), "file").expect("write");
    let mut parent = NodeId::ROOT;
    for name in [c"a", c"b", c"file"] {
        let dir = source.table.fd(parent).expect("it is there");
        let place = Place { parent, dir: dir.as_fd(), name: Name::new(name).expect("a name") };
        let found = source.table.find(&place).expect("it is there");
        parent = source.table.acquire(found, Some(&place), Keep::Nothing).expect("acquire");
    }
    let file = parent;
    assert_eq!(source.content(file).as_deref(), Ok("file"), "two directories down");
    source.rename("a", "c");
    // The cache has room for one.
    source.make("other");
    source.nodeid("other");
    assert_eq!(source.content(file).as_deref(), Ok("file"));
}

#[test]
fn without_handles_another_object_under_the_name_is_not_taken_for_the_inode() {
    let source = Source::new(By::Name, 1);
    source.make("old");
    let old = source.lookup("old", Keep::Nothing);
    // Behind the table, and the number may be used again.
    fs::remove_file(source.path("old")).expect("unlink");
    source.make("old");
    assert_eq!(source.content(old.nodeid), Err(Errno::ESTALE));
    assert_ne!(source.nodeid("old"), old.nodeid);
    fs::remove_file(source.path("old")).expect("unlink");
    assert_eq!(source.content(old.nodeid), Err(Errno::ESTALE));
}

#[test]
fn without_handles_a_number_that_is_used_again_is_a_new_nodeid_while_the_old_is_open() {
    let mut source = Source::new(By::Name, 10);
    source.table.access = Access::Names { keeps_birth: false };
    source.make("a");
    let old = source.lookup("a", Keep::Fd);
    let stat = source.found("a").stat;
    fs::remove_file(source.path("a")).expect("remove it behind the table's back");
    source.make("b");
    let again = || source.acquire(Found { stat, ..source.found("b") }, "b", Keep::Fd);
    let new = again();
    assert_ne!(new, old.nodeid);
    assert_eq!(source.content(new).expect("read"), "b");
    assert_eq!(source.content(old.nodeid).expect("read"), "a", "it is open");
    assert_eq!(again(), new, "there is one successor");
}

#[test]
fn without_handles_what_loses_the_name_that_led_to_it_stays_reachable() {
    let source = Source::new(By::Name, 1);
    source.make("one");
    fs::hard_link(source.path("one"), source.path("two")).expect("link");
    let one = source.lookup("one", Keep::Nothing);
    source.remove("one");
    source.make("other");
    source.nodeid("other");
    assert_eq!(source.content(one.nodeid).as_deref(), Ok("one"));
    assert_eq!(source.nodeid("two"), one.nodeid);
    one.take_used();
    source.nodeid("other");
    assert!(!one.has_fd(), "by its other name it need not be kept open");
    assert_eq!(source.content(one.nodeid).as_deref(), Ok("one"));
}

#[test]
fn without_handles_what_has_another_name_is_kept_open_only_as_long_as_there_is_room() {
    let source = Source::new(By::Name, 4);
    for name in ["a", "b"] {
        source.make(name);
        fs::hard_link(source.path(name), source.path(&format!("{name}-too"))).expect("link");
    }
    let [a, b] = ["a", "b"].map(|name| source.lookup(name, Keep::Nothing));
    source.remove("a");
    source.remove("b");
    source.remove("b-too");
    assert!(a.is_pinned() && b.is_pinned());
    assert!(source.table.shards.let_go_of_named());
    assert!(!a.has_fd(), "a lookup finds it by its other name");
    assert!(b.is_pinned(), "nothing else leads there");
    assert_eq!(source.nodeid("a-too"), a.nodeid);
    assert_eq!(source.content(a.nodeid).as_deref(), Ok("a"));
    assert!(!source.table.shards.let_go_of_named());
}

#[test]
fn without_handles_many_opens_of_one_file_are_remembered_at_little_cost() {
    let source = Source::new(By::Name, 100);
    source.make("file");
    let inode = source.lookup("file", Keep::Fd);
    let open = || Arc::new(fs::File::open(source.path("file")).expect("open"));
    let kept = open();
    inode.opened(&kept);
    (0..1000).for_each(|_| inode.opened(&open()));
    assert!(inode.remembered_files() < 20, "{} are remembered", inode.remembered_files());
    let found = inode.open_file().expect("one is open still");
    assert!(Arc::ptr_eq(&found, &kept));
    let started = Instant::now();
    // To look at all of them each time would be a hundred thousand million looks.
    (0..400_000).for_each(|_| inode.opened(&kept));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop((kept, found));
    assert!(inode.open_file().is_none(), "closed, however often it was opened");
}
