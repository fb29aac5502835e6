//! What the two places of the log promise to whoever uses them, and what PostgreSQL promises beyond
//! that: the fence, one transaction with the outbox, objects byte for byte. Against real servers.

mod beginning;
mod chain;
mod conformance;
mod damage;
mod fence;
mod foreign_copy;
mod handoff;
mod migration;
mod mirror;
mod outbox;
mod rates;
mod reads;
use std::sync::Arc;

use oms::domain::ids::{Epoch, PartitionId};
use oms::migration::record::MigrationRow;
use oms::migration::stage::StageKind;
use oms::store::adapters::postgres::commits::PostgresCommitStore;
use oms::store::adapters::postgres::migration::PostgresMigration;
use oms::store::adapters::postgres::{Postgres, PostgresSettings};
use oms::store::ports::commit_store::{Appended, CommitStore, LeadingTable};
use oms::store::ports::migration_table::MigrationTable;

use chain::Chain;
use oms_testkit::postgres;

const P0: PartitionId = PartitionId(0);

/// A database in which PostgreSQL may lead.
struct World {
    settings: PostgresSettings,
    postgres: Postgres,
    commits: PostgresCommitStore,
    table: PostgresMigration,
}

impl World {
    fn new() -> Self {
        Self::on(postgres::fresh())
    }

    fn on(settings: PostgresSettings) -> Self {
        let postgres = postgres::connect(&settings);
        Self {
            commits: PostgresCommitStore::new(postgres.clone()),
            table: PostgresMigration::new(postgres.clone()),
            postgres,
            settings,
        }
    }

    /// Partition 0 as `legacy` under epoch 1, with the beginning of its log.
    async fn led(&self) -> (Chain, MigrationRow) {
        let mut chain = Chain::new(P0);
        let genesis = chain.control();
        let row = MigrationRow::new(StageKind::Legacy, Epoch(1));
        let begun = self.table.begin(P0, &row, Some(&genesis)).await.unwrap();
        assert_eq!(begun, row);
        (chain, row)
    }

    /// A connection of somebody else.
    async fn other(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.settings.url, tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        client.batch_execute("SET search_path = oms").await.unwrap();
        client
    }

    async fn commits_at(&self, offset: u64) -> Arc<oms::log::object::CommitObject> {
        Arc::new(self.commits.get(P0, offset).await.unwrap().unwrap())
    }

    async fn append(&self, object: &Arc<oms::log::object::CommitObject>) -> Appended {
        self.commits
            .append(object, &[], object.header.epoch)
            .await
            .unwrap()
    }
}
