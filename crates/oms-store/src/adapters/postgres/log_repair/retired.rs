//! Empties the tables of the log when they have retired.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::PostgresLogRepair;
use crate::error::StoreError;
use crate::ports::log_repair::RetiredTables;
use oms_core::domain::ids::{Offset, PartitionId};

#[async_trait]
impl RetiredTables for PostgresLogRepair {
    async fn empty(&self, ends: &[(PartitionId, Offset)]) -> Result<bool, StoreError> {
        let expected: BTreeSet<(i32, i64)> = ends
            .iter()
            .filter(|(_, end)| *end > 0)
            .map(|(partition, end)| (i32::from(partition.0), *end as i64))
            .collect();
        self.postgres
            .run("log_empty", move |client| {
                Box::pin(async move {
                    let transaction = client.transaction().await?;
                    // The fence first: from here to the end of the transaction nobody mirrors or
                    // leads.
                    let rows = transaction
                        .query("SELECT mode, step FROM migration FOR SHARE", &[])
                        .await?;
                    for row in rows {
                        let (mode, step): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
                        if mode != "s3_only" || step != "steady" {
                            return Ok(false);
                        }
                    }
                    transaction
                        .batch_execute("LOCK TABLE commits, events IN ACCESS EXCLUSIVE MODE")
                        .await?;
                    let sql =
                        "SELECT partition, max(commit_offset) + 1 FROM commits GROUP BY partition";
                    let mut found = BTreeSet::new();
                    for row in transaction.query(sql, &[]).await? {
                        found.insert((row.try_get(0)?, row.try_get(1)?));
                    }
                    if found != expected {
                        return Ok(false);
                    }
                    transaction
                        .batch_execute("TRUNCATE commits, events")
                        .await?;
                    transaction.commit().await?;
                    Ok(true)
                })
            })
            .await
    }
}
