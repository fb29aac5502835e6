//! Strings as consoles, drivers and people write them.

use std::os::unix::fs::PermissionsExt as _;

use tokio_postgres::config::TargetSessionAttrs;

use super::tls::{Roots, Verify};
use super::*;

fn of(text: &str, environment: &Environment) -> Result<Connection, Refused> {
    Connection::of(
        text,
        &CertificateFiles::default(),
        environment,
        Purpose::Own,
    )
}

fn alone(text: &str) -> Connection {
    of(text, &Environment::default()).unwrap_or_else(|refused| panic!("{text}: {refused}"))
}

/// Hosts with ports, account with password, database, TLS.
fn shown(connection: &Connection) -> String {
    let config = &connection.config;
    let ports = config.get_ports();
    let hosts: Vec<String> = (config.get_hosts().iter().enumerate())
        .map(|(i, host)| {
            let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name} {port}"),
                Host::Unix(path) => format!("{} {port}", path.display()),
            }
        })
        .collect();
    let password = config.get_password().map(String::from_utf8_lossy);
    let tls = connection.tls.as_ref().map(|tls| {
        let roots = match (&tls.roots, tls.verify) {
            (_, Verify::Nothing) => String::new(),
            (Roots::System, _) => " system".to_owned(),
            (Roots::File(path), _) => format!(" {}", path.display()),
        };
        let optional = if tls.required { "" } else { "?" };
        format!("{:?}{roots}{optional}", tls.verify)
    });
    format!(
        "{} | {}:{} | {} | {}",
        hosts.join(", "),
        config.get_user().unwrap_or("-"),
        password.unwrap_or("-".into()),
        config.get_dbname().unwrap_or("-"),
        tls.as_deref().unwrap_or("-"),
    )
}

