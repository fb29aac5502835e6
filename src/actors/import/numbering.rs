//! Versions for events whose stream does not begin at 1 in the source, or that have no version there.
//!
//! They are derived from the log, so that an import that was killed, or is repeated, assigns the
//! same versions again. An imported event keeps its version in the source in its metadata, and the
//! difference to ours is the same for the whole stream; an event that had no version keeps its
//! position in the source, and positions grow with versions.

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::appender::{Appender, Origin};
use crate::domain::ids::{StreamName, Version};
use crate::import::lanes::Run;
use crate::import::mapping::ParkReason;
use crate::import::spec::{FirstVersion, SourceSpec};
use crate::store::error::StoreError;

/// Streams whose numbering is cached; for others the log is asked again.
const MAX_REMEMBERED: usize = 100_000;

/// Why the first event of a run has no version.
pub(super) enum Unnumbered {
    /// The log could not be read, or is behind: try again.
    NotYet(StoreError),
    /// The event cannot have one and is parked.
    Never(ParkReason, String),
}

impl From<StoreError> for Unnumbered {
    fn from(error: StoreError) -> Self {
        Self::NotYet(error)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Versions are those of the source.
    Given,
    /// Versions are those of the source minus what is missing at the stream's beginning.
    Shifted,
    /// Versions follow the order of positions.
    ByOrder,
}

/// What is known of a stream.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// Difference between the source's version and ours.
    Shift(u64),
    /// Its newest event, with that event's position in the source.
    Newest(Version, i64),
}

#[derive(Debug)]
pub(super) struct Numbering {
    how: How,
    source: String,
    version_base: i64,
    known: Mutex<HashMap<StreamName, Known>>,
}

impl Numbering {
    pub fn new(spec: &SourceSpec) -> Self {
        let how = if spec.numbers_by_order() {
            How::ByOrder
        } else if spec.first_version == FirstVersion::Any {
            How::Shifted
        } else {
            How::Given
        };
        Self {
            how,
            source: spec.name.clone(),
            version_base: spec.version_base,
            known: Mutex::default(),
        }
    }

    /// Assigns versions to the events of a run.
    pub async fn number(&self, appender: &dyn Appender, run: &mut Run) -> Result<(), Unnumbered> {
        match self.how {
            How::Given => Ok(()),
            How::Shifted => self.shift(appender, run).await,
            How::ByOrder => self.count(appender, run).await,
        }
    }

    fn known(&self, stream: &StreamName) -> Option<Known> {
        self.known.lock().get(stream).copied()
    }

    fn remember(&self, stream: &StreamName, known: Known) {
        let mut all = self.known.lock();
        if all.len() >= MAX_REMEMBERED {
            all.clear();
        }
        all.insert(stream.clone(), known);
    }

    async fn shift(&self, appender: &dyn Appender, run: &mut Run) -> Result<(), Unnumbered> {
        let Some(first) = run.events.first().map(|q| q.event.version) else {
            return Ok(());
        };
        let shift = match self.known(&run.stream) {
            Some(Known::Shift(shift)) => shift,
            _ if head(appender, &run.stream)? == Version::NONE => first.0.saturating_sub(1),
            _ => self.shift_of(appender, &run.stream).await?,
        };
        self.remember(&run.stream, Known::Shift(shift));
        for queued in &mut run.events {
            let Some(version) = queued.event.version.0.checked_sub(shift).filter(|v| *v > 0) else {
                let detail = format!(
                    "its stream begins with version {} in the log, and it is version {}",
                    shift + 1,
                    queued.event.version
                );
                return Err(Unnumbered::Never(ParkReason::Diverged, detail));
            };
            queued.event.version = Version(version);
        }
        Ok(())
    }

    async fn shift_of(
        &self,
        appender: &dyn Appender,
        stream: &StreamName,
    ) -> Result<u64, Unnumbered> {
        let origin = appender.origin(stream, Version(1)).await?;
        let number = origin
            .filter(|origin| origin.source == self.source)
            .and_then(|origin| origin.version);
        // An event without an origin is the first in the source too, or was not imported; its id
        // will tell.
        let after = number.and_then(|number| number.checked_sub(self.version_base));
        Ok(after
            .and_then(|after| u64::try_from(after).ok())
            .unwrap_or(0))
    }

    async fn count(&self, appender: &dyn Appender, run: &mut Run) -> Result<(), Unnumbered> {
        let mut positions = run.events.iter().filter_map(|q| q.event.position);
        let (Some(first), Some(last)) = (positions.clone().next(), positions.next_back()) else {
            return Ok(());
        };
        let before = match self.known(&run.stream) {
            Some(Known::Newest(version, position)) if position < first => version,
            _ => self.before(appender, &run.stream, first).await?,
        };
        let mut version = before;
        for queued in &mut run.events {
            version = version.plus(1);
            queued.event.version = version;
        }
        self.remember(&run.stream, Known::Newest(version, last));
        Ok(())
    }

    /// The version before that of the event at `position`, by binary search.
    async fn before(
        &self,
        appender: &dyn Appender,
        stream: &StreamName,
        position: i64,
    ) -> Result<Version, Unnumbered> {
        let head = head(appender, stream)?;
        // Below `low` all positions are smaller; from `high` on none is.
        let (mut low, mut high) = (1, head.0 + 1);
        let mut ask = head.0;
        let mut found = None;
        while low < high {
            let at = self.position(appender, stream, Version(ask)).await?;
            if at < position {
                low = ask + 1;
            } else {
                high = ask;
                found = Some(at);
            }
            ask = low + (high - low) / 2;
        }
        match found {
            Some(at) if at != position => {
                let detail = format!(
                    "the log has the event at position {at} as version {low} of its stream, and \
                     none at position {position}"
                );
                Err(Unnumbered::Never(ParkReason::Diverged, detail))
            }
            _ => Ok(Version(low - 1)),
        }
    }

    async fn position(
        &self,
        appender: &dyn Appender,
        stream: &StreamName,
        version: Version,
    ) -> Result<i64, Unnumbered> {
        let origin = appender.origin(stream, version).await?;
        let ours = |origin: &Origin| origin.source == self.source;
        let position = origin.filter(ours).and_then(|origin| origin.position);
        position.ok_or_else(|| {
            let detail =
                format!("version {version} of its stream in the log did not come from this source");
            Unnumbered::Never(ParkReason::Diverged, detail)
        })
    }
}

fn head(appender: &dyn Appender, stream: &StreamName) -> Result<Version, StoreError> {
    appender.head(stream).ok_or_else(|| {
        StoreError::determinate(
            crate::store::error::StoreErrorKind::Unavailable,
            "log",
            "read imported event",
            "the log is being read",
        )
    })
}
