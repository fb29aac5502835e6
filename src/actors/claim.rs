//! Who has a message in hand: the one who waits for its answer, or already the one who works on it.
//! Decides, when time is up, whether it is certain that nothing was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// See the module. Both sides hold a clone.
#[derive(Debug, Clone, Default)]
pub struct Claim(Arc<AtomicU8>);

impl Claim {
    fn step(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Begins the work; false when whoever waited has withdrawn it, and then it MUST NOT be done.
    pub fn begin(&self) -> bool {
        self.step(WAITING, BEGUN) || self.0.load(Ordering::Acquire) == BEGUN
    }

    /// The work turned out not to have been begun: nothing of it was done.
    pub fn put_back(&self) {
        self.step(BEGUN, WAITING);
    }

    /// Takes the message back. True: nothing of it was done, and nothing will be.
    pub fn withdraw(&self) -> bool {
        self.step(WAITING, WITHDRAWN)
    }

    /// Whether it was taken back.
    pub fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_4_what_was_withdrawn_is_not_begun_and_what_was_begun_is_not_withdrawn() {
        let (waiter, worker) = {
            let claim = Claim::default();
            (claim.clone(), claim)
        };
        assert!(worker.begin() && worker.begin());
        assert!(!waiter.withdraw() && !worker.is_withdrawn());
        worker.put_back();
        assert!(waiter.withdraw());
        assert!(!worker.begin() && worker.is_withdrawn());
        worker.put_back();
        assert!(!worker.begin());
    }
}
