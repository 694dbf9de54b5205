#!/usr/bin/env bash
# A GlusterFS cluster on one machine, for tests: a server with two volumes of two bricks each, and each
# volume mounted twice ("two nodes"), all in a network namespace with a loopback interface only.
# Everything is below one folder.
#
#   scripts/cluster-gluster.sh up [FOLDER]      brings it up; does nothing if it is up
#   scripts/cluster-gluster.sh down [FOLDER]    takes it down, however much of it is there, and removes FOLDER
#
# FOLDER, if it is not named, is /run/fusewire-gluster. In it:
#
#   dist1 dist2       the mounts of the volume dist, which spreads files over its bricks
#   repl1 repl2       the mounts of the volume repl, which keeps each file on both
#   bricks            the bricks: dist-1, dist-2, repl-1, repl-2
#   net               the network namespace
#   gluster           the command line of this cluster: FOLDER/gluster volume status
#
# Needs root. Installs glusterfs-server and glusterfs-client if they are missing, and leaves them.
# Ends with 0 if it is as asked for, 1 if not, 2 if the command line is wrong.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/cluster.sh"

[[ $# -ge 1 && $# -le 2 && ($1 == up || $1 == down) ]] || die "it takes: up|down [FOLDER]" 2
[[ $EUID -eq 0 ]] || die "it needs root, for a network namespace and for mounts"
command=$1
folder=$(realpath -m "${2:-/run/fusewire-gluster}")
# It is used unquoted by GlusterFS's configuration, and sockets have short names.
[[ $folder != / && ! $folder =~ [^A-Za-z0-9/._+-] ]] || die "not a folder for a cluster: $folder" 2
[[ ${#folder} -le 60 ]] || die "too long for the names of sockets, choose a shorter one: $folder" 2

export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive
address=10.78.0.1
volumes=(dist repl)

inside() { timeout 60 nsenter --net="$folder/net" "$@"; }

configure() {
    mkdir -p "$folder"/{bricks,log,run,work}
    chmod 755 "$folder"
    cat >"$folder/glusterd.vol" <<CONF
volume management
    type mgmt/glusterd
    option working-directory $folder/work
    option run-directory $folder/run
    option logging-directory $folder/log
    option glusterd-sockfile $folder/socket
    option transport-type socket
    option transport.address-family inet
    option transport.socket.bind-address $address
    option ping-timeout 0
    option event-threads 1
end-volume
CONF
    cat >"$folder/gluster" <<CONF
#!/bin/sh
exec timeout 60 nsenter --net=$folder/net gluster --mode=script --glusterd-sock=$folder/socket \\
    --log-file=$folder/log/cli.log "\$@"
CONF
    chmod 755 "$folder/gluster"
}

make_net() {
    mkdir -p "$folder"
    is_mounted "$folder/net" && return
    : >"$folder/net"
    unshare --net="$folder/net" ip link set lo up
    inside ip address add "$address/32" dev lo
}

start_server() {
    "$folder/gluster" volume list >/dev/null 2>&1 && return
    inside glusterd -f "$folder/glusterd.vol" -p "$folder/glusterd.pid" -l "$folder/log/glusterd.log" \
        -S "$folder/run/glusterd.socket" </dev/null
    await "glusterd answers" "$folder/gluster" volume list
}

start_volume() { # VOLUME
    local how=()
    [[ $1 == repl ]] && how=(replica 2)
    if ! "$folder/gluster" volume info "$1" >/dev/null 2>&1; then
        "$folder/gluster" volume create "$1" "${how[@]}" \
            "$address:$folder/bricks/$1-1" "$address:$folder/bricks/$1-2" force >/dev/null
    fi
    "$folder/gluster" volume info "$1" | grep -q '^Status: Started' ||
        "$folder/gluster" volume start "$1" >/dev/null
}

start_mount() { # VOLUME NODE
    is_mounted "$folder/$1$2" && return
    mkdir -p "$folder/$1$2"
    inside glusterfs --acl -s "$address" --volfile-id="$1" -l "$folder/log/$1$2.log" "$folder/$1$2" </dev/null
    await "the mount $folder/$1$2" timeout 5 ls "$folder/$1$2"
}

# Processes of the network namespace, those that have ended but not been waited for left out.
in_net() {
    local process
    for process in /proc/[0-9]*; do
        [[ $process/ns/net -ef $folder/net && -n $(tr -d '\0' <"$process/cmdline" 2>/dev/null) ]] &&
            echo "${process#/proc/}"
    done
    return 0
}

# Ends them, and removes the sockets that they have elsewhere.
end_processes() {
    local pids pid word end=$((SECONDS + 20))
    while mapfile -t pids < <(in_net) && ((${#pids[@]})); do
        ((SECONDS < end)) || die "processes ${pids[*]} do not end"
        for pid in "${pids[@]}"; do
            while IFS= read -r -d '' word; do
                [[ $word != /var/run/gluster/*.socket ]] || rm -f "$word"
            done <"/proc/$pid/cmdline" 2>/dev/null || true
            kill -9 "$pid" 2>/dev/null || true
        done
        sleep 0.1
    done
}

up() {
    install_packages glusterd:glusterfs-server glusterfs:glusterfs-client ip:iproute2
    make_net
    configure
    start_server
    local volume node
    for volume in "${volumes[@]}"; do start_volume "$volume"; done
    for volume in "${volumes[@]}"; do
        for node in 1 2; do start_mount "$volume" "$node"; done
    done
}

down() {
    [[ -d $folder ]] || return 0
    # Not to remove what is something else.
    [[ -e $folder/net || -z $(ls -A "$folder") ]] || die "$folder is not the folder of a cluster: it has no net"
    local at pid
    # Whatever was mounted below it, what tests have added too.
    while read -r at; do
        timeout 5 umount "$at" 2>/dev/null || umount -l "$at"
    done < <(awk -v below="$folder/" 'index($5, below) == 1 && $5 != below "net" { print $5 }' /proc/self/mountinfo | sort -r)
    if is_mounted "$folder/net"; then
        end_processes
        umount "$folder/net"
    fi
    rm -rf --one-file-system "$folder"
}

"$command"
