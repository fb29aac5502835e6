use super::super::check::Verdict;
use super::*;

fn well() -> Inspection {
    Inspection {
        connected_in: Duration::from_millis(3),
        statement: Duration::from_millis(1),
        server: Server {
            version: "15.18".into(),
            database: "app".into(),
            user: "me".into(),
            in_recovery: false,
            read_only: false,
            synchronous_commit: "on".into(),
            fsync: "on".into(),
            full_page_writes: "on".into(),
            autovacuum: "on".into(),
            max_connections: 97,
            connections: 12,
            own_connections: 8,
            role_limit: -1,
            database_limit: -1,
            search_path: "oms".into(),
            tls: false,
        },
        unfit: None,
        clock_ahead: 0.01,
        served_by: Some([vec!["7".into(), "7".into()], vec!["8".into(), "8".into()]]),
        schema: Schema {
            exists: true,
            may_create: true,
            applied: 8,
            pending: vec![],
            refused: None,
        },
        rights: Some(Rights {
            tried: Tried::Worked,
            closed: vec![],
            foreign: vec![],
        }),
    }
}

/// The verdicts that are not ok, by the names of their checks.
fn amiss(found: &Inspection) -> Vec<(&'static str, Verdict, String)> {
    let settings = PostgresSettings::default();
    let checks = judge(found, &settings).into_iter();
    let amiss = checks.filter(|check| check.verdict != Verdict::Ok);
    amiss
        .map(|c| (c.name, c.verdict, c.advice.unwrap_or_default()))
        .collect()
}

#[test]
fn each_fault_has_one_finding_with_its_advice() {
    assert_eq!(amiss(&well()), []);
    let (failed, warning) = (Verdict::Failed, Verdict::Warning);
    type Fault = fn(&mut Inspection);
    let faults: [(&str, Verdict, &str, Fault); 18] = [
        ("version", failed, "13 or newer", |f| {
            f.unfit = Some("too old".into());
        }),
        ("schema", failed, "never an older", |f| {
            f.schema.refused = Some("has version 99".into());
        }),
        ("schema", warning, "back up first", |f| {
            f.schema.pending = vec!["8 event ids".into()];
        }),
        ("rights", failed, "GRANT USAGE, CREATE", |f| {
            let denied = Tried::Denied("permission denied (42501)".into());
            f.rights.as_mut().unwrap().tried = denied;
        }),
        ("rights", failed, "no missing right", |f| {
            let refused = Tried::Refused("no space left (53100)".into());
            f.rights.as_mut().unwrap().tried = refused;
        }),
        ("rights", failed, "GRANT SELECT", |f| {
            f.rights.as_mut().unwrap().closed = vec!["outbox".into()];
        }),
        ("rights", warning, "OWNER TO me", |f| {
            f.rights.as_mut().unwrap().foreign = vec!["outbox".into()];
        }),
        ("sessions", failed, "session mode", |f| {
            f.server.search_path = "\"$user\", public".into();
        }),
        ("sessions", failed, "session mode", |f| {
            f.served_by = Some([vec!["7".into()], vec!["7".into()]]);
        }),
        ("sessions", warning, "limits", |f| f.served_by = None),
        ("writable", failed, "primary", |f| {
            f.server.in_recovery = true
        }),
        ("writable", failed, "RESET", |f| f.server.read_only = true),
        ("durability", failed, "acknowledged write", |f| {
            f.server.synchronous_commit = "off".into();
        }),
        ("durability", warning, "tears a page", |f| {
            f.server.full_page_writes = "off".into();
        }),
        ("durability", warning, "outbox", |f| {
            f.server.autovacuum = "off".into();
        }),
        ("connections", failed, "postgres.max_connections", |f| {
            f.server.role_limit = 5;
        }),
        ("connections", warning, "postgres.max_connections", |f| {
            f.server.connections = 105;
        }),
        ("clock", failed, "NTP", |f| f.clock_ahead = -3600.0),
    ];
    for (name, verdict, word, fault) in faults {
        let mut found = well();
        fault(&mut found);
        let amiss = amiss(&found);
        let [(found_name, found_verdict, advice)] = &amiss[..] else {
            panic!("{name}: {amiss:?}");
        };
        assert_eq!((*found_name, *found_verdict), (name, verdict));
        assert!(advice.contains(word), "{name}: {advice}");
    }
}

#[test]
fn a_schema_that_cannot_be_made_says_who_makes_it() {
    let mut found = well();
    found.schema = Schema::default();
    found.rights.as_mut().unwrap().tried = Tried::NoSchema;
    let amiss = amiss(&found);
    assert_eq!(amiss[0].1, Verdict::Failed);
    assert!(amiss[0].2.contains("CREATE SCHEMA oms AUTHORIZATION me"));
    assert_eq!(amiss[1].1, Verdict::Skipped, "said once");
}

#[test]
fn two_sessions_that_change_or_share_their_process_are_pooled() {
    let pids = |pids: &[u32]| pids.iter().map(u32::to_string).collect::<Vec<_>>();
    let shared = |one: &[u32], other: &[u32]| is_shared(&pids(one), &pids(other));
    assert!(!shared(&[7, 7, 7], &[8, 8, 8]));
    assert!(shared(&[7, 7], &[7, 7]));
    assert!(shared(&[7, 9], &[8, 8]));
    assert!(shared(&[7, 8], &[8, 7]));
}

#[test]
fn each_way_of_not_reaching_it_has_its_own_advice() {
    for (kind, message, word) in [
        (
            StoreErrorKind::Unavailable,
            "Connection refused",
            "postgres.url",
        ),
        (
            StoreErrorKind::Denied,
            "password authentication failed (28P01)",
            "pg_hba.conf",
        ),
        (
            StoreErrorKind::Unavailable,
            "unsupported startup parameter: options (08P01)",
            "session mode",
        ),
        (
            StoreErrorKind::Denied,
            "the server's certificate is not accepted: it is issued by CN=x",
            "postgres.ca",
        ),
        (
            StoreErrorKind::Denied,
            "connection requires a valid client certificate (28000)",
            "postgres.client_cert",
        ),
    ] {
        let finding = unreached(&StoreError::determinate(kind, "postgres", "x", message));
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.advice.unwrap().contains(word), "{message}");
    }
}

#[test]
fn the_way_to_the_server_is_judged_by_what_is_verified_on_it() {
    for (url, tls, verdict) in [
        ("postgresql://me@%2Frun%2Fpg/app", false, Verdict::Ok),
        (
            "postgresql://me@[::1]/app?sslmode=verify-full",
            true,
            Verdict::Ok,
        ),
        ("host=localhost user=me sslmode=require", true, Verdict::Ok),
        ("postgresql://me@db.example/app", true, Verdict::Ok),
        (
            "postgresql://me@db.example/app?sslmode=require",
            true,
            Verdict::Warning,
        ),
        (
            "jdbc:postgresql://db.example/app?sslmode=disable",
            false,
            Verdict::Warning,
        ),
    ] {
        let settings = PostgresSettings {
            url: url.into(),
            ..PostgresSettings::default()
        };
        let mut server = well().server;
        server.tls = tls;
        assert_eq!(transport(&server, &settings).verdict, verdict, "{url}");
    }
}
