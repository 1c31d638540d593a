# A VM's life on each host, from an operator's chair. Sourced by run. It leaves a1 on a and b1 on b for the others.
# shellcheck shell=bash

life() {
    chapter 1-life "VMs on each host: create, reach, reboot, snapshot, restore, build elsewhere, destroy"
    step "a VM on each host, reachable under its own name" life_create
    step "rebooted: another boot id, one more start of the same disk" life_reboot
    step "snapshotted while it runs, then restored: the disk is as it was" life_restore
    step "built on another host from that snapshot" life_elsewhere
    step "destroyed: no process, domain, folder or address is left" life_destroy
    [ -n "$QUICK" ] || step "vagrant/smoke, as it is" life_smoke
}

# The VMs that the other scenarios need, where this one is left out.
life_alone() {
    chapter 1-life "a1 and b1 alone, for what follows"
    step "a VM on a and on b" each life_create_on a b
}

life_create() {
    each life_create_on "${HOSTS[@]}"
    dew vm ls
}

life_create_on() {
    vm_create "${1}1" "$1" --image tiny --wait --timeout 2m
    answers "${1}1"
}

life_reboot() { each life_reboot_of a1 b1 c1; }

life_reboot_of() {
    local boot
    boot=$(fact "$1" boot_id)
    dew vm reboot "$1" --wait --wait-timeout 3m
    boots_are "$1" 2
    must "another boot id" [ "$(fact "$1" boot_id)" != "$boot" ]
}

life_restore() {
    local address
    address=$(address_of a1)
    guest "$address" marker -d before
    dew vm snapshot a1 --name a1-before --wait --timeout 2m
    guest "$address" marker -d after
    undisturbed b dew vm restore a1 --image a1-before --wait --timeout 3m
    answers a1
    same "the marker on a1's disk" before "$(fact a1 marker)"
}

life_elsewhere() {
    vm_create twin b --image a1-before --wait --timeout 2m
    answers twin
    same "the marker on twin's disk" before "$(fact twin marker)"
}

life_destroy() {
    local twin c1 address
    twin=$(vm_id twin) c1=$(vm_id c1) address=$(address_of c1)
    dew vm destroy twin --now --wait --timeout 2m
    dew vm destroy c1 --now --wait --timeout 2m
    nothing_of b "$twin"
    nothing_of c "$c1"
    must "nobody answers at $address" eval "! guest $address"
    must "the address is given out again" [ "$(dew vm ls --json | jq '[.vms[] | select(.name == "twin" or .name == "c1")] | length')" = 0 ]
}

life_smoke() {
    local init
    init=$(init_of c)
    env ON_COORDINATOR="nsenter --target $init --all" HOSTS=${#HOSTS[@]} "SUBNET=$SUBNET.0/24" \
        "POOL=$SUBNET.200-$SUBNET.220" vagrant/smoke /srv/images/tiny.qcow2
}
