//! What is wrong with copies of the log: raised by the component that keeps a copy and may not
//! continue it, and shown by `/health` and the metrics until it continues.

use std::collections::BTreeMap;

use metrics::counter;
use parking_lot::Mutex;

use crate::metrics::{COPIES_REFUSED, copy_halted};
use oms_core::domain::ids::PartitionId;
pub use oms_core::log::copy_kind::CopyKind;

/// A condition that an operator has to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Stable code, for programs.
    pub code: &'static str,
    /// What is wrong, the consequences, and what to do.
    pub message: String,
}

/// The current alarms of this process.
#[derive(Debug, Default)]
pub struct Alarms {
    raised: Mutex<BTreeMap<(CopyKind, PartitionId), Alarm>>,
}

impl Alarms {
    /// Raises an alarm for a copy of a partition; logged once, until it changes or is cleared.
    pub fn raise(
        &self,
        copy: CopyKind,
        partition: PartitionId,
        code: &'static str,
        message: String,
    ) {
        let alarm = Alarm { code, message };
        let mut raised = self.raised.lock();
        if raised.get(&(copy, partition)) == Some(&alarm) {
            return;
        }
        tracing::error!(copy = copy.as_str(), %partition, reason = code, "{}", alarm.message);
        refused(copy, code);
        copy_halted(copy.as_str(), partition, true);
        raised.insert((copy, partition), alarm);
    }

    /// Clears the alarm: the copy is right again.
    pub fn clear(&self, copy: CopyKind, partition: PartitionId) {
        if self.raised.lock().remove(&(copy, partition)).is_some() {
            tracing::info!(copy = copy.as_str(), %partition, "{} goes on", copy.name());
            copy_halted(copy.as_str(), partition, false);
        }
    }

    /// The alarm of a copy of a partition, if there is one.
    pub fn of(&self, copy: CopyKind, partition: PartitionId) -> Option<Alarm> {
        self.raised.lock().get(&(copy, partition)).cloned()
    }

    /// All alarms.
    pub fn all(&self) -> Vec<Alarm> {
        self.raised.lock().values().cloned().collect()
    }
}

/// Counts a copy that was checked and not used.
pub fn refused(copy: CopyKind, code: &'static str) {
    counter!(COPIES_REFUSED, "copy" => copy.as_str(), "reason" => code).increment(1);
}

/// Counts a snapshot that was checked and not used.
pub fn refused_snapshot(reason: &'static str) {
    counter!(COPIES_REFUSED, "copy" => "snapshot", "reason" => reason).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_stays_until_it_is_over() {
        let (alarms, p) = (Alarms::default(), PartitionId(3));
        alarms.raise(CopyKind::Outbox, p, "diverged", "one".into());
        alarms.raise(CopyKind::Outbox, p, "diverged", "two".into());
        alarms.clear(CopyKind::ReadModel, p);
        alarms.clear(CopyKind::Outbox, PartitionId(4));
        let all: Vec<String> = alarms.all().into_iter().map(|a| a.message).collect();
        assert_eq!(all, ["two"]);
        alarms.clear(CopyKind::Outbox, p);
        assert_eq!(alarms.of(CopyKind::Outbox, p), None);
    }
}
