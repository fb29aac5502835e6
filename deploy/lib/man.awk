# A manual page of what `oms COMMAND --help` prints. -v name=oms-serve -v version=0.1.0 -v date=2026-01-31

function escaped(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    sub(/^['.]/, "\\\\\\&&", text)
    return text
}

function verbatim(on) {
    if (on == is_verbatim) return
    print on ? ".nf" : ".fi"
    is_verbatim = on
}

function section(title) {
    verbatim(0)
    print ".SH " toupper(title)
}

# The first paragraph says what it is.
!is_named && /./ {
    summary = summary (summary == "" ? "" : " ") $0
    next
}

!is_named {
    printf ".TH %s 1 \"%s\" \"oms %s\" \"User commands\"\n", toupper(escaped(name)), date, version
    section("name")
    print escaped(name) " \\- " escaped(summary)
    is_named = 1
    next
}

/^Usage: / {
    section("synopsis")
    print ".B " escaped(substr($0, 8))
    next
}

# A heading of its own: Options:, Commands:, Exit codes:.
/^[A-Z][A-Za-z ]*:$/ {
    section(substr($0, 1, length($0) - 1))
    verbatim(1)
    next
}

/^$/ {
    if (is_verbatim) print ""
    else if (is_described) print ".PP"
    next
}

/^[^ ]/ {
    if (!is_described || is_verbatim) {
        if (is_described++) { verbatim(0); print ".PP" } else section("description")
    }
    print escaped($0)
    next
}

{
    verbatim(1)
    print escaped($0)
}

END {
    verbatim(0)
    if (name != "oms") {
        section("see also")
        print ".BR oms (1)"
    }
}
