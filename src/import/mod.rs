//! From a row of somebody else's event store to an event of our log, as decisions: no I/O, no
//! clock. The shell (`actors::import`) reads, appends and waits.
//!
//! * [`spec`]: what a foreign table looks like; [`presets`] of well-known event stores
//! * [`row`]: a row as read, and where reading goes on after it
//! * [`names`]: foreign names as names of ours; [`payload`]: foreign content as JSON
//! * [`mapping`]: the row as an event, or why it cannot be one
//! * [`lanes`]: keeps each stream in order while many streams are appended to at once
//! * [`progress`]: how far an import is
//!
//! # What an imported event looks like
//!
//! Id and time are the original ones where they are valid, `actor` is `import:` and the source's
//! name, `data` is the original text. `metadata` is
//!
//! ```json
//! {"import": {"source": "shop", "position": 812}, "metadata": {"as": "it was"}}
//! ```
//!
//! `import` has `position` where the source has one, and what could not be kept as it was:
//! `stream_type`, `stream_id`, `version` (numbered otherwise), `id` (not a UUID: the event's id is
//! the UUIDv5 of source and id), `type`, `time` (not a time), `schema_version` (not a number). An
//! event without a time of its own has the time of the import and says `"time": null`.

pub mod encoder;
pub mod lanes;
pub mod mapping;
pub mod names;
pub mod payload;
pub mod presets;
pub mod progress;
pub mod row;
pub mod spec;
