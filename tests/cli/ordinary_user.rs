//! What a user without privileges can do, and what they are told about the rest.

use std::process::Command;

use crate::harness::{Output, Place, binary, run};

/// Runs a shell script as root in a mount namespace of its own where anybody may open /dev/fuse, as
/// udev has it. `nobody COMMAND` runs it without privileges; `$F` is the program, `$S` a source and
/// `$M` a mount point of theirs.
fn script(place: &Place, text: &str) -> Output {
    // The build may lie where others can not go.
    let program = place.path().join("fusewire");
    std::fs::copy(binary(), &program).expect("copy");
    let folder = place.path().join("device");
    std::fs::create_dir_all(&folder).expect("mkdir");
    for path in [&place.source, &place.mountpoint] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("chown");
    }
    let prepare = r#"
        set -u
        fail() { echo "FAILED: $*" >&2; exit 99; }
        nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
        mount -t tmpfs none "$D" && mknod "$D/fuse" c 10 229 && chmod 666 "$D/fuse" || fail prepare
        mount --bind "$D/fuse" /dev/fuse || fail bind
        trap 'umount -l "$M" 2>/dev/null' EXIT
    "#;
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c"]).arg(prepare.to_owned() + text);
    command.env("F", program).env("D", folder).current_dir("/");
    run(command.env("S", &place.source).env("M", &place.mountpoint))
}

#[test]
fn mounting_works_by_copying_and_stats_say_why() {
    let place = Place::new();
    let output = script(
        &place,
        r#"
        nobody "$F" "$S" "$M" || fail mount
        [ "$(nobody cat "$M/file")" = hello ] || fail read
        nobody sh -c 'echo new >"$M/new"' && [ "$(cat "$S/new")" = new ] || fail write
        grep " $M " /proc/self/mountinfo
        nobody "$F" stats "$M" || fail stats
        "$F" stats "$M" --json >/dev/null || fail stats as root
        nobody "$F" umount "$M" || fail umount
        ! grep " $M " /proc/self/mountinfo || fail still mounted
    "#,
    )
    .succeeded();
    for part in ["fuse.fusewire", "user_id=65534", "CAP_SYS_ADMIN"] {
        assert!(output.stdout.contains(part), "no {part} in {output:?}");
    }
    // Large READs are spliced where requests come through /dev/fuse.
    let served = |mode| output.stdout.contains(&format!("{mode} (asked for: auto)"));
    assert!(served("copy") || served("splice"), "{output:?}");
}

#[test]
fn what_needs_root_fails_loudly() {
    let place = Place::new();
    script(&place, r#"nobody "$F" "$S" "$M" --data passthrough"#)
        .failed(1, &["passthrough", "CAP_SYS_ADMIN", "copy"]);
    // The machine's /etc/fuse.conf may allow it; this one does not.
    let forbid =
        r#"echo >"$D/conf"; [ ! -e /etc/fuse.conf ] || mount --bind "$D/conf" /etc/fuse.conf;"#;
    script(&place, &format!(r#"{forbid} nobody "$F" "$S" "$M" -o allow_other"#))
        .failed(1, &["allow_other", "/etc/fuse.conf"]);
}

#[test]
fn a_mount_point_inside_the_source_is_refused() {
    let place = Place::new();
    script(&place, r#"nobody mkdir "$S/inner"; nobody "$F" "$S" "$S/inner""#)
        .failed(1, &["/inner", "inside the source"]);
}

#[test]
fn an_unreadable_source_is_named() {
    let place = Place::new();
    script(&place, r#"chown 0 "$S"; chmod 700 "$S"; nobody "$F" "$S" "$M""#)
        .failed(1, &[place.source.to_str().expect("text"), "ermission denied"]);
}

#[test]
fn without_fusermount3_the_remedy_is_said() {
    let place = Place::new();
    script(&place, r#"nobody env PATH=/nowhere "$F" "$S" "$M""#)
        .failed(1, &["fusermount3", "fuse3"]);
}

#[test]
fn a_device_that_is_closed_to_them_is_named() {
    let place = Place::new();
    script(&place, r#"chmod 600 "$D/fuse"; nobody "$F" "$S" "$M""#)
        .failed(1, &["/dev/fuse", "ermission denied"]);
    let doctor = script(&place, r#"chmod 600 "$D/fuse"; nobody "$F" doctor"#);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.stdout.contains("chmod 666 /dev/fuse"), "{doctor:?}");
}

#[test]
fn another_users_mount_is_not_theirs() {
    let place = Place::new();
    let output = script(
        &place,
        r#"
        "$F" "$S" "$M" || fail mount
        nobody "$F" umount "$M" && fail umounted
        nobody "$F" stats "$M" && fail stats
        grep -q " $M " /proc/self/mountinfo || fail it is gone
        "$F" umount "$M"
    "#,
    );
    output.succeeded().failed(0, &["unmount", "ask as root or as the mount's owner"]);
}

#[test]
fn a_dead_mount_of_theirs_is_cleared() {
    let place = Place::new();
    script(
        &place,
        r#"
        nobody "$F" "$S" "$M" || fail mount
        kill -9 "$(nobody "$F" stats "$M" --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')" || fail kill
        nobody "$F" umount "$M" || fail umount
        ! grep " $M " /proc/self/mountinfo || fail still mounted
        nobody "$F" "$S" "$M" && nobody "$F" umount "$M"
    "#,
    )
    .succeeded();
}

#[test]
fn the_doctor_says_what_they_can_do() {
    let place = Place::new();
    let output = script(&place, r#"nobody "$F" doctor "$S""#).succeeded();
    for part in ["as nobody", "mounting is possible", "as root", "CAP_DAC_READ_SEARCH"] {
        assert!(output.stdout.contains(part), "no {part} in {output:?}");
    }
}
