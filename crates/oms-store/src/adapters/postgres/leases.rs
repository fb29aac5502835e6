//! Leases: which node publishes which partition. Partitions are shared fairly among the live nodes,
//! and taken over when a lease expires. All times are the database's.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::{Error, Row};

/// Serialises changes of leases, so that shares are computed from a consistent state.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('oms.relay.' || current_schema(), 0))";

const ALIVE: &str = "
INSERT INTO relay_nodes (node, until) VALUES ($1, now() + $2::float8 * interval '1 second')
ON CONFLICT (node) DO UPDATE SET until = excluded.until";

/// A node's share: partitions divided by nodes; the first nodes by name get the remainder.
const SHARE: &str = "
SELECT $2::int8 / count(*) + (count(*) FILTER (WHERE node < $1) < $2::int8 % count(*))::int
FROM relay_nodes";

/// Renews up to the share, lowest partitions first, and releases the rest.
const RENEW: &str = "
WITH kept AS (
    SELECT partition FROM relay_leases
    WHERE node = $1 AND partition < $4 ORDER BY partition LIMIT $2
), given_up AS (
    DELETE FROM relay_leases
    WHERE node = $1 AND partition NOT IN (SELECT partition FROM kept)
)
UPDATE relay_leases SET until = now() + $3::float8 * interval '1 second'
WHERE node = $1 AND partition IN (SELECT partition FROM kept)";

/// Takes what is free, each under a new term.
const TAKE: &str = "
INSERT INTO relay_leases (partition, node, until, term)
SELECT p, $1, now() + $3::float8 * interval '1 second', nextval('relay_terms')
FROM generate_series(0, $4::int4 - 1) p
LEFT JOIN relay_leases l ON l.partition = p
WHERE l.partition IS NULL OR l.until < now()
ORDER BY p
LIMIT greatest(0, $2::int8 - (SELECT count(*) FROM relay_leases WHERE node = $1))
ON CONFLICT (partition) DO UPDATE
SET node = excluded.node, until = excluded.until, term = excluded.term";

/// Renews and takes leases; returns partition and term of each that the node holds.
pub(super) async fn take(
    client: &mut Object,
    node: &str,
    partitions: u16,
    ttl: Duration,
) -> Result<Vec<Row>, Error> {
    let (seconds, partitions) = (ttl.as_secs_f64(), i32::from(partitions));
    let transaction = client.transaction().await?;
    transaction.execute(LOCK, &[]).await?;
    transaction
        .execute("DELETE FROM relay_nodes WHERE until < now()", &[])
        .await?;
    transaction.execute(ALIVE, &[&node, &seconds]).await?;
    let share: i64 = transaction
        .query_one(SHARE, &[&node, &i64::from(partitions)])
        .await?
        .try_get(0)?;
    transaction
        .execute(RENEW, &[&node, &share, &seconds, &partitions])
        .await?;
    transaction
        .execute(TAKE, &[&node, &share, &seconds, &partitions])
        .await?;
    let held = transaction
        .query(
            "SELECT partition, term FROM relay_leases WHERE node = $1",
            &[&node],
        )
        .await?;
    transaction.commit().await?;
    Ok(held)
}

pub(super) async fn release(client: &mut Object, node: &str) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    transaction.execute(LOCK, &[]).await?;
    transaction
        .execute("DELETE FROM relay_leases WHERE node = $1", &[&node])
        .await?;
    transaction
        .execute("DELETE FROM relay_nodes WHERE node = $1", &[&node])
        .await?;
    transaction.commit().await
}
