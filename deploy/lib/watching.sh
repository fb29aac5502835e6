# shellcheck shell=sh
# The dashboards for Grafana and the alert rules, held to what they must be and to a running service.

# Set by `deploy/dev`.
: "${root:?}" "${cache:?}" "${versitygw_version:?}"

ensure_node() {
    have node || { can_install && apt_install nodejs; }
    have node || die "the dashboards are checked with node: install it"
}

# The files are what their sources make, and nothing is wrong with them: seconds, no servers.
watching_check() {
    ensure_node
    node --test "$root/tests/watching/lint.test.mjs"
}

# The files held to the types of Grafana's own schema.
watching_types() {
    ensure_node
    have npm || { can_install && apt_install npm; }
    have npm || die "the types of the dashboards come from npm: install it"
    folder=$cache/watching
    mkdir -p "$folder"
    cp "$root/tests/watching/package.json" "$root/tests/watching/package-lock.json" "$folder"
    if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed"; then
        say "installing: Grafana's schema and TypeScript, into .cache/watching"
        (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund >&2)
        cp "$folder/package-lock.json" "$folder/node_modules/.installed"
    fi
    node "$root/tests/watching/types.mjs" "$folder"
    (cd "$folder" && npx tsc --noEmit --strict --skipLibCheck --moduleResolution bundler --module esnext \
        --target es2022 dashboards.ts mistakes.ts)
}

# A real Prometheus, a real S3 server that can be cut off, and a browser to draw with.
ensure_watching() {
    ensure_build
    ensure_node
    ensure_versitygw
    missing=''
    have prometheus || missing="$missing prometheus"
    have psql || missing="$missing postgresql-client"
    chromium=${OMS_CHROMIUM-$(command -v chromium || command -v chromium-browser || command -v google-chrome || :)}
    [ -n "$chromium" ] || missing="$missing chromium fonts-dejavu-core"
    if [ -n "$missing" ]; then
        can_install || die "the watching needs these, please install them:$missing"
        # shellcheck disable=SC2086
        apt_install $missing
        chromium=${chromium:-$(command -v chromium || :)}
        # Debian's package starts a Prometheus of its own, which nobody here needs.
        if have systemctl; then
            as_root systemctl disable --now prometheus >/dev/null 2>&1 || :
        fi
    fi
}

# Services that live and break, scraped: each panel has data, each rule fires by its fault, and a picture of all panels.
# Arguments: `life` or `faults`, both without.
watching_live() {
    ensure_watching
    cd "$root" || return
    cargo build --bin oms
    out=$cache/watching/out
    rm -rf "$out"
    mkdir -p "$out"
    # Prometheus as it was asked for, whatever else of it runs on this machine.
    OMS_BINARY=$(target_dir)/debug/oms OMS_VERSITYGW=$cache/bin/versitygw-$versitygw_version
    export OMS_BINARY OMS_VERSITYGW OMS_CHROMIUM="$chromium"
    outcome=0
    node "$root/tests/watching/watch.mjs" "$out" "$@" || outcome=$?
    [ ! -e "$out/panels.json" ] || node "$root/tests/watching/sheet.mjs" "$out/panels.json" "$out"
    say "what came of it is in $out"
    return "$outcome"
}

watching() {
    case ${1-all} in
    check) watching_check ;;
    types) watching_types ;;
    all)
        watching_check
        watching_types
        watching_live
        ;;
    life | faults) watching_live "$1" ;;
    pictures)
        watching_live
        have pngquant || apt_install pngquant
        mkdir -p "$root/docs/images"
        cp "$cache"/watching/out/grafana-*.png "$root/docs/images"
        pngquant --force --ext .png --quality 60-90 --strip "$root"/docs/images/grafana-*.png
        node "$root/tests/watching/page.mjs" "$cache/watching/out/alerts.json"
        ;;
    *) die "deploy/dev watching takes check, types, life, faults or pictures, or nothing for all of it" ;;
    esac
}
