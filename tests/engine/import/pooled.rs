//! A source behind a pooler: its connection is the next one's after us.

use super::world::{PLAIN, PLAIN_TOML, World, import, start};
use oms_testkit::pooler::{Lender, PgBouncer};
use oms_testkit::postgres::{self, session};

const ROWS: &str = "INSERT INTO events (stream, version) \
                    SELECT 's' || (i % 5), i / 5 + 1 FROM generate_series(0, 49) i";

/// What an application finds on a connection that an import has used.
async fn finds_everything_as_it_was(url: &str) {
    let application = session(url).await;
    for (setting, value) in [
        ("default_transaction_read_only", "off"),
        ("transaction_read_only", "off"),
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("plan_cache_mode", "auto"),
        ("jit", "on"),
    ] {
        let shown = application
            .simple_query(&format!("SHOW {setting}"))
            .await
            .expect("shown");
        let shown = shown.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        assert_eq!(shown.as_deref(), Some(value), "{setting}");
    }
    let left = application
        .simple_query("SELECT name FROM pg_prepared_statements")
        .await
        .expect("listed");
    let left = left
        .iter()
        .filter(|m| matches!(m, tokio_postgres::SimpleQueryMessage::Row(_)));
    assert_eq!(left.count(), 0, "no statement has a name");
    application
        .batch_execute("CREATE TABLE mine (x int); DROP TABLE mine")
        .await
        .expect("it may write");
}

/// By position, and stream by stream.
fn descriptions() -> [String; 2] {
    [
        PLAIN_TOML.to_owned(),
        PLAIN_TOML.replace("order = \"pos\"\n", ""),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_leaves_nothing_behind_on_its_connection() {
    for toml in descriptions() {
        let world = World::new(PLAIN).await;
        world.foreign.batch_execute(ROWS).await.expect("rows");
        let lender = Lender::start(postgres::shared().socket_dir()).await;
        let url = lender.url(world.database());
        let status = import(&world.importer_of(world.source_at(&toml, &url)), start()).await;
        assert_eq!((status.written, status.parked), (50, 0));
        finds_everything_as_it_was(&url).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_through_pgbouncer_leaves_its_application_alone() {
    let Some(program) = PgBouncer::program() else {
        println!(
            "SKIPPED: there is no pgbouncer, on PATH or in OMS_TEST_PGBOUNCER; an import through \
             a real pooler was not tried"
        );
        return;
    };
    println!("trying {}", program.display());
    for toml in descriptions() {
        let world = World::new(PLAIN).await;
        world.foreign.batch_execute(ROWS).await.expect("rows");
        let bouncer = PgBouncer::start(&program, postgres::shared().socket_dir()).await;
        let url = bouncer.url(world.database());
        // The application is there all along, on the same connection.
        finds_everything_as_it_was(&url).await;
        let importer = world.importer_of(world.source_at(&toml, &url));
        let mut follow = start();
        follow.follow = true;
        importer.start(follow).expect("started");
        super::world::until(&importer, "the rows there are", |s| s.written == 50).await;
        finds_everything_as_it_was(&url).await;
        let application = session(&url).await;
        application
            .batch_execute("INSERT INTO events (stream, version) VALUES ('later', 1)")
            .await
            .expect("written");
        super::world::until(&importer, "what came later", |s| s.written == 51).await;
        importer.stop("shop").expect("stops");
        let status = super::world::until(&importer, "it ends", |s| s.state.is_over()).await;
        assert_eq!(status.parked, 0, "{status:?}");
        finds_everything_as_it_was(&url).await;
    }
}
