# shellcheck shell=sh
# Clients that other people's tools make of our descriptions, and worked consumers, against a running service.

# Set by `deploy/dev`.
: "${root:?}" "${cache:?}"

clients_dir=$cache/clients

# What the clients are made with: Node.js, Python, Java and Maven, and the service.
ensure_clients() {
    missing=''
    have node || missing="$missing nodejs"
    have npm || missing="$missing npm"
    have curl || missing="$missing curl"
    { have python3 && python3 -c 'import ensurepip'; } 2>/dev/null || missing="$missing python3-venv"
    have javac || missing="$missing default-jdk-headless"
    have mvn || missing="$missing maven"
    if [ -n "$missing" ]; then
        can_install || die "the clients need these, please install them:$missing"
        # shellcheck disable=SC2086
        apt_install $missing
    fi
    # A service that is named is taken as it is.
    if [ -z "${OMS_BINARY-}" ]; then
        ensure_build
        (cd "$root" && cargo build --bin oms)
        OMS_BINARY=$(target_dir)/debug/oms
    fi
    clients_python
    clients_node
}

clients_python() {
    wanted=$root/tests/clients/requirements.txt
    python=$clients_dir/python/bin/python
    cmp -s "$wanted" "$clients_dir/python/.installed" && return
    say 'installing: generators, schemathesis and SDKs for Python, into .cache/clients'
    mkdir -p "$clients_dir"
    python3 -m venv "$clients_dir/python"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$wanted" >&2 || die "they could not be had"
    cp "$wanted" "$clients_dir/python/.installed"
}

clients_node() {
    node_dir=$clients_dir/node
    mkdir -p "$node_dir"
    cp "$root/tests/clients/package.json" "$root/tests/clients/package-lock.json" "$node_dir"
    cmp -s "$node_dir/package-lock.json" "$node_dir/node_modules/.installed" && return
    say 'installing: generators, the parser of AsyncAPI and SDKs for JavaScript, into .cache/clients'
    (cd "$node_dir" && npm ci --ignore-scripts --no-audit --no-fund >&2)
    cp "$node_dir/package-lock.json" "$node_dir/node_modules/.installed"
}

# service_up NAME [ARGS]: a service of its own. Sets OMS_API and OMS_KAFKA.
service_up() {
    service=$clients_run/$1
    shift
    process_start "$service.pid" "$service.log" \
        "$OMS_BINARY" serve --data-dir "$service" --port 0 --log-level warn "$@"
    wait_until 120 test -s "$service/endpoints.json" ||
        die "the service did not start; the end of its log: $(tail -n 20 "$service.log")"
    OMS_API=$(sed -n 's/.*"http": "\(.*\)".*/\1/p' "$service/endpoints.json")
    OMS_KAFKA=$(sed -n 's/.*"kafka": "\(.*\)".*/\1/p' "$service/endpoints.json")
    export OMS_API OMS_KAFKA
    wait_until 120 curl -fsS "$OMS_API/health/ready" || die "the service is not ready: $(tail -n 20 "$service.log")"
}

# Runs a command for so many seconds at most. In the background, so that the shell hears an interrupt meanwhile, and
# ends it.
within() {
    timeout "$@" &
    clients_part=$!
    wait "$clients_part" || {
        code=$?
        clients_part=''
        return "$code"
    }
    clients_part=''
}

