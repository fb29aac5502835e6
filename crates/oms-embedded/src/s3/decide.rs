//! Decides each change of a batch against the index and the changes before it.

use std::collections::HashMap;

use super::error::ChangeError;
use super::index::Index;
use super::queue::{Change, Condition, Job};

/// The decision on one job.
pub enum Decision {
    /// It is written with the batch.
    Write,
    /// It succeeds without a record.
    Nothing,
    /// It is refused.
    Refused(ChangeError),
}

/// Decides every job against the index and those before it. If the disk is `full`, puts that would
/// be made are refused; those whose condition does not hold get the answer of that.
pub fn decide(index: &Index, jobs: &[Job], full: Option<&str>) -> Vec<Decision> {
    // State of keys after the changes so far: the new ETag, or none.
    let mut changed: HashMap<(&str, &str), Option<[u8; 16]>> = HashMap::with_capacity(jobs.len());
    let mut made: Vec<&str> = Vec::new();
    let mut verdicts = Vec::with_capacity(jobs.len());
    for job in jobs {
        let etag = |bucket: &str, key: &str| match changed.get(&(bucket, key)) {
            Some(etag) => *etag,
            None => index.get(bucket, key).map(|e| e.etag),
        };
        let is_bucket = |name: &str| index.buckets.contains_key(name) || made.contains(&name);
        let verdict = match &job.change {
            Change::Put { bucket, .. } | Change::Delete { bucket, .. } if !is_bucket(bucket) => {
                Decision::Refused(ChangeError::NoSuchBucket)
            }
            Change::Put {
                bucket,
                key,
                condition,
                entry,
            } => match holds(*condition, etag(bucket, key)) {
                Err(why) => Decision::Refused(why),
                Ok(()) => match full {
                    Some(why) => Decision::Refused(ChangeError::Full(why.to_owned())),
                    None => {
                        changed.insert((bucket, key), Some(entry.etag));
                        Decision::Write
                    }
                },
            },
            Change::Delete {
                bucket,
                key,
                condition,
            } => match (etag(bucket, key), holds(*condition, etag(bucket, key))) {
                (None, _) => Decision::Nothing,
                (Some(_), Err(why)) => Decision::Refused(why),
                (Some(_), Ok(())) => {
                    changed.insert((bucket, key), None);
                    Decision::Write
                }
            },
            Change::CreateBucket { bucket, .. } if is_bucket(bucket) => {
                Decision::Refused(ChangeError::BucketExists)
            }
            Change::CreateBucket { bucket, .. } => {
                made.push(bucket);
                Decision::Write
            }
            Change::Move { bucket, key, entry } => {
                let untouched = !changed.contains_key(&(bucket.as_str(), key.as_str()));
                let there = index.get(bucket, key).is_some_and(|e| e.same_place(entry));
                if untouched && there {
                    Decision::Write
                } else {
                    Decision::Nothing
                }
            }
            Change::KeepDelete { bucket, key } if etag(bucket, key).is_some() => Decision::Nothing,
            Change::KeepDelete { .. } | Change::Keep { .. } => Decision::Write,
        };
        verdicts.push(verdict);
    }
    verdicts
}

fn holds(condition: Condition, etag: Option<[u8; 16]>) -> Result<(), ChangeError> {
    let holds = match (condition, etag) {
        (Condition::None, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
        (Condition::Present | Condition::Matches(_) | Condition::Never, None) => {
            return Err(ChangeError::NoSuchKey);
        }
        (Condition::Matches(wanted), Some(etag)) => wanted == etag,
        (Condition::Absent | Condition::Never, Some(_)) => false,
    };
    if holds {
        Ok(())
    } else {
        Err(ChangeError::PreconditionFailed)
    }
}
