//! Skeleton; the crate is being written.
