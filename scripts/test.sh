#!/usr/bin/env bash
# Runs all tests of fusewire, on a bare Debian machine with a Rust toolchain as well as on a full one:
# installs the programs that are missing, lints, tests, and makes sure that nothing is left behind.
# Arguments go to `cargo test`, as in `scripts/test.sh --test cli`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
die() { printf 'scripts/test.sh: %s\n' "$*" >&2; exit 1; }

as_root=()
if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || die "the tests mount file systems: run as root, or install sudo"
    as_root=(sudo)
fi

# Each program that the tests call, and the Debian package that brings it.
missing_packages() {
    local program package
    while read -r program package; do
        # Debian keeps mkfs and losetup outside of an ordinary user's PATH, PostgreSQL's server too.
        PATH="$PATH:/usr/sbin:/sbin:$(echo /usr/lib/postgresql/*/bin | tr ' ' :)" \
            command -v "$program" >/dev/null || echo "$package"
    done <<'LIST' | sort -u
fusermount3 fuse3
mkfs.ext4 e2fsprogs
mkfs.xfs xfsprogs
mkfs.btrfs btrfs-progs
losetup mount
mount mount
unshare util-linux
setpriv util-linux
prlimit util-linux
setfattr attr
getfattr attr
setfacl acl
rsync rsync
git git
sqlite3 sqlite3
initdb postgresql
pgbench postgresql-contrib
fio fio
sshfs sshfs
gocryptfs gocryptfs
encfs encfs
ip iproute2
nsenter util-linux
strace strace
stress-ng stress-ng
cc gcc
make make
find findutils
gzip gzip
LIST
    [[ -e /usr/lib/openssh/sftp-server ]] || echo openssh-sftp-server
    # A compiler without headers can not link Rust programs either.
    [[ -e /usr/include/stdio.h ]] || echo libc6-dev
}

command -v cargo >/dev/null || die "no cargo: install a Rust toolchain from https://rustup.rs first"

