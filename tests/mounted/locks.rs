//! flock, record locks and open-file-description locks, within a process and between processes.

use crate::common::actor::{SECOND, THIRD};
use crate::harness::Needs;
use crate::trace::Trace;

behaviours! {
    Needs::Any => [
        flock_between_descriptors,
        locks_hold_on_one_side,
        flock_between_processes,
        flock_goes_with_the_last_close,
        flock_of_a_duplicate,
        flock_waits_until_freed,
        flock_upgrades,
        records_between_processes,
        records_by_ranges,
        records_within_a_process_do_not_conflict,
        records_go_with_any_close,
        records_go_with_the_process,
        record_waits_until_freed,
        waiting_process_can_be_killed,
        process_that_waits_for_a_record_can_be_killed,
        waiting_process_can_be_interrupted,
        asking_who_holds_a_record,
        ofd_locks_between_descriptors,
        ofd_locks_against_records,
        ofd_lock_waits_until_freed,
        kinds_of_locks_are_apart,
        locks_need_the_access_mode,
        locks_on_an_unlinked_file,
        many_waiters,
    ];
}

fn locks_hold_on_one_side(t: &mut Trace) {
    t.ok("open a f rw,creat 644");
    t.ok("flock a ex,nb");
    t.behind().ok("open b f rw");
    t.behind().known("locks", "flock b ex,nb");
}

fn flock_between_descriptors(t: &mut Trace) {
    t.ok("open a f rw,creat 644");
    t.ok("open b f rw");
    t.ok("flock a ex,nb");
    t.err("flock b ex,nb", "EAGAIN");
    t.err("flock b sh,nb", "EAGAIN");
    t.ok("flock a un");
    t.ok("flock b sh,nb");
    t.ok("flock a sh,nb");
    t.err("flock a ex,nb", "EAGAIN");
    t.ok("flock b un");
    // The refused upgrade has cost `a` its shared lock.
    t.ok("open r f r");
    t.ok("flock r ex,nb");
}

fn flock_between_processes(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.user(SECOND).ok("open f f r");
    t.ok("flock f ex,nb");
    t.user(SECOND).err("flock f sh,nb", "EAGAIN");
    t.ok("flock f un");
    t.user(SECOND).ok("flock f ex,nb");
    t.err("flock f sh,nb", "EAGAIN");
    t.dismiss(SECOND);
    t.ok("flock f ex,nb");
}

fn flock_goes_with_the_last_close(t: &mut Trace) {
    t.ok("open a f rw,creat 644");
    t.ok("open b f rw");
    t.ok("flock a ex,nb");
    t.ok("dup a c");
    t.ok("close a");
    t.err("flock b ex,nb", "EAGAIN");
    t.ok("close c");
    // Waits: a program that another behaviour is just starting has a copy of every descriptor until
    // it is executed.
    t.ok("flock b ex");
}

fn flock_of_a_duplicate(t: &mut Trace) {
    t.ok("open a f rw,creat 644");
    t.ok("dup a b");
    t.ok("flock a ex,nb");
    t.ok("flock b ex,nb");
    t.ok("flock b un");
    t.ok("open c f rw");
    t.ok("flock c ex,nb");
}

fn flock_waits_until_freed(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.user(SECOND).ok("open f f rw");
    t.ok("flock f ex,nb");
    t.user(SECOND).begin("flock f ex");
    t.wait_ms(100);
    t.ok("put g the-mount-goes-on-meanwhile");
    t.is("get g", "the-mount-goes-on-meanwhile");
    t.ok("flock f un");
    t.user(SECOND).finish();
    t.err("flock f sh,nb", "EAGAIN");
}

fn flock_upgrades(t: &mut Trace) {
    t.ok("open a f rw,creat 644");
    t.ok("flock a sh,nb");
    t.ok("flock a ex,nb");
    t.ok("open b f rw");
    t.err("flock b sh,nb", "EAGAIN");
    t.ok("flock a sh,nb");
    t.ok("flock b sh,nb");
    t.err("flock a ex,nb", "EAGAIN");
}

fn records_between_processes(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.user(SECOND).ok("open f f rw");
    t.ok("setlk f wr 0 0");
    t.user(SECOND).err("setlk f wr 0 0", "EAGAIN");
    t.user(SECOND).err("setlk f rd 5 1", "EAGAIN");
    t.ok("setlk f un 0 0");
    t.user(SECOND).ok("setlk f rd 0 0");
    t.ok("setlk f rd 0 0");
    t.err("setlk f wr 0 0", "EAGAIN");
}

