//! Refusals of the same kind are counted together: the first becomes an entry at once, those that
//! follow within [`WINDOW`] become one entry with their number at its end. A client that tries a
//! thousand tokens a second thus causes one row a minute.

use std::collections::HashMap;
use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::ports::audit_table::AuditEntry;

/// How long refusals of a kind are counted together.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Kinds counted at once; further ones are counted together as one more kind.
pub const MAX_KINDS: usize = 256;

/// What makes two refusals the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    Of {
        principal: Option<String>,
        address: Option<String>,
        route: &'static str,
        status: u16,
    },
    Other,
}

struct Counted {
    since: Instant,
    /// The refusals after the first, summed up in the newest one.
    later: Option<AuditEntry>,
}

#[derive(Default)]
pub struct Refusals {
    counted: HashMap<Kind, Counted>,
}

impl Refusals {
    /// Counts a refusal; returns it if it is the first of its kind.
    pub fn note(
        &mut self,
        entry: AuditEntry,
        route: &'static str,
        now: Instant,
    ) -> Option<AuditEntry> {
        let mut kind = Kind::Of {
            principal: entry.principal.clone(),
            address: entry.address.clone(),
            route,
            status: entry.status,
        };
        if self.counted.len() >= MAX_KINDS && !self.counted.contains_key(&kind) {
            kind = Kind::Other;
        }
        if let Some(counted) = self.counted.get_mut(&kind) {
            let before = counted.later.as_ref().map_or(0, |later| later.times);
            let mut later = entry;
            later.times += before;
            if kind == Kind::Other {
                "many different requests".clone_into(&mut later.action);
                (later.principal, later.address) = (None, None);
            }
            counted.later = Some(later);
            return None;
        }
        let counted = Counted {
            since: now,
            later: None,
        };
        self.counted.insert(kind, counted);
        Some(entry)
    }

    /// Closes windows that are over; what was counted in them becomes entries.
    pub fn due(&mut self, now: Instant) -> Vec<AuditEntry> {
        self.close(now, WINDOW)
    }

    /// Closes all windows.
    pub fn all(&mut self, now: Instant) -> Vec<AuditEntry> {
        self.close(now, Duration::ZERO)
    }

    /// Closes windows that have been open for so long.
    fn close(&mut self, now: Instant, open_for: Duration) -> Vec<AuditEntry> {
        let mut due = vec![];
        self.counted.retain(|_, counted| {
            if now.saturating_duration_since(counted.since) < open_for {
                return true;
            }
            counted.since = now;
            // A kind that is still active is counted on; another one is forgotten.
            match mem::take(&mut counted.later) {
                Some(entry) => {
                    due.push(entry);
                    true
                }
                None => false,
            }
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::audit::tests::refusal;

    #[tokio::test(start_paused = true)]
    async fn law_13_a_stranger_who_tries_all_day_is_counted_not_written_down_each_time() {
        let mut refusals = Refusals::default();
        let mut written = 0;
        let mut told = 0;
        for second in 0..600 {
            let now = Instant::now();
            for _ in 0..100 {
                if let Some(entry) = refusals.note(refusal("10.0.0.9", 401), "/x", now) {
                    (written, told) = (written + 1, told + entry.times);
                }
            }
            for entry in refusals.due(now) {
                (written, told) = (written + 1, told + entry.times);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(written <= 2 + second / 60, "{written} rows in {second} s");
        }
        tokio::time::advance(WINDOW).await;
        for entry in refusals.due(Instant::now()) {
            told += entry.times;
        }
        assert_eq!(told, 60_000, "none is left out of the count");
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_ten_thousand_addresses_do_not_fill_the_memory() {
        let mut refusals = Refusals::default();
        let mut told = 0;
        for n in 0..10_000 {
            let entry = refusal(&format!("10.0.{}.{}", n / 256, n % 256), 401);
            told += refusals
                .note(entry, "/x", Instant::now())
                .map_or(0, |e| e.times);
        }
        assert!(refusals.counted.len() <= MAX_KINDS + 1);
        tokio::time::advance(WINDOW).await;
        told += refusals
            .due(Instant::now())
            .iter()
            .map(|e| e.times)
            .sum::<u64>();
        assert_eq!(told, 10_000);
        tokio::time::advance(WINDOW).await;
        assert!(refusals.due(Instant::now()).is_empty());
        assert!(refusals.counted.is_empty(), "what stopped is forgotten");
    }
}
