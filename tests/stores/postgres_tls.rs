//! Certificates of PostgreSQL and for it, against a real server that speaks TLS.

use std::path::PathBuf;
use std::sync::OnceLock;

use oms::store::adapters::postgres::connection::environment::Environment;
use oms::store::adapters::postgres::connection::{CertificateFiles, Purpose};
use oms::store::adapters::postgres::{Fitness, Postgres, PostgresSettings};
use oms::store::error::{Determinacy, StoreError, StoreErrorKind};

use oms_testkit::certificates::Authority;
use oms_testkit::pooler::Lender;
use oms_testkit::postgres::{self, Cluster};

/// A server whose certificate stands for `db.example`, and the files of those who know it.
struct World {
    cluster: Cluster,
    /// The authority of the server's certificate.
    ca: PathBuf,
    /// Another one.
    stranger: PathBuf,
    /// A certificate of the account `guest`, and its key.
    guest: (PathBuf, PathBuf),
    /// The same name, from the other authority.
    impostor: (PathBuf, PathBuf),
    _files: tempfile::TempDir,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let files = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let authority = Authority::new("Private authority");
        let stranger = Authority::new("Stranger");
        let server = authority.issue("the server", &["db.example"]);
        let pair = |name: &str, by: &Authority| {
            let leaf = by.issue("guest", &[]);
            let certificate = put(&format!("{name}.crt"), &leaf.certificate);
            (certificate, put(&format!("{name}.key"), &leaf.key))
        };
        World {
            cluster: Cluster::start_with_tls(&server, &authority.pem()),
            ca: put("ca.crt", &authority.pem()),
            stranger: put("stranger.crt", &stranger.pem()),
            guest: pair("guest", &authority),
            impostor: pair("impostor", &stranger),
            _files: files,
        }
    })
}

/// Settings of a connection to that server, by a name and with more parameters.
fn to(host: &str, more: &str) -> PostgresSettings {
    let port = world().cluster.port().unwrap();
    // Not known as loopback, though it leads there.
    PostgresSettings {
        url: format!(
            "host={host} hostaddr=0.0.0.0 port={port} user=postgres dbname=postgres {more}"
        ),
        ..PostgresSettings::default()
    }
}

/// Whether the connection is TLS, as the server sees it.
async fn reach(settings: &PostgresSettings) -> Result<bool, StoreError> {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let query = |postgres: Postgres| async move {
        postgres
            .run("reach", move |client| {
                Box::pin(async move { client.query_one(sql, &[]).await?.try_get(0) })
            })
            .await
    };
    query(postgres::connect(settings)).await
}

