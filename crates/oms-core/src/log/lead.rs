//! The lead: which store's write is the commit point.

use serde::{Deserialize, Serialize};

use crate::domain::ids::Epoch;

/// A store of events; the one that leads decides whether a write happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Store))]
#[serde(rename_all = "lowercase")]
pub enum Lead {
    /// A PostgreSQL transaction is the commit point.
    Postgres,
    /// A put-if-absent on S3 is the commit point.
    S3,
}

impl Lead {
    /// The other store.
    pub fn other(self) -> Self {
        match self {
            Lead::Postgres => Lead::S3,
            Lead::S3 => Lead::Postgres,
        }
    }

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Lead::Postgres => "postgres",
            Lead::S3 => "s3",
        }
    }
}

/// The leading store and the epoch of its lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Leadership {
    /// The leading store.
    pub lead: Lead,
    /// The epoch of the hand-off that gave it the lead.
    pub epoch: Epoch,
}

impl Leadership {
    /// The leadership of a new store in which S3 leads from the first event.
    pub const GENESIS_S3: Leadership = Leadership {
        lead: Lead::S3,
        epoch: Epoch(1),
    };
}
