//! The pool and the schema, against a real PostgreSQL.

mod support;

use oms::store::error::{Determinacy, StoreErrorKind};
use oms::store::postgres::{Postgres, PostgresSettings};

use support::{eventually, postgres};

async fn count(
    postgres: &Postgres,
    sql: &'static str,
) -> Result<i64, oms::store::error::StoreError> {
    postgres
        .run("count", move |client| {
            Box::pin(async move { client.query_one(sql, &[]).await?.try_get(0) })
        })
        .await
}

const VERSIONS: &str = "SELECT count(*) FROM schema_migrations";

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_make_the_database_and_its_schema_once() {
    let settings = postgres::fresh();
    let counts = futures_util::future::join_all((0..6).map(|_| {
        let process = postgres::connect(&settings);
        async move { count(&process, VERSIONS).await }
    }))
    .await;
    let first = *counts[0].as_ref().expect("migrated");
    assert!(first >= 1);
    for found in counts {
        assert_eq!(found.expect("migrated"), first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_a_dropped_database_is_made_again() {
    let settings = postgres::fresh();
    let service = postgres::connect(&settings);
    let versions = count(&service, VERSIONS).await.expect("migrated");
    let name = settings.url.rsplit('/').next().expect("name").to_owned();
    postgres::shared()
        .administer(&format!("DROP DATABASE {name} WITH (FORCE)"))
        .await;
    let again = eventually("the schema is made again", || async {
        count(&service, VERSIONS).await.ok()
    })
    .await;
    assert_eq!(again, versions);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_a_dropped_schema_is_made_again() {
    let service = postgres::connect(&postgres::fresh());
    count(&service, VERSIONS).await.expect("migrated");
    service
        .run("drop", |client| {
            Box::pin(client.batch_execute("DROP SCHEMA oms CASCADE"))
        })
        .await
        .expect("dropped");
    let missing = count(&service, "SELECT count(*) FROM outbox")
        .await
        .expect_err("gone");
    assert_eq!(missing.determinacy, Determinacy::Determinate);
    assert!(missing.is_transient(), "loops try again: {missing}");
    assert_eq!(
        count(&service, "SELECT count(*) FROM outbox")
            .await
            .expect("healed"),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_database_is_refused() {
    let settings = postgres::fresh();
    let service = postgres::connect(&settings);
    service
        .run("newer", |client| {
            Box::pin(client.batch_execute("INSERT INTO schema_migrations VALUES (9999, 'future')"))
        })
        .await
        .expect("written");
    let older = postgres::connect(&settings);
    let refused = count(&older, VERSIONS).await.expect_err("refused");
    assert_eq!(refused.kind, StoreErrorKind::Invalid);
    assert!(refused.message.contains("9999"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_4_failures_say_whether_it_happened() {
    let nobody = PostgresSettings {
        url: "postgresql://postgres@%2Fnowhere/db".into(),
        ..PostgresSettings::default()
    };
    let unreachable = count(&postgres::connect(&nobody), VERSIONS)
        .await
        .expect_err("nobody there");
    assert_eq!(unreachable.kind, StoreErrorKind::Unavailable);
    assert_eq!(unreachable.determinacy, Determinacy::Determinate);

    let service = postgres::connect(&postgres::fresh());
    let cut = service
        .run("cut", |client| {
            Box::pin(client.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())"))
        })
        .await
        .expect_err("cut");
    assert!(cut.is_transient() && cut.is_indeterminate(), "{cut}");
    let wrong = count(&service, "SELECT 1/0")
        .await
        .expect_err("division by zero");
    assert_eq!(
        (wrong.kind, wrong.determinacy),
        (StoreErrorKind::Invalid, Determinacy::Determinate)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_stopped() {
    let settings = PostgresSettings {
        statement_timeout: std::time::Duration::from_millis(200),
        ..postgres::fresh()
    };
    let service = postgres::connect(&settings);
    let slow = service
        .run("slow", |client| {
            Box::pin(client.batch_execute("SELECT pg_sleep(30)"))
        })
        .await
        .expect_err("stopped");
    assert_eq!(
        (slow.kind, slow.determinacy),
        (StoreErrorKind::Timeout, Determinacy::Determinate)
    );
}
