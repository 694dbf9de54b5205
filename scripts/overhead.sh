#!/usr/bin/env bash
# What does FUSE cost over a directory of mine? Brings a bare Debian machine with a Rust toolchain to the
# answer: installs what is missing, builds, measures a study in a fresh subdirectory of DIR, and prints
# the path of its report on standard output.
#
#   scripts/overhead.sh DIR                     the study `quick`, about two minutes
#   scripts/overhead.sh DIR STUDY [OPTIONS]     another preset or a file; options of `fusewire study run`
#
# Ends with the exit status of the study: 0 measured, 1 failed or some cells have no figures, 2 the
# command line is wrong, 128 + signal after an interruption.
set -euo pipefail

say() { printf 'overhead.sh: %s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

[[ $# -ge 1 && $1 != -* ]] || die "usage: scripts/overhead.sh DIR [STUDY [OPTIONS]]" 2
dir=$1
study=${2:-quick}
shift $(($# > 1 ? 2 : 1))
[[ -d $dir ]] || die "$dir is not a directory" 2

# sbin is not in an ordinary user's PATH.
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"

has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        die "this needs root, and sudo is not installed; as root: $*"
    fi
}

packages=()
need() { has "$1" || packages+=("${@:2}"); } # PROGRAM PACKAGE...

need fio fio
need cc gcc libc6-dev
need git git
need make make
[[ $EUID -eq 0 ]] || need fusermount3 fuse3

if ((${#packages[@]})); then
    has apt-get || die "missing, and there is no apt-get to install it with: ${packages[*]}"
    say "installing ${packages[*]}"
    as_root apt-get update -q >&2
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${packages[@]}" >&2
fi
has cargo || die "there is no cargo: install Rust as https://rustup.rs says"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# No cd: the results go where the user stands.
manifest=(--locked --manifest-path "$root/Cargo.toml")
say "building the release (the first time takes some minutes)"
cargo build --release "${manifest[@]}" --bin fusewire >&2
# CARGO_TARGET_DIR or a configuration file may have moved it.
target=$(cargo metadata --format-version 1 --no-deps "${manifest[@]}" |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

status=0
json=$("${target:-$root/target}/release/fusewire" study run "$study" --dir "$dir" --json "$@") ||
    status=$?
folder=$(sed -n 's/^  "folder": "\(.*\)",$/\1/p' <<<"$json" | head -n 1)
[[ -n $folder ]] || exit "$status"
realpath "$folder/report.html"
exit "$status"
