//! The proof, pure: whether two places hold the same log, where they do not, which of them is right
//! and why. No I/O: the jobs read the places and mend them.
//!
//! A partition is one chain of objects, so equal hashes at an offset mean equal objects, and equal
//! objects at every offset mean equal streams. Only where they differ are events looked at.
//!
//! ```text
//! S3          [0][1][2][3][4][5]          unmirrored: 5 (S3 leads)
//! PostgreSQL  [0][1][x][3][4]             2 differs: the `prev` of 3 names which one is right
//! ```
//!
//! * [`found`]: what lies at an offset of a place, right or wrong
//! * [`compare`]: two places, offset by offset, with the chain as the judge
//! * [`divergence`]: what is told of a difference; bounded lists of them
//! * [`order`]: what a person names of the leading log before a repair may touch it
//! * [`digest`]: digest of a stream, event by event
//! * [`report`]: what a verification found

pub mod compare;
pub mod digest;
pub mod divergence;
pub mod found;
pub mod order;
pub mod report;
#[cfg(test)]
pub mod testing;
