# What the scripts in this folder share. Sourced, never run.
# shellcheck shell=bash

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
    warn "${0##*/}: $*"
    exit 1
}

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root: run it as root, or install sudo"
    fi
}

# Tools in /usr/sbin are not on an ordinary Debian user's PATH.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# need COMMAND... - all of them are there, or we say what to do.
need() {
    local missing=()
    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} -eq 0 ] || die "missing: ${missing[*]} (run scripts/setup)"
}

# Prints a title, runs a command with its output in the build log, prints the time it took.
# Expects $log. On failure shows the end of the log.
part() {
    local title=$1 begun=$EPOCHREALTIME status
    shift
    printf '  %-44s' "$title"
    # Not `if "$@"`: a condition would switch off `set -e` inside the function it runs.
    set +e
    (
        set -e
        "$@"
    ) >>"${log:=/dev/null}" 2>&1
    status=$?
    set -e
    if [ $status -ne 0 ]; then
        printf 'FAILED\n'
        tail -n 25 "$log" >&2
        die "$title: failed; the whole log is in $log"
    fi
    awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN { printf "%6.1f s\n", b - a }'
}

# apt_sources - every repository the machine knows, one "URI SUITE" a line, from one-line lists
# and deb822 files alike. Disabled ones are left out.
apt_sources() {
    local lists=() deb822=() f
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do [ -r "$f" ] && lists+=("$f"); done
    for f in /etc/apt/sources.list.d/*.sources; do [ -r "$f" ] && deb822+=("$f"); done
    if [ ${#lists[@]} -gt 0 ]; then
        sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]*)?([^[:space:]]+)[[:space:]]+([^[:space:]]+).*/\2 \3/p' "${lists[@]}"
    fi
    if [ ${#deb822[@]} -gt 0 ]; then
        awk '
            function flush(   i, j, u, s) {
                if (uris != "" && enabled != "no" && types ~ /(^| )deb( |$)/)
                    for (i = split(uris, u, " "); i > 0; i--)
                        for (j = split(suites, s, " "); j > 0; j--) print u[i], s[j]
                uris = suites = enabled = types = ""
            }
            FNR == 1 || /^[[:space:]]*$/ { flush() }
            /^#/ { next }
            /^[A-Za-z-]+:/ { field = tolower($1); sub(/^[^:]*:[[:space:]]*/, "") }
            field == "uris:" { uris = uris " " $0 }
            field == "suites:" { suites = suites " " $0 }
            field == "enabled:" { enabled = tolower($1) }
            field == "types:" { types = $0 }
            END { flush() }
        ' "${deb822[@]}"
    fi
}

# debian_mirror SUITE - where this machine gets Debian from: its own source of that suite, any
# Debian source of its own, or Debian's public address.
debian_mirror() {
    if [ -n "${DEWPOINT_DEBIAN_MIRROR:-}" ]; then
        say "$DEWPOINT_DEBIAN_MIRROR"
        return
    fi
    apt_sources | awk -v suite="$1" '
        $1 !~ /^(https?|mirror\+|file)/ || $1 ~ /security|snapshot/ { next }
        $2 == suite { exact = $1; exit }
        $1 ~ /\/debian\/?$/ && other == "" { other = $1 }
        END { print exact != "" ? exact : other != "" ? other : "http://deb.debian.org/debian" }
    ' | sed 's|/*$||'
}

debian_keyring() {
    local key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$key" ] || die "missing $key: install debian-archive-keyring (scripts/setup does)"
    say "$key"
}

# recipe_hash FILE... - the identity of an image's recipe: names and contents of its files.
recipe_hash() {
    sha256sum "$@" | sed "s|  .*/|  |" | sha256sum | cut -d' ' -f1
}

repo_root() { git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel 2>/dev/null || (cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd); }
