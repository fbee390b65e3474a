//! Reads and writes of stored objects: every verb, between admission and the sequencer.

pub(crate) mod accept;
pub(crate) mod sequencer;
