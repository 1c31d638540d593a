# A host loses its power in the middle of a create. Sourced by run. Host b, with b1 running.
# shellcheck shell=bash

power() {
    chapter 5-power "a host powered off hard during a create, and booted again"
    step "with the disk made and the VM not: whole or gone, and reported" power_cut_in_create half-built held_at_its_start
    step "the VM that ran there runs again, by another boot, without being asked" power_bound
    [ -n "$QUICK" ] || step "in the first instant of a create: whole or gone, and reported" power_cut_in_create just-begun at_once
}

# power_cut_in_create VM WHEN
power_cut_in_create() {
    local event
    keep boot "$(fact b1 boot_id)"
    "$2" "$1"
    event=$(kept event)
    power_cut b
    power_on b
    wait_for 90 "b is alive" host_is b alive
    wait_for 120 "the create's report arrives" is_over "$event"
    dew event show "$event"
    whole_or_gone "$1" "$event"
}

held_at_its_start() {
    local event
    event=$(half_built "$1" b)
    keep event "$event"
}

at_once() {
    local event
    event=$(vm_create "$1" b --image tiny --full-copy)
    keep event "$event"
}

whole_or_gone() { # VM EVENT
    if [ "$(stage_of "$2")" = succeeded ]; then
        answers "$1"
        same "the number of its processes" 1 "$(on b pgrep -cf "[q]emu-system.*$(vm_id "$1")")"
        dew vm destroy "$1" --now --wait --timeout 2m
    else
        nothing_of b "$(dew event show "$2" --json | jq -er .vm_id)"
    fi
}

# Not by its count of starts: what a guest had not flushed, the power cut took.
power_bound() {
    local invocation
    wait_for 120 "b1 answers from another boot" is_another_boot b1 "$(kept boot)"
    # Its agent knows a boot of the host from a guest that crashed, which a restart policy makes up for.
    # By its invocation: a journal that began while the host's boot id was laid over may bear this machine's.
    invocation=$(on b systemctl show --property=InvocationID --value dewpoint-agent)
    on b journalctl --no-pager -q "_SYSTEMD_INVOCATION_ID=$invocation" | grep -F 'the host has booted since'
}

is_another_boot() { # VM BOOT
    local now
    now=$(fact "$1" boot_id)
    [ -n "$now" ] && [ "$now" != "$2" ]
}
