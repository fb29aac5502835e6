//! Identifies the log that a copy was made of. A log has an id, and by the hash chain the hash of a
//! commit covers everything before it. A copy therefore records, with its progress, the log and the
//! commit at which it stands, and both are compared before it is continued.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::object::ObjectHash;
use crate::domain::ids::{Offset, PartitionId};

/// The id of a log: the same in every replica of its bucket, different for every other log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub Uuid);

impl LogId {
    /// The id of a log whose description names none, derived from the description's bytes: they
    /// contain the moment of creation to the nanosecond and are never rewritten. So every replica
    /// of the bucket has the same id, without it being written anywhere.
    pub fn of_description(bytes: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(Builder::from_custom_bytes(id).into_uuid())
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The commit at which a copy of a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The log. `None`: unknown, because the bucket was unavailable.
    pub log: Option<LogId>,
    /// The offset after that commit; 0 for an empty copy.
    pub at: Offset,
    /// Its hash; [`ObjectHash::NONE`] for an empty copy.
    pub hash: ObjectHash,
}

/// The progress of a copy of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The offset after the last commit applied.
    pub next: Offset,
    /// The commit at which it stands. `None`: written by an old version, which did not record it.
    /// If `at` differs from `next`, an old version has moved the copy on since.
    pub anchor: Option<Anchor>,
}

impl Mark {
    /// The mark of an empty copy.
    pub fn start(log: Option<LogId>) -> Self {
        Self::on(log, 0, ObjectHash::NONE)
    }

    /// The mark of a copy whose last commit, before `next`, has this hash.
    pub fn on(log: Option<LogId>, next: Offset, hash: ObjectHash) -> Self {
        let anchor = Some(Anchor {
            log,
            at: next,
            hash,
        });
        Self { next, anchor }
    }

    /// A mark without an anchor.
    pub fn unmarked(next: Offset) -> Self {
        Self { next, anchor: None }
    }

    /// The hash of the commit before `next`, if it is recorded.
    pub fn hash(&self) -> Option<ObjectHash> {
        let anchor = self.anchor.filter(|anchor| anchor.at == self.next);
        anchor.map(|anchor| anchor.hash)
    }
}

/// The commit that the log holds before an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// A commit of this hash.
    Commit(ObjectHash),
    /// A commit that cannot be read and has no successor that would tell its hash.
    Damaged,
    /// None: the log ends earlier.
    Nothing,
}

/// Whether a copy may be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// It is of this log.
    Ours {
        /// Hash of the commit at which it stands, if known.
        hash: Option<ObjectHash>,
        /// Whether the copy records that itself; otherwise it has to be added.
        marked: bool,
    },
    /// It is not of this log.
    Foreign(Foreign),
}

/// Why a copy is not of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It was made of another log.
    OtherLog {
        /// The log that it was made of.
        theirs: LogId,
        /// This log.
        ours: LogId,
    },
    /// The log ends before the copy does.
    Behind,
    /// The log has another commit where the copy stands.
    Diverged,
}

impl Foreign {
    /// Every label.
    pub const LABELS: [&str; 3] = ["other_log", "log_behind", "diverged"];

    /// The name as a metric label, and for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherLog { .. } => "other_log",
            Self::Behind => "log_behind",
            Self::Diverged => "diverged",
        }
    }

    /// What is wrong, for a person. `copy` is a phrase such as "the outbox".
    pub fn describe(self, copy: &str, partition: PartitionId, next: Offset) -> String {
        let last = next.saturating_sub(1);
        match self {
            Self::OtherLog { theirs, ours } => format!(
                "{copy} of partition {partition} was made of the log {theirs}; the bucket holds the \
                 log {ours}"
            ),
            Self::Behind => format!(
                "{copy} of partition {partition} reaches to offset {last}, and the log ends before \
                 it: commits that were acknowledged are gone"
            ),
            Self::Diverged => format!(
                "{copy} of partition {partition} stands on another commit than the log holds at \
                 offset {last}: the log lost its end and was written on, or the copy is another \
                 log's"
            ),
        }
    }
}

