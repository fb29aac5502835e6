//! What was asked, what was answered, what is there in the end: everything the validator knows.
//! Pure data; nothing here looks at a running service.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// What a call asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// Events for a plain stream: type and the text of the data, as sent.
    Append(Vec<(String, String)>),
    /// A new instance with this data.
    Create(Value),
    /// A merge patch.
    Patch(Value),
    /// Its end.
    Delete,
    /// Something the load needs and the validator does not look into: a database, a class.
    Prepare,
}

impl Asked {
    /// How many events it makes when it happens.
    pub fn events(&self) -> u64 {
        match self {
            Self::Append(events) => events.len() as u64,
            _ => 1,
        }
    }
}

/// How a call ended, after all its tries.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// 2xx.
    Acknowledged {
        /// The stream's version after it.
        version: u64,
        /// Position of its last event, `partition/offset/index`.
        position: String,
        /// The mode it says it was committed in.
        mode: String,
    },
    /// 4xx: it did not happen and never will.
    Refused {
        /// HTTP status.
        status: u16,
        /// Stable code.
        code: String,
    },
    /// 429 or 503 that says that nothing was done, of a command that was sent only once: so it never
    /// will be.
    NotDone {
        /// Stable code.
        code: String,
    },
    /// Given up: it may or may not have happened, and may still.
    Unknown,
}

impl Outcome {
    /// Whether there is no reason to ask again.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Acknowledged { .. } | Self::Refused { .. })
    }
}

/// One command, with all its tries under one idempotency key.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who.
    pub client: usize,
    /// Its idempotency key: unique in the campaign.
    pub key: String,
    /// The stream it is for.
    pub stream: String,
    /// What is asked.
    pub asked: Asked,
    /// `If-Match`.
    pub expected: Option<u64>,
    /// Whether nobody else writes to the stream, so that its version after this is known.
    pub private: bool,
    /// Times on the campaign's clock, in microseconds.
    pub invoked: u64,
    /// When its last answer came.
    pub ended: u64,
    /// Times it was sent.
    pub tries: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What was told to a last, needless try after it was acknowledged.
    pub again: Option<Outcome>,
}

/// Where a read was answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadKind {
    /// The default: sees every write that was acknowledged to anyone before it was asked for.
    Strong,
    /// The read model, asked to have a position that the same client was given.
    OwnWrites,
}

/// One read that was answered.
#[derive(Debug, Clone)]
pub struct Read {
    /// Who.
    pub client: usize,
    /// Of what.
    pub stream: String,
    /// Of which kind.
    pub kind: ReadKind,
    /// When it was asked for.
    pub invoked: u64,
    /// Version and data; `None` when the answer was that there is nothing.
    pub seen: Option<(u64, Value)>,
}

/// Everything the clients saw.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Commands.
    pub calls: Vec<Call>,
    /// Reads.
    pub reads: Vec<Read>,
    /// Times during which S3 led and no node could reach PostgreSQL, on the campaign's clock.
    pub without_postgres: Vec<(u64, u64)>,
    /// Of each burst of commands on one entity, far over its limit: how many were turned away.
    pub bursts: Vec<usize>,
    /// The status of every answer to a switch to S3's lead that nothing spoke for.
    pub unproven: Vec<u16>,
}

/// An event as it is found in the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where; as the feed says.
    pub position: String,
    /// Its stream.
    pub stream: String,
    /// Its version.
    pub version: u64,
    /// Its id.
    pub id: String,
    /// The whole envelope, as text, without what an API adds.
    pub bytes: String,
}

/// What is there when all is quiet.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The feed, in its order, as each node gives it.
    pub feeds: Vec<Vec<Event>>,
    /// The envelopes that Kafka has, in the order of their coming.
    pub kafka: Vec<Event>,
    /// The read model: instances by stream, with version and data.
    pub read_model: BTreeMap<String, (u64, Value)>,
    /// What `oms log audit` says is broken; `None` when it was not asked.
    pub audit: Option<Vec<String>>,
    /// Where the two places of the log diverge, by the service's own verification; `None` when it was
    /// not asked.
    pub verify: Option<Vec<String>>,
    /// How long each of them was waited for.
    pub took: Vec<(&'static str, Duration)>,
}
