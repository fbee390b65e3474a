//! What can go wrong with an image, in the classes that the pod's status and events tell apart.

/// A failure that names the image or blob, the cause and, where there is one, the fix.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name itself is wrong (`InvalidImageName`).
    #[error("image name `{given}` is not valid: {why}")]
    InvalidName {
        /// As given, cut to 256 characters.
        given: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No registry that was asked has it.
    #[error(
        "image `{image}` not found: {why}; check the name and tag, or import an archive with `coracle-agent image import`"
    )]
    NotFound {
        /// The image.
        image: String,
        /// Who said so.
        why: String,
    },
    /// It is there, but not for this machine.
    #[error("image `{image}` has no variant for {wanted}; it has: {has}")]
    NoPlatform {
        /// The image.
        image: String,
        /// `linux/arm64/v8`.
        wanted: String,
        /// What the index lists.
        has: String,
    },
    /// Bytes are not what their digest says: damaged on the way, or tampered with.
    #[error(
        "{what} of image `{image}` has digest {got} where {want} was promised; nothing of it is kept"
    )]
    DigestMismatch {
        /// The image.
        image: String,
        /// `layer 2`, `manifest`, `config`.
        what: String,
        /// Expected.
        want: String,
        /// Computed.
        got: String,
    },
    /// The registry wants other credentials.
    #[error("registry {registry} refuses access to `{image}`: {why}; check imagePullSecrets")]
    Unauthorized {
        /// Host.
        registry: String,
        /// The image.
        image: String,
        /// What it said.
        why: String,
    },
    /// The registry cannot be reached or broke off.
    #[error("cannot fetch image `{image}`: {why}")]
    Network {
        /// The image.
        image: String,
        /// All places that were asked, each with its fault.
        why: String,
    },
    /// The registry or archive sends what the specifications do not allow, or more than our limits.
    #[error("image `{image}` is damaged or not an image: {why}")]
    Malformed {
        /// The image or archive.
        image: String,
        /// What is wrong.
        why: String,
    },
    /// It is not here and the policy says not to ask.
    #[error(
        "image `{image}` is not on this node and imagePullPolicy is Never; import it with `coracle-agent image import`"
    )]
    NeverPull {
        /// The image.
        image: String,
    },
    /// No space left.
    #[error(
        "no space left for image `{image}` in {dir}; free space there or move --data-dir; nothing half-written is kept"
    )]
    Full {
        /// The image.
        image: String,
        /// The store's directory.
        dir: String,
    },
    /// The disk or file system failed.
    #[error("{what}")]
    Io {
        /// What was being done, to which file.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A container still stands on it.
    #[error("image `{image}` is in use by {holder}; delete that pod first")]
    InUse {
        /// The image.
        image: String,
        /// Who holds it.
        holder: String,
    },
}

impl ImageError {
    /// Whether trying again later, with nothing changed here, can help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Network { .. } | Self::DigestMismatch { .. })
    }
}
