//! One log in two stores: reads it from either, and limits who may write to the bucket.
//!
//! * [`log_reader`]: the partitioned log; [`s3_commit_store`]: the log in the bucket
//! * [`log_objects`]: who may write which keys of the bucket; [`s3_log_repair`]: inspection and
//!   repair of the bucket
//! * [`object_cache`]: recent objects; [`log_heads`]: how far each partition is known to reach
//! * [`read_ahead`]: objects fetched in advance, bounded in bytes
//! * [`outbox_rows`]: outbox rows of an object; [`delivery_watermarks`]: the progress of delivery

pub mod delivery_watermarks;
pub mod log_heads;
pub mod log_objects;
pub mod log_reader;
pub mod object_cache;
pub mod outbox_rows;
pub mod read_ahead;
pub mod s3_commit_store;
pub mod s3_log_repair;
