#!/usr/bin/env bash
# Readers of fusewire against writers of another mount, on clusters of one machine, for as long as it is
# told to: no cell that is read may be of another place, of a version that nobody has begun to write, or, in
# the end, of any but the last. `scripts/test.sh` does the same for a few seconds.
#
#   scripts/torture.sh [SECONDS [SYSTEM]]      600 seconds; of gluster or gfarm, or of all
#
# Installs the clusters' packages if they are missing. Ends with 0 if nothing wrong was read.
set -euo pipefail

die() { printf 'torture.sh: %s\n' "$1" >&2; exit "${2:-1}"; }

seconds=${1:-600} system=${2:-}
[[ $# -le 2 && $seconds =~ ^[1-9][0-9]{0,6}$ ]] || die "it takes: [SECONDS [SYSTEM]]" 2
[[ -z $system || -x $(dirname "$0")/cluster-$system.sh ]] || die "no such system: $system" 2
cd "$(dirname "$0")/.."

as_root=()
if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || die "the clusters need root: run as root, or install sudo"
    as_root=(sudo)
fi
# Whoever brings one up installs it.
for script in scripts/cluster-*.sh; do
    [[ -z $system || $script == scripts/cluster-$system.sh ]] || continue
    folder=/run/fusewire-torture-$$
    # However it ends: a cluster that did not come up is taken down as well.
    trap '"${as_root[@]}" "$script" down "$folder"' EXIT
    trap 'exit 130' INT TERM
    "${as_root[@]}" "$script" up "$folder"
    "${as_root[@]}" "$script" down "$folder"
    trap - EXIT INT TERM
done

export FUSEWIRE_TORTURE=$seconds
runner=()
if [[ ${#as_root[@]} -gt 0 ]]; then
    # Built as this user, run as root.
    runner=(--config "target.'cfg(unix)'.runner=['sudo','--preserve-env=TMPDIR,PATH,FUSEWIRE_TORTURE']")
fi
cargo "${runner[@]}" test --locked --test locality -- "${system:+$system::}torture"