mapfile -t packages < <(missing_packages)
if [[ ${#packages[@]} -gt 0 ]]; then
    say "Installing what the tests need: ${packages[*]}"
    command -v apt-get >/dev/null || die "no apt-get: install by other means: ${packages[*]}"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${packages[@]}"
fi

# Not every distribution has the distributed file systems: where one can not be had its tests are left
# out, and say so.
install_or_tell() { # SYSTEM "PROGRAM..." "PACKAGE..."
    local program missing=
    for program in $2; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || missing=1
    done
    [[ -n $missing ]] || return 0
    say "Installing what the tests on $1 need: $3"
    # shellcheck disable=SC2086 # several packages
    { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends $3; } ||
        say "${1^^} CAN NOT BE INSTALLED: none of the tests on it will run"
}
install_or_tell GlusterFS "glusterd glusterfs" "glusterfs-server glusterfs-client"
install_or_tell Gfarm "gfmd gfsd gfhost gfarm2fs" "gfmd gfsd gfarm-client gfarm2fs"

if [[ ! -c /dev/fuse ]]; then
    say "Loading the fuse module"
    "${as_root[@]}" modprobe fuse || true
    [[ -c /dev/fuse ]] || die "no /dev/fuse: the kernel needs CONFIG_FUSE_FS, a container --device /dev/fuse"
fi

# Kernel parameters that a test may change, as they are now.
declare -A parameters=()
for file in /sys/module/fuse/parameters/{enable_uring,max_user_bgreq,max_user_congthresh} \
    /proc/sys/fs/fuse/max_pages_limit /proc/sys/kernel/io_uring_disabled \
    /sys/devices/system/cpu/cpu1/online; do
    [[ -r $file ]] && parameters[$file]=$(<"$file")
done

# All temporary files of the tests live below one folder, so that what they leave can be told from
# what others have. Programs that run as other users must be able to enter it.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/fusewire-test.XXXXXX")
chmod 1777 "$TMPDIR"
export TMPDIR

# Prints what is left below the folder; answers false if that is nothing.
leftovers() {
    local found=1 line process
    while read -r line; do
        [[ $line == *" $TMPDIR"* ]] && { echo "mounted: $line"; found=0; }
    done </proc/self/mountinfo
    while read -r line; do
        [[ $line == *"$TMPDIR"* ]] && { echo "loop device: $line"; found=0; }
    done < <("${as_root[@]}" /sbin/losetup --list --noheadings --output NAME,BACK-FILE 2>/dev/null)
    for process in /proc/[0-9]*; do
        [[ ${process#/proc/} != "$$" && $(readlink "$process/exe" 2>/dev/null) == */fusewire* ]] || continue
        if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qF -- "$TMPDIR"; then
            echo "process: ${process#/proc/} $(tr '\0' ' ' <"$process/cmdline")"
            found=0
        fi
    done
    return "$found"
}

finish() {
    local status=$? file left=
    trap - EXIT
    # A daemon whose mount has just gone may need a moment to end.
    for _ in {1..150}; do
        left=$(leftovers) || break
        sleep 0.1
    done
    for file in "${!parameters[@]}"; do
        if [[ $(<"$file") != "${parameters[$file]}" ]]; then
            echo "restoring $file to ${parameters[$file]}"
            echo "${parameters[$file]}" | "${as_root[@]}" tee "$file" >/dev/null || true
        fi
    done
    if [[ -n $left ]]; then
        printf 'scripts/test.sh: the tests left something behind in %s:\n%s\n' "$TMPDIR" "$left" >&2
        [[ $status -ne 0 ]] || status=1
    else
        # Nothing is mounted below it any more: only plain files can be removed here.
        "${as_root[@]}" rm -rf --one-file-system "$TMPDIR"
    fi
    exit "$status"
}
trap finish EXIT

if cargo fmt --version >/dev/null 2>&1; then
    say "Format: cargo fmt --check"
    cargo fmt --check
fi
if cargo clippy --version >/dev/null 2>&1; then
    say "Lints: cargo clippy"
    cargo clippy --locked --all-targets -- -D warnings
fi
say "Documentation: cargo doc"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

# Before root runs the tests: cargo is this user's.
[[ $# -gt 0 ]] || scripts/suites.sh --install

say "Tests: cargo test"
runner=()
if [[ ${#as_root[@]} -gt 0 ]]; then
    # Built as this user, run as root.
    runner=(--config "target.'cfg(unix)'.runner=['sudo','--preserve-env=TMPDIR,PATH']")
fi

# From the output of `cargo test --no-fail-fast`: each test that failed, behind the arguments that
# choose its target, as `--test cli` and `life::signals`; a target that ended without telling, alone.
failed_tests() {
    awk '
        / Running (unittests )?[^ ]+ \(/ { names = 0; listing = 0; delete name }
        / Doc-tests / { names = 0; listing = 0; delete name }
        /^failures:$/ { listing = 1; names = 0; next }
        listing && /^    [^ ]/ { name[names++] = substr($0, 5); next }
        listing && /^test result:/ { listing = 0 }
        /^error: test failed, to rerun pass `/ {
            split($0, part, "`")
            for (i = 0; i < names; i++) print part[2] "\t" name[i]
            if (names == 0) print part[2] "\t"
        }
    ' "$1"
}

# Runs `cargo test` with these arguments. Some of the thousands of plays on a live kernel depend on
# when a busy machine gets around to something: a few that fail get a second try, each by itself,
# and are named at the end. More than a few, or one that fails again, is a failure.
second_tries=()
run_tests() {
    local log arguments name failed=()
    log=$(mktemp "$TMPDIR/log.XXXXXX")
    if cargo "${runner[@]}" test --locked --no-fail-fast "$@" 2>&1 | tee "$log"; then
        return
    fi
    mapfile -t failed < <(failed_tests "$log")
    [[ ${#failed[@]} -gt 0 && ${#failed[@]} -le 5 ]] || die "${#failed[@]} tests failed"
    for line in "${failed[@]}"; do
        IFS=$'\t' read -r arguments name <<<"$line"
        [[ -n $name && $arguments != *--doc* ]] || die "failed: $arguments $name"
        say "Second try: $arguments $name"
        # shellcheck disable=SC2086 # `--test name` are two words
        cargo "${runner[@]}" test --locked $arguments -- --exact "$name" 2>&1 | tee "$log" \
            || die "failed twice: $arguments $name"
        grep -q '^test result: ok. 1 passed' "$log" || die "ran no test: $arguments $name"
        second_tries+=("$arguments $name")
    done
}

if [[ $# -eq 0 && -e /sys/module/fuse/parameters/enable_uring ]]; then
    # The tests that leave the transport to fusewire once through io_uring, then with all others as
    # the machine has it.
    uring=/sys/module/fuse/parameters/enable_uring
    echo Y | "${as_root[@]}" tee "$uring" >/dev/null
    run_tests --test lifecycle --test workloads
    echo "${parameters[$uring]}" | "${as_root[@]}" tee "$uring" >/dev/null
fi
run_tests "$@"
if [[ ${#second_tries[@]} -gt 0 ]]; then
    say "Passed at the second try only:"
    printf '%s\n' "${second_tries[@]}"
fi
