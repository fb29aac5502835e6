//! Laws broken on purpose, one at a time, to test that the nemesis campaign notices each.
//!
//! A test build with the feature `flaws` breaks the law that `OMS_FLAW` names when the process
//! starts; `tests/nemesis/mutation.rs` runs a campaign for each. Without the feature every check
//! here is `false` at compile time, the variable is ignored, and the checks cost nothing. A build
//! without debug assertions refuses the feature.

#[cfg(all(feature = "flaws", not(debug_assertions)))]
compile_error!("`flaws` breaks what the service promises, on purpose: only for test builds");

/// The variable that chooses a flaw.
pub const VARIABLE: &str = "OMS_FLAW";

macro_rules! flaws {
    ($($(#[$doc:meta])* $flaw:ident = $name:literal, law $law:literal;)*) => {
        /// The flaws. Each names the law of the design that it breaks, and how.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Flaw {
            $($(#[$doc])* $flaw,)*
        }

        impl Flaw {
            /// All flaws.
            pub const ALL: &[Self] = &[$(Self::$flaw,)*];

            /// Its name in [`VARIABLE`].
            pub const fn name(self) -> &'static str {
                match self { $(Self::$flaw => $name,)* }
            }

            /// The law it breaks.
            pub const fn law(self) -> u8 {
                match self { $(Self::$flaw => $law,)* }
            }
        }
    };
}

flaws! {
    /// Law 1, the copy: now and then an object counts as copied to S3 without being copied.
    SkipCopy = "skip_copy", law 1;
    /// Law 2, durable: now and then a commit is acknowledged without being put.
    AcknowledgeUnwritten = "acknowledge_unwritten", law 2;
    /// Law 2, exactly once: a repeated request is a new command.
    ForgetKeys = "forget_keys", law 2;
    /// Law 3: a failed put counts as successful.
    SwallowFailures = "swallow_failures", law 3;
    /// Law 4: callers that must be told "unknown" are told that nothing happened.
    DenyUnknown = "deny_unknown", law 4;
    /// Law 5, gap-free: now and then a version is skipped.
    SkipVersion = "skip_version", law 5;
    /// Law 5, immutable: commit objects overwrite existing ones.
    OverwriteCommits = "overwrite_commits", law 5;
    /// Law 6: now and then more events are stored than the aggregate decided.
    AddEvents = "add_events", law 6;
    /// Law 7: the version that a caller expects is ignored.
    IgnoreIfMatch = "ignore_if_match", law 7;
    /// Law 7: refusals and reads are based on what this process knew, without reading what others
    /// wrote since.
    AnswerStale = "answer_stale", law 7;
    /// Law 8: the relay re-encodes the event instead of sending its bytes.
    ReencodeMessages = "reencode_messages", law 8;
    /// Law 9, at least once: a row is deleted from the outbox although the broker did not
    /// acknowledge it.
    SettleUnacknowledged = "settle_unacknowledged", law 9;
    /// Law 9, in order: now and then a wave is sent in reverse.
    ReorderMessages = "reorder_messages", law 9;
    /// Law 10: a write that S3 leads asks PostgreSQL first.
    AskPostgres = "ask_postgres", law 10;
    /// Law 11: now and then the read model skips an event.
    SkipProjection = "skip_projection", law 11;
    /// Law 12: a rebuilt state lacks its newest event.
    RebuildShort = "rebuild_short", law 12;
    /// Law 13: an entity accepts commands over its limit.
    AdmitAll = "admit_all", law 13;
    /// Law 14: a writer ignores a hand-off under way and the record that ended its lead.
    IgnoreFence = "ignore_fence", law 14;
    /// Law 15: gates of confidence are skipped although the switch was not forced.
    SkipGates = "skip_gates", law 15;
}

#[cfg(not(feature = "flaws"))]
mod chosen {
    use super::Flaw;

    /// Whether this flaw is active: never, in this build.
    #[inline(always)]
    pub const fn flawed(_: Flaw) -> bool {
        false
    }

    /// Whether this flaw is active and strikes now: never, in this build.
    #[inline(always)]
    pub const fn strikes(_: Flaw, _: u64) -> bool {
        false
    }

    /// The chosen flaw: none, in this build.
    pub const fn chosen() -> Result<Option<Flaw>, String> {
        Ok(None)
    }
}

#[cfg(feature = "flaws")]
mod chosen {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Flaw, VARIABLE};

    static CHOSEN: LazyLock<Result<Option<Flaw>, String>> =
        LazyLock::new(|| match std::env::var_os(VARIABLE) {
            None => Ok(None),
            Some(name) => super::named(&name.to_string_lossy()).map(Some),
        });

    /// Calls of [`strikes`] for the chosen flaw.
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Whether this flaw is active.
    pub fn flawed(flaw: Flaw) -> bool {
        matches!(&*CHOSEN, Ok(Some(chosen)) if *chosen == flaw)
    }

    /// Whether this flaw is active and strikes now: at every `every`th call.
    pub fn strikes(flaw: Flaw, every: u64) -> bool {
        flawed(flaw) && (PASSED.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every)
    }

    /// The chosen flaw. Fails for an unknown name, so that a test that asked for a flaw does not
    /// get a correct service instead.
    pub fn chosen() -> Result<Option<Flaw>, String> {
        CHOSEN.clone()
    }
}

pub use chosen::{chosen, flawed, strikes};

/// The flaw of this name; the error lists the names.
#[cfg(any(test, feature = "flaws"))]
fn named(name: &str) -> Result<Flaw, String> {
    let found = Flaw::ALL.iter().copied().find(|flaw| flaw.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = Flaw::ALL.iter().map(|flaw| flaw.name()).collect();
        format!(
            "{VARIABLE}={name} is no flaw; there are: {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flaw_is_found_by_its_name_and_no_other() {
        for flaw in Flaw::ALL {
            assert_eq!(named(flaw.name()), Ok(*flaw));
            assert!((1..=15).contains(&flaw.law()));
        }
        let error = named("skip_copies").unwrap_err();
        assert!(error.contains("OMS_FLAW=skip_copies is no flaw"), "{error}");
        assert!(
            error.contains("skip_copy, acknowledge_unwritten"),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_broken_unless_it_was_chosen() {
        assert_eq!(chosen(), Ok(None));
        for flaw in Flaw::ALL {
            assert!(!flawed(*flaw) && !strikes(*flaw, 1));
        }
    }
}
