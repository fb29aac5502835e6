//! Statistics of writes by the second, to check the budgets of a young stage: every command's
//! outcome is counted here, and the MigrationModeActor asks once a second for a judgement.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::CallError;
use crate::migration::guardrail::{Guardrail, GuardrailSettings, Judgement};

pub struct WriteStats {
    origin: Instant,
    settings: GuardrailSettings,
    guardrail: Mutex<Guardrail>,
}

impl WriteStats {
    /// Nothing counted yet; the stage found at the start counts as young.
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

    /// Counts a command answered after `elapsed`. Refusals by the domain or by a limit are left
    /// out: they say nothing about the stores.
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

    /// Counts reads that differed between the stores.
    pub fn divergent(&self, count: u64) {
        let now = self.now();
        self.guardrail.lock().divergent(now, count);
    }

    /// Starts again: a new stage begins.
    pub fn begin_anew(&self) {
        let now = self.now();
        *self.guardrail.lock() = Guardrail::new(self.settings, now);
    }

    /// Judges the last seconds; to be asked once a second.
    pub fn judge(&self) -> Judgement {
        let now = self.now();
        self.guardrail.lock().judge(now)
    }
}
