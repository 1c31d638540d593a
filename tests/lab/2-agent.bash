# The agent stops, dies, hangs and is upgraded; no VM notices. Sourced by run. On host a, with a1 running.
# shellcheck shell=bash

agent() {
    chapter 2-agent "the agent stopped, killed, hung, upgraded, with VMs running: the same QEMU processes"
    step "stopped and started: QEMU as before, the guest answers throughout" undisturbed a agent_stopped
    step "SIGKILLed: systemd starts it again" undisturbed a agent_killed
    step "hung (SIGSTOP): the watchdog acts" undisturbed a agent_hung
    step "a bad configuration: status 78, and left to a person; mended, it goes on" undisturbed a agent_misconfigured
    step "upgraded with a create half done: the create finishes, once" agent_upgraded
    step "a package that goes back is refused: JOURNAL_NEWER; the agent runs on" undisturbed a agent_too_old
}

agent_stopped() {
    on a systemctl stop dewpoint-agent
    guest "$(address_of a1)"
    wait_for 30 "the coordinator says that a is late" host_is a late lost
    on a systemctl start dewpoint-agent
    wait_for 60 "a is alive" host_is a alive
}

agent_killed() {
    local pid
    pid=$(main_pid a)
    on a kill -KILL "$pid"
    wait_for 30 "systemd starts another one" is_another_pid a "$pid"
    wait_for 60 "a is alive" host_is a alive
}

agent_hung() {
    local pid
    on a mkdir -p /run/systemd/system/dewpoint-agent.service.d
    printf '[Service]\nWatchdogSec=4s\n' | on a tee /run/systemd/system/dewpoint-agent.service.d/lab.conf
    on a systemctl daemon-reload
    on a systemctl restart dewpoint-agent
    wait_for 60 "a is alive" host_is a alive
    pid=$(main_pid a)
    on a kill -STOP "$pid"
    wait_for 60 "the watchdog has it started again" is_another_pid a "$pid"
    wait_for 60 "a is alive" host_is a alive
    on a journalctl -u dewpoint-agent --no-pager | grep -F 'Watchdog timeout'
    on a rm /run/systemd/system/dewpoint-agent.service.d/lab.conf
    on a systemctl daemon-reload
}

agent_misconfigured() {
    local file=/etc/dewpoint/agent.toml
    on a sed -i '1i no_such_key = true' "$file"
    must "it does not start" eval "! on a systemctl restart dewpoint-agent"
    same "the exit status" 78 "$(on a systemctl show --property=ExecMainStatus --value dewpoint-agent)"
    # Else: auto-restart.
    same "the unit's state" failed "$(on a systemctl show --property=SubState --value dewpoint-agent)"
    on a sed -i 1d "$file"
    on a systemctl restart dewpoint-agent
    wait_for 60 "a is alive" host_is a alive
}

# shellcheck disable=SC2016
installed() { on a dpkg-query -W -f '${Version}' dewpoint-agent; }

# repacked VERSION [SED]: the agent's package under another version, with its preinst changed; its path on host a.
repacked() {
    local tree=$LAB/repacked deb
    deb=$(find "$DEBS" -name 'dewpoint-agent_*.deb' | sort -V | tail -n 1)
    rm -rf "$tree"
    dpkg-deb -R "$deb" "$tree"
    sed -i "s/^Version: .*/Version: $1/" "$tree/DEBIAN/control"
    [ -z "${2:-}" ] || sed -i "$2" "$tree/DEBIAN/preinst"
    dpkg-deb -Znone --build --root-owner-group "$tree" "$LAB/a/root/root/dewpoint-agent_$1.deb" >&2
    echo "/root/dewpoint-agent_$1.deb"
}

agent_upgraded() {
    local deb event pid
    deb=$(repacked "$(installed)+lab1")
    keep a1 "$(qemus a)"
    event=$(half_built half a)
    pid=$(main_pid a)
    on a env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$deb"
    must "the agent is another process" is_another_pid a "$pid"
    same "the stage of the create" running "$(on a dewpoint-agent event show "$event" --json | jq -r .stage)"
    let_go a
    succeeds "$event"
    answers half
    same "the number of domains for half" 1 "$(on a virsh list --all --uuid | grep -cF "$(vm_id half)")"
    must "QEMU of a1 as before" grep -qxF "$(kept a1)" <(qemus a)
    same "the installed version" "$(basename "$deb" .deb)" "dewpoint-agent_$(installed)"
    dew vm destroy half --now --wait --timeout 2m
}

agent_too_old() {
    local deb before pid said=$LAB/kept.said
    before=$(installed)
    pid=$(main_pid a)
    deb=$(repacked 0.0.1 's/^knows=.*/knows=0/')
    must "upgrade-check says so beforehand" eval "! on a dewpoint-agent upgrade-check --package $deb >$said 2>&1"
    grep -F JOURNAL_NEWER "$said"
    must "apt refuses it" eval "! on a apt-get install -y --no-install-recommends --allow-downgrades $deb >$said 2>&1"
    grep -F 'JOURNAL_NEWER: this package reads journals up to schema 0' "$said"
    grep -F 'next: install the agent that wrote it, or a newer one' "$said"
    same "the installed version" "$before" "$(installed)"
    same "the agent's process" "$pid" "$(main_pid a)"
    host_is a alive
    same "what is broken, of packages" "" "$(on a dpkg --audit)"
}
