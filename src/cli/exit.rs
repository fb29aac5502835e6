//! The exit codes and their meaning.

use std::process::ExitCode;

use super::remote::ApiError;
use crate::config::problems::ConfigError;
use crate::store::error::{StoreError, StoreErrorKind};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// Failed for another reason than those below.
    Failed,
    /// The service refused: the same request would be refused again.
    Refused,
    /// The service could not be reached, is not ready, or does not know the outcome: try again.
    Unavailable,
    /// What was checked is not as it must be.
    NotProven,
    /// Done, with reservations: rows were parked, or a check warns.
    Reservations,
    /// The configuration is wrong, or a store refuses what is configured.
    Configuration,
}

/// For `--help`. 2 is the argument parser's, 70 is `actors::supervision::policy::EXIT_ESCALATED`.
pub const HELP: &str = "\
Exit codes:
   0  done
   1  failed; or a verification found divergences, or a repair left some
   2  the command line is wrong
   3  the service refused (4xx): the same request would be refused again
   4  the service is unreachable, unavailable or does not know the outcome: try again
   5  a check found what must not be: a broken log, facts that differ
   6  done, with reservations: rows of an import could not be taken and are parked, or a check warns
  70  an actor of the service failed beyond its limit: start it again
  78  the configuration is wrong, or a store refuses its keys, rights or certificate";

impl Exit {
    /// The code as a number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Refused => 3,
            Exit::Unavailable => 4,
            Exit::NotProven => 5,
            Exit::Reservations => 6,
            Exit::Configuration => 78,
        }
    }

    /// The code for a command that ended with this error.
    pub fn of(error: &anyhow::Error) -> Self {
        // What a store refuses for its keys, rights or certificate no new attempt will heal.
        let refused = error
            .downcast_ref::<StoreError>()
            .is_some_and(|e| matches!(e.kind, StoreErrorKind::Denied | StoreErrorKind::Invalid));
        if refused || error.downcast_ref::<ConfigError>().is_some() {
            return Exit::Configuration;
        }
        match error.downcast_ref::<ApiError>() {
            Some(ApiError::Refused { .. }) => Exit::Refused,
            Some(ApiError::Unreachable { .. } | ApiError::Unavailable { .. }) => Exit::Unavailable,
            Some(ApiError::Odd { .. }) | None => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::supervision::policy::EXIT_ESCALATED;

    #[test]
    fn every_code_is_in_the_help_and_none_is_used_twice() {
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Refused,
            Exit::Unavailable,
            Exit::NotProven,
            Exit::Reservations,
            Exit::Configuration,
        ];
        let mut codes: Vec<i32> = all.iter().map(|e| i32::from(e.code())).collect();
        codes.extend([2, EXIT_ESCALATED]);
        codes.sort_unstable();
        let documented: Vec<i32> = HELP
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(codes, documented);
    }
}
