//! Converts rows of another event store into events of our log; pure, without I/O or clock.
//! `actors::import` reads, appends and waits.
//!
//! * [`spec`]: the description of a foreign table; [`presets`] of well-known event stores
//! * [`row`]: a row as read, and the cursor after it
//! * [`names`]: foreign names as valid names here; [`payload`]: foreign content as JSON, checked by
//!   `fitness`
//! * [`mapping`]: the row as an event, with the metadata of `about`, or one of the `reasons` why
//!   not
//! * [`lanes`]: keeps each stream in order while many are appended to concurrently
//! * [`progress`]: the status of an import
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
//! the UUIDv5 of source and id), `type`, `schema_version` (not a number), `compressed` (how it was).
//! An event without a time of its own has the time of the import and says `"time": null`; one whose
//! time cannot be read is parked.
//!
//! # Ids of events
//!
//! Foreign ids are kept even where a source uses one twice, in two streams: an event is known by
//! its stream and version. Consumers that go by the id alone want ids that are derived: take the
//! source's `event_id` away.
//!
//! # Numbers in the stream
//!
//! They are the source's, from 1. With `first_version = "any"` a stream begins with what is there
//! first, and the difference stays the same for the rest of it; without `version` events are
//! numbered in the order of their positions. Both are found again in the log, by the `version` or
//! `position` in the metadata of what was imported: see `actors::import::numbering`.

mod about;
pub mod encoder;
mod fitness;
pub mod lanes;
pub mod mapping;
pub mod names;
pub mod payload;
pub mod presets;
pub mod progress;
mod reasons;
pub mod row;
pub mod spec;
