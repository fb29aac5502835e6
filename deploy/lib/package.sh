# shellcheck shell=sh
# The Debian package: the binary, its unit, completions, manual pages, documents. And that it installs, starts,
# stops and goes away again, on a small system of its own that systemd runs.

: "${root:?}" "${cache:?}"

package_cache=$cache/package

# When the commit was made, so that the same commit makes the same bytes.
commit_time() { git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s; }

# Manual pages of the binary $1 into the folder $2: one for each command, from its own help.
manual_pages() {
    version=$("$1" --version | cut -d ' ' -f 2)
    date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)
    mkdir -p "$2"
    # shellcheck disable=SC2016 # backticks of Markdown
    { echo; sed -n 's/^##* `oms \(.*\)`$/\1/p' "$root/docs/CLI.md"; } | while read -r command; do
        name=$(echo "oms $command" | sed 's/ *$//; s/ /-/g')
        # shellcheck disable=SC2086 # one or two words
        COLUMNS=72 "$1" $command --help </dev/null |
            awk -v name="$name" -v version="$version" -v date="$date" -f "$root/deploy/lib/man.awk" |
            gzip -9n >"$2/$name.1.gz"
    done
}

package_build() {
    have dpkg-deb || die "Debian packages are made with dpkg-deb, which is missing"
    have dpkg-shlibdeps || { can_install && apt_install dpkg-dev; }
    have dpkg-shlibdeps || die "please install dpkg-dev"
    binary=$(built_binary)
    version=$("$binary" --version | cut -d ' ' -f 2)
    architecture=$(dpkg --print-architecture)
    maintainer='The authors of oms <maintainers@oms.example>'
    SOURCE_DATE_EPOCH=$(commit_time)
    export SOURCE_DATE_EPOCH
    tree=$package_cache/tree
    rm -rf "$package_cache/tree" "$package_cache/debian"
    mkdir -p "$tree/DEBIAN" "$tree/usr/bin" "$tree/etc/oms" "$tree/usr/lib/systemd/system" \
        "$tree/usr/lib/sysusers.d" "$tree/usr/lib/tmpfiles.d" "$tree/usr/share/doc/oms" \
        "$tree/usr/share/bash-completion/completions" "$tree/usr/share/zsh/vendor-completions" \
        "$tree/usr/share/fish/vendor_completions.d"
    strip --strip-unneeded --remove-section=.comment -o "$tree/usr/bin/oms" "$binary"
    cp "$root/deploy/systemd/oms.service" "$tree/usr/lib/systemd/system/"
    cp "$root/deploy/systemd/oms.sysusers" "$tree/usr/lib/sysusers.d/oms.conf"
    cp "$root/deploy/systemd/oms.tmpfiles" "$tree/usr/lib/tmpfiles.d/oms.conf"
    cp "$root/deploy/systemd/oms.toml" "$tree/etc/oms/oms.toml"
    "$binary" completions bash >"$tree/usr/share/bash-completion/completions/oms"
    "$binary" completions zsh >"$tree/usr/share/zsh/vendor-completions/_oms"
    "$binary" completions fish >"$tree/usr/share/fish/vendor_completions.d/oms.fish"
    manual_pages "$binary" "$tree/usr/share/man/man1"
    cp "$root"/docs/*.md "$root/deploy/alerts.yml" "$tree/usr/share/doc/oms/"
    # In docs it is a reference to this.
    cp "$root/deploy/RUNBOOK.md" "$tree/usr/share/doc/oms/"
    cp "$root/deploy/debian/copyright" "$tree/usr/share/doc/oms/copyright"
    cp "$root/CHANGELOG.md" "$tree/usr/share/doc/oms/"
    printf 'oms (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' "$version" \
        "$maintainer" "$(LC_ALL=C date -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$tree/usr/share/doc/oms/changelog.gz"
    cp "$root/deploy/debian/postinst" "$root/deploy/debian/prerm" "$root/deploy/debian/postrm" "$tree/DEBIAN/"
    echo /etc/oms/oms.toml >"$tree/DEBIAN/conffiles"
    find "$tree" -type d -exec chmod 755 {} +
    find "$tree" -type f -exec chmod 644 {} +
    chmod 755 "$tree/usr/bin/oms" "$tree/DEBIAN/postinst" "$tree/DEBIAN/prerm" "$tree/DEBIAN/postrm"
    # What the binary is linked to, as packages; dpkg-shlibdeps wants a folder that looks like a source.
    mkdir -p "$package_cache/debian"
    printf 'Source: oms\n\nPackage: oms\nArchitecture: any\n' >"$package_cache/debian/control"
    depends=$(cd "$package_cache" && dpkg-shlibdeps -O "$tree/usr/bin/oms" 2>/dev/null) ||
        die "the libraries of $binary belong to no package"
    cat >"$tree/DEBIAN/control" <<TEXT
Package: oms
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$tree" | cut -f 1)
Depends: ${depends#shlibs:Depends=}, systemd | passwd
Suggests: postgresql
Section: database
Priority: optional
Description: event-sourced ontology service
 Databases hold classes, classes hold instances, and every change is an event.
 The events are plain, hash-chained objects in S3; PostgreSQL is the outbox and
 the read model, Kafka the transport.
 .
 Without configuration the service runs a store, a PostgreSQL (where its server
 programs are installed) and a broker of its own.
TEXT
    package=$package_cache/oms_${version}_$architecture.deb
    rm -f "$package_cache"/*.deb
    dpkg-deb --root-owner-group -Zxz -z1 --build "$tree" "$package" >&2
    say "made $package, $(($(stat -c %s "$package") / 1000000)) MB"
}

# Each page is read by man without a word of complaint, and none is empty.
check_manual() {
    have man || { can_install && apt_install man-db; }
    pages=0
    for page in "$tree"/usr/share/man/man1/*.gz; do
        complaints=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l "$page" 2>&1 >"$package_cache/page")
        [ -z "$complaints" ] || die "$page: $complaints"
        grep -q '^SYNOPSIS$' "$package_cache/page" || die "$page has no synopsis"
        pages=$((pages + 1))
    done
    [ "$pages" -gt 20 ] || die "there are only $pages manual pages"
    say "ok: $pages manual pages"
}

# The unit, as systemd reads it, with the binary where it will be; and how exposed it is, below 2 of 10.
check_unit() {
    have systemd-analyze || { can_install && apt_install systemd; }
    verified=$(mktemp -d)
    sed "s|/usr/bin/oms|$tree/usr/bin/oms|" "$root/deploy/systemd/oms.service" >"$verified/oms.service"
    complaints=$(systemd-analyze verify --man=no "$verified/oms.service" 2>&1 | grep oms.service || :)
    exposure=$(systemd-analyze security --offline=true --threshold=20 "$verified/oms.service") ||
        complaints="$complaints too exposed"
    rm -rf "$verified"
    [ -z "$complaints" ] || die "the unit: $complaints"
    say "ok: the unit; $(echo "$exposure" | tail -n 1 | sed 's/.*Overall/overall/')"
}

# A small system with systemd, PostgreSQL's programs and curl; made once.
package_system() {
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    system=$package_cache/system-$suite.tar
    [ -s "$system" ] && return 0
    have mmdebstrap || { can_install && apt_install mmdebstrap; }
    say "making a system of $suite to install into"
    mmdebstrap --quiet --variant=minbase --include=systemd-sysv,dbus,curl,jq,postgresql \
        --format=tar "$suite" "$system.new" >&2 || die "the system could not be made"
    mv "$system.new" "$system"
}

in_system() { nsenter --target "$system_pid" --all -- "$@"; }

# Runs the installed package as a machine does: systemd as process 1, the unit with all its restrictions.
package_runs() {
    have systemd-nspawn || { can_install && apt_install systemd-container; }
    process_start "$trial/system.pid" "$trial/system.log" \
        systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --directory="$trial/root"
    read -r nspawn _ <"$trial/system.pid"
    # The process 1 of the system is the child of systemd-nspawn.
    wait_until 60 system_is_up || die "the system does not come up: $(tail -n 20 "$trial/system.log")"
    in_system systemctl start oms || die "the unit does not start: $(in_system journalctl -u oms --no-pager -n 30)"
    wait_until 90 in_system oms status ||
        die "the service is not well: $(in_system journalctl -u oms --no-pager -n 40)"
    say "ok: systemd runs it, embedded store and PostgreSQL included"
    main=$(in_system systemctl show -p MainPID --value oms)
    in_system grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' "/proc/$main/status" >&2
    in_system grep -q '^Seccomp:.*2' "/proc/$main/status" || die "it runs without a filter of system calls"
    in_system curl -fsS http://127.0.0.1:8000/api/v1/databases -H 'content-type: application/json' \
        -d '{"name":"unit"}' >&2 || die "it takes no write"
    in_system systemctl kill -s KILL oms
    wait_until 60 in_system curl -fsS http://127.0.0.1:8000/api/v1/databases/unit ||
        die "killed, it does not come back: $(in_system journalctl -u oms --no-pager -n 40)"
    say "ok: killed, it is back with what was written"
    # A secret reaches it as a credential, and a wrong configuration is not tried again and again.
    package_credentials
    in_system systemctl stop oms || die "it does not stop"
    [ "$(in_system systemctl show -p Result --value oms)" = success ] || die "it did not stop in order"
    process_stop "$trial/system.pid"
    say "ok: stopped in order"
}

package_credentials() {
    hash=$(printf trial | sha256sum | cut -d ' ' -f 1)
    printf '[{"name":"trial","roles":["read"],"sha256":"%s"}]' "$hash" >"$trial/root/etc/oms/secrets/tokens"
    chmod 600 "$trial/root/etc/oms/secrets/tokens"
    printf '[auth]\ntokens_file = "/run/credentials/oms.service/secrets_tokens"\n' >"$trial/root/etc/oms/oms.toml"
    in_system systemctl restart oms ||
        die "it does not take its credential: $(in_system journalctl -u oms --no-pager -n 30)"
    wait_until 60 in_system curl -fsS -H 'Authorization: Bearer trial' http://127.0.0.1:8000/api/v1/databases/unit ||
        die "the token of its credential is not known"
    ! in_system curl -fsS http://127.0.0.1:8000/api/v1/databases/unit 2>/dev/null || die "it does not ask for a token"
    say "ok: a token out of a credential"
    cp "$trial/root/etc/oms/oms.toml" "$trial/oms.toml"
    echo 'http = 3' >"$trial/root/etc/oms/oms.toml"
    in_system systemctl restart oms || :
    wait_until 30 in_system systemctl is-failed oms || die "a wrong configuration does not end it"
    [ "$(in_system systemctl show -p NRestarts --value oms)" = 0 ] || die "a wrong configuration is tried again"
    say "ok: a wrong configuration is not tried again"
    cp "$trial/oms.toml" "$trial/root/etc/oms/oms.toml"
    in_system systemctl restart oms || die "put right, it does not start"
    wait_until 60 in_system oms status || die "put right, it is not well"
}

# Once systemd in it takes orders. It may count as degraded: what a machine has and this lacks is none of ours.
system_is_up() {
    system_pid=$(pgrep -P "$nspawn" | head -n 1)
    [ -n "$system_pid" ] || return 1
    case $(in_system systemctl is-system-running 2>/dev/null || :) in
    running | degraded) ;;
    *) return 1 ;;
    esac
}

package_check_ends() {
    process_stop "$trial/system.pid"
    rm -rf "$trial"
}

package_check() {
    is_root || die "a system can be run by root only"
    have lintian || { can_install && apt_install lintian; }
    check_manual
    check_unit
    # What the administrator enabled is disabled: there is no other way to, and it is done under systemd only.
    lintian --allow-root --fail-on error,warning --tag-display-limit 0 \
        --suppress-tags maintainer-script-calls-systemctl "$package" >&2 || die "lintian complains"
    say "ok: lintian"
    package_system
    trial=$(mktemp -d)
    trap 'package_check_ends' EXIT
    trap 'exit 130' INT TERM
    mkdir "$trial/root"
    tar -C "$trial/root" -xf "$system"
    cp "$package" "$trial/root/oms.deb"
    chroot "$trial/root" dpkg -i /oms.deb >&2 || die "the package does not install"
    chroot "$trial/root" oms config check --config /etc/oms/oms.toml >&2 || die "its configuration is wrong"
    chroot "$trial/root" getent passwd oms >&2 || die "there is no account"
    package_runs
    chroot "$trial/root" dpkg --purge oms >&2 || die "the package does not go away"
    [ ! -e "$trial/root/usr/bin/oms" ] || die "something stays"
    [ -d "$trial/root/var/lib/oms" ] || die "the data was removed"
    say "ok: removed, with its data left"
}

package() {
    case ${1-build} in
    build) package_build ;;
    check)
        package_build
        package_check
        ;;
    *) die "deploy/dev package takes check, or nothing to make it only" ;;
    esac
}
