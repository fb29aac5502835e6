//! The pool and the schema, against a real PostgreSQL.

use oms::store::adapters::postgres::{Postgres, PostgresSettings};
use oms::store::error::{Determinacy, StoreErrorKind};

use oms_testkit::{eventually, postgres};

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

/// A role of its own in a database of its own, which it may not make schemas in.
async fn restricted(also: &str) -> PostgresSettings {
    let settings = postgres::fresh();
    let database = settings.url.rsplit('/').next().expect("name").to_owned();
    let role = format!("app_{database}");
    let shared = postgres::shared();
    shared
        .administer(&format!("CREATE ROLE {role} LOGIN"))
        .await;
    shared
        .administer(&format!("CREATE DATABASE {database}"))
        .await;
    let sql = format!("REVOKE CREATE ON DATABASE {database} FROM PUBLIC; {also}");
    let (client, connection) = tokio_postgres::connect(&settings.url, tokio_postgres::NoTls)
        .await
        .expect("connect");
    tokio::spawn(connection);
    let sql = sql.replace("ROLE", &role);
    client.batch_execute(&sql).await.expect("prepared");
    let url = settings.url.replace("postgres@", &format!("{role}@"));
    PostgresSettings { url, ..settings }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_owns_the_schema_need_not_make_schemas() {
    let settings = restricted("CREATE SCHEMA oms AUTHORIZATION ROLE").await;
    let service = postgres::connect(&settings);
    assert!(count(&service, VERSIONS).await.expect("migrated") >= 1);
    // Nor does one that may only use what is there.
    let database = settings.url.rsplit('/').next().expect("name").to_owned();
    let user = format!("user_{database}");
    let grant = format!("CREATE ROLE {user} LOGIN");
    postgres::shared().administer(&grant).await;
    let grants = format!(
        "GRANT USAGE ON SCHEMA oms TO {user}; GRANT ALL ON ALL TABLES IN SCHEMA oms TO {user}"
    );
    service
        .run("grant", move |client| {
            Box::pin(async move { client.batch_execute(&grants).await })
        })
        .await
        .expect("granted");
    let url = settings.url.replace("app_", "user_");
    let least = postgres::connect(&PostgresSettings { url, ..settings });
    assert_eq!(
        count(&least, "SELECT count(*) FROM outbox")
            .await
            .expect("used"),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_nobody_may_make_is_asked_for() {
    let settings = restricted("SELECT 1").await;
    let refused = count(&postgres::connect(&settings), VERSIONS).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.kind, StoreErrorKind::Denied, "{refused}");
    assert!(
        refused
            .message
            .contains("CREATE SCHEMA oms AUTHORIZATION app_"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_a_database_that_cannot_hold_every_text_is_refused_at_once() {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let settings = postgres::fresh();
        let database = settings.url.rsplit('/').next().expect("name");
        postgres::shared()
            .administer(&format!(
                "CREATE DATABASE {database} ENCODING '{encoding}' TEMPLATE template0 \
                 LC_COLLATE 'C' LC_CTYPE 'C'"
            ))
            .await;
        let service = postgres::connect(&settings);
        let refused = service.check_fitness().await.expect_err("refused");
        assert_eq!(refused.kind, StoreErrorKind::Invalid);
        assert!(
            refused.message.contains(encoding) && refused.message.contains("UTF8"),
            "{refused}"
        );
        let refused = count(&service, VERSIONS).await.expect_err("refused");
        assert_eq!(refused.kind, StoreErrorKind::Invalid);
    }
    let fresh = postgres::connect(&postgres::fresh());
    fresh.check_fitness().await.expect("it will be made");
    count(&fresh, VERSIONS).await.expect("made");
    fresh.check_fitness().await.expect("it can be used");
}

/// What an earlier version left behind is brought up to date, dead letters and all.
#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_database_of_before_takes_ids_that_are_used_twice() {
    let service = postgres::connect(&postgres::fresh());
    let constraints = "SELECT count(*) FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid \
                       JOIN pg_attribute a ON a.attrelid = t.oid AND c.conkey = ARRAY[a.attnum] \
                       WHERE c.contype = 'u' AND a.attname = 'event_id' \
                       AND t.relname IN ('outbox', 'dead_letters', 'events')";
    assert_eq!(count(&service, constraints).await.expect("counted"), 0);
    let back = "DROP INDEX dead_letters_position;
        ALTER TABLE outbox ADD UNIQUE (event_id);
        ALTER TABLE dead_letters ADD UNIQUE (event_id);
        ALTER TABLE events ADD UNIQUE (event_id);
        ALTER TABLE import_checkpoints DROP COLUMN names;
        INSERT INTO import_checkpoints (source, reached, rows) VALUES ('shop', '{\"position\":7}', 7);
        INSERT INTO dead_letters (partition, commit_offset, idx, event_id, stream_type, stream_id,
            version, topic, epoch, mode, start_byte, len_bytes, attempts, last_error, created)
        SELECT 0, 7, 0, gen_random_uuid(), 'order', '1', 1, 't', 1, 'legacy', 0, 1, 10, 'x', now()
        FROM generate_series(1, 2)";
    let forward =
        include_str!("../../crates/oms-store/src/adapters/postgres/sql/0008_event_ids.sql");
    for sql in [back, forward] {
        service
            .run("step", move |client| Box::pin(client.batch_execute(sql)))
            .await
            .expect("a step back and forward");
    }
    assert_eq!(count(&service, constraints).await.expect("migrated"), 0);
    let kept = "SELECT count(*) FROM dead_letters";
    assert_eq!(count(&service, kept).await.expect("counted"), 2);
    let kept = "SELECT count(*) FROM import_checkpoints WHERE names = '{}'";
    assert_eq!(count(&service, kept).await.expect("counted"), 1);
}
