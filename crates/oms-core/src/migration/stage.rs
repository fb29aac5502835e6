//! The four stages of the migration, in order.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::ids::Epoch;
use crate::log::lead::{Lead, Leadership};

/// Where events are: in PostgreSQL, in both stores, or in S3. `dual_write` has two stages, by which
/// store leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MigrationMode))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// PostgreSQL alone.
    Legacy,
    /// Both stores, one of them leading.
    DualWrite,
    /// S3 alone.
    S3Only,
}

impl Mode {
    /// The name in the API, in `/health` and in message headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Legacy => "legacy",
            Mode::DualWrite => "dual_write",
            Mode::S3Only => "s3_only",
        }
    }

    /// Value of the metric `event_store_migration_mode`.
    pub fn gauge(self) -> f64 {
        match self {
            Mode::Legacy => 0.0,
            Mode::DualWrite => 1.0,
            Mode::S3Only => 2.0,
        }
    }
}

/// The stage of a partition, with its leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The mode.
    pub mode: Mode,
    /// The leader and its epoch.
    pub leadership: Leadership,
}

impl Stage {
    /// S3 leads alone, under `epoch`.
    pub fn s3_only(epoch: Epoch) -> Self {
        Self {
            mode: Mode::S3Only,
            leadership: Leadership {
                lead: Lead::S3,
                epoch,
            },
        }
    }

    /// Which of the four stages it is; `None` if mode and lead contradict each other.
    pub fn kind(&self) -> Option<StageKind> {
        StageKind::of(self.mode, self.leadership.lead)
    }

    /// The stores that hold a write of this stage, the leader first, for `stored_in`.
    pub fn stored_in(&self, mirrored: bool) -> &'static [Lead] {
        match (self.leadership.lead, mirrored) {
            (Lead::S3, true) => &[Lead::S3, Lead::Postgres],
            (Lead::S3, false) => &[Lead::S3],
            (Lead::Postgres, true) => &[Lead::Postgres, Lead::S3],
            (Lead::Postgres, false) => &[Lead::Postgres],
        }
    }
}

/// One of the four stages; ordered from `legacy` to `s3_only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Stage))]
pub enum StageKind {
    /// `legacy`: PostgreSQL alone.
    #[serde(rename = "legacy")]
    Legacy,
    /// `dual_write/postgres`: PostgreSQL leads, S3 mirrors.
    #[serde(rename = "dual_write/postgres")]
    DualWritePostgres,
    /// `dual_write/s3`: S3 leads, PostgreSQL mirrors.
    #[serde(rename = "dual_write/s3")]
    DualWriteS3,
    /// `s3_only`: S3 alone.
    #[serde(rename = "s3_only")]
    S3Only,
}

/// A text, or a pair of mode and lead, that is no stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no stage `{0}`; there are: legacy, dual_write/postgres, dual_write/s3, s3_only")]
pub struct UnknownStage(pub String);

impl StageKind {
    /// All stages in order.
    pub const ROAD: [StageKind; 4] = [
        StageKind::Legacy,
        StageKind::DualWritePostgres,
        StageKind::DualWriteS3,
        StageKind::S3Only,
    ];

    /// The stage of a mode and a lead; `None` if they contradict each other.
    pub fn of(mode: Mode, lead: Lead) -> Option<Self> {
        match (mode, lead) {
            (Mode::Legacy, Lead::Postgres) => Some(StageKind::Legacy),
            (Mode::DualWrite, Lead::Postgres) => Some(StageKind::DualWritePostgres),
            (Mode::DualWrite, Lead::S3) => Some(StageKind::DualWriteS3),
            (Mode::S3Only, Lead::S3) => Some(StageKind::S3Only),
            (Mode::Legacy, Lead::S3) | (Mode::S3Only, Lead::Postgres) => None,
        }
    }

    /// The stage that a request means. `dual_write` without a lead means the one of its two stages
    /// that is reached first from `from`.
    pub fn asked(mode: Mode, lead: Option<Lead>, from: StageKind) -> Result<Self, UnknownStage> {
        let lead = lead.unwrap_or(match mode {
            Mode::Legacy => Lead::Postgres,
            Mode::DualWrite => from.lead(),
            Mode::S3Only => Lead::S3,
        });
        Self::of(mode, lead)
            .ok_or_else(|| UnknownStage(format!("{}/{}", mode.as_str(), lead.as_str())))
    }

    /// The mode it is a part of.
    pub fn mode(self) -> Mode {
        match self {
            StageKind::Legacy => Mode::Legacy,
            StageKind::DualWritePostgres | StageKind::DualWriteS3 => Mode::DualWrite,
            StageKind::S3Only => Mode::S3Only,
        }
    }