/// That a connection is denied because of certificates, in these words.
async fn denied(settings: &PostgresSettings, words: &[&str]) {
    let error = reach(settings).await.expect_err("denied");
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    assert_eq!(error.determinacy, Determinacy::Determinate, "{error}");
    for word in words {
        assert!(error.message.contains(word), "{word}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sslmode_asks_for_is_verified_and_no_more() {
    let world = world();
    let (ca, stranger) = (world.ca.display(), world.stranger.display());
    for works in [
        to(
            "db.example",
            &format!("sslmode=verify-full sslrootcert={ca}"),
        ),
        to(
            "other.example",
            &format!("sslmode=verify-ca sslrootcert={ca}"),
        ),
        to(
            "other.example",
            &format!("sslmode=require sslrootcert={ca}"),
        ),
        to("other.example", "sslmode=require"),
        to("other.example", "sslmode=prefer"),
        to("other.example", "sslmode=allow"),
        to(
            "db.example",
            &format!("sslrootcert={ca} ssl_min_protocol_version=TLSv1.3"),
        ),
        to(
            "db.example",
            &format!("sslrootcert={ca} ssl_max_protocol_version=TLSv1.2"),
        ),
        to(
            "db.example",
            &format!("sslrootcert={ca} channel_binding=prefer sslsni=0"),
        ),
    ] {
        assert!(reach(&works).await.expect(&works.url), "{}", works.url);
    }
    let wrong_name = to(
        "other.example",
        &format!("sslmode=verify-full sslrootcert={ca}"),
    );
    denied(
        &wrong_name,
        &["certificate", "wrong name", "other.example", "db.example"],
    )
    .await;
    for mode in ["verify-full", "verify-ca", "require"] {
        let stranger = to(
            "db.example",
            &format!("sslmode={mode} sslrootcert={stranger}"),
        );
        denied(
            &stranger,
            &["unknown issuer", "CN=Private authority", "postgres.ca"],
        )
        .await;
    }
    let error = reach(&to("db.example", "sslmode=disable")).await;
    let error = error.expect_err("the server takes nothing without TLS");
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_word_on_tls_another_machine_is_verified() {
    denied(
        &to("db.example", ""),
        &["unknown issuer", "CN=Private authority"],
    )
    .await;
    let files = CertificateFiles {
        ca: Some(world().ca.clone()),
        ..CertificateFiles::default()
    };
    let key = PostgresSettings {
        certificates: files,
        ..to("db.example", "")
    };
    assert!(reach(&key).await.expect("postgres.ca"));
    let path = world().ca.display().to_string();
    for variable in ["SSL_CERT_FILE", "PGSSLROOTCERT"] {
        let by_variable = PostgresSettings {
            environment: Environment::of([(variable, path.as_str())]),
            ..to("db.example", "")
        };
        assert!(reach(&by_variable).await.expect(variable), "{variable}");
        let other_name = PostgresSettings {
            url: to("other.example", "").url,
            ..by_variable
        };
        denied(&other_name, &["wrong name"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_logs_in_by_certificate_needs_one_of_the_right_authority() {
    let world = world();
    let made = "CREATE ROLE guest LOGIN SUPERUSER";
    world.cluster.administer(made).await;
    let guest = |more: String| {
        let ca = world.ca.display();
        to("db.example", &format!("user=guest sslrootcert={ca} {more}"))
    };
    denied(&guest(String::new()), &["certificate"]).await;
    let (certificate, key) = &world.guest;
    let shown = format!("sslcert={} sslkey={}", certificate.display(), key.display());
    assert!(reach(&guest(shown)).await.expect("with its certificate"));
    let (certificate, key) = &world.impostor;
    let shown = format!("sslcert={} sslkey={}", certificate.display(), key.display());
    let refused = reach(&guest(shown))
        .await
        .expect_err("of another authority");
    assert_eq!(refused.kind, StoreErrorKind::Denied, "{refused}");
    let keys = PostgresSettings {
        certificates: CertificateFiles {
            ca: None,
            client_cert: Some(world.guest.0.clone()),
            client_key: Some(world.guest.1.clone()),
        },
        ..guest(String::new())
    };
    assert!(reach(&keys).await.expect("named by keys"));
}

/// The service ends on these at its start.
#[tokio::test(flavor = "multi_thread")]
async fn what_waiting_does_not_heal_is_told_apart() {
    let lasting = |settings: PostgresSettings| async move {
        match postgres::connect(&settings).check_fitness().await {
            Ok(Fitness::Untrusted(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let ca = world().ca.display();
    assert!(
        lasting(to("db.example", ""))
            .await
            .contains("unknown issuer")
    );
    let name = lasting(to("other.example", &format!("sslrootcert={ca}"))).await;
    assert!(name.contains("wrong name"), "{name}");
    let lender = Lender::start(postgres::shared().socket_dir()).await;
    let plain = lender.url("postgres");
    let without = PostgresSettings {
        url: format!("{plain}?sslmode=require"),
        ..PostgresSettings::default()
    };
    let without = lasting(without).await;
    assert!(without.contains("sslmode=disable"), "{without}");
    let well = to("db.example", &format!("sslrootcert={ca}"));
    let fitness = postgres::connect(&well).check_fitness().await;
    assert_eq!(fitness.expect("well"), Fitness::Fit);
    // Somebody may let the account in meanwhile.
    let stranger = to("db.example", &format!("sslrootcert={ca} user=nobody"));
    let error = postgres::connect(&stranger).check_fitness().await;
    assert_eq!(
        error.expect_err("no such role").kind,
        StoreErrorKind::Denied
    );
}

#[test]
fn files_that_cannot_be_used_are_named_at_once() {
    let world = world();
    let (ca, key) = (world.ca.display(), world.guest.1.display());
    let oddities = [
        (format!("sslrootcert=/nowhere/{ca}"), "sslrootcert"),
        (format!("sslrootcert={key}"), "no certificate"),
        (format!("sslcert={ca} sslkey={ca}"), "unencrypted key"),
        (format!("sslcert={ca} sslkey={key}"), "sslkey"),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    for (more, word) in oddities {
        let settings = to("db.example", &more);
        settings
            .connection(Purpose::Own)
            .expect("as such it is right");
        let health = oms::store::health::Health::new(oms_testkit::now);
        let refused = Postgres::new(settings, oms_testkit::io(), health.into());
        let error = refused.err().expect(&more);
        assert_eq!(error.kind, StoreErrorKind::Invalid, "{error}");
        assert!(error.message.contains(word), "{error}");
    }
}
