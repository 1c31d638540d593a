# The coordinator goes and comes back; what it accepted is carried out, once. Sourced by run.
# shellcheck shell=bash

coordinator() {
    chapter 3-coord "the coordinator stopped and killed: everything accepted is carried out, once"
    step "stopped with events under way; hosts and guests go on without it" coordinator_stopped
    step "started again: each event has succeeded, each reboot happened once" coordinator_back
    step "killed right after its answer: the event is carried out" coordinator_killed
}

coordinator_stopped() {
    local until pause=60
    [ -z "$QUICK" ] || pause=5
    keep boots.a1 "$(fact a1 boots)"
    keep boots.b1 "$(fact b1 boots)"
    keep address.b1 "$(address_of b1)"
    {
        asked vm reboot a1
        asked vm reboot b1
        vm_create third b --image tiny
    } >"$LAB/kept.events"
    on c systemctl stop dewpoint-coordinator
    until=$((EPOCHSECONDS + pause))
    wait_for 120 "b1 answers while there is no coordinator" guest "$(kept address.b1)"
    wait_for $((pause + 10)) "it was away for $pause s" eval "[ \$EPOCHSECONDS -ge $until ]"
}

coordinator_back() {
    local event
    on c systemctl start dewpoint-coordinator
    each alive_again "${HOSTS[@]}"
    for event in $(kept events); do succeeds "$event"; done
    boots_are a1 $(($(kept boots.a1) + 1))
    boots_are b1 $(($(kept boots.b1) + 1))
    answers third
    same "the starts of third" 1 "$(fact third boots)"
}

alive_again() { wait_for 60 "$PREFIX-$1 is alive" host_is "$1" alive; }

coordinator_killed() {
    local event pid
    pid=$(main_pid c coordinator)
    event=$(asked vm stop third)
    on c kill -KILL "$pid"
    wait_for 30 "systemd starts another one" eval "[ \"\$(main_pid c coordinator)\" != $pid ]"
    each alive_again "${HOSTS[@]}"
    succeeds "$event"
    must "third is off" eval "! guest $(address_of third)"
    dew vm destroy third --now --wait --timeout 2m
}
