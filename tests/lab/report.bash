# What is printed: a line for each thing that is shown, a table at the end. Sourced by run.
# shellcheck shell=bash
#
# A step runs in a shell of its own, with its output in the scenario's log; what the next one needs it keeps with `keep`.

scenario='' # the one that runs

# step TITLE COMMAND...: shows one thing. The first that fails ends the lab.
step() {
    local title=$1 began=$EPOCHREALTIME status took
    shift
    printf '  %-72s' "$title" >&3
    printf '\n=== %s\n' "$title" >>"$LAB/$scenario.log"
    # Not `if "$@"`: a condition would switch off `set -e` inside the function it runs.
    set +e
    # In a process group of its own, so that it can be ended whole; and waited for, so that a signal is heeded at once.
    set -m
    (
        set -eE
        trap 'warn "failed: $BASH_COMMAND (${BASH_SOURCE[0]##*/}:$LINENO)"' ERR
        "$@"
    ) >>"$LAB/$scenario.log" 2>&1 </dev/null &
    echo "$!" >"$LAB/step"
    set +m
    wait "$!"
    status=$?
    rm -f "$LAB/step"
    set -e
    took=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }')
    if [ $status -eq 0 ]; then
        printf '%9s\n' "$took" >&3
        printf '%s\t%s\t%s\tok\n' "$scenario" "$title" "$took" >>"$LAB/rows"
    else
        printf '%9s\n' FAILED >&3
        printf '%s\t%s\t%s\tFAILED\n' "$scenario" "$title" "$took" >>"$LAB/rows"
        awk '/^=== / { said = "" } { said = said $0 "\n" } END { printf "%s", said }' "$LAB/$scenario.log" | tail -n 40 >&2
        return 1
    fi
}

# end_step: ends the one that runs, if one does.
end_step() {
    local group
    group=$(cat "$LAB/step" 2>/dev/null) || return 0
    { kill -KILL -- "-$group" && wait "$group"; } 2>/dev/null || true
}

# chapter NAME WORDS: the steps that follow are of this scenario.
chapter() {
    scenario=$1
    printf '\n%s: %s\n' "$1" "$2" >&3
}

# keep NAME TEXT, kept NAME: from one step to another.
keep() { printf '%s' "$2" >"$LAB/kept.$1"; }
kept() { cat "$LAB/kept.$1"; }

table() {
    [ -s "$LAB/rows" ] || return 0
    printf '\n%-10s %-72s %9s  %s\n' SCENARIO SHOWN TIME ''
    awk -F '\t' '{ printf "%-10s %-72s %9s  %s\n", $1 == last ? "" : $1, $2, $3, $4; last = $1 }' "$LAB/rows"
}

# save_logs: what happened, after a failure: into $KEPT.
save_logs() {
    rm -rf "$KEPT" && mkdir -p "$KEPT"
    cp "$LAB"/*.log "$KEPT/" 2>/dev/null || true
    local host
    for host in "${HOSTS[@]}"; do
        cp "$LAB/$host/console.log" "$KEPT/$host.console.log" 2>/dev/null || true
        # From outside where the host is off, or its journald does not answer.
        timeout 20 journalctl --directory="$LAB/$host/root/var/log/journal" --no-pager --output=short-precise --boot=all \
            >"$KEPT/$host.journal" 2>/dev/null || cp -r "$LAB/$host/root/var/log/journal" "$KEPT/$host.journal.d" 2>/dev/null || true
    done
    say "lab: journals and logs are in $KEPT"
}
