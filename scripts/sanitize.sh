#!/usr/bin/env bash
# Runs with AddressSanitizer what shares memory with the kernel: builds fusewire and its tests so, into
# target/sanitize, and plays the unit tests and those of rings, channels, data and endings of mounts. An
# address that nobody owns and memory that nobody frees are errors, in a test as in any daemon that it
# starts. A stable toolchain does; ten minutes after the build.
#
#   scripts/sanitize.sh [ARGUMENTS OF cargo test ...]       instead of all: --test mounted -- uring_copy::
#
# Needs root and /dev/fuse. Switches FUSE over io_uring on for its time. Left out: tests/hotpath, which
# counts allocations and would count the sanitizer's; tests/hotpath_calls, as no leak can be looked for
# in a process that strace holds; and a daemon that is killed, which tells of no leaks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'scripts/sanitize.sh: %s\n' "$*" >&2; exit 1; }

command -v cargo >/dev/null || die "no cargo: install a Rust toolchain from https://rustup.rs"
[[ $EUID -eq 0 ]] || die "the tests mount file systems: run it as root"
[[ -c /dev/fuse ]] || die "no /dev/fuse: modprobe fuse"
uring=/sys/module/fuse/parameters/enable_uring
[[ -w $uring ]] || die "no $uring: FUSE over io_uring needs Linux 6.14"
host=$(rustc -vV | sed -n 's/^host: //p')
compgen -G "$(rustc --print sysroot)/lib/rustlib/$host/lib/librustc*_rt.asan.a" >/dev/null ||
    die "this compiler comes without AddressSanitizer: take one from https://rustup.rs"

# The option is not a stable one; what it does to a program is.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}"
# With a target of its own, build scripts and macros are left as they are.
build=(--locked --target "$host" --target-dir target/sanitize)
whole=(--lib --test transport --test null --test hello --test lifecycle --test mounted)
what=("$@")
[[ $# -gt 0 ]] || what=("${whole[@]}")
cargo test "${build[@]}" --no-run "${what[@]}"

# Tests of the transports change both, and one that is killed leaves them so.
before=$(<"$uring")
cpu=/sys/devices/system/cpu/cpu1/online
online=$(cat "$cpu" 2>/dev/null || true)
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/fusewire-sanitize.XXXXXX")
chmod 1777 "$TMPDIR"
export TMPDIR
finish() {
    echo "$before" >"$uring"
    [[ -z $online ]] || echo "$online" >"$cpu"
    # Nothing is removed through a mount that a daemon has left.
    if grep -qF " $TMPDIR" /proc/self/mountinfo; then
        printf 'scripts/sanitize.sh: still mounted below %s\n' "$TMPDIR" >&2
        exit 1
    fi
    rm -rf --one-file-system "$TMPDIR"
}
trap finish EXIT
trap 'exit 130' INT TERM
echo Y >"$uring"
# A file for each process, as a daemon has no terminal and a test keeps its standard error to itself.
# SIGBUS is what tests that read behind the end of a mapped file expect.
export ASAN_OPTIONS="detect_leaks=1:exitcode=99:handle_sigbus=0:log_path=$TMPDIR/found"
# A queue that is given up leaves its memory where the kernel may still write (src/transport/uring.rs).
echo 'leak:Workers>::start_ring' >"$TMPDIR/meant"
export LSAN_OPTIONS="suppressions=$TMPDIR/meant:print_suppressions=0"

failed=()
play() { cargo test "${build[@]}" "$@" || failed+=("$*"); }
if [[ $# -gt 0 ]]; then
    play "$@"
else
    # What only computes takes minutes.
    play --lib -- --skip report::
    for test in transport null hello; do play --test "$test"; done
    play --test lifecycle -- endings::
    for way in uring_copy uring_passthrough; do
        for family in data mmap alloc mixing; do play --test mounted -- "$way::$family"; done
    done
fi

status=0
for found in "$TMPDIR"/found.*; do
    [[ -e $found ]] || continue
    cat "$found" >&2
    status=1
done
[[ $status -eq 0 ]] || printf 'scripts/sanitize.sh: the sanitizer has found something, see above\n' >&2
for what in "${failed[@]}"; do
    printf 'scripts/sanitize.sh: failed: cargo test %s\n' "$what" >&2
    status=1
done
exit "$status"
