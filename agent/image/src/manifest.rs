//! Manifests, indexes and image configs: OCI image-spec 1.1 and Docker v2 schema 2, which differ in names only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, ImageError, limits};

/// What we accept as an answer to a manifest request, in the order of our liking.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Operating system and processor, in Go's words (`linux`, `arm64`, `v8`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// `v8`, `v7`, `v6`; empty: any.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The machine this was compiled for. For 32-bit ARM the variant is what the build's target asks of the processor.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" if cfg!(target_feature = "v7") => ("arm", "v7"),
            "arm" => ("arm", "v6"),
            other => (other, ""),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.into() }
    }

    /// How well content for `self` runs on `host`: `None` not at all, larger is better. A later ARM runs an earlier
    /// one's code.
    fn fitness(&self, host: &Self) -> Option<u32> {
        if self.os != host.os || self.architecture != host.architecture {
            return None;
        }
        if host.architecture != "arm" {
            return Some(u32::from(self.variant == host.variant));
        }
        let level = |variant: &str| variant.strip_prefix('v').and_then(|n| n.parse::<u32>().ok());
        let (ours, theirs) = (level(&host.variant).unwrap_or(6), level(&self.variant).unwrap_or(0));
        (theirs <= ours).then_some(theirs)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// Pointer to content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    /// Kind of content.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// In an index: for which machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// In an archive's index: the name under `org.opencontainers.image.ref.name`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest or an index: whichever fields are there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    schema_version: u32,
    media_type: String,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// How a layer's tar is packed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Of the packed bytes.
    pub digest: Digest,
    /// Packed bytes.
    pub size: u64,
    /// How they are packed.
    pub packing: Packing,
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The config blob.
    pub config: Digest,
    /// Bottom first, as the specification has them.
    pub layers: Vec<Layer>,
}

/// What a manifest request gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifests {
    /// One image.
    One(Manifest),
    /// One image for each of several platforms.
    Index(Vec<Descriptor>),
}

/// Reads a manifest or index. `image` is for the error text.
pub fn parse(image: &str, bytes: &[u8]) -> Result<Manifests, ImageError> {
    let bad = |why: String| ImageError::Malformed { image: image.into(), why };
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| bad(format!("the manifest is not JSON of its kind: {error}")))?;
    if document.schema_version != 2 {
        return Err(bad(format!(
            "manifest schema version {} is not 2; push it again with a current tool",
            document.schema_version
        )));
    }
    if let Some(manifests) = document.manifests {
        if limits::INDEX_MANIFESTS_MAX < manifests.len() {
            return Err(bad(format!(
                "its index lists more than {} manifests",
                limits::INDEX_MANIFESTS_MAX
            )));
        }
        return Ok(Manifests::Index(manifests));
    }
    let (Some(config), Some(layers)) = (document.config, document.layers) else {
        return Err(bad("the manifest has neither `manifests` nor `config` and `layers`".into()));
    };
    if limits::LAYERS_MAX < layers.len() {
        return Err(bad(format!(
            "it has {} layers, more than {}",
            layers.len(),
            limits::LAYERS_MAX
        )));
    }
    let digest = |text: &str| {
        Digest::parse(text).ok_or_else(|| bad(format!("`{text}` is not a sha256 digest")))
    };
    let layers = layers
        .iter()
        .map(|layer| {
            let packing = packing(&layer.media_type).ok_or_else(|| {
                bad(format!("layer type `{}` is not a tar, tar+gzip or tar+zstd", layer.media_type))
            })?;
            Ok(Layer { digest: digest(&layer.digest)?, size: layer.size, packing })
        })
        .collect::<Result<_, ImageError>>()?;
    Ok(Manifests::One(Manifest { config: digest(&config.digest)?, layers }))
}

fn packing(media_type: &str) -> Option<Packing> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Packing::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd" => Some(Packing::Zstd),
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Some(Packing::Plain),
        _ => None,
    }
}

/// The best manifest of an index for this host. `image` is for the error text.
pub fn choose<'a>(
    image: &str,
    index: &'a [Descriptor],
    host: &Platform,
) -> Result<&'a Descriptor, ImageError> {
    let fit = |one: &&Descriptor| {
        one.platform.as_ref().map_or(Some(0), |platform| platform.fitness(host))
    };
    // `max_by_key` would take the last of equals; the specification wants the first.
    let best = index.iter().rev().filter(|one| fit(one).is_some()).max_by_key(|one| fit(one));
    best.ok_or_else(|| {
        let mut has: Vec<_> =
            index.iter().filter_map(|one| one.platform.as_ref()).map(Platform::to_string).collect();
        has.retain(|platform| platform != "unknown/unknown");
        ImageError::NoPlatform {
            image: image.into(),
            wanted: host.to_string(),
            has: has.join(", "),
        }
    })
}

