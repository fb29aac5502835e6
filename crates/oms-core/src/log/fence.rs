//! The fence: who may append to the log. Both stores check it before the compare-and-set at the end
//! of their log. Correctness depends on this check alone: news of a hand-off only makes writers
//! react sooner. The part that concerns PostgreSQL's row is in
//! [`migration::fence`](crate::migration::fence).

use super::lead::{Lead, Leadership};
use crate::domain::ids::Epoch;

/// Why an append is not allowed; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fenced {
    /// Another store leads, or the same one under a later epoch: decide again under this
    /// leadership.
    #[error("{} leads since epoch {}", .0.lead.as_str(), .0.epoch.0)]
    Led(Leadership),
    /// The log has no first object yet.
    #[error("nobody leads yet")]
    Unclaimed,
}

/// Checks whether an append decided under `epoch` may be put at offset *n* of S3, where `last` is
/// the last control record before *n*. The put-if-absent proves that nothing was at *n*.
pub fn may_append_in_s3(last: Option<Leadership>, epoch: Epoch) -> Result<(), Fenced> {
    let authority = Leadership {
        lead: Lead::S3,
        epoch,
    };
    allow(authority, last.ok_or(Fenced::Unclaimed)?)
}

/// Checks whether an append under `authority` is allowed while `found` leads.
pub fn allow(authority: Leadership, found: Leadership) -> Result<(), Fenced> {
    if found == authority {
        Ok(())
    } else {
        Err(Fenced::Led(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(lead: Lead, epoch: u64) -> Leadership {
        Leadership {
            lead,
            epoch: Epoch(epoch),
        }
    }

    #[test]
    fn law_14_s3_takes_only_appends_under_its_last_control_record() {
        let table = [
            (None, Err(Fenced::Unclaimed)),
            (Some(led(Lead::S3, 3)), Ok(())),
            (Some(led(Lead::S3, 5)), Err(Fenced::Led(led(Lead::S3, 5)))),
            (
                Some(led(Lead::Postgres, 3)),
                Err(Fenced::Led(led(Lead::Postgres, 3))),
            ),
        ];
        for (last, expected) in table {
            assert_eq!(may_append_in_s3(last, Epoch(3)), expected);
        }
    }
}
