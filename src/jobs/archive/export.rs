//! The parts of an export: created, stored, and read back to be compared with the table.

use bytes::Bytes;
use uuid::Uuid;

use super::manifest::{Part, PartitionEnd};
use super::parquet::{self, Rows};
use crate::domain::ids::{Offset, PartitionId};
use crate::jobs::context::JobContext;
use crate::jobs::failure::JobFailure;
use crate::jobs::pace::Pace;
use crate::log::keys;
use crate::log::object::ObjectHash;
use crate::migration::job::JobProgress;
use crate::store::error::StoreError;
use crate::store::ports::commit_store::CommitStore;
use crate::store::ports::object_store::ObjectStore;

/// Events of one part: bounds memory and what an interruption can cost.
const MAX_ROWS: usize = 100_000;
const MAX_BYTES: usize = 32 << 20;

/// Commits read at once.
const SPAN: Offset = 256;

/// Saves a checkpoint with the parts made so far.
pub(super) type Keep<'a> = &'a (dyn Fn(&[Part]) -> Result<serde_json::Value, JobFailure> + Sync);

pub(super) struct Exporter<'a> {
    pub table: &'a dyn CommitStore,
    /// Where the parts are stored; `None`: they are only created to be measured.
    pub bucket: Option<&'a dyn ObjectStore>,
    pub job: &'a JobContext,
    pub export: Uuid,
}

/// A span of the table as one file will hold it.
struct Stretch {
    rows: Rows,
    to: Offset,
}

impl Exporter<'_> {
    /// Creates every part after those that exist.
    pub async fn export(
        &self,
        ends: &[PartitionEnd],
        mut parts: Vec<Part>,
        keep: Keep<'_>,
    ) -> Result<Vec<Part>, JobFailure> {
        let total: u64 = ends.iter().map(|e| e.end).sum();
        let mut pace = Pace::new(None);
        for PartitionEnd { partition, end, .. } in ends {
            let last = parts.iter().rev().find(|p| p.partition == *partition);
            let mut at = last.map_or(0, |p| p.to);
            while at < *end {
                let stretch = self.stretch(*partition, at, *end).await?;
                let (to, events) = (stretch.to, stretch.rows.len() as u64);
                parts.push(self.part(*partition, at, stretch).await?);
                pace.advance(events, to - at);
                at = to;
                self.job.keep(keep(&parts)?);
                let phase = match self.bucket {
                    Some(_) => "exporting",
                    None => "measuring",
                };
                self.tell(phase, &pace, &parts, total)?;
            }
        }
        Ok(parts)
    }

    fn tell(&self, phase: &str, pace: &Pace, parts: &[Part], total: u64) -> Result<(), JobFailure> {
        let done: u64 = parts.iter().map(|p| p.to - p.from).sum();
        let progress = JobProgress {
            phase: phase.into(),
            unit: "commits".into(),
            done,
            total,
            events: parts.iter().map(|p| p.rows).sum(),
            rate: pace.rate(),
            eta_seconds: pace.eta(total.saturating_sub(done)),
            waiting: None,
        };
        let checkpoint = self.job.seen().1.unwrap_or_default();
        self.job.save(progress, || Ok(checkpoint))
    }

    async fn stretch(
        &self,
        partition: PartitionId,
        from: Offset,
        end: Offset,
    ) -> Result<Stretch, JobFailure> {
        let mut rows = Rows::default();
        let mut to = from;
        while to < end && rows.len() < MAX_ROWS && rows.envelope_bytes() < MAX_BYTES {
            let objects = self.table.span(partition, to, end.min(to + SPAN)).await?;
            if objects.is_empty() {
                let what = format!("commit {partition}/{to} is gone from PostgreSQL");
                return Err(StoreError::corrupt("postgres", "archive", what).into());
            }
            for object in &objects {
                rows.add(object)
                    .map_err(|e| JobFailure::Failed(format!("commit {partition}/{to}: {e}")))?;
                to += 1;
                if rows.len() >= MAX_ROWS || rows.envelope_bytes() >= MAX_BYTES {
                    break;
                }
            }
            self.job.interrupted()?;
        }
        Ok(Stretch { rows, to })
    }

    async fn part(
        &self,
        partition: PartitionId,
        from: Offset,
        stretch: Stretch,
    ) -> Result<Part, JobFailure> {
        let Stretch { rows, to } = stretch;
        let (count, digest) = (rows.len() as u64, rows.digest());
        let made = tokio::task::spawn_blocking(move || parquet::write(&rows)).await;
        let file: Bytes = made
            .map_err(|e| JobFailure::Failed(e.to_string()))?
            .map_err(|e| JobFailure::Failed(format!("cannot make a part: {e}")))?;
        let part = Part {
            key: keys::archive_part(self.export, partition, from),
            partition,
            from,
            to,
            rows: count,
            bytes: file.len() as u64,
            sha256: ObjectHash::of(&file).to_string(),
            digest: digest.to_string(),
        };
        // The same rows make the same file: after an interruption it may exist already.
        if let Some(bucket) = self.bucket
            && bucket.get(&part.key).await?.as_ref() != Some(&file)
        {
            bucket.put(&part.key, file).await?;
        }
        Ok(part)
    }

    /// Reads every part back, reads the table again, and compares.
    pub async fn compare(&self, ends: &[PartitionEnd], parts: &[Part]) -> Result<(), JobFailure> {
        let Some(bucket) = self.bucket else {
            return Ok(());
        };
        let total: u64 = ends.iter().map(|e| e.end).sum();
        let mut pace = Pace::new(None);
        for (i, part) in parts.iter().enumerate() {
            let wrong = |what: &str| JobFailure::Failed(format!("{}: {what}", part.key));
            let file = bucket.get(&part.key).await?;
            let file = file.ok_or_else(|| wrong("it is gone"))?;
            if ObjectHash::of(&file).to_string() != part.sha256 {
                return Err(wrong("it is not what was written"));
            }
            let read = tokio::task::spawn_blocking(move || parquet::read(file)).await;
            let rows = read
                .map_err(|e| JobFailure::Failed(e.to_string()))?
                .map_err(|e| wrong(&e))?;
            let mut table = Rows::default();
            let mut at = part.from;
            while at < part.to {
                let objects = self
                    .table
                    .span(part.partition, at, part.to.min(at + SPAN))
                    .await?;
                if objects.is_empty() {
                    return Err(wrong("PostgreSQL does not hold its commits any more"));
                }
                for object in &objects {
                    table.add(object).map_err(|e| wrong(&e))?;
                }
                at += objects.len() as u64;
            }
            if rows != table || rows.digest().to_string() != part.digest {
                return Err(wrong("it does not hold what PostgreSQL holds"));
            }
            pace.advance(part.rows, part.to - part.from);
            self.tell("comparing the export", &pace, &parts[..=i], total)?;
        }
        Ok(())
    }
}
