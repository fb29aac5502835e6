//! How writes fare, second by second, held against the budgets of a young stage: what every command
//! came to is told here, and the MigrationModeActor asks once a second what to make of it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::CallError;
use crate::migration::guardrail::{Guardrail, GuardrailSettings, Judgement};

/// See the module.
pub struct WriteStats {
    origin: Instant,
    settings: GuardrailSettings,
    guardrail: Mutex<Guardrail>,
}

impl WriteStats {
    /// Nothing happened yet; the stage found at the start counts as young.
    pub fn new(settings: GuardrailSettings) -> Self {
        Self {
            origin: Instant::now(),
            settings,
            guardrail: Mutex::new(Guardrail::new(settings, 0)),
        }
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_secs()
    }

    /// A command was answered after `elapsed`. What the domain refuses, and what a limit turns away
    /// before anything is done, says nothing about the stores.
    pub fn command(&self, elapsed: Duration, failure: Option<&CallError>) {
        if matches!(
            failure,
            Some(CallError::Refused(_) | CallError::Overloaded { .. })
        ) {
            return;
        }
        let now = self.now();
        self.guardrail.lock().write(now, elapsed, failure.is_some());
    }

    /// Reads differed between the stores.
    pub fn divergent(&self, count: u64) {
        let now = self.now();
        self.guardrail.lock().divergent(now, count);
    }

    /// A stage begins.
    pub fn begin_anew(&self) {
        let now = self.now();
        *self.guardrail.lock() = Guardrail::new(self.settings, now);
    }

    /// What is to be made of the last seconds; to be asked once a second.
    pub fn judge(&self) -> Judgement {
        let now = self.now();
        self.guardrail.lock().judge(now)
    }
}
