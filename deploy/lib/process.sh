# shellcheck shell=sh
# Background processes, each known by a file with its id and the moment it began, so that what is
# stopped is exactly what was started and never a stranger that was given the same id.

# When a process began, in clock ticks since boot; nothing when there is no such process.
process_began() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# process_start PIDFILE LOGFILE COMMAND...
process_start() {
    pidfile=$1 logfile=$2
    shift 2
    nohup "$@" >"$logfile" 2>&1 </dev/null &
    echo "$! $(process_began $!)" >"$pidfile"
}

process_running() {
    [ -s "$1" ] || return 1
    read -r pid began <"$1"
    [ -n "$began" ] && [ "$(process_began "$pid")" = "$began" ]
}

process_stopped() { ! process_running "$1"; }

# Ends a process in order, then by force.
process_stop() {
    if process_running "$1"; then
        read -r pid began <"$1"
        kill "$pid" 2>/dev/null || :
        wait_until 20 process_stopped "$1" || kill -9 "$pid" 2>/dev/null || :
    fi
    rm -f "$1"
}

# Whether somebody on this machine listens on a TCP port.
port_listens() {
    hex=$(printf '%04X' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 }
            END { exit !found }'
}

# A port nobody uses, below those that the system gives to outgoing connections.
free_port() {
    while :; do
        port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))
        port_listens "$port" || break
    done
    echo "$port"
}
