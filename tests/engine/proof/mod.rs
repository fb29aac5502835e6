//! The proof of the migration: whatever is planted in either place is found, mended or named, on
//! real PostgreSQL and the embedded S3 endpoint.

mod archive;
mod jobs;
mod leader;
mod planted;
mod world;
