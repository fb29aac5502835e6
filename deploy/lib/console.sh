# shellcheck shell=sh
# The web console in a real browser: what its tests need, and the tests.

# Set by `deploy/dev`.
: "${root:?}" "${cache:?}"

ensure_browser() {
    chromium=${OMS_CHROMIUM-$(command -v chromium || command -v chromium-browser || command -v google-chrome || :)}
    if [ -z "$chromium" ] || ! have node || ! have npm || ! have psql; then
        can_install || die "the console's tests need chromium, node, npm and psql: install them"
        missing=''
        [ -n "$chromium" ] || missing="$missing chromium fonts-dejavu-core"
        have node || missing="$missing nodejs"
        have npm || missing="$missing npm"
        have psql || missing="$missing postgresql-client"
        # shellcheck disable=SC2086
        apt_install $missing
        chromium=${chromium:-$(command -v chromium || :)}
    fi
    [ -x "$chromium" ] || die "there is no browser to test the console in: set OMS_CHROMIUM"
}

# console_prepare DIR: the tests with their libraries, as the lock file names them, in a folder of their own.
console_prepare() {
    mkdir -p "$1"
    rm -f "$1"/*.mjs
    cp "$root"/tests/console/*.mjs "$root"/tests/console/package.json "$root"/tests/console/package-lock.json "$1"
    if ! cmp -s "$1/package-lock.json" "$1/node_modules/.installed"; then
        say 'installing: playwright and axe, into .cache/console'
        (cd "$1" && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --ignore-scripts --no-audit --no-fund >&2)
        cp "$1/package-lock.json" "$1/node_modules/.installed"
    fi
}

# console [ARGS]: runs the tests. `console pictures` takes the documents' pictures instead.
console() {
    ensure_build
    ensure_browser
    cd "$root" || return
    cargo build --bin oms
    folder=$cache/console
    console_prepare "$folder"
    OMS_BINARY=$(target_dir)/debug/oms OMS_CHROMIUM=$chromium OMS_CONSOLE_OUT=$folder/out
    export OMS_BINARY OMS_CHROMIUM OMS_CONSOLE_OUT
    cd "$folder" || return
    if [ "${1-}" = pictures ]; then
        have pngquant || apt_install pngquant
        mkdir -p "$root/docs/images"
        node pictures.mjs "$root/docs/images"
        pngquant --force --ext .png --quality 60-90 --strip "$root"/docs/images/console-*.png
    else
        npx playwright test "$@"
    fi
}
