# Wires that are cut, die silently, or are bad. Sourced by run. On host b, with b1 running.
# shellcheck shell=bash

wires() {
    chapter 4-wires "a host cut off and back, a wire that dies without a word, a bad wire"
    step "cut off: the coordinator says so; the host's guests answer" wires_cut
    step "healed: what was accepted meanwhile is carried out, once" wires_healed
    step "a connection that goes silent is found dead and replaced within 12 s" wires_silent
    step "a slow and lossy wire: a VM's events, and an image over it" wires_bad
}

wires_cut() {
    keep boots "$(fact b1 boots)"
    cut_off b
    wait_for 30 "b is late" host_is b late lost
    wait_for 30 "b is lost" host_is b lost
    asked vm reboot b1 >"$LAB/kept.reboot"
    same "the stage of what b cannot have got" assigned "$(stage_of "$(kept reboot)")"
    same "the starts of b1" "$(kept boots)" "$(fact b1 boots)"
}

wires_healed() {
    heal b
    wait_for 60 "b is alive" host_is b alive
    succeeds "$(kept reboot)"
    boots_are b1 $(($(kept boots) + 1))
}

session_port() { on b ss -Htn state established dst "${ADDRESS[c]}:7400" | awk '{ sub(/.*:/, "", $3); print $3; exit }'; }
is_another_session() {
    local now
    now=$(session_port)
    [ -n "$now" ] && [ "$now" != "$1" ]
}

wires_silent() {
    local port
    port=$(session_port)
    must "b has a session" [ -n "$port" ]
    sever "$port"
    # `link.silence`, then a back-off of `link.reconnect_most` at most, then the dial; and two cores do all of it.
    wait_for 30 "b has another session than the one from port $port" is_another_session "$port"
    wait_for 30 "b is alive" host_is b alive
    heal b
}

wires_bad() {
    spoil b
    undisturbed a wires_bad_events
    heal b
}

wires_bad_events() {
    dew vm snapshot b1 --name over-a-bad-wire --wait --timeout 5m
    vm_create slow b --image over-a-bad-wire --wait --timeout 3m
    answers slow
    dew vm stop slow --force --wait --timeout 2m
    dew vm destroy slow --now --wait --timeout 2m
}
