# What an operator does and sees: requests, guests, processes. Sourced by run.
# shellcheck shell=bash

# wait_for SECONDS WHAT COMMAND...: until the command is true; says what was waited for when it never is.
wait_for() {
    local most=$1 what=$2 until=$((EPOCHSECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$EPOCHSECONDS" -lt "$until" ] || {
            warn "not within $most s: $what"
            return 1
        }
        sleep 0.3
    done
}

# each FUNCTION ARGUMENT...: for all arguments at once; fails when one fails.
each() {
    local function=$1 pids=() status=0 argument pid
    shift
    for argument in "$@"; do
        "$function" "$argument" &
        pids+=("$!")
    done
    for pid in "${pids[@]}"; do wait "$pid" || status=1; done
    return $status
}

must() { # WORDS COMMAND...: a fact that holds
    local what=$1
    shift
    "$@" || {
        warn "it does not hold: $what"
        return 1
    }
}

same() { # WHAT BEFORE AFTER
    [ "$2" = "$3" ] || {
        warn "$1 is not the same: '$2' before, '$3' after"
        return 1
    }
}

# --- the fleet, from the coordinator ---

dew() { on c dewpoint --insecure "$@"; }

host_is() { # HOST LIVENESS...
    local now
    now=$(dew host ls --json | jq -r --arg name "$PREFIX-$1" '.hosts[] | select(.hostname == $name) | .liveness')
    [[ " ${*:2} " == *" $now "* ]]
}

# vm_create NAME HOST OPTION...: the event's id.
vm_create() {
    dew vm create "$1" --host "$PREFIX-$2" --memory 128MiB --network lab --json "${@:3}" | jq -er .event_id
}

# asked WORDS...: a request that is not waited for; the event's id.
asked() { dew "$@" --json | jq -er .event_id; }

stage_of() { dew event show "$1" --json | jq -er .stage; }
is_over() { [[ $(stage_of "$1") =~ ^(succeeded|failed|refused|expired|cancelled|unknown)$ ]]; }

succeeds() { # EVENT SECONDS
    wait_for "${2:-120}" "event $1 ends" is_over "$1"
    [ "$(stage_of "$1")" = succeeded ] || {
        dew event show "$1" >&2
        return 1
    }
}

vm_id() { dew vm show "$1" --json | jq -er .vm_id; }

# --- a guest, over its own network ---

address_of() { dew vm show "$1" --json | jq -er '.nics[0].addresses[0] | split("/")[0]'; }
guest() { curl --noproxy '*' -sf -m 3 "http://$1/${2:-}" "${@:3}"; }
fact() { guest "$(address_of "$1")" | jq -er ".$2"; } # VM KEY
fact_is() { [ "$(fact "$1" "$2")" = "$3" ]; }

answers() { # VM
    local address
    address=$(address_of "$1")
    wait_for 120 "$1 answers at $address" guest "$address"
    same "the hostname of $1" "$1" "$(fact "$1" hostname)"
}

boots_are() { # VM NUMBER: so many starts of its disk, and it answers now
    wait_for 120 "$1 has been started $2 times" fact_is "$1" boots "$2"
}

# --- a host, from inside ---

# qemus HOST: pid and start time of every guest's process. What libvirt starts to learn of QEMU has no guest.
qemus() {
    # shellcheck disable=SC2016
    on "$1" sh -c 'for pid in $(pgrep -f "[q]emu-system.* -name guest="); do echo "$pid $(cut -d " " -f 22 "/proc/$pid/stat")"; done' | sort
}

# undisturbed HOST COMMAND...: the same processes before and after.
undisturbed() {
    local before
    before=$(qemus "$1")
    must "VMs run on $PREFIX-$1" [ -n "$before" ]
    "${@:2}"
    same "QEMU on $PREFIX-$1" "$before" "$(qemus "$1")"
}

main_pid() { on "$1" systemctl show --property=MainPID --value "dewpoint-${2:-agent}"; }
is_another_pid() { # HOST PID: the agent runs, as another process
    local now
    now=$(main_pid "$1")
    [ "$now" != 0 ] && [ "$now" != "$2" ] && on "$1" systemctl is-active --quiet dewpoint-agent
}

libvirt_pid() { on "$1" pidof libvirtd || on "$1" pidof virtqemud; }
libvirt_unit() { if on "$1" pidof libvirtd >/dev/null; then echo libvirtd; else echo virtqemud; fi; }

# half_built VM HOST: a create that is held in its last step, disk made and VM defined; the event's id.
half_built() {
    local event
    on "$2" touch "$HOLD"
    event=$(vm_create "$1" "$2" --image tiny --full-copy)
    wait_for 60 "the create of $1 stands at its start" stands_at "$2" "$event" start
    echo "$event"
}

let_go() { on "$1" rm "$HOLD"; }

# stands_at HOST EVENT STEP: what the agent has journaled last of it, and it has not ended.
stands_at() {
    on "$1" dewpoint-agent event show "$2" --json |
        jq -e --arg step "$3" '.stage == "running" and ([.entries[].body.step // empty] | last) == $step'
}

# nothing_of HOST VM-ID: no process, domain, folder or rule bears it.
nothing_of() {
    must "no process of $2" [ -z "$(on "$1" pgrep -f "[q]emu-system.*$2" || true)" ]
    must "no domain $2" [ -z "$(on "$1" virsh list --all --uuid | grep -F "$2" || true)" ]
    must "no folder of $2" on "$1" test ! -e "/var/lib/dewpoint/vms/$2"
}
