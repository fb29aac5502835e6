# shellcheck shell=sh
# Compilers.

: "${root:?}"

# What cargo is told of features by `deploy/dev`: nothing, or that OpenSSL is not there.
# shellcheck disable=SC2034
build_features=

# Kafka over TLS: librdkafka is linked to the system's OpenSSL, which cargo finds like this.
openssl_is_there() { [ -n "${OPENSSL_DIR-}" ] || pkg-config --exists openssl 2>/dev/null; }

ensure_compiler() {
    missing=
    { have cc || have gcc; } || missing="$missing gcc libc6-dev"
    { have c++ || have g++; } || missing="$missing g++"
    have make || missing="$missing make"
    # librdkafka's build is configured by a bash script.
    have bash || missing="$missing bash"
    if ! openssl_is_there; then
        if can_install; then
            missing="$missing pkg-config libssl-dev"
        else
            say "OpenSSL's headers are missing (libssl-dev, pkg-config): Kafka over TLS and SASL is left out"
            # shellcheck disable=SC2034
            build_features=--no-default-features
        fi
    fi
    [ -n "$missing" ] || return 0
    can_install || die "please install:$missing"
    # shellcheck disable=SC2086 # a list of packages
    apt_install $missing
}

# The oldest Rust that builds us.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml"; }

# The version that cargo has, of the toolchain $1 if there is one.
rust_found() {
    if [ -n "${1-}" ]; then RUSTUP_TOOLCHAIN=$1 cargo --version; else cargo --version; fi 2>/dev/null |
        sed -n 's/^cargo \([0-9.]*\).*/\1/p'
}

# rust-toolchain.toml pins a version, and rustup would get it when cargo is called. Where it is not
# installed and the toolchain that is used otherwise is new enough, that one does: nothing is downloaded.
prefer_installed_rust() {
    have rustup && [ -z "${RUSTUP_TOOLCHAIN-}" ] || return 0
    pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
    # Their names begin with the version and end with the platform.
    case " $(rustup toolchain list 2>/dev/null | tr '\n' ' ')" in
    *" $pinned-"*) return 0 ;;
    esac
    default=$(cd / && rustup show active-toolchain 2>/dev/null | cut -d' ' -f1)
    [ -n "$default" ] || return 0
    if at_least "$(rust_found "$default")" "$(rust_wanted)"; then
        say "Rust $pinned is not installed: using $default"
        export RUSTUP_TOOLCHAIN="$default"
    fi
}

ensure_rust() {
    # Where rustup puts it; a shell that was not restarted since does not know.
    have cargo || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    prefer_installed_rust
    wanted=$(rust_wanted)
    at_least "$(rust_found)" "$wanted" && return 0
    if ! have rustup && can_install; then
        apt_update
        if at_least "$(apt_candidate cargo)" "$wanted"; then
            apt_install cargo rustc
        elif [ -n "$(apt_candidate rustup)" ]; then
            apt_install rustup
        fi
    fi
    if ! at_least "$(rust_found)" "$wanted" && have rustup; then
        say "installing Rust by rustup"
        {
            rustup toolchain install --profile minimal --component clippy,rustfmt stable &&
                rustup default stable
        } >&2 || die "rustup failed"
        prefer_installed_rust
    fi
    found=$(rust_found)
    at_least "$found" "$wanted" ||
        die "Rust $wanted or newer is needed (found: ${found:-none}); install it with rustup and come back"
}

# Where cargo puts what it builds.
target_dir() {
    cargo metadata --format-version 1 --no-deps --manifest-path "$root/Cargo.toml" |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}
