//! The proof, pure: whether two stores hold the same log, and where they do not, which of them is
//! right and why. No I/O: the jobs read the stores and repair them.
//!
//! A partition is one chain of objects, so equal hashes at an offset mean equal objects, and equal
//! objects at every offset mean equal streams. Events are compared only where objects differ.
//!
//! ```text
//! S3          [0][1][2][3][4][5]          unmirrored: 5 (S3 leads)
//! PostgreSQL  [0][1][x][3][4]             2 differs: the `prev` of 3 names which one is right
//! ```
//!
//! * [`found`]: what a store holds at an offset, valid or not
//! * [`compare`]: compares two stores offset by offset; the hash chain decides
//! * [`divergence`]: differences, and bounded lists of them
//! * [`order`]: an operator's permission to touch the leading log
//! * [`digest`]: the digest of a stream
//! * [`report`]: the result of a verification

pub mod compare;
pub mod digest;
pub mod divergence;
pub mod found;
pub mod order;
pub mod report;
#[cfg(test)]
pub mod testing;
