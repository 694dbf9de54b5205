#!/usr/bin/env bash
# Plays public test suites on native ext4 (an image on a loop device) and on fusewire over it, on every
# transport and with every data mode: pjdfstest, fsx, stress-ng. What fails on a mount only, and is not in
# tests/known-differences.toml, fails here. Brings a bare Debian machine with a Rust toolchain to the
# answer; leaves no mount, loop device or changed parameter behind.
#
#   scripts/suites.sh [OPTIONS] [pjdfstest|fsx|stress-ng ...]     all of them if none is named
#
#   --short               what `cargo test --test suites` plays, a minute; else about half an hour
#   --json FILE           writes the results there as JSON as well
#   --pjdfstest-c PATH    also the older pjdfstest, in C, built at PATH
#   --install             only installs pjdfstest and fsx, for `cargo test --test suites`
#
# Ends with 0 if nothing unexpected differs, 1 if something does or a suite can not be run, 2 if the
# command line is wrong.
set -euo pipefail

pjdfstest_version=0.2.2
fsx_version=0.3.2

say() { printf 'suites.sh: %s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

short= json= pjdfstest_c= install= suites=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --short) short=1 ;;
        --install) install=1 ;;
        --json | --pjdfstest-c)
            [[ $# -gt 1 ]] || die "$1 needs a path" 2
            if [[ $1 == --json ]]; then json=$(realpath -m "$2"); else pjdfstest_c=$(realpath -m "$2"); fi
            shift
            ;;
        pjdfstest | fsx | stress-ng) suites+=("$1") ;;
        *) die "unknown: $1; it takes --short, --json FILE, --pjdfstest-c PATH, --install, pjdfstest, fsx, stress-ng" 2 ;;
    esac
    shift
done
if [[ -n $pjdfstest_c ]]; then
    [[ -x $pjdfstest_c/pjdfstest && -d $pjdfstest_c/tests ]] ||
        die "no built pjdfstest at $pjdfstest_c: run autoreconf -ifs && ./configure && make pjdfstest there" 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
# sbin is not in an ordinary user's PATH.
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"
command -v cargo >/dev/null || die "there is no cargo: install Rust as https://rustup.rs says"

as_root=()
if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null && as_root=(sudo) || [[ -n $install ]] ||
        die "the suites mount file systems: run as root, or install sudo"
fi

# Each program that the suites and their ground call, and the Debian package that brings it.
needs=(cc:gcc)
[[ -n $install ]] ||
    needs+=(mkfs.ext4:e2fsprogs losetup:mount mount:mount unshare:util-linux setpriv:util-linux stress-ng:stress-ng)
[[ -z $pjdfstest_c ]] || needs+=(prove:perl)
packages=()
for need in "${needs[@]}"; do
    command -v "${need%%:*}" >/dev/null || packages+=("${need##*:}")
done
# A compiler without headers can not link Rust programs either.
[[ -e /usr/include/stdio.h ]] || packages+=(libc6-dev)
if [[ ${#packages[@]} -gt 0 ]]; then
    command -v apt-get >/dev/null || die "no apt-get: install by other means: ${packages[*]}"
    say "installing ${packages[*]}"
    "${as_root[@]}" apt-get update -q >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${packages[@]}" >&2
fi

target=$(cargo metadata --locked --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
programs=${target:-$root/target}/tmp/suites

# Builds a program of crates.io once, without optimisation: that is quicker than what it saves. What was
# built by one that was interrupted is there for the next.
bring() { # CRATE VERSION
    [[ -x $programs/bin/$1 && $("$programs/bin/$1" --version) == "$1 $2" ]] && return
    say "building $1 $2 (once)"
    for _ in first second; do
        CARGO_PROFILE_DEV_DEBUG=0 timeout 300 \
            cargo install --quiet --locked --force --profile dev --root "$programs" \
            --target-dir "$programs/build" "$1@$2" >&2 && return
    done
    die "cargo install --locked $1@$2 failed: the suites need crates.io, as building fusewire does"
}
bring pjdfstest "$pjdfstest_version"
bring fsx "$fsx_version"
rm -rf "$programs/build"
[[ -z $install ]] || exit 0

[[ -n $short ]] || suites+=(full)
export FUSEWIRE_SUITES="${suites[*]}"
[[ -z $json ]] || export FUSEWIRE_SUITES_JSON=$json
[[ -z $pjdfstest_c ]] || export FUSEWIRE_PJDFSTEST_C=$pjdfstest_c
runner=()
if [[ ${#as_root[@]} -gt 0 ]]; then
    # Built as this user, run as root.
    keep=TMPDIR,PATH,FUSEWIRE_SUITES,FUSEWIRE_SUITES_JSON,FUSEWIRE_PJDFSTEST_C
    runner=(--config "target.'cfg(unix)'.runner=['sudo','--preserve-env=$keep']")
fi
cargo "${runner[@]}" test --locked --test suites || exit 1