/// Defaults that an image gives its containers (OCI image-spec, config).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Start of the command line.
    #[serde(rename = "Entrypoint", deserialize_with = "null_is_empty")]
    pub entrypoint: Vec<String>,
    /// Rest of the command line where the pod gives none.
    #[serde(rename = "Cmd", deserialize_with = "null_is_empty")]
    pub cmd: Vec<String>,
    /// `NAME=value`.
    #[serde(rename = "Env", deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    /// Empty: `/`.
    #[serde(rename = "WorkingDir")]
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`; empty: root.
    #[serde(rename = "User")]
    pub user: String,
    /// `SIGTERM` if empty.
    #[serde(rename = "StopSignal")]
    pub stop_signal: String,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// The config blob.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigBlob {
    os: String,
    architecture: String,
    variant: String,
    config: Option<ImageConfig>,
    rootfs: RootFs,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// Reads the config blob: the container's defaults and each layer's digest unpacked, bottom first. Refuses an image that
/// is not for `host`.
pub fn parse_config(
    image: &str,
    bytes: &[u8],
    host: &Platform,
    layers: usize,
) -> Result<(ImageConfig, Vec<Digest>), ImageError> {
    let bad = |why: String| ImageError::Malformed { image: image.into(), why };
    let blob: ConfigBlob = serde_json::from_slice(bytes)
        .map_err(|error| bad(format!("its config is not JSON of its kind: {error}")))?;
    let platform = Platform { os: blob.os, architecture: blob.architecture, variant: blob.variant };
    if platform.fitness(host).is_none() {
        return Err(ImageError::NoPlatform {
            image: image.into(),
            wanted: host.to_string(),
            has: platform.to_string(),
        });
    }
    let diff_ids: Vec<Digest> =
        blob.rootfs.diff_ids.iter().filter_map(|text| Digest::parse(text)).collect();
    if diff_ids.len() != layers || blob.rootfs.diff_ids.len() != layers {
        return Err(bad(format!(
            "its config names {} layers where the manifest has {layers}",
            blob.rootfs.diff_ids.len()
        )));
    }
    Ok((blob.config.unwrap_or_default(), diff_ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_choice(host: &str, has: &str, want: &str) {
        let platform = |text: &str| {
            let mut words = text.split('/');
            let mut next = || words.next().unwrap_or("").to_owned();
            Platform { os: next(), architecture: next(), variant: next() }
        };
        let index: Vec<Descriptor> = has
            .split_whitespace()
            .map(|text| Descriptor {
                digest: text.into(),
                platform: Some(platform(text)),
                ..Descriptor::default()
            })
            .collect();
        let got = match choose("x", &index, &platform(host)) {
            Ok(found) => found.digest.clone(),
            Err(error) => error.to_string(),
        };
        assert!(got.contains(want), "{got}");
    }

    #[test]
    fn the_best_variant_that_runs_here_is_chosen() {
        check_choice("linux/arm64/v8", "linux/amd64 linux/arm64 linux/arm/v7", "linux/arm64");
        check_choice(
            "linux/arm/v7",
            "linux/arm/v5 linux/arm/v7 linux/arm/v6 linux/arm64",
            "linux/arm/v7",
        );
        check_choice("linux/arm/v6", "linux/arm/v7 linux/arm/v6", "linux/arm/v6");
        check_choice(
            "linux/arm/v6",
            "linux/arm/v7 linux/arm64",
            "no variant for linux/arm/v6; it has: linux/arm/v7, linux/arm64",
        );
        check_choice("linux/amd64", "windows/amd64 unknown/unknown linux/amd64", "linux/amd64");
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_the_reason() {
        let check = |text: &str, want: &str| {
            let got = parse("x", text.as_bytes()).unwrap_err().to_string();
            assert!(got.contains(want), "{got}");
        };
        check("no", "not JSON");
        check(r#"{"schemaVersion":1}"#, "version 1 is not 2");
        check(r#"{"schemaVersion":2}"#, "neither `manifests` nor");
        check(r#"{"schemaVersion":2,"config":{"digest":"x"},"layers":[]}"#, "`x` is not a sha256");
        check(
            r#"{"schemaVersion":2,"config":{},"layers":[{"mediaType":"text/plain"}]}"#,
            "layer type `text/plain`",
        );
    }
}
