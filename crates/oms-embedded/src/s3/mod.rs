//! Our own S3 endpoint: s3s in front (signatures, XML, error codes) of a durable store.
//!
//! It does what the log needs and says 501 to the rest (multipart, versions, encryption, object
//! lock): buckets, put with `If-None-Match: *` and `If-Match`, get with ranges and conditions,
//! head, delete, delete many, list (version 2). Objects are at most
//! [`MAX_OBJECT_BYTES`](store::MAX_OBJECT_BYTES).
//!
//! One process has the folder; several services share one endpoint, or use a real S3.
//!
//! * [`frame`], [`segment`]: the bytes on the disk
//! * [`index`], [`checkpoint`], [`recovery`]: what is in them
//! * [`commit`]: the one writer, [`decide`]: what it makes of each change; [`upkeep`]: checkpoints and compaction; [`store`]: all of it
//! * [`service`], [`listing`], [`upload`], [`access`]: the protocol; [`guard`]: who may do what
//! * [`server`] listens

pub mod access;
pub mod attributes;
pub mod checkpoint;
pub mod commit;
pub mod decide;
pub mod error;
pub mod frame;
pub mod guard;
pub mod index;
pub mod listing;
pub mod recovery;
pub mod segment;
pub mod server;
pub mod service;
pub mod store;
pub mod upkeep;
pub mod upload;
