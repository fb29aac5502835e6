//! What of delivery stands still, and why: noted by the actors that cannot go on, read by whoever
//! asks how delivery is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use metrics::gauge;
use parking_lot::Mutex;
use serde::Serialize;

use crate::domain::ids::PartitionId;
use crate::metrics::DELIVERY_HALTED;

/// Somebody who cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Halt {
    /// `outbox` takes the log in, `relay` publishes what was taken in.
    pub actor: &'static str,
    /// Where; everywhere without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
    /// What it waits for.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// See the module.
#[derive(Debug)]
pub struct Halts {
    now: fn() -> Timestamp,
    halts: Mutex<BTreeMap<(&'static str, Option<PartitionId>), Halt>>,
}

impl Halts {
    /// Everything goes on.
    pub fn new(now: fn() -> Timestamp) -> Self {
        let halts = Mutex::default();
        Self { now, halts }
    }

    /// An actor cannot go on. The first reason's time stays, the newest reason is told.
    pub fn halt(&self, actor: &'static str, partition: Option<PartitionId>, reason: String) {
        let mut halts = self.halts.lock();
        let since = (self.now)();
        let halt = halts.entry((actor, partition)).or_insert_with(|| Halt {
            actor,
            partition,
            reason: String::new(),
            since,
        });
        halt.reason = reason;
        show(actor, &halts);
    }

    /// It goes on.
    pub fn goes_on(&self, actor: &'static str, partition: Option<PartitionId>) {
        let mut halts = self.halts.lock();
        if halts.remove(&(actor, partition)).is_some() {
            show(actor, &halts);
        }
    }

    /// Whoever cannot go on now.
    pub fn list(&self) -> Vec<Halt> {
        self.halts.lock().values().cloned().collect()
    }
}

fn show(actor: &'static str, halts: &BTreeMap<(&'static str, Option<PartitionId>), Halt>) {
    let count = halts.keys().filter(|(of, _)| *of == actor).count();
    gauge!(DELIVERY_HALTED, "actor" => actor).set(count as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_3_what_stands_still_is_told_with_its_reason_until_it_goes_on() {
        let halts = Halts::new(|| Timestamp::UNIX_EPOCH);
        let one = Some(PartitionId(1));
        halts.halt("outbox", one, "torn".into());
        halts.halt("outbox", one, "still torn".into());
        halts.halt("relay", None, "away".into());
        let told: Vec<_> = halts
            .list()
            .into_iter()
            .map(|h| (h.actor, h.partition, h.reason))
            .collect();
        let expected = [
            ("outbox", one, "still torn".to_owned()),
            ("relay", None, "away".to_owned()),
        ];
        assert_eq!(told, expected);
        halts.goes_on("outbox", None);
        assert_eq!(halts.list().len(), 2, "only what was named goes on");
        halts.goes_on("outbox", one);
        halts.goes_on("relay", None);
        assert_eq!(halts.list(), []);
    }
}
