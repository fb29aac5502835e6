//! What makes one log of two places and of the bucket: it is read here wherever it lies, and written
//! by whoever was given his part of it.
//!
//! * [`log_reader`]: the partitioned log; [`s3_commit_store`]: its place in the bucket
//! * [`log_objects`]: who may write where in the bucket; [`s3_log_repair`]: the bucket for whoever
//!   proves or mends it
//! * [`object_cache`]: recent objects; [`log_heads`]: how far each partition is known to reach
//! * [`outbox_rows`]: from an object to rows of the outbox; [`delivered`]: how far delivery has got

pub mod delivered;
pub mod log_heads;
pub mod log_objects;
pub mod log_reader;
pub mod object_cache;
pub mod outbox_rows;
pub mod s3_commit_store;
pub mod s3_log_repair;
