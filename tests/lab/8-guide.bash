# The operator's guide, command by command, as it is written. Sourced by run. Last: hosts are retired and replaced on the way.
# shellcheck shell=bash
#
# What a command speaks of must be there when its turn comes: `scene` sees to it, as the guide's words around it tell.

GUIDE=/root/guide # on each host: where its commands are run
GUIDE_HOST=b      # the host that the guide's `host` is
declare -A NAMED=([host2]=$PREFIX-b [host3]=$PREFIX-a [host4]=$PREFIX-new)

guide() {
    chapter 8-guide "docs/guide.md, each command in its order, at the place that it names"
    step "$(scripts/guide | wc -l) commands" guide_followed
}

guide_followed() {
    local place command
    ssh-keygen -q -t ed25519 -N '' -f "$LAB/key"
    each guide_folder "${HOSTS[@]}"
    # So that the guide's VM is on the guide's host.
    dew host cordon "$PREFIX-a"
    dew host cordon "$PREFIX-c"
    while IFS=$'\t' read -r place command <&4; do
        scene "$command"
        guide_command "$place" "$(renamed "$command")"
    done 4< <(scripts/guide)
}

guide_folder() { # HOST: what an operator would have at hand there; apt takes yes for an answer
    on "$1" sh -c "mkdir -p $GUIDE && ln -s /srv/debs/*.deb $GUIDE/ && ln -s /srv/images/tiny.qcow2 $GUIDE/debian-12.qcow2"
    on "$1" tee "$GUIDE/key.pub" <"$LAB/key.pub"
    echo 'APT::Get::Assume-Yes "true";' | on "$1" tee /etc/apt/apt.conf.d/lab
}

guide_command() { # PLACE COMMAND
    local host=c
    [ "$1" != host ] || host=$GUIDE_HOST
    printf '\n--- %s: %s\n' "$PREFIX-$host" "$2"
    on "$host" env DEWPOINT_INSECURE=1 DEBIAN_FRONTEND=noninteractive timeout 300 sh -c "cd $GUIDE && $2"
}

renamed() {
    local name command=$1
    for name in "${!NAMED[@]}"; do command=${command//$name/${NAMED[$name]}}; done
    echo "$command"
}

scene() {
    case $1 in
    'systemctl stop dewpoint-coordinator') scene_newer_than_its_backup ;;
    'dewpoint host end-recovery '*) wait_for 60 "the coordinator knows that it is behind" recovering ;;
    'dewpoint host reconcile host2') scene_purged ;;
    'dewpoint host retire host2 '*) wait_for 60 "it has heard of that" host_is b alive && scene_lost b ;;
    'dewpoint host replace host3 '*) scene_lost a && scene_new_machine b ;;
    'dewpoint vm show web') scene_web ;;
    'dewpoint-agent status') wait_for 60 "the agent answers" on "$GUIDE_HOST" dewpoint-agent status ;;
    'dewpoint host ls' | 'dewpoint-coordinator check-config'*) wait_for 60 "the coordinator answers" dew host ls ;;
    esac
}

# What the backup cannot know.
scene_newer_than_its_backup() {
    dew host uncordon "$PREFIX-a"
    vm_create newer a --image tiny --off --wait --timeout 2m
}
recovering() { dew host ls --json | jq -e '[.hosts[].recovering] | any'; }

scene_purged() {
    apt_on b purge dewpoint-agent
    provision_host b
    wait_for 60 "the coordinator sees another journal" diverged b
    # The one that knew of more than the backup.
    ! diverged a || dew host reconcile "$PREFIX-a" --yes --reason "the database was put back"
}

diverged() { dew host show "$PREFIX-$1" --json | jq -e '.diverged != null'; }

scene_lost() {
    on "$1" systemctl stop dewpoint-agent
    wait_for 60 "$PREFIX-$1 is lost" host_is "$1" lost
}

# Nothing of what was there is left, nor its name: the retired one still bears it.
scene_new_machine() {
    # shellcheck disable=SC2016
    on "$1" sh -c 'for vm in $(virsh list --all --uuid); do virsh destroy "$vm"; virsh undefine "$vm" --nvram; done; true'
    apt_on "$1" purge dewpoint-agent
    on "$1" find /var/lib/dewpoint -mindepth 1 -delete
    on "$1" hostname "$PREFIX-new"
    provision_host "$1"
    wait_for 60 "it has joined as a new host" host_is new alive
}

# By now the guide's host has been replaced: what is left of the page is for another one.
scene_web() {
    ! vm_id web || return 0
    GUIDE_HOST=c NAMED[host2]=$PREFIX-c
    dew host uncordon "$PREFIX-c"
    vm_create web c --image tiny --wait --timeout 2m
}
