# shellcheck shell=sh
# The image of the service, built by its Dockerfile without a daemon and without a registry, and run as it is
# meant to be: read-only, without capabilities, as an account that is nobody on this machine.

: "${root:?}" "${cache:?}" "${servers_env:?}"

image_cache=$cache/image
image_name=localhost/oms:check

image_buildah() {
    buildah --root "$image_cache/store" --runroot "$image_cache/run" --storage-driver vfs "$@"
}

image_podman() {
    podman --root "$image_cache/store" --runroot "$image_cache/run" --storage-driver vfs --runtime runc "$@"
}

ensure_image_tools() {
    is_root || die "images are built and run as root here"
    missing=''
    for tool in buildah podman runc mmdebstrap curl jq; do
        have "$tool" || missing="$missing $tool"
    done
    [ -z "$missing" ] && return 0
    can_install || die "please install:$missing"
    # shellcheck disable=SC2086
    apt_install $missing
}

# The binary that goes into the image or the package: the one of OMS_BINARY, else a release build.
built_binary() {
    if [ -n "${OMS_BINARY-}" ]; then
        echo "$OMS_BINARY"
        return
    fi
    ensure_build
    (cd "$root" && cargo build --release --locked >&2) || die "the binary could not be built"
    echo "$(target_dir)/release/oms"
}

# Stands in for the base image, which is at a registry: the same release of the same system as this machine,
# since a binary that is built here needs the libraries of here.
image_base() {
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    base=localhost/base:$suite
    image_buildah inspect --type image "$base" >/dev/null 2>&1 && return 0
    say "making a base image of $suite"
    mkdir -p "$image_cache/base"
    mmdebstrap --quiet --variant=minbase "$suite" "$image_cache/base/base.tar" >&2 ||
        die "the base image could not be made"
    printf 'FROM scratch\nADD base.tar /\n' >"$image_cache/base/Containerfile"
    image_buildah bud --quiet --isolation chroot -t "$base" -f "$image_cache/base/Containerfile" \
        "$image_cache/base" >&2 || die "the base image could not be made"
    rm "$image_cache/base/base.tar"
}

image_build() {
    ensure_image_tools
    binary=$(built_binary)
    image_base
    context=$image_cache/context
    rm -rf "$context"
    mkdir -p "$context/dist" "$context/deploy"
    cp "$root/Dockerfile" "$root/.dockerignore" "$context"
    cp -R "$root/deploy/container" "$context/deploy/container"
    cp "$binary" "$context/dist/oms"
    revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
    image_buildah bud --isolation chroot --network host --pull-never --format docker \
        --build-arg BINARY=given --build-arg DEBIAN="$base" --build-arg REVISION="$revision" \
        --build-arg VERSION="$("$binary" --version | cut -d ' ' -f 2)" \
        -t "$image_name" "$context" >&2 || die "the image could not be built"
    rm -rf "$context"
    bytes=$(image_podman image inspect --format '{{.Size}}' "$image_name")
    say "built $image_name, $((bytes / 1000000)) MB; it is below ${image_cache#"$root"/}/store"
}

# A PostgreSQL of its own in the folder $1, with the password in the file $2; sets postgres_url.
private_postgres() {
    postgres_port=$(free_port)
    account=postgres
    id -u "$account" >/dev/null 2>&1 || account=nobody
    mkdir -p "$1"
    chown "$account" "$1" "$2"
    as_account() { setpriv --reuid "$account" --regid "$(id -g "$account")" --clear-groups "$@"; }
    bin=$(postgres_bin)
    as_account "$bin/initdb" -D "$1/data" -U oms -A scram-sha-256 --pwfile "$2" -E UTF8 --no-locale \
        >"$1.log" 2>&1 || die "initdb failed: $(cat "$1.log")"
    process_start "$1.pid" "$1.log" setpriv --reuid "$account" --regid "$(id -g "$account")" --clear-groups \
        "$bin/postgres" -D "$1/data" -p "$postgres_port" -c listen_addresses=127.0.0.1 -k "$1"
    wait_until 30 grep -q 'ready to accept connections' "$1.log" ||
        die "PostgreSQL did not start: $(cat "$1.log")"
    postgres_url="postgres://oms:$(cat "$2")@127.0.0.1:$postgres_port/postgres"
}

image_check_ends() {
    [ -z "$container" ] || image_podman rm -f -t 5 "$container" >/dev/null 2>&1 || :
    process_stop "$trial/postgres.pid"
    [ "$stop_servers" = no ] || servers_stop
    rm -rf "$trial"
}

# What is said and must hold, in a run of the image.
holds() {
    what=$1
    shift
    if "$@" >"$trial/out" 2>&1; then
        say "ok: $what"
    else
        cat "$trial/out" >&2
        [ -z "$container" ] || image_podman logs --tail 20 "$container" >&2 || :
        die "does not hold: $what"
    fi
}

