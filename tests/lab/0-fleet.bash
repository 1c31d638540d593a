# The fleet is there: booted, provisioned from packages, connected. Sourced by run.
# shellcheck shell=bash

fleet() {
    chapter fleet "${#HOSTS[@]} hosts from one tree, provisioned as a laptop's are (vagrant/provision)"
    step "${#HOSTS[@]} hosts boot: systemd, journald, libvirtd" fleet_boots
    step "coordinator and agents: apt-get install ./*.deb, enable" fleet_provisioned
    step "all hosts appear in \`dewpoint host ls\`, alive" fleet_alive
    step "each agent is in its own slice, as its own user, and listens on no port" fleet_as_packaged
    step "an image and a network in the catalogue" fleet_catalogue
}

fleet_boots() {
    wires_up
    each lay_out "${HOSTS[@]}"
    power_on "${HOSTS[@]}"
}

fleet_provisioned() {
    on c /srv/vagrant/provision coordinator /srv/debs "${ADDRESS[c]}"
    settings_coordinator
    each provision_host "${HOSTS[@]}"
}

provision_host() {
    on "$1" env VIRT_TYPE=qemu /srv/vagrant/provision host /srv/debs "${ADDRESS[$1]}" "${ADDRESS[c]}"
    settings_agent "$1"
}

# What a person would wait minutes for is seconds here.
settings_agent() {
    set_keys "$1" /etc/dewpoint/agent.toml silence 12s reconnect_most 4s drain 5s
    on "$1" systemctl restart dewpoint-agent
}

settings_coordinator() {
    set_keys c /etc/dewpoint/coordinator.toml heartbeat 1s late_after 4s lost_after 8s ping 3s
    on c systemctl restart dewpoint-coordinator
}

set_keys() { # HOST FILE KEY VALUE...
    local host=$1 file=$2
    shift 2
    while [ $# -gt 0 ]; do
        must "$file has the key $1" on "$host" grep -q "^$1 = " "$file"
        on "$host" sed -i "s/^$1 = .*/$1 = \"$2\"/" "$file"
        shift 2
    done
}

fleet_alive() {
    local host
    for host in "${HOSTS[@]}"; do wait_for 60 "$PREFIX-$host is alive" host_is "$host" alive; done
    dew host ls
}

fleet_as_packaged() {
    local host pid
    for host in "${HOSTS[@]}"; do
        on "$host" systemctl is-enabled dewpoint-agent
        pid=$(main_pid "$host")
        same "the agent's user" dewpoint "$(on "$host" ps -o user= -p "$pid" | tr -d ' ')"
        must "it is in dewpoint.slice" on "$host" grep -q dewpoint.slice/dewpoint-agent.service "/proc/$pid/cgroup"
        must "it listens on no port" [ -z "$(on "$host" ss -Hltnp | grep -F "pid=$pid," || true)" ]
    done
}

fleet_catalogue() {
    dew image add --name tiny /srv/images/tiny.qcow2
    dew network create lab --subnet4 "$SUBNET.0/24" --gateway4 "$SUBNET.1" --pool4 "$SUBNET.100-$SUBNET.199"
}
