//! Container images: from a name to directories that overlayfs can stack.
//!
//! The words need no features: [`Reference`], [`Digest`], [`Platform`], [`ImageConfig`], [`ImageError`]. Feature `ureq`
//! brings the registry client, archives, unpacking and the content store. Knows nothing of pods, containers or the
//! Kubernetes API. Everything blocks; callers have threads.
//!
//! Sources: OCI distribution-spec 1.1, OCI image-spec 1.1, Docker image manifest v2 schema 2.

pub mod error;
pub mod limits;
pub mod manifest;
pub mod reference;

#[cfg(feature = "ureq")]
pub mod archive;
#[cfg(feature = "ureq")]
mod digesting;
#[cfg(feature = "ureq")]
pub mod registry;
#[cfg(feature = "ureq")]
pub mod store;
#[cfg(feature = "ureq")]
mod unpack;

pub use error::ImageError;
pub use manifest::{ImageConfig, Platform};
pub use reference::{Digest, Reference};
#[cfg(feature = "ureq")]
pub use registry::{Credential, Mirror, Registry};
#[cfg(feature = "ureq")]
pub use store::{ImageStore, Stored};

/// When to ask the registry, as `imagePullPolicy` has it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Ask for the name's digest each time; the layers that are here are not fetched again.
    Always,
    /// Ask only if the name is not here.
    IfNotPresent,
    /// Never ask.
    Never,
}

/// An image that is here, complete and checked, ready to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of its manifest: what `imageID` shows, with the name.
    pub digest: Digest,
    /// Unpacked layers, top first: overlayfs' `lowerdir` order.
    pub layers: Vec<std::path::PathBuf>,
    /// Defaults for the container.
    pub config: ImageConfig,
    /// It came from an archive: used under any policy without asking a registry, never collected.
    pub pinned: bool,
}
