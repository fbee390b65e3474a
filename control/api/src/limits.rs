//! Bounds of this crate.

/// Levels of nesting in a request body. Go's decoder stops at 10,000; no object of the API comes near this.
pub const DEPTH_MAX: usize = 128;
/// Bytes of one object's body (the shell answers 413 beyond).
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Doubled or unknown fields reported of one body; more are counted as one.
pub const WARNINGS_MAX: usize = 64;
/// Operations in one JSON patch, as in Kubernetes.
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;
/// Managers of one object that made updates; beyond, the oldest are put together as `ancient-changes`.
pub const UPDATE_MANAGERS_MAX: usize = 10;
/// Wrong fields named in one answer; more are only counted.
pub const FIELD_ERRORS_MAX: usize = 256;