#[test]
fn every_form_is_read_as_its_users_mean_it() {
    for (text, expected) in [
        (
            "postgres://me:x@db.example/app",
            "db.example 5432 | me:x | app | Name system",
        ),
        (
            "postgresql://me@db.example:5433",
            "db.example 5433 | me:- | - | Name system",
        ),
        (
            " postgres://me:x@127.0.0.1/app\n",
            "127.0.0.1 5432 | me:x | app | -",
        ),
        (
            "postgres://me:p%40s%2Fs@h/app?sslmode=disable",
            "h 5432 | me:p@s/s | app | -",
        ),
        (
            "postgres://me:p@ss%@h/app?sslmode=disable",
            "h 5432 | me:p@ss% | app | -",
        ),
        (
            "postgresql+psycopg2://me@localhost/app",
            "localhost 5432 | me:- | app | -",
        ),
        (
            "postgresql+asyncpg://me@h/app?ssl=verify-ca",
            "h 5432 | me:- | app | Issuer system",
        ),
        ("postgres://h/app?ssl=true", "h 5432 | -:- | app | Nothing"),
        (
            "postgres://h1:1,h2,[fd00::2]:3/app",
            "h1 1, h2 5432, fd00::2 3 | -:- | app | Name system",
        ),
        ("postgres://[::1]:5433/app", "::1 5433 | -:- | app | -"),
        (
            "postgres://me@%2Frun%2Fpg:5433/app?sslmode=require",
            "/run/pg 5433 | me:- | app | -",
        ),
        (
            "postgres:///app?host=/run/pg&user=me",
            "/run/pg 5432 | me:- | app | -",
        ),
        (
            "jdbc:postgresql://h:1,i:2/app?user=me@h&password=a%26b",
            "h 1, i 2 | me@h:a&b | app | Name system",
        ),
        (
            "jdbc:postgresql://127.0.0.1/app?user=me&ssl=true&prepareThreshold=0",
            "127.0.0.1 5432 | me:- | app | Name system",
        ),
        (
            "jdbc:postgresql:app?user=me",
            "localhost 5432 | me:- | app | -",
        ),
        (
            "jdbc:postgresql://h/app?sslmode=verify-full&sslrootcert=/ca.pem",
            "h 5432 | -:- | app | Name /ca.pem",
        ),
        (
            r"host=h port=5433 user=me password='it\'s \\ x' dbname=app sslmode=prefer",
            r"h 5433 | me:it's \ x | app | Nothing?",
        ),
        (
            "host = 'h' user=a\\ b sslmode=allow",
            "h 5432 | a b:- | - | Nothing?",
        ),
        (
            "host=/run/pg,/tmp port=1,2 dbname=app sslmode=verify-full",
            "/run/pg 1, /tmp 2 | -:- | app | -",
        ),
        (
            "hostaddr=10.0.0.7 dbname=app sslmode=require",
            "10.0.0.7 5432 | -:- | app | Nothing",
        ),
        (
            "host=db.example hostaddr=127.0.0.1",
            "db.example 5432 | -:- | - | -",
        ),
        // A root certificate makes `require` verify it, and asks for TLS on this machine too.
        (
            "postgres://h/app?sslmode=require&sslrootcert=/ca.pem",
            "h 5432 | -:- | app | Issuer /ca.pem",
        ),
        (
            "postgres://127.0.0.1/app?sslrootcert=/ca.pem",
            "127.0.0.1 5432 | -:- | app | Name /ca.pem",
        ),
        (
            "postgres://h/app?sslmode=verify-full&sslrootcert=system",
            "h 5432 | -:- | app | Name system",
        ),
        (
            "postgres://h/app?gssencmode=disable&keepalives=1&keepalives_idle=9&keepalives_count=3\
          &client_encoding=UTF-8&fallback_application_name=x&sslcompression=0&sslsni=1&connect_timeout=5\
          &channel_binding=require&ssl_min_protocol_version=TLSv1.2&load_balance_hosts=random\
          &options=-c%20jit%3Doff&sslcertmode=allow&tcp_user_timeout=1000",
            "h 5432 | -:- | app | Name system",
        ),
    ] {
        assert_eq!(shown(&alone(text)), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_held_is_refused_by_name_with_what_to_write() {
    for (parameters, name, advice) in [
        ("sslmode=on", "sslmode", "verify-full"),
        ("schema=x", "schema", "postgres.schema"),
        ("currentSchema=x", "currentSchema", "postgres.schema"),
        ("pgbouncer=true", "pgbouncer", "session mode"),
        (
            "connection_limit=5",
            "connection_limit",
            "postgres.max_connections",
        ),
        (
            "statement_timeout=5",
            "statement_timeout",
            "postgres.statement_timeout",
        ),
        ("sslaccept=strict", "sslaccept", "sslmode=verify-full"),
        ("sslfactory=org.x.NonValidating", "sslfactory", "sslmode"),
        ("sslcrl=/x", "sslcrl", "revoked"),
        ("sslpassword=x", "sslpassword", "openssl pkey"),
        ("sslcert=/c", "sslcert", "sslkey"),
        ("sslkey=/k", "sslkey", "sslcert"),
        (
            "sslmode=require&sslrootcert=system",
            "sslrootcert",
            "verify-full",
        ),
        (
            "sslmode=prefer&sslnegotiation=direct",
            "sslnegotiation",
            "sslmode=require",
        ),
        ("sslcompression=1", "sslcompression", "must be 0"),
        (
            "ssl_max_protocol_version=TLSv1.1",
            "ssl_max_protocol_version",
            "TLSv1.2",
        ),
        ("gssencmode=require", "gssencmode", "TLS"),
        ("client_encoding=LATIN1", "client_encoding", "UTF8"),
        (
            "target_session_attrs=standby",
            "target_session_attrs",
            "primary",
        ),
        (
            "target_session_attrs=prefer-standby",
            "target_session_attrs",
            "read-write",
        ),
        ("port=1,2", "port", "one for each"),
        ("port=http", "port", "65535"),
        ("connect_timeout=soon", "connect_timeout", "number"),
        ("hostaddr=h", "hostaddr", "IP addresses"),
        ("channel_binding=on", "channel_binding", "require"),
        (
            "channel_binding=require&sslmode=disable",
            "channel_binding",
            "needs TLS",
        ),
        ("tcpKeepAlive=maybe", "tcpKeepAlive", "true or false"),
        ("whatever=x", "whatever", "not known"),
        ("service=none", "service", "not found"),
    ] {
        let text = format!("postgres://me:geheim@h/app?{parameters}");
        let refused = of(&text, &Environment::default())
            .expect_err(&text)
            .to_string();
        assert!(refused.contains(&format!("`{name}`")), "{text}: {refused}");
        assert!(refused.contains(advice), "{text}: {refused}");
        assert!(!refused.contains("geheim"), "{text}: {refused}");
    }
    let two = of(
        "postgres://h/app?sslmode=on&pgbouncer=true",
        &Environment::default(),
    );
    let two = two.unwrap_err().to_string();
    assert!(
        two.contains("sslmode") && two.contains("pgbouncer"),
        "{two}"
    );
}

#[test]
fn nothing_that_cannot_be_read_shows_a_piece_of_its_password() {
    for text in [
        "postgres://me:geheim",
        "postgres://me:geheim@h:port/db",
        "postgres://me:12/geheim@h/db",
        "postgres://me:12?geheim=x@h/db",
        "postgres://me:12?geheim@h/db",
        "postgres://me:1:geheim@[/db",
        "postgres://me:geheim@[::1/db",
        "mysql://me:geheim@h/db",
        "host=h password=two geheim",
        "host=h password=two geheim=x",
        "host=h password='geheim",
        "me:geheim",
        "Host=h;Username=me;Password=geheim",
        "",
    ] {
        let refused = of(text, &Environment::default())
            .expect_err(text)
            .to_string();
        assert!(!refused.contains("geheim"), "{text}: {refused}");
    }
}

#[test]
fn a_source_may_be_a_standby_and_our_own_database_may_not() {
    let source = |text: &str| {
        let files = CertificateFiles::default();
        Connection::of(text, &files, &Environment::default(), Purpose::Source)
    };
    for (attributes, expected) in [
        ("primary", TargetSessionAttrs::ReadWrite),
        ("read-write", TargetSessionAttrs::ReadWrite),
        ("standby", TargetSessionAttrs::ReadOnly),
        ("read-only", TargetSessionAttrs::ReadOnly),
        ("prefer-standby", TargetSessionAttrs::Any),
        ("any", TargetSessionAttrs::Any),
    ] {
        let text = format!("postgres://a,b/app?target_session_attrs={attributes}");
        let config = source(&text).unwrap().config;
        assert_eq!(config.get_target_session_attrs(), expected, "{attributes}");
    }
    let own = alone("jdbc:postgresql://a,b/app?targetServerType=master");
    let attributes = own.config.get_target_session_attrs();
    assert_eq!(attributes, TargetSessionAttrs::ReadWrite);
    let schema = source("postgres://h/app?schema=x").unwrap_err().to_string();
    assert!(schema.contains("table"), "{schema}");
}

#[test]
fn the_environment_fills_in_what_is_left_open_and_nothing_else() {
    let env =
        |variables: &[(&'static str, &'static str)]| Environment::of(variables.iter().copied());
    let tls = [("PGSSLMODE", "verify-ca"), ("PGSSLROOTCERT", "/env.pem")];
    for (text, variables, expected) in [
        (
            "postgres://h/app",
            &tls[..],
            "h 5432 | -:- | app | Issuer /env.pem",
        ),
        (
            "postgres://h/app?sslmode=disable",
            &tls,
            "h 5432 | -:- | app | -",
        ),
        (
            "postgres://h/app?sslrootcert=/x",
            &tls,
            "h 5432 | -:- | app | Issuer /x",
        ),
        // Named in the environment alone, an authority asks for no TLS on this machine.
        (
            "postgres://localhost/app",
            &tls[1..],
            "localhost 5432 | -:- | app | -",
        ),
        (
            "postgres://h/app",
            &[("PGHOST", "other"), ("PGPASSWORD", "x")],
            "h 5432 | -:- | app | Name system",
        ),
    ] {
        let connection = of(text, &env(variables)).unwrap();
        assert_eq!(shown(&connection), expected, "{text}");
    }
    let client = env(&[("PGSSLCERT", "/c"), ("PGSSLKEY", "/k")]);
    let client = of("postgres://h/app?sslmode=require", &client)
        .unwrap()
        .tls
        .unwrap();
    assert_eq!(client.client, Some(("/c".into(), "/k".into())));
    let files = CertificateFiles {
        ca: Some("/ca.pem".into()),
        ..CertificateFiles::default()
    };
    let keyed = Connection::of("postgres://h/app", &files, &env(&tls[1..]), Purpose::Own).unwrap();
    assert_eq!(shown(&keyed), "h 5432 | -:- | app | Name /ca.pem");
    let twice = "postgres://h/app?sslrootcert=/x";
    let twice = Connection::of(twice, &files, &env(&[]), Purpose::Own).unwrap_err();
    assert!(twice.to_string().contains("postgres.ca"), "{twice}");
}

#[test]
fn services_and_passwords_come_out_of_libpqs_files() {
    let dir = std::env::temp_dir().join(format!("oms-libpq-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let services = dir.join("services.conf");
    std::fs::write(
        &services,
        "[shop]\nhost=db.example\nport=5433\nuser=me\nsslmode=require\ndbname=shop\n",
    )
    .unwrap();
    let passwords = dir.join(".pgpass");
    std::fs::write(&passwords, "other:*:*:*:no\ndb.example:5433:*:me:geheim\n").unwrap();
    let permit = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&passwords, permissions).unwrap();
    };
    permit(0o600);
    let path = |path: &std::path::Path| path.display().to_string();
    let (file, home) = (path(&services), path(&dir));
    let vars = [("PGSERVICEFILE", file.as_str()), ("HOME", home.as_str())];
    let env = Environment::of(vars);
    let named = "db.example 5433 | me:geheim | shop | Nothing";
    assert_eq!(shown(&of("service=shop", &env).unwrap()), named);
    let by_env = Environment::of(vars.into_iter().chain([("PGSERVICE", "shop")]));
    let stronger = of("postgres://me:own@/app", &by_env).unwrap();
    assert_eq!(shown(&stronger), "db.example 5433 | me:own | app | Nothing");
    let missing = of("service=nothing", &env).unwrap_err().to_string();
    assert!(missing.contains("services.conf"), "{missing}");
    permit(0o644);
    let ignored = of("service=shop", &env).unwrap();
    assert_eq!(
        ignored.config.get_password(),
        None,
        "others can read the file"
    );
    let named = format!("service=shop passfile='{}'", passwords.display());
    let refused = of(&named, &env).unwrap_err().to_string();
    assert!(
        refused.contains("chmod 0600") && !refused.contains("geheim"),
        "{refused}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
    // One that is gone: what the string names is asked for, what the environment names may be meant
    // for other programs.
    let named = format!("host=h user=me passfile='{}'", passwords.display());
    let refused = of(&named, &Environment::default());
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("does not exist"), "{refused}");
    let elsewhere = passwords.display().to_string();
    let env = Environment::of([("PGPASSFILE", elsewhere.as_str())]);
    let without = of("postgres://me@h/app", &env).unwrap();
    assert_eq!(without.config.get_password(), None);
}

#[test]
fn no_piece_of_a_password_that_is_written_raw_is_told() {
    for text in [
        "postgres://me:p@zq1/zq2@h/db",
        "postgres://me:p@h?zq1=x@h",
        "postgres://h/d?user=me&password=ab&zq1=1&zq2=2",
        "host=h password=one zq1=x zq2=y",
        "jdbc:postgresql://me:12/zq1@h",
    ] {
        let refused = of(text, &Environment::default()).expect_err(text).0;
        assert!(!refused.contains("zq"), "{text}: {refused}");
    }
}
