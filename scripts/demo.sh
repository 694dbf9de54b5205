#!/usr/bin/env bash
# Brings a bare Debian machine with a Rust toolchain to the demo: installs what is missing, builds,
# and compares native ext4 with itself seen through fusewire. All arguments go to `fusewire demo`.
#
#   scripts/demo.sh                 on an ext4 image on a loop device (root)
#   scripts/demo.sh DIR             in a subdirectory of DIR
#   scripts/demo.sh --help          all options
set -euo pipefail

# sbin is not in an ordinary user's PATH; mkfs.ext4 and losetup are there.
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"

say() {
    printf 'demo.sh: %s\n' "$*" >&2
}

has() {
    command -v "$1" >/dev/null 2>&1
}

as_root() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        say "this needs root, and sudo is not installed; as root: $*"
        exit 1
    fi
}

packages=()
need() { # PROGRAM PACKAGE...
    has "$1" || packages+=("${@:2}")
}

need fio fio
need mkfs.ext4 e2fsprogs
need losetup mount
need cc gcc libc6-dev
# Root mounts by itself; an ordinary user needs the set-user-id helper.
[[ $(id -u) -eq 0 ]] || need fusermount3 fuse3

if ((${#packages[@]})); then
    if ! has apt-get; then
        say "missing, and there is no apt-get to install it with: ${packages[*]}"
        exit 1
    fi
    say "installing ${packages[*]}"
    as_root apt-get update -q >&2
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${packages[@]}" >&2
fi

if ! has cargo; then
    say "there is no cargo: install Rust as https://rustup.rs says"
    exit 1
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# No cd: the results go where the user stands.
manifest=(--locked --manifest-path "$root/Cargo.toml")
say "building the release (the first time takes some minutes)"
cargo build --release "${manifest[@]}" --bin fusewire >&2

# CARGO_TARGET_DIR or a configuration file may have moved it.
target=$(cargo metadata --format-version 1 --no-deps "${manifest[@]}" |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
# What is measured first should be the best that is there; the demo leaves the switch as it was. Opening
# the device loads the module that the switch is one of.
options=()
if [[ $(id -u) -eq 0 ]] && { : <>/dev/fuse; } 2>/dev/null; then
    if [[ -e /sys/module/fuse/parameters/enable_uring ]]; then
        options+=(--enable-uring)
    fi
fi
exec "${target:-$root/target}/release/fusewire" demo "${options[@]}" "$@"
