# The fleet: hosts as containers, each a layer over one tree, on one bridge. Sourced by run.
# shellcheck shell=bash
#
# Owns: everything that bears $PREFIX (machines, their ends of wires, the bridge, nftables' table) and the folder $LAB.
# Never: boots the tree itself, shares /dev/kvm, or touches what bears another name.

PREFIX=dewlab
BRIDGE=${PREFIX}0
LAB=/var/tmp/dewpoint-lab
HOSTS=(c a b) # c is the coordinator, and a host as well
SUBNET=10.215.0
HOLD=/run/$PREFIX-hold # on a host: guests' starts wait while it is there
declare -A ADDRESS=([c]=$SUBNET.10 [a]=$SUBNET.11 [b]=$SUBNET.12)

# --- layers ---

# lay_out HOST: what a machine has once its system is installed: a disk, an address, no mirror to reach.
lay_out() {
    local dir=$LAB/$1 root=$LAB/$1/root
    mkdir -p "$dir"/{upper,work,root,data}
    mount -t overlay "$PREFIX-$1" -o "lowerdir=$TREE,upperdir=$dir/upper,workdir=$dir/work" "$root"
    # All that the packages depend on is in the tree; a host in a box reaches no mirror.
    find "$root/etc/apt/sources.list.d" -type f -delete
    : >"$root/etc/apt/sources.list"
    cat >"$root/etc/systemd/system/$PREFIX-net.service" <<UNIT
[Unit]
Description=Address of this host in the lab
DefaultDependencies=no
Before=network.target network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/cp /proc/sys/kernel/random/boot_id /run/$PREFIX-boot-id
ExecStart=/usr/bin/umount /proc/sys/kernel/random/boot_id
ExecStart=/usr/bin/mount --bind /run/$PREFIX-boot-id /proc/sys/kernel/random/boot_id
ExecStart=/usr/sbin/ip address add ${ADDRESS[$1]}/24 dev host0
ExecStart=/usr/sbin/ip link set host0 up
[Install]
WantedBy=sysinit.target
UNIT
    # libvirt asks this before it starts a guest; whoever makes the file holds the start there, and nothing else.
    mkdir -p "$root/etc/libvirt/hooks"
    cat >"$root/etc/libvirt/hooks/qemu" <<HOOK
#!/bin/sh
while [ "\$2" = prepare ] && [ -e "$HOLD" ]; do sleep 0.1; done
HOOK
    chmod 755 "$root/etc/libvirt/hooks/qemu"
    mkdir -p "$root/etc/systemd/system/sysinit.target.wants"
    ln -sf "../$PREFIX-net.service" "$root/etc/systemd/system/sysinit.target.wants/"
    # The container's boot id, by which the agent knows a boot, is laid over the file in its /proc. In a /proc of its own
    # (ProtectProc=) the unit would see this machine's. From a file that has a name: nspawn's has none, and systemd 255 and
    # later can lay nothing over such a one.
    mkdir -p "$root/etc/systemd/system/dewpoint-agent.service.d"
    printf '[Service]\nProtectProc=default\nBindReadOnlyPaths=/run/%s-boot-id:/proc/sys/kernel/random/boot_id\n' "$PREFIX" \
        >"$root/etc/systemd/system/dewpoint-agent.service.d/$PREFIX-boot-id.conf"
    # Ubuntu's makes a /dev/kvm of its own in a container: where KVM hangs, so would QEMU, and libvirt with it.
    ln -sf /dev/null "$root/etc/systemd/system/qemu-kvm.service"
    data_disk "$1"
}

# data_disk HOST: a file system of its own for the agent's data, which can be filled. Sparse: it takes what is written,
# and so no more inodes than are needed, and none made beforehand.
data_disk() {
    truncate -s 40G "$LAB/$1/data.img"
    mkfs.ext4 -q -F -m 0 -N 20000 "$LAB/$1/data.img"
    mount -o loop,noinit_itable "$LAB/$1/data.img" "$LAB/$1/data"
}

# --- power ---

power_on() { # HOST...
    local host
    for host in "$@"; do start_container "$host"; done
    for host in "$@"; do wait_for 180 "$PREFIX-$host has booted" is_up "$host"; done
}

# The power is gone: every process at once, nothing is told.
power_cut() { # HOST
    kill -KILL "$(init_of "$1")"
    wait_for 30 "$PREFIX-$1 is off" is_off "$1"
}

start_container() { # HOST
    local arguments=(
        --quiet --directory="$LAB/$1/root" --machine="$PREFIX-$1" --boot --register=no --keep-unit
        --network-bridge="$BRIDGE" --bind=/dev/net/tun --capability=all "--system-call-filter=@keyring bpf"
        --bind="$LAB/$1/data:/var/lib/dewpoint"
        --bind-ro="$DEBS:/srv/debs" --bind-ro="$IMAGES:/srv/images" --bind-ro="$PWD/vagrant:/srv/vagrant"
    )
    # Neither the lock nor the terminal is the container's to hold.
    local inside=(in_cgroup "$PREFIX-$1")
    [ ! -d /run/systemd/system ] || inside=(exec setsid systemd-run --quiet --scope --property=Delegate=yes)
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 "${inside[@]}" systemd-nspawn "${arguments[@]}" \
        >>"$LAB/$1/console.log" 2>&1 </dev/null 3>&- 9>&- &
    echo "$!" >"$LAB/$1/pid"
}

