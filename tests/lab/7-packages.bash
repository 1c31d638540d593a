# Removed, purged, installed again. Sourced by run. On host a, with a1 running.
# shellcheck shell=bash

packages() {
    chapter 7-package "remove, purge, reinstall: the host takes its VMs up again"
    step "removed: VMs run on, the coordinator says that the host is away" undisturbed a packages_removed
    step "installed again: the same host, the same VMs" undisturbed a packages_back
    step "purged: the journal goes, disks and host-id stay, and it says so" undisturbed a packages_purged
    step "installed after a purge: the same host, its VMs adopted" undisturbed a packages_adopted
    step "reconciled by a person: the host takes events for its VM again" packages_reconciled
}

apt_on() { on "$1" env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends "${@:2}"; }

packages_removed() {
    keep host "$(on a cat /var/lib/dewpoint/host-id)"
    apt_on a remove dewpoint-agent | tee "$LAB/kept.said"
    grep -F 'VMs that run go on running' "$LAB/kept.said"
    wait_for 30 "a is away" host_is a late lost
    guest "$(address_of a1)"
}

# The settings were conffiles: removing kept them.
packages_back() {
    on a sh -c 'DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /srv/debs/dewpoint-agent_*.deb'
    wait_for 60 "a is alive" host_is a alive
    has_a1
}

has_a1() {
    on a dewpoint-agent vms --json | jq -e --arg vm "$(vm_id a1)" 'any(.[]; .vm_id == $vm and .presence == "there")'
    same "the host's id" "$(kept host)" "$(on a cat /var/lib/dewpoint/host-id)"
}

packages_purged() {
    apt_on a purge dewpoint-agent | tee "$LAB/kept.said"
    grep -F "VMs' disks were left, and host-id" "$LAB/kept.said"
    must "the journal is gone" on a test ! -e /var/lib/dewpoint/agent.db
    must "the disk is there" on a test -d "/var/lib/dewpoint/vms/$(vm_id a1)"
    guest "$(address_of a1)"
}

packages_adopted() {
    provision_host a
    wait_for 60 "a has a1 again" has_a1
}

a_is_diverged() { dew host show "$PREFIX-a" --json | jq -e '.diverged != null'; }
a_matches() { ! a_is_diverged; }

packages_reconciled() {
    local boots
    boots=$(fact a1 boots)
    wait_for 60 "the coordinator sees another journal" a_is_diverged
    dew host reconcile "$PREFIX-a"
    undisturbed a dew host reconcile "$PREFIX-a" --yes --reason "the package was purged"
    wait_for 60 "their logs match" a_matches
    wait_for 60 "a is alive" host_is a alive
    dew vm reboot a1 --wait --wait-timeout 3m
    boots_are a1 $((boots + 1))
}