# Runs the image with nothing that can be written: no volume, no tmpfs.
image_run() {
    container=$(image_podman run -d --network host --no-healthcheck --ulimit nofile=4096:4096 \
        --ulimit nproc=4096:4096 --read-only --read-only-tmpfs=false --cap-drop ALL \
        --security-opt no-new-privileges -v "$trial/secrets:/run/secrets:ro" \
        -e OMS__HTTP__HOST=127.0.0.1 -e "OMS__HTTP__PORT=$port" -e "OMS_URL=http://127.0.0.1:$port" \
        -e OMS__AUTH__TOKENS_FILE=/run/secrets/tokens \
        -e "OMS__S3__ENDPOINT=$(printf '%s' "$OMS_TEST_S3" | jq -r .endpoint)" \
        -e OMS__S3__REGION=us-east-1 -e "OMS__S3__BUCKET=image-$port" \
        -e OMS__S3__ACCESS_KEY_FILE=/run/secrets/access-key -e OMS__S3__SECRET_KEY_FILE=/run/secrets/secret-key \
        -e OMS__POSTGRES__URL_FILE=/run/secrets/postgres-url \
        -e "OMS__KAFKA__BOOTSTRAP=$OMS_TEST_KAFKA" -e "OMS__KAFKA__TOPIC_PREFIX=image-$port" \
        -e OMS_PORT=tcp://10.0.0.1:8000 -e OMS_SERVICE_HOST=10.0.0.1 \
        "$image_name" serve --mode dual_write) || die "the image does not run"
    pid=$(image_podman inspect --format '{{.State.Pid}}' "$container")
}

image_status() { image_podman exec "$container" /usr/local/bin/oms status --data-dir /var/lib/oms; }

image_asks() {
    curl -fsS --max-time 20 -H "Authorization: Bearer $(cat "$trial/token")" \
        "http://127.0.0.1:$port/api/v1/databases$1" ${2:+-H 'content-type: application/json' -d "$2"}
}

# That a line of /proc/PID/status says $2 of $1.
process_says() { [ "$(sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status")" = "$2" ]; }

# Every file system of the container but those of the kernel and single files that the runtime puts there.
nothing_is_writable() {
    awk '$6 ~ /^rw/ && !/ - (proc|sysfs|devpts|mqueue|cgroup2?|tmpfs (tmpfs|shm)) / { print; found = 1 }
        END { exit found }' "/proc/$pid/mountinfo" | tee "$trial/writable"
    ! [ -s "$trial/writable" ] && awk '$5 == "/" { exit $6 !~ /^ro/ }' "/proc/$pid/mountinfo"
}

refused_without_tokens() {
    code=0
    image_podman run --rm --network none --no-healthcheck --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 \
        --read-only --read-only-tmpfs=false --cap-drop ALL "$image_name" || code=$?
    [ "$code" -eq 78 ]
}

without_shell() { ! image_podman exec "$container" /bin/sh -c true; }

without_set_user_id() {
    mount=$(image_podman image mount "$image_name") || return 1
    [ -x "$mount/usr/local/bin/oms" ] || return 1
    found=$(find "$mount" -perm /6000) || return 1
    image_podman image umount "$image_name" >/dev/null
    [ -z "$found" ]
}

stopped_in_order() {
    image_podman stop -t 60 "$container" || return 1
    [ "$(image_podman inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$container")" = 'exited 0' ]
}

image_check() {
    ensure_image_tools
    ensure_postgres
    stop_servers=no container=''
    trial=$(mktemp -d)
    chmod 711 "$trial"
    trap 'image_check_ends' EXIT
    trap 'exit 130' INT TERM
    if ! servers_running; then
        stop_servers=yes
        servers_start
    fi
    # shellcheck source=/dev/null
    . "$servers_env"
    mkdir "$trial/secrets"
    random_text >"$trial/password"
    private_postgres "$trial/postgres" "$trial/password"
    printf '%s' "$postgres_url" >"$trial/secrets/postgres-url"
    printf '%s' "$OMS_TEST_S3" | jq -r .access_key >"$trial/secrets/access-key"
    printf '%s' "$OMS_TEST_S3" | jq -r .secret_key >"$trial/secrets/secret-key"
    random_text >"$trial/token"
    printf '[{"name":"check","roles":["read","write","admin"],"sha256":"%s"}]' \
        "$(sha256sum <"$trial/token" | cut -d ' ' -f 1)" >"$trial/secrets/tokens"
    chown -R 10001 "$trial/secrets"
    chmod -R go= "$trial/secrets"
    port=$(free_port)

    holds "without tokens it refuses to listen to other machines, by exit code 78" refused_without_tokens
    holds "nothing in it changes who runs it" without_set_user_id
    image_run
    holds "the health check of the image, oms status, finds it well" wait_until 60 image_status
    holds "it runs as the account 10001" process_says Uid "10001	10001	10001	10001"
    holds "without any capability" process_says CapEff 0000000000000000
    holds "and cannot gain any" process_says NoNewPrivs 1
    holds "its root is read-only, and it sees no disk that is not" nothing_is_writable
    holds "it has no shell" without_shell
    holds "it takes a write" image_asks '' '{"name":"image"}'
    holds "and ends in order when it is told to" stopped_in_order
    image_podman rm "$container" >/dev/null
    image_run
    holds "another container is well" wait_until 60 image_status
    holds "and has what was written, though none has a disk" image_asks /image
    say "the image runs read-only, without capabilities, as nobody in particular"
}

image() {
    case ${1-build} in
    build) image_build ;;
    check)
        image_build
        image_check
        ;;
    *) die "deploy/dev image takes check, or nothing to build it only" ;;
    esac
}
