//! Queries that take long hold up nobody else.

use std::sync::Arc;
use std::time::Duration;

use oms::store::adapters::postgres::read_model::PostgresReadModel;
use oms::store::error::StoreErrorKind;
use oms::store::ports::read_model::{ListQuery, ReadModel as _};
use oms_testkit::postgres;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::world::PARTITIONS;

/// Queries that are asked at once: as many as there are connections.
const ASKED: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn law_13_slow_queries_leave_connections_to_those_who_write() {
    let settings = postgres::fresh();
    assert_eq!(settings.max_connections, ASKED);
    let pool = postgres::connect(&settings);
    let model = Arc::new(PostgresReadModel::new(pool.clone()));
    let live = model.generations(PARTITIONS).await.unwrap().live.generation;
    // Somebody holds the table, so that every query waits.
    let (release, released) = oneshot::channel::<()>();
    let (locked, is_locked) = oneshot::channel();
    let other = postgres::connect(&settings);
    let lock = format!(
        "LOCK TABLE rm_{}_databases IN ACCESS EXCLUSIVE MODE",
        live.0
    );
    let holding = tokio::spawn(async move {
        let hold = other.run("lock", move |client| {
            Box::pin(async move {
                let transaction = client.transaction().await?;
                transaction.batch_execute(&lock).await?;
                locked.send(()).ok();
                released.await.ok();
                transaction.rollback().await
            })
        });
        hold.await
    });
    is_locked.await.unwrap();
    let queries: Vec<_> = (0..ASKED)
        .map(|_| {
            let model = model.clone();
            tokio::spawn(async move {
                model
                    .databases(&ListQuery::databases(None, None).unwrap())
                    .await
            })
        })
        .collect();
    // They are there, and whoever writes finds a connection all the same.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..ASKED {
        let write = pool.run("write", |client| {
            Box::pin(async move { client.batch_execute("SELECT 1").await })
        });
        timeout(Duration::from_secs(2), write)
            .await
            .unwrap()
            .unwrap();
    }
    // Those who find no place are told so, although nothing has ended.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = queries.iter().filter(|query| query.is_finished()).count();
    assert_eq!(told, ASKED / 2);
    release.send(()).unwrap();
    holding.await.unwrap().unwrap();
    let (mut answered, mut busy) = (0, 0);
    for query in queries {
        match query.await.unwrap() {
            Ok(_) => answered += 1,
            Err(error) => {
                assert_eq!(error.kind, StoreErrorKind::Throttled, "{error}");
                assert!(error.retry_after.is_some());
                busy += 1;
            }
        }
    }
    assert_eq!((answered, busy), (ASKED / 2, ASKED / 2));
}
