//! Decides, when a caller's deadline passes, whether it is certain that nothing was done: a message
//! is either withdrawn by its sender or begun by its receiver, never both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Shared by sender and receiver, each with a clone.
#[derive(Debug, Clone, Default)]
pub struct Claim(Arc<AtomicU8>);

impl Claim {
    fn step(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Claims the message for work. False if the sender has withdrawn it: then the work MUST NOT be
    /// done.
    pub fn begin(&self) -> bool {
        self.step(WAITING, BEGUN) || self.0.load(Ordering::Acquire) == BEGUN
    }

    /// Releases the message: nothing of the work was done after all.
    pub fn put_back(&self) {
        self.step(BEGUN, WAITING);
    }

    /// Withdraws the message. True if nothing of it was done, nor ever will be.
    pub fn withdraw(&self) -> bool {
        self.step(WAITING, WITHDRAWN)
    }

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