fn records_by_ranges(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.user(SECOND).ok("open f f rw");
    t.ok("setlk f wr 0 10");
    t.ok("setlk f wr 20 10");
    t.user(SECOND).ok("setlk f wr 10 10");
    t.user(SECOND).err("setlk f wr 9 1", "EAGAIN");
    t.user(SECOND).err("setlk f wr 15 10", "EAGAIN");
    t.ok("setlk f un 5 5");
    t.user(SECOND).ok("setlk f wr 5 5");
    t.user(SECOND).err("setlk f wr 4 1", "EAGAIN");
    t.ok("setlk f wr 5G 0");
    t.user(SECOND).err("setlk f rd 6G 1", "EAGAIN");
}

fn records_within_a_process_do_not_conflict(t: &mut Trace) {
    t.user(SECOND).ok("open a f rw,creat 644");
    t.user(SECOND).ok("open b f rw");
    t.user(SECOND).ok("setlk a wr 0 0");
    t.user(SECOND).ok("setlk b wr 0 0");
    t.user(SECOND).ok("setlk b rd 10 5");
    t.user(THIRD).ok("open f f rw");
    t.user(THIRD).ok("setlk f rd 10 5");
    t.user(THIRD).err("setlk f rd 9 1", "EAGAIN");
}

fn records_go_with_any_close(t: &mut Trace) {
    t.user(SECOND).ok("open a f rw,creat 644");
    t.user(SECOND).ok("open b f rw");
    t.user(SECOND).ok("setlk a wr 0 0");
    t.user(THIRD).ok("open f f rw");
    t.user(THIRD).err("setlk f wr 0 0", "EAGAIN");
    t.user(SECOND).ok("close b");
    t.user(THIRD).ok("setlk f wr 0 0");
}

fn records_go_with_the_process(t: &mut Trace) {
    t.user(SECOND).ok("open f f rw,creat 644");
    t.user(SECOND).ok("setlk f wr 0 0");
    t.user(SECOND).ok("flock f ex,nb");
    t.user(THIRD).ok("open f f rw");
    t.user(THIRD).err("setlk f rd 0 0", "EAGAIN");
    t.dismiss(SECOND);
    t.user(THIRD).ok("setlk f wr 0 0");
    t.user(THIRD).ok("flock f ex,nb");
}

fn record_waits_until_freed(t: &mut Trace) {
    t.user(SECOND).ok("open f f rw,creat 644");
    t.user(THIRD).ok("open f f rw");
    t.user(SECOND).ok("setlk f wr 0 100");
    t.user(THIRD).begin("setlkw f wr 50 10");
    t.wait_ms(100);
    t.ok("stat f");
    t.user(SECOND).ok("setlk f un 0 100");
    t.user(THIRD).finish();
    t.user(SECOND).err("setlk f rd 55 1", "EAGAIN");
    t.user(SECOND).is("getlk f rd 0 0", "wr 50 10");
}

fn waiting_process_can_be_killed(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.ok("flock f ex,nb");
    t.user(SECOND).ok("open f f rw");
    t.user(SECOND).begin("flock f ex");
    t.wait_ms(100);
    t.dismiss(SECOND);
    t.user(THIRD).ok("open f f rw");
    t.user(THIRD).begin("ofdlkw f wr 0 0");
    t.user(THIRD).finish();
    t.dismiss(THIRD);
    t.ok("flock f un");
    t.ok("flock f ex,nb");
}

fn process_that_waits_for_a_record_can_be_killed(t: &mut Trace) {
    t.user(SECOND).ok("open f f rw,creat 644");
    t.user(SECOND).ok("setlk f wr 0 10");
    t.user(THIRD).ok("open f f rw");
    t.user(THIRD).begin("setlkw f wr 5 10");
    t.wait_ms(100);
    t.dismiss(THIRD);
    t.user(SECOND).ok("setlk f un 0 0");
    t.is("get f", "");
    t.user(SECOND).is("getlk f wr 0 0", "free");
    t.user(SECOND).ok("setlk f wr 0 0");
}

fn waiting_process_can_be_interrupted(t: &mut Trace) {
    t.user(SECOND).ok("open f f rw,creat 644");
    t.user(SECOND).ok("setlk f wr 0 0");
    t.user(SECOND).ok("flock f ex,nb");
    t.user(THIRD).ok("open f f rw");
    t.user(THIRD).err("interrupted setlkw f wr 0 10", "EINTR");
    t.user(THIRD).err("interrupted ofdlkw f wr 0 10", "EINTR");
    t.user(THIRD).err("interrupted flock f ex", "EINTR");
    // It has left nothing behind, neither a lock nor a place in the line.
    t.user(SECOND).ok("setlk f un 0 0");
    t.user(SECOND).ok("flock f un");
    t.user(SECOND).ok("setlk f wr 0 0");
    t.user(SECOND).ok("flock f ex,nb");
}

