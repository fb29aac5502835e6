//! Imports of other people's events: what real tools wrote, into a log written the ordinary way.

mod faithful;
mod following;
mod numbering;
mod pooled;
mod presets;
mod recovery;
mod speed;
mod world;
