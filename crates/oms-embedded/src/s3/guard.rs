//! Who sends a request, and what it may do to immutable objects.
//!
//! There are three key pairs: one that may be handed out and can only read; the service's own; and
//! one for repair, created at every start and kept within this process. Objects whose keys have a
//! configured prefix are immutable: only repair can replace or remove them, with any request.

use s3s::{S3Error, S3Result, s3_error};

use super::answers::refuse;
use super::error::ChangeError;
use super::queue::Condition;

/// The sender of a request, by its access key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A holder of the read-only key pair.
    Reader,
    /// The service.
    Service,
    /// Repair, within this process.
    Mender,
}

impl Who {
    /// Whether the sender may use this operation of S3.
    pub fn may(self, operation: &str) -> bool {
        let reads = ["Get", "Head", "List"];
        self != Self::Reader || reads.iter().any(|verb| operation.starts_with(verb))
    }
}

/// The permissions of one request.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// Its sender.
    pub who: Who,
    /// Prefix of the keys of immutable objects.
    pub immutable: Option<&'a str>,
}

impl Guard<'_> {
    /// The condition to apply to a put at `key` that asked for `condition`.
    pub fn put(self, key: &str, condition: Condition) -> S3Result<Condition> {
        match condition {
            _ if self.is_free(key) => Ok(condition),
            Condition::None | Condition::Absent => Ok(Condition::Absent),
            Condition::Present | Condition::Matches(_) | Condition::Never => Err(denied(key)),
        }
    }

    /// The answer to a put that failed with `why` and had asked for `condition`.
    pub fn refuse_put(self, key: &str, condition: Condition, why: ChangeError) -> S3Result<()> {
        let replaces = condition == Condition::None && why == ChangeError::PreconditionFailed;
        if replaces && !self.is_free(key) {
            return Err(denied(key));
        }
        Err(refuse(why))
    }

    /// Refuses to remove an immutable object at `key`.
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
