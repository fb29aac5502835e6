//! Digest of a stream: a rolling SHA-256 over the bytes of its events in order. Equal digests of
//! equal length mean equal histories, whichever store they were read from. The digest of a
//! partition is the hash of its last object, by the hash chain.

use sha2::{Digest, Sha256};

use crate::log::object::ObjectHash;

/// The digest of a stream so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingDigest {
    hash: ObjectHash,
    events: u64,
}

impl Default for RollingDigest {
    fn default() -> Self {
        Self {
            hash: ObjectHash::NONE,
            events: 0,
        }
    }
}

impl RollingDigest {
    /// Continues an earlier digest.
    pub fn resume(hash: ObjectHash, events: u64) -> Self {
        Self { hash, events }
    }

    /// Adds the next event's bytes, without its line end.
    pub fn take(&mut self, event: &[u8]) {
        let mut hasher = Sha256::new();
        hasher.update(self.hash.0);
        hasher.update(event);
        self.hash = ObjectHash(hasher.finalize().into());
        self.events += 1;
    }

    /// The digest so far.
    pub fn hash(&self) -> ObjectHash {
        self.hash
    }

    /// Number of events added.
    pub fn events(&self) -> u64 {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(events: &[&str]) -> RollingDigest {
        let mut digest = RollingDigest::default();
        events.iter().for_each(|e| digest.take(e.as_bytes()));
        digest
    }

    #[test]
    fn order_borders_and_content_all_count() {
        let whole = of(&["ab", "c"]);
        for other in [
            of(&["a", "bc"]),
            of(&["c", "ab"]),
            of(&["ab"]),
            of(&["ab", "d"]),
        ] {
            assert_ne!(whole, other);
        }
        let mut resumed = RollingDigest::resume(of(&["ab"]).hash(), 1);
        resumed.take(b"c");
        assert_eq!(resumed, whole);
    }
}
