# What the scripts that bring clusters up have in common. To be sourced, with `folder` the cluster's.
# shellcheck shell=bash

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

is_mounted() { grep -qF " $1 " /proc/self/mountinfo; }

# Waits until a command succeeds, at most 20 seconds.
await() { # WHAT COMMAND...
    local what=$1 end=$((SECONDS + 20))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || die "$what: not within 20 seconds; see the logs in $folder"
        sleep 0.1
    done
}

# Installs the Debian packages whose programs are missing.
install_packages() { # PROGRAM:PACKAGE...
    local missing=() pair
    for pair; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "missing, and there is no apt-get to install it with: ${missing[*]}"
    say "installing ${missing[*]}"
    timeout 300 apt-get update -q >&2
    timeout 300 apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
}
