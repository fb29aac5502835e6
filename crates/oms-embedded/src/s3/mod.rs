//! Our own S3 endpoint: s3s in front (signatures, XML, error codes) of a durable store.
//!
//! It implements what the log needs and answers the rest with 501 (multipart, versions, encryption,
//! object lock): buckets, put with `If-None-Match: *` and `If-Match`, get with ranges and
//! conditions, head, delete, delete many, list (version 2). Objects are at most
//! [`MAX_OBJECT_BYTES`](store::MAX_OBJECT_BYTES).
//!
//! One process uses the folder; several services have to share one endpoint, or use a real S3.
//!
//! * [`frame`], [`segment`]: the bytes on the disk
//! * [`index`], [`checkpoint`], [`recovery`]: the index of their content
//! * [`queue`]: changes that wait; [`commit`]: the single writer, [`decide`]: its decisions;
//!   [`upkeep`]: checkpoints, when they are due by the [`schedule`], and compaction; [`shared`]: what
//!   the threads share; [`store`]: the whole store
//! * [`service`], [`listing`], [`upload`], [`access`], [`answers`]: the protocol; [`guard`]: permissions
//! * [`server`]: the listening server

pub mod access;
mod answers;
pub mod attributes;
pub mod checkpoint;
pub mod commit;
pub mod decide;
pub mod error;
pub mod frame;
pub mod guard;
pub mod index;
pub mod listing;
pub mod queue;
pub mod recovery;
pub mod schedule;
pub mod segment;
pub mod server;
pub mod service;
pub mod shared;
pub mod store;
pub mod upkeep;
pub mod upload;
