#!/usr/bin/env bash
# What does one request cost on each transport? Measures a GETATTR by one client beside 0, 1, 2 and 4
# CPU-bound processes, and by two clients on two CPUs, and writes a folder of results: README.md with the
# tables, the figures of every round, and the environment. About six minutes after the build.
#
#   scripts/roundtrip.sh FOLDER [OPTIONS]       options of the bench, as `--rounds 30`; see its --help
#
# Each slice of about a minute is one command; RUN names another that is to run it (RUN=chrt --other 0).
# Needs root. Switches enable_uring on while it measures.
set -euo pipefail

die() { printf 'roundtrip.sh: %s\n' "$*" >&2; exit "${2:-1}"; }

[[ $# -ge 1 && $1 != -* ]] || die "usage: scripts/roundtrip.sh FOLDER [OPTIONS]" 2
command -v cargo >/dev/null || die "no cargo: install a Rust toolchain from https://rustup.rs"
[[ $EUID -eq 0 ]] || die "the bench mounts and traces: run it as root"
[[ -c /dev/fuse ]] || die "no /dev/fuse: modprobe fuse"
uring=/sys/module/fuse/parameters/enable_uring
[[ -w $uring ]] || die "no $uring: FUSE over io_uring needs Linux 6.14"
[[ ! -e $1 ]] || die "$1 exists: results are written once, choose another folder"
folder=$(realpath -m "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo bench --locked --bench roundtrip --no-run

before=$(<"$uring")
parts=$(mktemp -d)
# The folder goes only if nothing was measured.
trap 'echo "$before" >"$uring"; rm -r "$parts"; rmdir "$folder" 2>/dev/null || true' EXIT
mkdir -p "$folder"
echo Y >"$uring"

options=(--rounds 15 --seconds 0.25 --trace)
slice() { # CLIENTS HOGS
    local name="clients-$1-hogs-$2"
    # Not quoted: a command with its arguments, or nothing.
    ${RUN:-} cargo bench --locked --bench roundtrip -- "${options[@]}" --clients "$1" --hogs "$2" \
        --json "$folder/$name.json" --markdown "$parts/$name.md" \
        --environment "$folder/environment.json" "${@:3}" >/dev/null
}

for hogs in 0 1 2 4; do slice 1 "$hogs" "$@"; done
slice 2 0 "$@"

# Of a part the first line says what was measured, the last how to read it.
{
    echo "# Round trips, $(date -u +%F)"
    echo
    echo "\`scripts/roundtrip.sh FOLDER${*:+ $*}\`: what is called stored is the same request answered from a file on" \
        "$(stat -f -c %T "${TMPDIR:-/tmp}"), the rest by \`fusewire null\`."
    for clients in 1 2; do
        printf '\n## %s client%s\n\n' "$clients" "$([[ $clients = 1 ]] || echo s)"
        head -n 1 "$parts/clients-$clients-hogs-0.md"
        for part in "$parts/clients-$clients-"*.md; do sed '1d; $d' "$part"; done
    done
    tail -n 1 "$parts/clients-1-hogs-0.md"
} >"$folder/README.md"
printf '%s\n' "$folder/README.md"
