# shellcheck shell=sh
# What takes longer than a landing can wait for, and releases.

: "${root:?}"

# Campaigns of faults, $1 of $2 seconds each, by seeds of their own. The same seed does the same again.
campaigns() {
    number=${1:-20} seconds=${2:-60}
    outcome=0 run=0
    while [ "$run" -lt "$number" ]; do
        run=$((run + 1))
        seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
        say "campaign $run of $number, $seconds s: OMS_NEMESIS_SEED=$seed"
        OMS_NEMESIS_SEED=$seed OMS_NEMESIS_SECONDS=$seconds \
            "$root/deploy/dev" test --test nemesis -- --nocapture laws_1_to_13 || outcome=$?
    done
    return "$outcome"
}

# The suite $1 times in a row, whatever becomes of each: what hangs on time fails one run in ten.
test_loop() {
    number=${1:-10}
    [ $# -eq 0 ] || shift
    failed=0 run=0
    while [ "$run" -lt "$number" ]; do
        run=$((run + 1))
        began=$(date +%s)
        verdict=green
        "$root/deploy/dev" test "$@" || { verdict=red failed=$((failed + 1)); }
        say "run $run of $number: $verdict after $(($(date +%s) - began)) s; red so far: $failed"
    done
    [ "$failed" -eq 0 ]
}

# Every tier, one after the other: some hours. All run, then those that failed are named.
test_everything() {
    failed=''
    tier() {
        name=$1
        shift
        say "== $name"
        "$@" || failed="$failed $name;"
    }
    tier 'tests on real servers' "$root/deploy/dev" test --full
    tier 'every law broken on purpose' "$root/deploy/dev" test --flaws
    tier 'campaigns of faults' campaigns 20 60
    tier 'mutated input' env OMS_FUZZ_RUNS=200000 "$root/deploy/dev" test --test engine fuzz::
    tier 'the console in a browser' "$root/deploy/dev" console
    tier 'dashboards and alerts' "$root/deploy/dev" watching
    tier "other people's tools" "$root/deploy/dev" clients
    [ -z "$failed" ] || die "failed:$failed"
}

# A release is the tag vX.Y.Z of a commit whose Cargo.toml and CHANGELOG.md say the same. `--check` says
# whether this commit could be one and builds nothing; otherwise the archive is put into target/release-X.Y.Z.
release() {
    check=no
    [ "${1-}" != --check ] || check=yes
    cd "$root" || die "cannot go to $root"
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    [ -n "$version" ] || die "Cargo.toml names no version"
    tag=$(git tag --points-at HEAD 2>/dev/null | grep -x "v[0-9][0-9.a-z-]*" | head -n 1) || tag=''
    if [ -n "$tag" ]; then
        [ "$tag" = "v$version" ] || die "the tag is $tag, but Cargo.toml says $version"
        grep -q "^## \[$version\] - [0-9-]*$" CHANGELOG.md ||
            die "CHANGELOG.md has no section '## [$version] - DATE'"
    else
        grep -q '^## \[Unreleased\]$' CHANGELOG.md || die "CHANGELOG.md has no section '## [Unreleased]'"
    fi
    for needed in LICENSE README.md docs/SUMMARY.md deploy/alerts.yml docs/openapi.json; do
        [ -f "$needed" ] || die "$needed belongs into the archive and is not there"
    done
    if [ "$check" = yes ]; then
        say "version $version${tag:+, tagged $tag}: a release could be made of this commit"
        return 0
    fi
    [ -z "$(git status --porcelain)" ] || die "the work tree has changes that are not committed"
    ensure_build
    cargo build --release --locked
    name=oms-$version-$(uname -m)-linux
    out=$(target_dir)/release-$version
    rm -rf "$out"
    mkdir -p "$out/$name/completions"
    cp "$(target_dir)/release/oms" LICENSE README.md CHANGELOG.md "$out/$name/"
    cp -R docs "$out/$name/docs"
    cp -R deploy "$out/$name/deploy"
    for shell in bash zsh fish; do
        "$out/$name/oms" completions "$shell" >"$out/$name/completions/oms.$shell"
    done
    (cd "$out" && tar -czf "$name.tar.gz" "$name" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
    rm -rf "${out:?}/$name"
    say "made $out/$name.tar.gz"
}
