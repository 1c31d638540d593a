# What the agent rests on goes, one at a time: journald, disk, libvirtd. Sourced by run. On host b, with b1 running.
# shellcheck shell=bash

machine() {
    chapter 6-machine "journald, disk and libvirtd restarted, hung or full, one at a time"
    step "journald restarted: what happens afterwards is in the journal" undisturbed b machine_journald_restarted
    step "journald hung and its queue full: the agent answers and takes events" machine_journald_hung
    step "the data folder's disk full: named, nothing is made worse, then all goes on" machine_disk_full
    step "libvirtd restarted, and killed: QEMU as before, events go on" undisturbed b machine_libvirtd
}

logged() { on b journalctl --no-pager -q "EVENT_ID=$1" | grep -q .; }

machine_journald_restarted() {
    local event pid
    pid=$(main_pid b)
    on b systemctl restart systemd-journald
    event=$(vm_create logged b --image tiny --off)
    succeeds "$event"
    wait_for 30 "the event is in the journal" logged "$event"
    same "the agent's process" "$pid" "$(main_pid b)"
}

# Lines until journald's own socket takes no more: then a line's sender waits, and is ended.
fill_journald() {
    local status=0
    # shellcheck disable=SC2016
    on b timeout 30 sh -c 'while timeout 3 sh -c "echo MESSAGE=filling | logger --journald"; do :; done' || status=$?
    must "its queue filled up" [ "$status" = 0 ]
}

machine_journald_hung() {
    local journald pid event
    pid=$(main_pid b)
    journald=$(on b pidof systemd-journald)
    on b kill -STOP "$journald"
    fill_journald
    event=$(asked vm start logged)
    # libvirtd itself waits for journald when it logs, so the start may have to; nothing of ours does.
    wait_for 30 "the start is journaled" on b timeout 5 dewpoint-agent event show "$event"
    must "the agent answers" on b timeout 5 dewpoint-agent status
    must "the coordinator hears of b" host_is b alive
    same "the agent's process" "$pid" "$(main_pid b)"
    # journald's own watchdog may have ended it by now.
    on b kill -CONT "$journald" || true
    succeeds "$event"
    wait_for 30 "what waited for journald is in the journal" logged "$event"
    answers logged
    dew vm destroy logged --now --wait --timeout 2m
}

# To the last byte: most of it at once, the rest until no more fits.
fill_disk() {
    local data=$LAB/b/data free
    free=$(df --output=avail --block-size=1M "$data" | tail -n 1)
    fallocate -l "$((free - 16))M" "$data/filler"
    ! cat /dev/zero >"$data/filler.end" || return 1
    must "nothing is free" [ "$(df --output=avail --block-size=1M "$data" | tail -n 1)" -le 1 ]
}

b_says_full() { dew host show "$PREFIX-b" --json | jq -e '.degraded | any(tostring | contains("DISK_FULL"))'; }

machine_disk_full() {
    local boot
    boot=$(fact b1 boot_id)
    undisturbed b machine_disk_filled
    rm "$LAB/b/data/filler" "$LAB/b/data/filler.end"
    resumed_as_advised b1
    answers b1
    same "the boot of b1" "$boot" "$(fact b1 boot_id)"
    # Word of the full disk may be on its way still: until b is well again, a create may wait.
    vm_create roomy b --image tiny --off --wait-for-capacity --wait --timeout 2m
    dew vm destroy roomy --now --wait --timeout 2m
}

machine_disk_filled() {
    local status=0 said
    fill_disk
    guest "$(address_of b1)" marker -d written-on-a-full-disk || true
    wait_for 60 "b says that its disk is full" b_says_full
    said=$(vm_create refused b --image tiny --wait --timeout 1m 2>&1) || status=$?
    must "a create is refused by name: $said" [ "$status" != 0 ]
    grep -E 'DISK_FULL|NO_CAPACITY|JOURNAL' <<<"$said"
}

# A guest that wrote while there was no room is paused by QEMU, and never resumed without a person's word.
resumed_as_advised() { # VM
    local said
    said=$(dew vm show "$1")
    echo "$said"
    if grep -q '^observed.*paused' <<<"$said"; then
        # shellcheck disable=SC2016
        on b virsh resume "$(sed -n 's/.*`virsh resume \([^`]*\)`.*/\1/p' <<<"$said")"
    fi
}

machine_libvirtd() {
    local unit
    unit=$(libvirt_unit b)
    on b systemctl restart "$unit"
    vm_create one b --image tiny --off --wait --timeout 2m
    on b kill -KILL "$(libvirt_pid b)"
    dew vm destroy one --now --wait --timeout 2m
}
