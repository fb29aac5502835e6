# shellcheck shell=sh
# The dashboards for Grafana and the alert rules, held to what they must be and to a running service.

# Set by `deploy/dev`.
: "${root:?}" "${cache:?}"

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
