//! The store's bounds.

/// Memory that redb may use for pages, in bytes. Everything is in the watch cache; the store is read once at start. Half
/// of it holds what a commit writes (about 34 KB), so that it is written once.
pub const PAGE_CACHE_BYTES: usize = 128 * 1024;
/// Longest key, in bytes: `/registry/` and group, resource, namespace and name of at most 253 each.
pub const KEY_BYTES_MAX: usize = 1100;
/// Largest value, in bytes. Objects are refused above 1.5 MiB; sealing and volatile fields add little.
pub const VALUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// After a restore, numbers begin at the next multiple of this: a thousand writes a second reach it in 34 years,
/// so no number given since the backup is given again.
pub const RESTORE_STRIDE: u64 = 1 << 40;

// Numbers stay exact where a client reads them as doubles, for thousands of restores.
const _: () = assert!((1_u64 << 53) / RESTORE_STRIDE >= 8192);
