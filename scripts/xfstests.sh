#!/usr/bin/env bash
# Plays a built xfstests on native ext4 and on fusewire mounts over it, and says which of its tests fail on
# a mount only. xfstests is no part of fusewire and of no Debian package: its README tells how it is built.
#
#   scripts/xfstests.sh PATH                          the group generic/quick
#   scripts/xfstests.sh PATH ARGUMENTS OF ./check     such as generic/001, or -g auto
#
# FUSEWIRE names the fusewire to be tested, else it is built; OPTIONS its options of `-o`, else allow_other;
# LIMIT how many seconds each of the two runs may take, else 7200. Needs root. Ends with 0 if nothing fails
# on the mount only, 1 if something does or xfstests does not run, 2 if the command line is wrong.
set -euo pipefail

say() { printf 'xfstests.sh: %s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

[[ $# -ge 1 && $1 != -* ]] || die "usage: scripts/xfstests.sh PATH [ARGUMENTS OF ./check]" 2
suite=$(realpath -m "$1")
shift
[[ -x $suite/check && -d $suite/tests/generic ]] || die "no xfstests at $suite: there is no ./check with tests/generic" 2
[[ -x $suite/ltp/fsstress ]] || die "the xfstests at $suite is not built: run make there" 2
[[ $EUID -eq 0 ]] || die "it mounts file systems: run it as root"
[[ $# -gt 0 ]] || set -- -g quick
limit=${LIMIT:-7200}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z ${FUSEWIRE:-} ]]; then
    say "building the release (the first time takes some minutes)"
    cargo build --release --locked --manifest-path "$root/Cargo.toml" --bin fusewire >&2
    FUSEWIRE=$root/target/release/fusewire
fi
FUSEWIRE=$(realpath -m "$FUSEWIRE")
[[ -x $FUSEWIRE ]] || die "there is no program $FUSEWIRE" 2

folder=$(mktemp -d "${TMPDIR:-/tmp}/fusewire-xfstests.XXXXXX")
# mount(8) calls this for the type that xfstests is told; it must not be anybody else's.
subtype=fusewire-xfstests-$$
helper=/sbin/mount.fuse.$subtype
disks=() playing=
finish() {
    local status=$? at
    trap - EXIT
    [[ -z $playing ]] || { kill "$playing" && wait "$playing"; } 2>/dev/null || true
    for at in "$folder"/{test,scratch} "$folder"/disk-{test,scratch}; do
        while mountpoint -q "$at"; do umount "$at" 2>/dev/null || umount -l "$at"; done
    done
    for at in "${disks[@]}"; do losetup --detach "$at" 2>/dev/null || true; done
    rm -f "$helper"
    rm -rf --one-file-system "$folder"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

for part in test scratch; do
    mkdir "$folder/disk-$part" "$folder/$part"
    truncate -s 4G "$folder/$part.image"
    mkfs.ext4 -q -F "$folder/$part.image"
    disks+=("$(losetup --find --show "$folder/$part.image")")
done

# Plays one side; leaves its failures in failed-NAME, one a line.
play() { # NAME ARGUMENTS
    local name=$1 status=0
    shift
    say "on $name: ./check $*"
    # In the background: a trap does not wait for what is waited for.
    (cd "$suite" && HOST_OPTIONS=$folder/options-$name exec timeout -k 10 "$limit" ./check "$@") >"$folder/said-$name" 2>&1 &
    playing=$!
    wait "$playing" || status=$?
    playing=
    if [[ $status -eq 124 || $status -eq 137 ]] || ! grep -q '^Ran: ' "$folder/said-$name"; then
        tail -n 30 "$folder/said-$name" >&2
        die "xfstests did not come to its end on $name (exit status $status)"
    fi
    sed -n 's/^Failures: *//p' "$folder/said-$name" | tr -s ' ' '\n' | sort -u >"$folder/failed-$name"
    say "on $name: $(sed -n 's/^Ran: *//p' "$folder/said-$name" | wc -w) ran, $(wc -l <"$folder/failed-$name") failed"
}

cat >"$folder/options-native" <<OPTIONS
export FSTYP=ext4
export TEST_DEV=${disks[0]} TEST_DIR=$folder/test
export SCRATCH_DEV=${disks[1]} SCRATCH_MNT=$folder/scratch
OPTIONS
play native "$@"

for part in test scratch; do
    while mountpoint -q "$folder/$part"; do umount "$folder/$part"; done
done
mkfs.ext4 -q -F "${disks[0]}" && mount "${disks[0]}" "$folder/disk-test"
mkfs.ext4 -q -F "${disks[1]}" && mount "${disks[1]}" "$folder/disk-scratch"
# xfstests unmounts by the device, which a path is not taken for: those here are names.
cat >"$helper" <<HELPER
#!/bin/sh
# It is called with: device, mount point, -o, options.
at=\$2 options=\${4-defaults}
case ,\$options, in
*,remount,*) exec "$FUSEWIRE" mount "\$1" "\$at" -o "\$options" ;;
*) exec "$FUSEWIRE" mount "$folder/disk-\${1##*-}" "\$at" -o "\$options,${OPTIONS:-allow_other},fsname=\$1,subtype=$subtype" ;;
esac
HELPER
# xfstests compares what df tells with FSTYP, which names no subtype.
cat >"$folder/df" <<DF
#!/bin/sh
df -T -P "\$@" | sed 's/ fuse\.$subtype / fuse /'
DF
chmod +x "$helper" "$folder/df"
cat >"$folder/options-mount" <<OPTIONS
export FSTYP=fuse FUSE_SUBTYP=.$subtype
export TEST_DEV=$subtype-test TEST_DIR=$folder/test
export SCRATCH_DEV=$subtype-scratch SCRATCH_MNT=$folder/scratch
export DF_PROG=$folder/df
OPTIONS
play mount "$@"

# What is known to differ, by the kernel's rules. And two that go by what xfstests knows of FUSE: 003 mounts
# with nodiratime and strictatime, which are for the source to have; 020 expects a thousand attributes of any
# FUSE file system, where ext4 has room for a block of them.
sed -n '/^suite = "xfstests"/{n;s/^test = "\(.*\)"/\1/p}' "$root/tests/known-differences.toml" >"$folder/known"
printf '%s\n' generic/003 generic/020 >>"$folder/known"
only=$(comm -23 "$folder/failed-mount" "$folder/failed-native")
new=$(grep -vxFf "$folder/known" <<<"$only" || true)
[[ -z $new ]] || { printf '%s\n' "$new"; die "fails on the mount only: $(wc -w <<<"$new")"; }
say "nothing fails on the mount that does not natively${only:+, but for what is known to: ${only//$'\n'/ }}"
