# shellcheck shell=sh
# Words used everywhere. Everything said goes to standard error: standard output is for results.

say() { printf '%s\n' "$*" >&2; }

die() {
    printf 'deploy/dev: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# Whether packages can be installed without asking anybody.
can_install() {
    have apt-get || return 1
    is_root || { have sudo && sudo -n true 2>/dev/null; }
}

as_root() {
    if is_root; then "$@"; else sudo -n "$@"; fi
}

apt_updated=no

apt_update() {
    [ "$apt_updated" = yes ] && return
    as_root apt-get update -qq >&2 || die "apt-get update failed"
    apt_updated=yes
}

# Installs packages by name.
apt_install() {
    say "installing: $*"
    apt_update
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >&2 || die "could not install: $*"
}

# Version of a package that would be installed; nothing when there is none.
apt_candidate() {
    apt-cache policy "$1" 2>/dev/null |
        sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}\([0-9][0-9.]*\).*/\2/p'
}

# Whether version $1 is at least version $2.
at_least() {
    [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# Runs a command again and again until it succeeds; fails after $1 seconds.
wait_until() {
    wait_end=$(($(date +%s) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$wait_end" ] || return 1
        sleep 0.1
    done
}
