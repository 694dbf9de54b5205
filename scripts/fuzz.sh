#!/usr/bin/env bash
# Fuzzes the decoder and the whole request path, half of the time each, led by what they reach:
# scripts/fuzz.sh [SECONDS]. What is found is kept below target/fuzz/, and so is the corpus, so that a
# second run goes on where the first has ended. A stable toolchain does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'scripts/fuzz.sh: %s\n' "$*" >&2; exit 1; }

seconds=${1:-600}
[[ $seconds =~ ^[0-9]+$ && $seconds -ge 2 ]] || die "usage: scripts/fuzz.sh [SECONDS], two at least"
command -v cargo >/dev/null || die "no cargo: install a Rust toolchain from https://rustup.rs first"

as_root=()
if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || die "a mount namespace needs root: run as root, or install sudo"
    as_root=(sudo --preserve-env=TMPDIR,FUSEWIRE_SEEDS)
fi
if ! command -v c++ >/dev/null; then
    command -v apt-get >/dev/null || die "no C++ compiler, which libFuzzer is built with: install one"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends g++
fi

# What `cargo fuzz` passes, without the sanitizers, which need a nightly toolchain.
flags=(--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=("-Cllvm-args=-sanitizer-coverage-$option")
done
# With a target of its own, build scripts are left as they are.
host=$(rustc -vV | sed -n 's/^host: //p')
fuzz=$PWD/target/fuzz
RUSTFLAGS="${flags[*]}" cargo build --locked --release --manifest-path tests/fuzz/Cargo.toml \
    --target "$host" --target-dir "$fuzz"

for target in decode requests; do
    corpus=$fuzz/corpus/$target found=$fuzz/found/$target
    mkdir -p "$corpus" "$found"
    echo "== $target for $((seconds / 2)) s"
    FUSEWIRE_SEEDS=$corpus "${as_root[@]}" "$fuzz/$host/release/$target" "$corpus" \
        -max_total_time=$((seconds / 2)) -timeout=20 -rss_limit_mb=1024 -max_len=4096 \
        -print_final_stats=1 -verbosity=0 "-artifact_prefix=$found/" \
        || die "$target: the input is in $found; play it again with $fuzz/$host/release/$target FILE"
done