    /// The store that leads in it.
    pub fn lead(self) -> Lead {
        match self {
            StageKind::Legacy | StageKind::DualWritePostgres => Lead::Postgres,
            StageKind::DualWriteS3 | StageKind::S3Only => Lead::S3,
        }
    }

    /// This stage with its leadership under `epoch`.
    pub fn at(self, epoch: Epoch) -> Stage {
        Stage {
            mode: self.mode(),
            leadership: Leadership {
                lead: self.lead(),
                epoch,
            },
        }
    }

    /// The next stage towards `s3_only`.
    pub fn next(self) -> Option<Self> {
        Self::ROAD.get(self as usize + 1).copied()
    }

    /// The previous stage, towards `legacy`.
    pub fn previous(self) -> Option<Self> {
        (self as usize)
            .checked_sub(1)
            .and_then(|i| Self::ROAD.get(i))
            .copied()
    }

    /// The name as printed and parsed: the mode, for `dual_write` with the lead.
    pub fn as_str(self) -> &'static str {
        match self {
            StageKind::Legacy => "legacy",
            StageKind::DualWritePostgres => "dual_write/postgres",
            StageKind::DualWriteS3 => "dual_write/s3",
            StageKind::S3Only => "s3_only",
        }
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StageKind {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, UnknownStage> {
        Self::ROAD
            .into_iter()
            .find(|stage| stage.as_str() == text)
            .ok_or_else(|| UnknownStage(text.to_owned()))
    }
}

/// The summary over all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Whole {
    /// The stage of the least advanced partition.
    pub stage: StageKind,
    /// Share of the partitions that are further on, 0 to 1.
    pub share_ahead: f64,
}

impl Whole {
    /// The summary of these stages; `None` if there are none.
    pub fn of(stages: &[StageKind]) -> Option<Self> {
        let stage = *stages.iter().min()?;
        let ahead = stages.iter().filter(|s| **s > stage).count();
        Some(Self {
            stage,
            share_ahead: ahead as f64 / stages.len() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::StageKind::*;
    use super::*;

    #[test]
    fn the_road_reads_back_and_its_order_is_that_of_its_neighbours() {
        for stage in StageKind::ROAD {
            assert_eq!(stage.as_str().parse(), Ok(stage));
            assert_eq!(StageKind::of(stage.mode(), stage.lead()), Some(stage));
            assert_eq!(stage.at(Epoch(7)).kind(), Some(stage));
            let json = serde_json::to_value(stage).unwrap();
            assert_eq!(json, stage.as_str());
            assert_eq!(serde_json::from_value::<StageKind>(json).unwrap(), stage);
            if let Some(next) = stage.next() {
                assert!(stage < next);
                assert_eq!(next.previous(), Some(stage));
            }
        }
        assert_eq!((Legacy.previous(), S3Only.next()), (None, None));
        for wrong in ["dual_write", "LEGACY", "", "s3_only/s3"] {
            assert!(wrong.parse::<StageKind>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_switch_names_one_stage() {
        let table = [
            (Mode::Legacy, None, S3Only, Ok(Legacy)),
            (Mode::S3Only, None, Legacy, Ok(S3Only)),
            (Mode::DualWrite, None, Legacy, Ok(DualWritePostgres)),
            (Mode::DualWrite, None, S3Only, Ok(DualWriteS3)),
            (Mode::DualWrite, None, DualWriteS3, Ok(DualWriteS3)),
            (Mode::DualWrite, Some(Lead::S3), Legacy, Ok(DualWriteS3)),
            (Mode::Legacy, Some(Lead::S3), Legacy, Err("legacy/s3")),
            (
                Mode::S3Only,
                Some(Lead::Postgres),
                Legacy,
                Err("s3_only/postgres"),
            ),
        ];
        for (mode, lead, from, expected) in table {
            let expected = expected.map_err(|text| UnknownStage(text.into()));
            assert_eq!(StageKind::asked(mode, lead, from), expected);
        }
    }

    #[test]
    fn the_whole_is_as_far_as_its_last_partition() {
        type Expected = Option<(StageKind, f64)>;
        let table: [(&[StageKind], Expected); 4] = [
            (&[], None),
            (&[S3Only, S3Only], Some((S3Only, 0.0))),
            (&[S3Only, Legacy, DualWriteS3, Legacy], Some((Legacy, 0.5))),
            (
                &[DualWriteS3, DualWritePostgres, S3Only, DualWriteS3],
                Some((DualWritePostgres, 0.75)),
            ),
        ];
        for (stages, expected) in table {
            let whole = Whole::of(stages).map(|w| (w.stage, w.share_ahead));
            assert_eq!(whole, expected);
        }
    }
}
