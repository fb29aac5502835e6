//! Whose a request is, and what it may do to objects that are made once.
//!
//! Three key pairs: one is handed out and reads; one is the service's own; one, made anew at every
//! start and told to nobody outside of this process, belongs to repair. Keys with a prefix that whoever
//! starts the endpoint names are made once: but for repair nobody replaces or removes one, by whatever
//! request.

use s3s::{S3Error, S3Result, s3_error};

use super::commit::Condition;
use super::error::ChangeError;

/// Whose a request is, by its access key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever was handed the key pair that reads.
    Reader,
    /// The service.
    Service,
    /// Repair.
    Mender,
}

impl Who {
    /// Whether it may ask for this operation of S3 at all.
    pub fn may(self, operation: &str) -> bool {
        let reads = ["Get", "Head", "List"];
        self != Self::Reader || reads.iter().any(|verb| operation.starts_with(verb))
    }
}

/// Whose a request is, and what is made once.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// Whose it is.
    pub who: Who,
    /// What the keys of objects that are made once begin with.
    pub immutable: Option<&'a str>,
}

impl Guard<'_> {
    /// The condition under which it may put an object at `key`, when it asked for `condition`.
    pub fn put(self, key: &str, condition: Condition) -> S3Result<Condition> {
        match condition {
            _ if self.is_free(key) => Ok(condition),
            Condition::None | Condition::Absent => Ok(Condition::Absent),
            Condition::Present | Condition::Matches(_) | Condition::Never => Err(denied(key)),
        }
    }

    /// What a put is told that was not made for `why`, when it asked for `condition`.
    pub fn refuse_put(self, key: &str, condition: Condition, why: ChangeError) -> S3Result<()> {
        let replaces = condition == Condition::None && why == ChangeError::PreconditionFailed;
        if replaces && !self.is_free(key) {
            return Err(denied(key));
        }
        Err(super::service::refuse(why))
    }

    /// Whether it may remove the object at `key`.
    pub fn delete(self, key: &str) -> S3Result<()> {
        if self.is_free(key) {
            Ok(())
        } else {
            Err(denied(key))
        }
    }

    fn is_free(self, key: &str) -> bool {
        self.who == Who::Mender || !(self.immutable).is_some_and(|prefix| key.starts_with(prefix))
    }
}

fn denied(key: &str) -> S3Error {
    s3_error!(
        AccessDenied,
        "{key} is of the log, whose objects are never replaced and never removed; nothing was done"
    )
}