clients_end() {
    # `timeout` hands the signal on to what it runs.
    [ -z "$clients_part" ] || kill "$clients_part" 2>/dev/null || :
    for pidfile in "$clients_run"/*.pid; do
        [ ! -e "$pidfile" ] || process_stop "$pidfile"
    done
    rm -rf "$clients_run"
}

# Typed clients made of /openapi.json compile and do a round trip: TypeScript, Python, Java.
clients_generated() {
    service_up generated
    description=$clients_run/openapi.json
    curl -fsS "$OMS_API/openapi.json" >"$description"

    made=$node_dir/round-trip
    rm -rf "$made"
    mkdir -p "$made"
    cp "$root"/tests/clients/typescript/* "$made"
    (cd "$node_dir" && npx openapi-typescript "$description" -o "$made/api.ts" >&2 && npx tsc -p "$made")
    within 120 node "$made/out/round-trip.js"

    made=$clients_dir/oms_client
    rm -rf "$made"
    # It formats what it makes with a program beside it.
    PATH="$clients_dir/python/bin:$PATH" openapi-python-client generate --path "$description" \
        --output-path "$made" --meta none --fail-on-warning >&2
    within 120 env "PYTHONPATH=$clients_dir" "$python" "$root/tests/clients/python/round_trip.py"

    made=$clients_dir/java
    rm -rf "$made/classes" "$made/generated"
    mvn -q -B -f "$root/tests/clients/java/pom.xml" compile dependency:copy-dependencies \
        "-Ddescription.file=$description" "-Dbuild.folder=$made" "-DoutputDirectory=$made/lib" >&2 ||
        die "the Java client does not compile"
    within 120 java -cp "$made/classes:$made/lib/*" RoundTrip
    process_stop "$service.pid"
}

# Kafka carries what docs/asyncapi.yaml says, and the SDKs of CloudEvents read it as docs/CONSUMERS.md says.
clients_messages() {
    cp "$root"/tests/clients/*.mjs "$node_dir"
    node "$node_dir/asyncapi.mjs" "$root/docs/asyncapi.yaml"
    service_up messages
    within 300 "$python" "$root/tests/clients/messages.py" "$clients_run/messages.jsonl"
    "$python" "$root/tests/clients/sdk.py" "$clients_run/messages.jsonl"
    node "$node_dir/sdk.mjs" "$clients_run/messages.jsonl"
    process_stop "$service.pid"
}

# The worked consumers of docs/CONSUMERS.md, killed and started again, with a broker that forgets.
clients_consumers() {
    made=$node_dir/consumer
    rm -rf "$made"
    mkdir -p "$made"
    cp -R "$root"/examples/consumers/typescript/src "$root"/examples/consumers/typescript/*.json "$made"
    (cd "$node_dir" && npx tsc -p "$made")
    within 900 "$python" "$root/tests/clients/consumers.py" "$OMS_BINARY" "$clients_run/consumers" \
        "$python" "$root/examples/consumers/python/consumer.py" -- node "$made/dist/consumer.js"
}

# clients_fuzz [SECONDS]: requests made of the description, valid and not, half of the time against a service that is
# open and half against one with tokens. What it looks for: 5xx, statuses, headers, media types and bodies that are not
# described, and refusals that are missing.
clients_fuzz() {
    half=$((${1:-240} / 2))
    token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    hash=$(printf %s "$token" | sha256sum | cut -d ' ' -f 1)
    # That a request fits its schema does not make it valid: what it names must exist, members may exclude each other.
    # And `Allow` of …/instances/query says what an instance of that name takes.
    known=positive_data_acceptance,allow_header_conformance
    service_up open
    # Without tokens nobody is turned away.
    clients_fuzz_one --exclude-checks "$known,ignored_auth,missing_required_header,negative_data_rejection"
    process_stop "$service.pid"
    cat >"$clients_run/closed.toml" <<TEXT
[[auth.tokens]]
name = "fuzz"
roles = ["read", "write", "admin"]
sha256 = "$hash"
TEXT
    service_up closed --config "$clients_run/closed.toml"
    clients_fuzz_one --exclude-checks "$known" -H "Authorization: Bearer $token"
    process_stop "$service.pid"
}

clients_fuzz_one() {
    within $((half * 2 + 120)) env -C "$clients_run" "$clients_dir/python/bin/schemathesis" run \
        "$OMS_API/openapi.json" --url "$OMS_API" --checks all --max-examples 20 --max-time "$half" \
        --continue-on-failure --request-timeout 30 --no-color "$@"
}

# clients_signin: a certified OpenID Connect provider gives programs tokens, and the service takes them.
clients_signin() {
    cp "$root/tests/clients/signin.mjs" "$node_dir/signin.mjs"
    OMS_BINARY=$OMS_BINARY within 180 node "$node_dir/signin.mjs" "$clients_run/signin"
}

# clients [PART]: all of it, or one part.
clients() {
    case ${1-all} in
    all | generated | messages | consumers | signin | fuzz) ;;
    *) die "deploy/dev clients takes generated, messages, consumers, signin or fuzz [SECONDS], or nothing for all of it" ;;
    esac
    ensure_clients
    clients_part=''
    clients_run=$(mktemp -d "${TMPDIR:-/tmp}/oms-clients.XXXXXX")
    # The embedded PostgreSQL runs under an account of its own and looks for its folder below it.
    chmod 711 "$clients_run"
    trap 'clients_end' EXIT
    trap 'exit 130' INT TERM
    part=${1-all}
    [ $# -eq 0 ] || shift
    case $part in
    all)
        clients_generated
        clients_messages
        clients_consumers
        clients_signin
        clients_fuzz 240
        ;;
    *) "clients_$part" "$@" ;;
    esac
}
