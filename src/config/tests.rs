use super::*;
use crate::config::auth::TokenRole;
use crate::config::roles::Role;
use crate::config::setting::Setting;

fn sources(file: &str, env: &[(&str, &str)], flags: &[Setting]) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("oms.toml");
    std::fs::write(&path, file).unwrap();
    let env = env.iter().map(|(n, v)| (n.to_string(), v.to_string()));
    let sources = Sources {
        file: Some(path),
        env: env.collect(),
        flags: flags.to_vec(),
    };
    (dir, sources)
}

fn load(file: &str, env: &[(&str, &str)], flags: &[Setting]) -> Result<Config, ConfigError> {
    let (_dir, sources) = sources(file, env, flags);
    Config::load(&sources)
}

fn keys(error: &ConfigError) -> Vec<&str> {
    error.problems.iter().map(|p| p.key.as_str()).collect()
}

#[test]
fn the_defaults_are_valid_and_embedded() {
    let config = load("", &[], &[]).unwrap();
    assert!(config.s3.is_embedded() && config.s3.settings().is_none());
    assert!(config.postgres.is_embedded() && config.kafka.is_embedded());
    assert!(config.http.is_loopback());
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let file = "[http]\nport = 1\n[relay]\nbatch_size = 7";
    let old = ("OMS_PORT", "2");
    let own = ("OMS__HTTP__PORT", "3");
    let flag = Setting::flag("http.port", "--port", 4);
    let port = |env: &[_], flags: &[_]| load(file, env, flags).unwrap().http.port;
    assert_eq!(port(&[], &[]), 1);
    assert_eq!(port(&[old], &[]), 2);
    assert_eq!(port(&[old, own], &[]), 3);
    assert_eq!(port(&[old, own], &[flag]), 4);
    assert_eq!(load(file, &[old], &[]).unwrap().relay.batch_size, 7);
}