# Each container has a cgroup of its own: two systemds in one would take each other's units away. Where there is no systemd to
# give one, we make it.
in_cgroup() { # NAME COMMAND...
    local group
    group=$(cgroups)/$1
    mkdir -p "$group"
    echo "$BASHPID" >"$group/cgroup.procs"
    exec setsid "${@:2}"
}

cgroups() {
    findmnt -nt cgroup2 -o TARGET | head -n 1 | grep . && return
    mkdir -p "$LAB/cgroup"
    mount -t cgroup2 "$PREFIX" "$LAB/cgroup"
    echo "$LAB/cgroup"
}

# init_of HOST: the pid of its systemd, seen from here.
init_of() {
    local parent child
    parent=$(cat "$LAB/$1/pid") || return 1
    for child in $(pgrep -P "$parent"); do
        # In its own pid namespace it is 1.
        [[ $(sed -n 's/^NSpid:.*[[:space:]]//p' "/proc/$child/status" 2>/dev/null) != 1 ]] || { echo "$child" && return; }
    done
    return 1
}

# Gone, or a zombie that nobody has fetched yet.
is_off() { [[ $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$(cat "$LAB/$1/pid")/status" 2>/dev/null) =~ ^Z?$ ]]; }
is_up() { [[ $(on "$1" systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; }

# on HOST COMMAND...: runs a command there, as root.
on() {
    local init
    init=$(init_of "$1") || {
        warn "$PREFIX-$1 is off"
        return 1
    }
    nsenter --target "$init" --all env -i HOME=/root LANG=C.UTF-8 NO_COLOR=1 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"
}

# --- wires ---

wire_of() { echo "vb-$PREFIX-$1"; }

# A table between the hosts: what passes the bridge. This machine itself, which speaks to guests, stays connected.
wires_up() {
    scripts/bridge up "$BRIDGE" "$SUBNET.1/24"
    nft -f - <<RULES
table bridge $PREFIX {
    chain between { type filter hook forward priority -200; }
}
RULES
}

between() { nft add rule bridge "$PREFIX" between "$@"; }

# cut_off HOST: nothing reaches any other host, and nobody is told.
cut_off() { between iifname "$(wire_of "$1")" drop && between oifname "$(wire_of "$1")" drop; }

# sever PORT: one connection of a host, by its own port, goes silent for good; new ones pass.
sever() { between tcp sport "$1" drop && between tcp dport "$1" drop; }

# spoil HOST: one packet in 30 is lost, and little passes at a time.
spoil() {
    between iifname "$(wire_of "$1")" numgen random mod 100 '<' 3 drop
    between oifname "$(wire_of "$1")" numgen random mod 100 '<' 3 drop
    slow "$1" tc qdisc add dev "$(wire_of "$1")" root
    slow "$1" on "$1" tc qdisc add dev host0 root
}

# Delay where the kernel has it; a narrow pipe, whose queue delays, anywhere.
slow() { # HOST, the beginning of a tc command...
    "${@:2}" netem delay 60ms 20ms rate 20mbit 2>/dev/null || "${@:2}" tbf rate 20mbit burst 16kb latency 300ms
}

heal() { # HOST
    nft flush chain bridge "$PREFIX" between
    tc qdisc del dev "$(wire_of "$1")" root 2>/dev/null || true
    on "$1" tc qdisc del dev host0 root 2>/dev/null || true
}

# --- the end, also of an earlier run that was killed ---

# Every container that bears our prefix, by what its command line says, word for word.
our_containers() {
    local pid
    for pid in $(pgrep -f "systemd-nspawn.*--machine=$PREFIX-"); do
        # A process may be gone by the time that it is looked at.
        if [ "$({ tr '\0' '\n' <"/proc/$pid/cmdline" | grep -cxE -- "(/usr/bin/)?systemd-nspawn|--machine=$PREFIX-[a-z]+"; } 2>/dev/null)" = 2 ]; then
            echo "$pid"
        fi
    done
}

all_off() { [ -z "$(our_containers)" ]; }

our_groups() { find "$(cgroups)" -mindepth 1 -maxdepth 1 -type d -name "$PREFIX-*"; }
groups_empty() { [ -z "$(our_groups | while read -r group; do grep -l 'populated 1' "$group/cgroup.events" || true; done)" ]; }

# A container's processes end one by one after it; its cgroup can go when the last has.
groups_away() {
    local group
    for group in $(our_groups); do { echo 1 >"$group/cgroup.kill"; } 2>/dev/null || true; done
    wait_for 30 "the containers' processes have ended" groups_empty
    for group in $(our_groups); do find "$group" -depth -type d -exec rmdir {} +; done
}

take_down() {
    local pid child mounted host
    for pid in $(our_containers); do
        for child in $(pgrep -P "$pid"); do kill -KILL "$child" 2>/dev/null || true; done
        kill -KILL "$pid" 2>/dev/null || true
    done
    wait_for 30 "the containers are off" all_off
    groups_away
    # The last one first: what lies in another one goes before it.
    { findmnt -rno TARGET | grep "^$LAB/" || true; } | tac | while read -r mounted; do umount "$mounted"; done
    ! nft list table bridge "$PREFIX" >/dev/null 2>&1 || nft delete table bridge "$PREFIX"
    for host in "${HOSTS[@]}"; do ip link delete "$(wire_of "$host")" 2>/dev/null || true; done
    scripts/bridge down "$BRIDGE" >/dev/null # whether it was there or not
    rm -rf "$LAB"
}
