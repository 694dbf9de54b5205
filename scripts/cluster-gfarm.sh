#!/usr/bin/env bash
# A Gfarm cluster on one machine, for tests: a metadata server (gfmd), two storage nodes (gfsd) and two
# mounts of the same file system, all in a network namespace with a loopback interface only. Everything
# is below one folder, and metadata in memory: what is stored is gone after `down`.
#
#   scripts/cluster-gfarm.sh up [FOLDER]      brings it up; does nothing if it is up
#   scripts/cluster-gfarm.sh down [FOLDER]    takes it down, however much of it is there, and removes FOLDER
#
# FOLDER, if it is not named, is /run/fusewire-gfarm. In it:
#
#   node1 node2       the mounts
#   spool1 spool2     what the storage nodes, 10.77.0.1 and 10.77.0.2, keep
#   gfarm2.conf       for GFARM_CONFIG_FILE of clients
#   net               the network namespace: nsenter --net=FOLDER/net gfls /
#   gfsd1.pid ...     the servers, to be stopped; `up` starts what does not run
#
# Needs root. Installs gfmd, gfsd, gfarm-client and gfarm2fs if they are missing, and leaves them.
# Ends with 0 if it is as asked for, 1 if not, 2 if the command line is wrong.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/cluster.sh"

[[ $# -ge 1 && $# -le 2 && ($1 == up || $1 == down) ]] || die "it takes: up|down [FOLDER]" 2
[[ $EUID -eq 0 ]] || die "it needs root, for a network namespace and for mounts"
command=$1
folder=$(realpath -m "${2:-/run/fusewire-gfarm}")
# It is used unquoted by Gfarm's configuration.
[[ $folder != / && ! $folder =~ [^A-Za-z0-9/._+-] ]] || die "not a folder for a cluster: $folder" 2

# The packages would start a server each; it has no configuration, and fails.
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive
export GFARM_CONFIG_FILE=$folder/gfarm2.conf
addresses=(10.77.0.1 10.77.0.2)
gfmd_port=10601
# A gfsd has a socket in /tmp for clients of the same machine, named by its address and port: another
# cluster must have another.
gfsd_port=$((20000 + $(cksum <<<"$folder" | cut -d ' ' -f 1) % 20000))

inside() { timeout 20 nsenter --net="$folder/net" "$@"; }

# The process of a pid file, if it is one of this cluster's.
running() { # NAME
    local pid
    [[ -s $folder/$1.pid ]] && pid=$(<"$folder/$1.pid") && [[ $pid =~ ^[0-9]+$ ]] &&
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$folder/" && echo "$pid"
}

configure() {
    local node
    mkdir -p "$folder"
    chmod 755 "$folder"
    if [[ ! -s $folder/key ]]; then
        # Whose only storage node is gone is found out in 3 seconds, not in 30.
        cat >"$folder/gfarm2.conf" <<CONF
metadb_server_host ${addresses[0]}
metadb_server_port $gfmd_port
auth enable sharedsecret *
shared_key_file $folder/key
sockopt keepalive
no_file_system_node_timeout 3
CONF
        inside gfkey -f -p 864000
        chown _gfarmfs "$folder/key"
    fi
    {
        cat "$folder/gfarm2.conf"
        printf 'admin_user root\nlog_level info\n'
    } >"$folder/gfmd.conf"
    for node in 1 2; do
        {
            cat "$folder/gfarm2.conf"
            printf 'spool %s\nspool_server_listen_address %s\nlog_level info\n' \
                "$folder/spool$node" "${addresses[node - 1]}"
        } >"$folder/gfsd$node.conf"
        if [[ ! -d $folder/spool$node ]]; then
            install -d -o _gfarmfs -g _gfarmfs -m 700 "$folder/spool$node"
        fi
        mkdir -p "$folder/node$node"
    done
}

make_net() {
    mkdir -p "$folder"
    is_mounted "$folder/net" && return
    local address
    : >"$folder/net"
    unshare --net="$folder/net" ip link set lo up
    for address in "${addresses[@]}"; do inside ip address add "$address/32" dev lo; done
}

start_gfmd() {
    running gfmd >/dev/null && return
    # Its memory is gone: so is what the spools hold, and who is mounted.
    stop_all
    rm -rf "$folder"/spool[12]
    configure
    inside gfmd -f "$folder/gfmd.conf" -P "$folder/gfmd.pid" -F "$folder/gfmd.log" </dev/null
    await "gfmd answers" inside timeout 5 gfwhoami
}

start_gfsd() { # NODE
    local address=${addresses[$1 - 1]}
    running "gfsd$1" >/dev/null && return
    if ! inside gfhost "$address" >/dev/null 2>&1; then
        inside gfhost -c -a x86_64-linux -n 2 -p "$gfsd_port" "$address"
    fi
    : >>"$folder/gfsd$1.log"
    chown _gfarmfs "$folder/gfsd$1.log"
    inside gfsd -f "$folder/gfsd$1.conf" -h "$address" -l "$address" \
        -P "$folder/gfsd$1.pid" -F "$folder/gfsd$1.log" </dev/null
    await "gfsd on $address joins" is_up "$address"
}

is_up() { inside timeout 5 gfsched -w | grep -qxF "$1"; }

start_mount() { # NODE
    is_mounted "$folder/node$1" && return
    # Long names of cached attributes would hide what the other node does.
    inside gfarm2fs "$folder/node$1" -E 0 -o allow_other,attr_timeout=0,entry_timeout=0 </dev/null
    await "gfarm2fs on $folder/node$1" is_mounted "$folder/node$1"
}

end_process() { # NAME
    local pid end=$((SECONDS + 5))
    pid=$(running "$1") || { rm -f "$folder/$1.pid"; return 0; }
    kill "$pid" 2>/dev/null || true
    while running "$1" >/dev/null; do
        ((SECONDS < end)) || kill -9 "$pid" 2>/dev/null || true
        sleep 0.05
    done
    rm -f "$folder/$1.pid"
}

stop_all() {
    local node pid at
    # What others have mounted below it, over its own mounts.
    while read -r at; do
        timeout 5 umount "$at" 2>/dev/null || umount -l "$at"
    done < <(awk -v below="$folder/" 'index($5, below) == 1 && $5 !~ /\/(net|node1|node2)$/ { print $5 }' \
        /proc/self/mountinfo | tac)
    for node in 1 2; do
        while is_mounted "$folder/node$node"; do
            timeout 5 umount "$folder/node$node" 2>/dev/null || umount -l "$folder/node$node"
        done
    done
    for node in 1 2; do end_process "gfsd$node"; done
    end_process gfmd
    # Servers have children, and a mount that was let go of is served as long as it is used.
    if [[ -e $folder/net ]]; then
        for pid in $(in_net); do kill -9 "$pid" 2>/dev/null || true; done
    fi
}

# Processes of the network namespace.
in_net() {
    local process net
    net=$(stat -L -c %i "$folder/net")
    for process in /proc/[0-9]*; do
        [[ $(readlink "$process/ns/net" 2>/dev/null) == "net:[$net]" ]] && echo "${process#/proc/}"
    done
    return 0
}

up() {
    install_packages gfmd:gfmd gfsd:gfsd gfhost:gfarm-client gfarm2fs:gfarm2fs ip:iproute2 fusermount:fuse
    make_net
    configure
    start_gfmd
    local node
    for node in 1 2; do start_gfsd "$node"; done
    for node in 1 2; do start_mount "$node"; done
}

down() {
    [[ -d $folder ]] || return 0
    # Not to remove what is something else.
    [[ -e $folder/net || -z $(ls -A "$folder") ]] || die "$folder is not the folder of a cluster: it has no net"
    stop_all
    if is_mounted "$folder/net"; then umount "$folder/net"; fi
    local address
    for address in "${addresses[@]}"; do rm -rf "/tmp/.gfarm-gfsd$address-$gfsd_port"; done
    rm -rf --one-file-system "$folder"
}

"$command"
