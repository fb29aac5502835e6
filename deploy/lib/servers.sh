# shellcheck shell=sh
# A real S3 server (versitygw, over a folder) and a real Kafka broker (Apache Kafka, KRaft), on
# loopback, for the full suite, and pgbouncer, which a test starts by itself. Data under .cache/servers is made anew at every start.

: "${root:?}" "${cache:?}"

servers_dir=$cache/servers
servers_env=$servers_dir/env
versitygw_version=v1.8.0
# Below this Go neither builds versitygw nor fetches the Go that does.
go_wanted=1.21

servers_running() {
    [ -s "$servers_env" ] &&
        process_running "$servers_dir/s3.pid" && process_running "$servers_dir/kafka.pid"
}

servers_start() {
    if servers_running; then
        say "the servers are running already"
        return 0
    fi
    servers_stop
    servers_fetch
    mkdir -p "$servers_dir"
    start_s3
    start_kafka
    (
        umask 077
        printf "OMS_TEST_S3='%s'\n" "$s3_json"
        printf "OMS_TEST_KAFKA='%s'\n" "127.0.0.1:$kafka_port"
        printf "OMS_TEST_KAFKA_LIBS='%s'\n" "$cache/kafka/lib"
        printf "OMS_TEST_PGBOUNCER='%s'\n" "$(pgbouncer_program)"
    ) >"$servers_env"
}

# Gets what the servers are made of; starts none.
servers_fetch() {
    mkdir -p "$cache/bin"
    ensure_versitygw
    ensure_kafka
    ensure_pgbouncer
}

servers_stop() {
    for server in kafka s3; do
        process_stop "$servers_dir/$server.pid"
    done
    rm -f "$servers_env"
}

servers_status() {
    for server in s3 kafka; do
        if process_running "$servers_dir/$server.pid"; then
            read -r pid _ <"$servers_dir/$server.pid"
            echo "$server: runs as process $pid"
        else
            echo "$server: does not run"
        fi
    done
}

ensure_versitygw() {
    [ -x "$cache/bin/versitygw-$versitygw_version" ] && return 0
    if ! have go && can_install; then
        apt_install golang-go
    fi
    have go || die "the real S3 server is built with Go, which is missing; please install Go $go_wanted or newer"
    found=$(go env GOVERSION | sed 's/^go//')
    at_least "$found" "$go_wanted" || die "the real S3 server needs Go $go_wanted or newer (found: $found)"
    say "building versitygw $versitygw_version"
    GOBIN=$cache/bin go install "github.com/versity/versitygw/cmd/versitygw@$versitygw_version" >&2 ||
        die "versitygw could not be built"
    mv "$cache/bin/versitygw" "$cache/bin/versitygw-$versitygw_version"
}

ensure_kafka() {
    if ! have java || ! have mvn; then
        can_install || die "the real Kafka broker needs Java 17 and Maven; please install both"
        apt_install default-jre-headless maven
    fi
    pom=$root/deploy/kafka/pom.xml
    stamp=$cache/kafka/$(cksum <"$pom" | cut -d ' ' -f 1)
    [ -e "$stamp" ] && return 0
    say "fetching Apache Kafka"
    rm -rf "$cache/kafka"
    mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime \
        "-DoutputDirectory=$cache/kafka/lib" >&2 || die "Apache Kafka could not be fetched"
    : >"$stamp"
}

# Where pgbouncer is; nothing when it is not there. Debian puts it where only root looks.
pgbouncer_program() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v pgbouncer || :
}

ensure_pgbouncer() {
    [ -z "$(pgbouncer_program)" ] || return 0
    can_install || die "the real pooler needs pgbouncer; please install it"
    apt_install pgbouncer
    # Debian's package starts a pooler of its own, which nobody here needs.
    if have systemctl; then
        as_root systemctl disable --now pgbouncer >/dev/null 2>&1 || :
    fi
}

# A text nobody guesses, of letters, digits and _ only.
random_text() { head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

start_s3() {
    rm -rf "$servers_dir/s3"
    mkdir -p "$servers_dir/s3"
    secret=$(random_text)
    port=$(free_port)
    ROOT_ACCESS_KEY=omstest ROOT_SECRET_KEY=$secret process_start \
        "$servers_dir/s3.pid" "$servers_dir/s3.log" \
        "$cache/bin/versitygw-$versitygw_version" --port "127.0.0.1:$port" posix "$servers_dir/s3"
    wait_until 30 port_listens "$port" || server_failed s3
    process_running "$servers_dir/s3.pid" || server_failed s3
    s3_json=$(printf '{"endpoint":"http://127.0.0.1:%s","region":"us-east-1","bucket":"oms-test","access_key":"omstest","secret_key":"%s"}' "$port" "$secret")
    say "versitygw $versitygw_version listens on 127.0.0.1:$port"
}

start_kafka() {
    rm -rf "$servers_dir/kafka"
    mkdir -p "$servers_dir/kafka"
    kafka_port=$(free_port)
    controller_port=$(free_port)
    properties=$servers_dir/kafka.properties
    sed -e "s|@PORT@|$kafka_port|g" -e "s|@CONTROLLER_PORT@|$controller_port|g" \
        -e "s|@DATA@|$servers_dir/kafka|g" "$root/deploy/kafka/server.properties" >"$properties"
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=')
    java -cp "$cache/kafka/lib/*" kafka.tools.StorageTool format --standalone \
        -t "$id" -c "$properties" >"$servers_dir/kafka.log" 2>&1 || server_failed kafka
    process_start "$servers_dir/kafka.pid" "$servers_dir/kafka.log" \
        java -Xmx512m -cp "$cache/kafka/lib/*" kafka.Kafka "$properties"
    # The broker opens its port only once it is part of the cluster.
    wait_until 60 port_listens "$kafka_port" || server_failed kafka
    process_running "$servers_dir/kafka.pid" || server_failed kafka
    say "Apache Kafka listens on 127.0.0.1:$kafka_port"
}

server_failed() {
    tail -n 20 "$servers_dir/$1.log" >&2
    servers_stop
    die "the $1 server did not start; the end of its log is above"
}
