//! Which store leads, pure. The `s3_only` stage is built; the other stages of the migration join
//! on the same words: a stage says who leads and under which epoch, and every write names the
//! epoch it was decided under.

pub mod lead;
pub mod stage;
