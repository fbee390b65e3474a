//! The encoding between agent and shim, and of what lies in state directories: plain, versioned, without serde.
//!
//! Numbers are little-endian and fixed; texts and lists have a `u32` length before them; an option has a byte before it.
//! A message begins with [`VERSION`]: an agent that was upgraded meets shims of the old version and must know it.

/// Version of everything in this module; raised with any change that an older shim would misread.
pub const VERSION: u8 = 1;
