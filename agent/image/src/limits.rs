//! Bounds of everything that a registry or archive can send. Beyond a bound is an error that names it.

/// Largest manifest or index, in bytes (distribution-spec asks registries to take at least 4 MiB).
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Largest image config, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Layers in one image. overlayfs takes 500; Docker itself stops at 127.
pub const LAYERS_MAX: usize = 127;
/// Manifests in one index.
pub const INDEX_MANIFESTS_MAX: usize = 256;
/// Bytes of one layer, unpacked.
pub const LAYER_BYTES_MAX: u64 = 32 << 30;
/// Entries of one layer.
pub const LAYER_ENTRIES_MAX: u64 = 4_000_000;
/// Bytes of an authentication token's answer.
pub const TOKEN_BYTES_MAX: u64 = 1 << 20;
/// Seconds to wait for a connection to a registry.
pub const CONNECT_SECONDS_MAX: u64 = 15;
/// Seconds to wait for an answer's headers.
pub const ANSWER_SECONDS_MAX: u64 = 60;
/// Images remembered by name.
pub const IMAGES_MAX: usize = 4096;
/// Times that a request is sent again after a passing fault.
pub const RETRIES_MAX: u32 = 2;

const _: () = assert!(LAYERS_MAX < 500);
const _: () = assert!(CONFIG_BYTES_MAX <= MANIFEST_BYTES_MAX);