fn asking_who_holds_a_record(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.user(SECOND).ok("open f f rw");
    t.user(SECOND).is("getlk f wr 0 0", "free");
    t.user(SECOND).ok("setlk f rd 10 20");
    t.is("getlk f wr 0 0", "rd 10 20");
    t.is("getlk f rd 0 0", "free");
    t.is("getlk f wr 0 10", "free");
    t.user(SECOND).is("getlk f wr 0 0", "free");
}

fn ofd_locks_between_descriptors(t: &mut Trace) {
    t.ok("open a f rw,creat 644");
    t.ok("open b f rw");
    t.ok("ofdlk a wr 0 10");
    t.err("ofdlk b wr 5 10", "EAGAIN");
    t.err("ofdlk b rd 0 1", "EAGAIN");
    t.ok("ofdlk b wr 10 10");
    t.is("ofdgetlk b wr 0 5", "wr 0 10");
    t.ok("close a");
    // Waits, as in `flock_goes_with_the_last_close`.
    t.ok("ofdlkw b wr 0 10");
}

fn ofd_locks_against_records(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.user(SECOND).ok("open f f rw");
    t.ok("ofdlk f wr 0 10");
    t.user(SECOND).err("setlk f wr 0 10", "EAGAIN");
    t.user(SECOND).ok("setlk f wr 20 10");
    t.err("ofdlk f rd 25 1", "EAGAIN");
    t.user(SECOND).is("getlk f wr 0 0", "wr 0 10");
}

fn ofd_lock_waits_until_freed(t: &mut Trace) {
    t.ok("open a f rw,creat 644");
    t.ok("ofdlk a wr 0 0");
    t.user(SECOND).ok("open b f rw");
    t.user(SECOND).begin("ofdlkw b wr 0 0");
    t.wait_ms(100);
    t.ok("close a");
    t.user(SECOND).finish();
}

fn kinds_of_locks_are_apart(t: &mut Trace) {
    t.ok("open f f rw,creat 644");
    t.user(SECOND).ok("open f f rw");
    t.ok("flock f ex,nb");
    t.user(SECOND).ok("setlk f wr 0 0");
    t.user(SECOND).err("flock f ex,nb", "EAGAIN");
    t.err("setlk f rd 0 0", "EAGAIN");
    t.ok("write f locks-are-advice");
    t.user(SECOND).is("pread f 0 20", "locks-are-advice");
}

fn locks_need_the_access_mode(t: &mut Trace) {
    t.ok("put f x");
    t.ok("open r f r");
    t.ok("open w f w");
    t.ok("open p f path");
    t.err("setlk r wr 0 0", "EBADF");
    t.err("setlk w rd 0 0", "EBADF");
    t.ok("setlk r rd 0 0");
    t.ok("flock r ex,nb");
    t.err("flock p sh,nb", "EBADF");
    t.ok("mkdir d 755");
    t.ok("open d d r,dir");
    t.ok("open e d r,dir");
    t.ok("flock d ex,nb");
    t.err("flock e sh,nb", "EAGAIN");
}

fn locks_on_an_unlinked_file(t: &mut Trace) {
    t.ok("open a f rw,creat 644");
    t.ok("open b f rw");
    t.ok("unlink f");
    t.ok("flock a ex,nb");
    t.err("flock b ex,nb", "EAGAIN");
    t.ok("put f new");
    t.ok("open c f rw");
    t.ok("flock c ex,nb");
}

fn many_waiters(t: &mut Trace) {
    t.ok("put f 0");
    let path = t.path("f");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..25 {
                    let file = std::fs::OpenOptions::new().read(true).write(true).open(path);
                    let file = file.expect("it was made above");
                    file.lock().expect("wait for the lock");
                    let mut text = String::new();
                    std::io::Read::read_to_string(&mut &file, &mut text).expect("read");
                    let next = text.trim().parse::<u32>().expect("a number") + 1;
                    let bytes = next.to_string();
                    std::os::unix::fs::FileExt::write_all_at(&file, bytes.as_bytes(), 0)
                        .expect("write");
                }
            });
        }
    });
    t.is("get f", "200");
}
