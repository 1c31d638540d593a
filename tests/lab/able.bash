# Whether this machine can hold a fleet at all. Sourced by run.
# shellcheck shell=bash
#
# What is missing is said by name, all of it at once, and the lab fails: it is never passed over in silence.

# able: tries what the lab rests on, in small.
able() {
    local lacking=() dir=$LAB/able
    mkdir -p "$dir"/{lower,upper,work,root}
    try "making namespaces (pid, net, mount): this is a container without that right" \
        unshare --mount --pid --net --fork true
    try "mounting an overlay over $LAB" try_overlay "$dir"
    try "mounting a file system from a file (loop devices)" try_loop "$dir"
    try "making a bridge" try_bridge
    try "nftables for bridges (kernel module nft_*, CAP_NET_ADMIN)" try_nft
    try "/dev/net/tun, for guests' interfaces" test -c /dev/net/tun
    try "a cgroup2 hierarchy that can be written" try_cgroup
    try "4 GiB of free memory" try_memory
    try "4 GiB of free disk for $LAB" try_disk
    rm -rf "$dir"
    [ ${#lacking[@]} -eq 0 ] && return
    warn "lab: this machine cannot hold a fleet. It lacks:"
    printf '  %s\n' "${lacking[@]}" >&2
    return 1
}

try() { # WHAT COMMAND...: in a shell of its own, that what it mounts or makes goes with its failure
    local what=$1 said
    shift
    said=$("$@" 2>&1) || lacking+=("$what${said:+ (${said##*$'\n'})}")
}

try_overlay() {
    mount -t overlay "$PREFIX-able" -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/root" && umount "$1/root"
}

try_loop() {
    truncate -s 16M "$1/data.img"
    mkfs.ext4 -q -F "$1/data.img" && mount -o loop "$1/data.img" "$1/root" && umount "$1/root"
}

try_bridge() { ip link add "$PREFIX-able" type bridge && ip link delete "$PREFIX-able"; }
try_nft() { nft add table bridge "$PREFIX-able" && nft delete table bridge "$PREFIX-able"; }

try_cgroup() {
    local group
    group=$(cgroups)/$PREFIX-able
    mkdir "$group" && rmdir "$group"
}

try_memory() { [ "$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)" -ge $((4 << 20)) ]; }
try_disk() { [ "$(df --output=avail --block-size=1M "$LAB" | tail -n 1)" -ge 4096 ]; }
