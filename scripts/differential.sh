#!/usr/bin/env bash
# Plays random sequences of operations on a plain directory and on mounts of every kind, and tells
# the first that comes out differently: scripts/differential.sh [SECONDS [SEED]]. Ten minutes, and
# sequences that nobody has played yet, unless told otherwise.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'scripts/differential.sh: %s\n' "$*" >&2; exit 1; }

seconds=${1:-600}
seed=${2:-$(date +%s)000}
[[ $seconds =~ ^[0-9]+$ && $seed =~ ^[0-9]+$ ]] || die "usage: scripts/differential.sh [SECONDS [SEED]]"
command -v cargo >/dev/null || die "no cargo: install a Rust toolchain from https://rustup.rs first"
for need in mkfs.ext4:e2fsprogs losetup:mount setpriv:util-linux; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${need%%:*}" >/dev/null \
        || die "no ${need%%:*}: apt-get install ${need##*:}"
done

runner=()
if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || die "the tests mount file systems: run as root, or install sudo"
    # Built as this user, run as root.
    keep=TMPDIR,PATH,FUSEWIRE_DIFFERENTIAL_SECONDS,FUSEWIRE_DIFFERENTIAL_SEED
    runner=(--config "target.'cfg(unix)'.runner=['sudo','--preserve-env=$keep']")
fi
export FUSEWIRE_DIFFERENTIAL_SECONDS=$seconds FUSEWIRE_DIFFERENTIAL_SEED=$seed
echo "from seed $seed on, for $seconds s"
exec cargo "${runner[@]}" test --locked --test differential