#[test]
fn the_environment_reaches_lists_tables_and_texts_made_of_digits() {
    let hash = "ab".repeat(32);
    let tokens = format!(r#"[{{"name":"ops","roles":["read","admin"],"sha256":"{hash}"}}]"#);
    let env = [
        ("OMS__AUTH__TOKENS", tokens.as_str()),
        (
            "OMS__KAFKA__OPTIONS",
            r#"{"linger.ms":0,"sasl.username":"007"}"#,
        ),
        ("OMS__S3__ACCESS_KEY", "007"),
        ("OMS__S3__SECRET_KEY", "008"),
        ("OMS__ROLES", "api, relay"),
        ("OMS__CHAOS__ENABLED", "true"),
        ("OMS__LOG__LINGER", "2ms"),
        ("OMS__HTTP__HOST", "0.0.0.0"),
        ("OMS__S3__REGION", ""),
    ];
    let config = load("", &env, &[]).unwrap();
    assert_eq!(
        config.auth.tokens[0].roles,
        [TokenRole::Read, TokenRole::Admin]
    );
    assert_eq!(config.kafka.options.0["linger.ms"], "0");
    assert_eq!(config.kafka.options.0["sasl.username"], "007");
    assert_eq!(config.s3.access_key.as_ref().unwrap().expose(), "007");
    assert!(config.roles.has(Role::Relay) && !config.roles.has(Role::Projection));
    assert!(config.chaos.enabled && !config.http.is_loopback());
    assert_eq!(config.log.linger, std::time::Duration::from_millis(2));
    assert!(config.s3.is_embedded(), "an empty variable is not a value");
}

#[test]
fn every_error_is_listed_at_once_with_its_key_and_origin() {
    let file = r#"
        [http]
        port = "many"
        prot = 1
        [log]
        linger = 5
        batch_events = 0
        [auth]
        tokens = [{ name = "a", roles = ["owner"], sha256 = "x" }]
        [migration]
        mode = "both"
        handoff_timeout = "10ms"
    "#;
    let env = [
        ("OMS__RELAY__BATCH_SIZE", "0"),
        ("OMS__NOWHERE__KEY", "1"),
        ("KAFKA_BOOTSTRAP_SERVERS", "nohost"),
    ];
    let flags = [Setting::flag("roles", "--roles", "api,cook")];
    let error = load(file, &env, &flags).unwrap_err();
    let found = keys(&error);
    for key in [
        "http.port",
        "http.prot",
        "log.linger",
        "log.batch_events",
        "auth.tokens.0.roles.0",
        "auth.tokens.0.sha256",
        "migration.mode",
        "migration.handoff_timeout",
        "relay.batch_size",
        "nowhere",
        "kafka.bootstrap",
        "roles",
    ] {
        assert!(found.contains(&key), "{key} is not in {found:?}");
    }
    let origin = |key: &str| {
        let problem = error.problems.iter().find(|p| p.key == key).unwrap();
        problem.origin.clone().unwrap_or_default()
    };
    assert!(origin("http.port").ends_with("oms.toml"));
    assert!(origin("log.batch_events").ends_with("oms.toml"));
    assert_eq!(
        origin("relay.batch_size"),
        "environment variable OMS__RELAY__BATCH_SIZE"
    );
    assert_eq!(
        origin("kafka.bootstrap"),
        "environment variable KAFKA_BOOTSTRAP_SERVERS"
    );
    assert_eq!(origin("roles"), "flag --roles");
}

#[test]
fn administrators_have_an_address_of_their_own_and_it_is_as_guarded() {
    let http = |more: &str| load(&format!("[http]\n{more}"), &[], &[]);
    let config = http("admin_port = 9000").unwrap();
    assert!(config.http.is_loopback());
    assert_eq!(config.http.admin_host, "127.0.0.1");
    let beyond = http("admin_port = 9000\nadmin_host = \"0.0.0.0\"").unwrap_err();
    assert_eq!(keys(&beyond), ["http.host"]);
    // Nobody listens there.
    assert!(http("admin_host = \"0.0.0.0\"").is_ok());
    let same = http("port = 9000\nadmin_port = 9000").unwrap_err();
    assert_eq!(keys(&same), ["http.admin_port"]);
    assert!(http("port = 0\nadmin_port = 0").is_ok());
    let plain = http("client_ca = \"nowhere.pem\"").unwrap_err();
    assert_eq!(keys(&plain), ["http.client_ca", "http.client_ca"]);
}

#[test]
fn without_tokens_only_loopback_may_be_bound() {
    let bind = |host: &str| load(&format!("[http]\nhost = \"{host}\""), &[], &[]);
    for host in ["127.0.0.1", "::1", "localhost"] {
        assert!(bind(host).is_ok(), "{host}");
    }
    for host in ["0.0.0.0", "::", "192.168.1.1"] {
        assert_eq!(keys(&bind(host).unwrap_err()), ["http.host"], "{host}");
    }
}

#[test]
fn secrets_are_in_no_error_and_no_print() {
    let secret = "hunter2";
    let file = format!(
        r#"
        [s3]
        endpoint = "http://127.0.0.1:9000"
        access_key = "me"
        secret_key = "{secret}"
        [postgres]
        url = "postgres://me:{secret}@db/app"
        [kafka]
        bootstrap = "broker:9092"
        options = {{ "sasl.password" = "{secret}" }}
        "#
    );
    let config = load(&file, &[], &[]).unwrap();
    for shown in [
        config.to_toml().unwrap(),
        format!("{config:?}"),
        serde_json::to_string(&config).unwrap(),
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let broken = [
        format!("[s3]\nsecret_key = \"{secret}"),
        format!("[postgres]\nurl = \"postgres://me:{secret}@[\""),
        format!("[kafka]\noptions = {{ \"sasl.password\" = [\"{secret}\"] }}"),
        format!("[s3]\nsecret_key = [\"{secret}\"]"),
    ];
    for file in broken {
        let error = load(&file, &[], &[]).unwrap_err().to_string();
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn secrets_come_out_of_files_in_every_layer() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let hash = "ab".repeat(32);
    let access = file("access", "me\n");
    let secret = file("secret", "hunter2\r\n");
    let password = file("password", "p w\n");
    let url = file("url", "postgres://shop@db/shop\n");
    let tokens = format!(r#"[{{"name":"ops","roles":["read"],"sha256":"{hash}"}}]"#);
    let tokens = file("tokens", &tokens);
    let toml = format!(
        r#"
        [s3]
        endpoint = "http://127.0.0.1:9000"
        access_key_file = "{access}"
        [postgres]
        url = "postgres://me@db/app"
        password_file = "{password}"
        [kafka]
        bootstrap = "broker:9092"
        options = {{ "sasl.password_file" = "{secret}" }}
        [migration.sources.shop]
        preset = "message-db"
        url_file = "{url}"
        "#
    );
    let options = format!(r#"{{"linger.ms":1,"ssl.key.password_file":"{secret}"}}"#);
    let env = [
        ("MINIO_SECRET_KEY_FILE", secret.as_str()),
        ("OMS__AUTH__TOKENS_FILE", tokens.as_str()),
        ("OMS__KAFKA__OPTIONS", options.as_str()),
    ];
    let config = load(&toml, &env, &[]).unwrap();
    let s3 = config.s3.settings().unwrap();
    assert_eq!(s3.access_key.as_deref(), Some("me"));
    assert_eq!(s3.secret_key.as_deref(), Some("hunter2"));
    let postgres = config.postgres.connection().unwrap();
    assert!(postgres.expose().ends_with("?password=p%20w"));
    assert_eq!(config.auth.all_tokens().next().unwrap().name, "ops");
    let options = &config.kafka.options.0;
    assert_eq!(options["sasl.password"], "hunter2");
    assert_eq!(options["ssl.key.password"], "hunter2");
    assert_eq!(options["linger.ms"], "1");
    let flag = Setting::flag("s3.secret_key_file", "--set", &password);
    let config = load(&toml, &env, &[flag]).unwrap();
    assert_eq!(config.s3.secret_key.unwrap().expose(), "p w");

    // What is wrong is named, without a secret.
    let nothing = file("nothing", "\n");
    for (file, env, key) in [
        (
            "[s3]\nsecret_key_file = \"/nowhere\"".to_owned(),
            vec![],
            "s3.secret_key_file",
        ),
        (
            format!("[s3]\nsecret_key = \"hunter2\"\nsecret_key_file = \"{secret}\""),
            vec![],
            "s3.secret_key_file",
        ),
        (
            String::new(),
            vec![("OMS__S3__ACCESS_KEY_FILE", nothing.as_str())],
            "s3.access_key_file",
        ),
        (
            String::new(),
            vec![
                ("OMS__S3__ACCESS_KEY_FILE", access.as_str()),
                ("OMS__S3__ACCESS_KEY", "hunter2"),
            ],
            "OMS__S3__ACCESS_KEY_FILE",
        ),
        (
            String::new(),
            vec![
                ("POSTGRES_URL", "postgres://me:hunter2@db/app"),
                ("POSTGRES_URL_FILE", url.as_str()),
            ],
            "POSTGRES_URL_FILE",
        ),
        // No secret, no file.
        (
            "[http]\nhost_file = \"x\"".to_owned(),
            vec![],
            "http.host_file",
        ),
    ] {
        let error = load(&file, &env, &[]).unwrap_err();
        assert!(keys(&error).contains(&key), "{key}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_printed_reads_back() {
    let config = load("[log]\npartitions = 8\nlinger = \"1ms\"", &[], &[]).unwrap();
    let printed = config.to_toml().unwrap();
    let again = load(&printed, &[], &[]).unwrap();
    assert_eq!(again.to_toml().unwrap(), printed);
    assert_eq!(again.log.partitions, 8);
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let sources = Sources {
        file: Some("no-such-file.toml".into()),
        ..Sources::default()
    };
    assert_eq!(
        keys(&Config::load(&sources).unwrap_err()),
        ["no-such-file.toml"]
    );
}

#[test]
fn a_token_cannot_be_mistaken_for_the_service_itself() {
    let hash = "ab".repeat(32);
    let refused = |name: &str| {
        let tokens = format!(r#"[{{"name":"{name}","roles":["admin"],"sha256":"{hash}"}}]"#);
        load("", &[("OMS__AUTH__TOKENS", &tokens)], &[]).is_err()
    };
    for name in [
        "guardrail",
        "Guardrail",
        "anonymous",
        "oms",
        "ops ",
        "o\\np\\ns",
    ] {
        assert!(refused(name), "{name}");
    }
    for name in ["ops", "guardrail-bot", "oms-deploy", "Ada Lovelace"] {
        assert!(!refused(name), "{name}");
    }
}

#[test]
fn options_of_kafka_may_be_written_as_tables_and_the_strongest_layer_decides() {
    let options = |file: &str, env: &[_], flags: &[_]| {
        let config = load(file, env, flags).unwrap();
        let options = config.kafka.options.0.into_iter();
        options.collect::<Vec<(String, String)>>()
    };
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let flag = Setting::flag("kafka.options.compression.type", "--set", "gzip");
    let gzip = pair("compression.codec", "gzip");
    assert_eq!(options("", &[], std::slice::from_ref(&flag)), gzip);
    let table = "[kafka.options]\nsecurity.protocol = \"SASL_SSL\"";
    assert_eq!(
        options(table, &[], &[]),
        pair("security.protocol", "SASL_SSL")
    );
    // Whichever way and under whichever name it was written further down.
    for below in [
        "\"compression.codec\" = \"lz4\"",
        "compression.type = \"lz4\"",
    ] {
        let file = format!("[kafka.options]\n{below}");
        assert_eq!(options(&file, &[], std::slice::from_ref(&flag)), gzip);
        let env = ("OMS__KAFKA__OPTIONS__COMPRESSION__CODEC", "gzip");
        assert_eq!(options(&file, &[env], &[]), gzip);
    }
}

#[test]
fn law_9_an_option_under_two_names_and_one_of_the_services_own_are_refused() {
    let both = "[kafka.options]\ncompression.type = \"gzip\"\ncompression.codec = \"lz4\"";
    let error = load(both, &[], &[]).unwrap_err();
    assert_eq!(keys(&error), ["kafka.options.compression.type"]);
    for own in [
        "acks",
        "request.required.acks",
        "retries",
        "delivery.timeout.ms",
    ] {
        let flag = Setting::flag(&format!("kafka.options.{own}"), "--set", 1);
        let error = load("", &[], &[flag]).unwrap_err();
        assert_eq!(keys(&error), [format!("kafka.options.{own}")]);
    }
}
