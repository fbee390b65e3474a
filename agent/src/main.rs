//! Skeleton; the binary is being written.
fn main() {}
