//! The configured bucket, opened for reading.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::TryStreamExt;

use crate::clock::{SystemClock, new_uuid};
use crate::config::Config;
use crate::config::endpoints::{Endpoints, s3_settings};
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::time::Clock;
use crate::log::identity::LogId;
use crate::log::keys;
use crate::log::object::CommitObject;
use crate::store::adapters::s3::{S3ObjectStore, S3Settings};
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::log::log_reader::{LogReader, describe_store};
use crate::store::ports::object_store::{ObjectStore, list_all};

/// Attempts of one read; with doubling pauses about six seconds in total, enough for a restart.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// The log in the bucket.
    pub log: LogReader,
}

/// Why a walk stopped before its end.
#[derive(Debug)]
pub enum Stopped {
    /// The object at this offset is missing, damaged or not part of the chain.
    Broken { offset: Offset, what: String },
    /// The store does not answer.
    Store(StoreError),
}

/// The bucket's address: the configured one, else that of the embedded store, from the
/// `endpoints.json` of a running service.
pub fn settings(config: &Config) -> anyhow::Result<S3Settings> {
    if let Some(settings) = config.s3.settings() {
        return Ok(settings);
    }
    let endpoints = Endpoints::read(&config.data_dir)?;
    let s3 = endpoints.and_then(|e| e.s3).with_context(|| {
        format!(
            "no s3.endpoint is configured, and no service with an embedded store has run in {}",
            config.data_dir.display()
        )
    })?;
    Ok(s3_settings(&s3, config.s3.request_timeout))
}

impl Bucket {
    /// Opens the bucket; fails if there is no log in it, and creates none.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        Self::connect(&settings(config)?).await
    }

    /// [`Self::open`] with the address given.
    pub async fn connect(settings: &S3Settings) -> anyhow::Result<Self> {
        let store: Arc<dyn ObjectStore> = Arc::new(S3ObjectStore::new(settings)?);
        Self::of(store, &settings.bucket).await
    }

    async fn of(store: Arc<dyn ObjectStore>, name: &str) -> anyhow::Result<Self> {
        store
            .get(keys::STORE)
            .await?
            .with_context(|| format!("there is no log in the bucket {name}"))?;
        let description = describe_store(&*store, 1, SystemClock.now(), LogId(new_uuid())).await?;
        // Everything is read once, so a cache would be of no use.
        let log = LogReader::new(store.clone(), name.to_owned(), description.partitions, 0);
        Ok(Self { store, log })
    }

    /// Offsets of a partition, as listed.
    pub async fn offsets(&self, partition: PartitionId) -> Result<Vec<Offset>, StoreError> {
        let objects = list_all(&*self.store, &keys::commits(partition), None).await?;
        let offsets = objects.iter().filter_map(|o| keys::parse_commit(&o.key));
        Ok(offsets.collect())
    }

    /// Calls `take` with every object of a partition up to `to`, in order.
    pub async fn walk(
        &self,
        partition: PartitionId,
        to: Offset,
        mut take: impl FnMut(&CommitObject) -> Result<(), String>,
    ) -> Result<(), Stopped> {
        let mut next = 0;
        let mut tries = 0;
        while next < to {
            let mut objects = std::pin::pin!(self.log.commits(partition, next, to));
            let error = loop {
                match objects.try_next().await {
                    Ok(Some(object)) => {
                        take(&object).map_err(|what| Stopped::Broken { offset: next, what })?;
                        next += 1;
                        tries = 0;
                    }
                    Ok(None) => return Ok(()),
                    Err(error) => break error,
                }
            };
            if error.kind == StoreErrorKind::Corrupt {
                let what = error.message;
                return Err(Stopped::Broken { offset: next, what });
            }
            tries += 1;
            if !error.is_transient() || tries == TRIES {
                return Err(Stopped::Store(error));
            }
            tokio::time::sleep(FIRST_PAUSE * 2u32.pow(tries - 1)).await;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Bucket {
    pub(super) async fn in_memory(store: Arc<dyn ObjectStore>) -> anyhow::Result<Self> {
        Self::of(store, "test").await
    }
}