/// Judges a copy. `at_anchor` is what the log holds before the anchor, `at_end` what it holds
/// before `next`; without an anchor, or with one at `next`, the two are the same.
pub fn judge(ours: Option<LogId>, mark: &Mark, at_anchor: Before, at_end: Before) -> Ownership {
    let theirs = mark.anchor.and_then(|anchor| anchor.log);
    let other = match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs != ours => Some(Foreign::OtherLog { theirs, ours }),
        _ => None,
    };
    let foreign = |why: Foreign| Ownership::Foreign(other.unwrap_or(why));
    if let Some(anchor) = mark.anchor {
        match at_anchor {
            // The hash decides rather than the id: a store whose description was written anew is
            // still the same log.
            Before::Commit(hash) if hash == anchor.hash => {
                if anchor.at == mark.next {
                    let marked = theirs == ours;
                    let hash = Some(hash);
                    return Ownership::Ours { hash, marked };
                }
            }
            Before::Commit(_) => return foreign(Foreign::Diverged),
            Before::Nothing => return foreign(Foreign::Behind),
            // The commit is there, whatever happened to it; its successor will tell its hash.
            Before::Damaged => match other {
                Some(other) => return Ownership::Foreign(other),
                None if anchor.at == mark.next => {
                    let (hash, marked) = (Some(anchor.hash), true);
                    return Ownership::Ours { hash, marked };
                }
                None => {}
            },
        }
    }
    let marked = false;
    match at_end {
        Before::Commit(hash) => Ownership::Ours {
            hash: Some(hash),
            marked,
        },
        Before::Damaged => Ownership::Ours { hash: None, marked },
        Before::Nothing => foreign(Foreign::Behind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: LogId = LogId(Uuid::from_u128(1));
    const THEIRS: LogId = LogId(Uuid::from_u128(2));
    const A: ObjectHash = ObjectHash([1; 32]);
    const B: ObjectHash = ObjectHash([2; 32]);

    #[test]
    fn an_id_made_of_a_description_is_the_same_in_every_replica_and_no_other() {
        let one = br#"{"format":1,"created":"2026-01-02T03:04:05.000000001Z"}"#;
        let other = br#"{"format":1,"created":"2026-01-02T03:04:05.000000002Z"}"#;
        assert_eq!(LogId::of_description(one), LogId::of_description(one));
        assert_ne!(LogId::of_description(one), LogId::of_description(other));
    }

    #[test]
    fn law_9_a_copy_is_believed_only_by_the_hash_it_stands_on() {
        use Before::{Commit, Damaged, Nothing};
        let ours = |hash, marked| Ownership::Ours { hash, marked };
        let foreign = Ownership::Foreign;
        let other = foreign(Foreign::OtherLog {
            theirs: THEIRS,
            ours: OURS,
        });
        let stands = |log, hash| Mark::on(Some(log), 7, hash);
        let table = [
            (stands(OURS, A), Commit(A), ours(Some(A), true)),
            (stands(OURS, A), Commit(B), foreign(Foreign::Diverged)),
            (stands(OURS, A), Nothing, foreign(Foreign::Behind)),
            (stands(OURS, A), Damaged, ours(Some(A), true)),
            (stands(THEIRS, A), Commit(B), other),
            (stands(THEIRS, A), Nothing, other),
            (stands(THEIRS, A), Damaged, other),
            // The same history under another id: a description that was lost and written again.
            (stands(THEIRS, A), Commit(A), ours(Some(A), false)),
            (Mark::on(None, 7, A), Commit(A), ours(Some(A), false)),
            (Mark::on(None, 7, A), Commit(B), foreign(Foreign::Diverged)),
            // Of the build before: nothing but the offset.
            (Mark::unmarked(7), Commit(A), ours(Some(A), false)),
            (Mark::unmarked(7), Damaged, ours(None, false)),
            (Mark::unmarked(7), Nothing, foreign(Foreign::Behind)),
        ];
        for (mark, before, expected) in table {
            assert_eq!(
                judge(Some(OURS), &mark, before, before),
                expected,
                "{mark:?} {before:?}"
            );
        }
    }

    #[test]
    fn a_copy_that_the_build_before_moved_on_is_judged_by_where_it_stood() {
        use Before::{Commit, Nothing};
        let moved = Mark {
            next: 9,
            ..Mark::on(Some(OURS), 7, A)
        };
        assert_eq!(moved.hash(), None);
        let judged = |at_anchor, at_end| judge(Some(OURS), &moved, at_anchor, at_end);
        assert_eq!(
            judged(Commit(A), Commit(B)),
            Ownership::Ours {
                hash: Some(B),
                marked: false
            }
        );
        assert_eq!(
            judged(Commit(B), Commit(B)),
            Ownership::Foreign(Foreign::Diverged)
        );
        assert_eq!(
            judged(Commit(A), Nothing),
            Ownership::Foreign(Foreign::Behind)
        );
    }
}
