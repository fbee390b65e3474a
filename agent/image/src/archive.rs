//! Image archives: OCI image-layout tars (`skopeo copy … oci-archive:`, `umoci`, BuildKit) and Docker's (`docker save`).
//!
//! The tar is read once for the places of its files; content is then read in place, so that nothing is copied twice.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    Digest, ImageError, Reference,
    digesting::digest_of,
    limits,
    manifest::Descriptor,
    registry::Blob,
    store::{Source, io_error},
};

/// Files in one archive; each layer and manifest is one.
const FILES_MAX: usize = 65_536;

/// An opened archive.
pub(crate) struct Archive {
    path: PathBuf,
    /// Offset and length of each file.
    files: BTreeMap<String, (u64, u64)>,
    /// Docker's archives: manifests made from their own form, by digest.
    made: BTreeMap<String, Vec<u8>>,
    /// Docker's archives: where a blob of this digest is.
    blobs: BTreeMap<String, String>,
    /// Names and the key of each image.
    images: Vec<(Option<String>, String)>,
}

#[derive(Deserialize)]
struct Layout {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct DockerConfig {
    rootfs: DockerRootFs,
}

#[derive(Deserialize)]
struct DockerRootFs {
    diff_ids: Vec<String>,
}

impl Archive {
    /// Opens an archive and finds its images.
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let file =
            File::open(path).map_err(|source| io_error("cannot open the archive", path, source))?;
        let mut archive = Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
            made: BTreeMap::new(),
            blobs: BTreeMap::new(),
            images: Vec::new(),
        };
        archive.index(file).map_err(|error| archive.bad(format!("it is no tar archive ({error}); if it is packed, unpack it with gunzip or zstd -d first")))?;
        if archive.files.contains_key("index.json") {
            archive.oci_images()?;
        } else if archive.files.contains_key("manifest.json") {
            archive.docker_images()?;
        } else {
            return Err(
                archive.bad("it holds neither index.json (OCI) nor manifest.json (Docker)".into())
            );
        }
        Ok(archive)
    }

    /// Each image's full name and the key that [`Source::manifest`] takes. `name` stands in where the archive gives none.
    pub(crate) fn images(&self, name: Option<&str>) -> Result<Vec<(String, String)>, ImageError> {
        if name.is_some() && 1 < self.images.len() {
            return Err(self
                .bad(format!("it holds {} images, so --name cannot name it", self.images.len())));
        }
        let mut found = Vec::new();
        for (own, key) in &self.images {
            let name = name
                .or(own.as_deref())
                .ok_or_else(|| self.bad("it does not name its image; give --name".into()))?;
            found.push((Reference::parse(name)?.to_string(), key.clone()));
        }
        Ok(found)
    }

    fn bad(&self, why: String) -> ImageError {
        ImageError::Malformed { image: self.path.display().to_string(), why }
    }

    fn index(&mut self, file: File) -> io::Result<()> {
        let mut tar = tar::Archive::new(file);
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            if FILES_MAX <= self.files.len() {
                return Err(io::Error::other(format!("more than {FILES_MAX} files")));
            }
            if entry.header().entry_type().is_file() {
                let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
                self.files.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(())
    }

    fn oci_images(&mut self) -> Result<(), ImageError> {
        let layout: Layout = self.json("index.json")?;
        for one in layout.manifests {
            // containerd's full name is better than the specification's, which may be a bare tag.
            let full = one.annotations.get("io.containerd.image.name");
            let short = one
                .annotations
                .get("org.opencontainers.image.ref.name")
                .filter(|name| name.contains(['/', ':']));
            self.images.push((full.or(short).cloned(), one.digest));
        }
        Ok(())
    }

    /// Docker's own form is turned into OCI manifests: its layers are plain tars, so a layer's digest is its diff id.
    fn docker_images(&mut self) -> Result<(), ImageError> {
        let list: Vec<DockerImage> = self.json("manifest.json")?;
        for image in list {
            let config = self.read(&image.config, limits::CONFIG_BYTES_MAX)?;
            let parsed: DockerConfig = serde_json::from_slice(&config)
                .map_err(|error| self.bad(format!("{}: {error}", image.config)))?;
            if parsed.rootfs.diff_ids.len() != image.layers.len() {
                return Err(
                    self.bad(format!("{} names other layers than manifest.json", image.config))
                );
            }
            let config_digest = digest_of(&config).to_string();
            let mut layers = Vec::new();
            for (diff_id, file) in parsed.rootfs.diff_ids.iter().zip(&image.layers) {
                let size = self
                    .files
                    .get(file)
                    .ok_or_else(|| self.bad(format!("`{file}` is not in it")))?
                    .1;
                layers.push(serde_json::json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id, "size": size,
                }));
                self.blobs.insert(diff_id.clone(), file.clone());
            }
            self.blobs.insert(config_digest.clone(), image.config.clone());
            let manifest = serde_json::json!({
                "schemaVersion": 2, "layers": layers,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
            });
            let bytes = manifest.to_string().into_bytes();
            let key = digest_of(&bytes).to_string();
            self.made.insert(key.clone(), bytes);
            let names: Vec<_> = image.repo_tags.into_iter().flatten().map(Some).collect();
            let names = if names.is_empty() { vec![None] } else { names };
            self.images.extend(names.into_iter().map(|name| (name, key.clone())));
        }
        Ok(())
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, ImageError> {
        let bytes = self.read(name, limits::MANIFEST_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|error| self.bad(format!("{name}: {error}")))
    }

    fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let count = self.part(name)?.take(bytes_max + 1).read_to_end(&mut bytes);
        let count =
            count.map_err(|source| io_error("cannot read the archive", &self.path, source))?;
        if bytes_max < u64::try_from(count).unwrap_or(u64::MAX) {
            return Err(self.bad(format!("{name} is longer than {bytes_max} bytes")));
        }
        Ok(bytes)
    }

    fn part(&self, name: &str) -> Result<Blob, ImageError> {
        let (offset, size) =
            *self.files.get(name).ok_or_else(|| self.bad(format!("`{name}` is not in it")))?;
        let open = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        };
        let file =
            open().map_err(|source| io_error("cannot read the archive", &self.path, source))?;
        Ok(Box::new(file.take(size)))
    }
}

impl Source for Archive {
    fn manifest(&self, key: &str) -> Result<(Vec<u8>, Digest), ImageError> {
        let digest = Digest::parse(key)
            .ok_or_else(|| self.bad(format!("`{key}` is not a sha256 digest")))?;
        let bytes = match self.made.get(key) {
            Some(bytes) => bytes.clone(),
            None => {
                self.read(&format!("blobs/sha256/{}", digest.hex()), limits::MANIFEST_BYTES_MAX)?
            }
        };
        let got = digest_of(&bytes);
        if got != digest {
            return Err(ImageError::DigestMismatch {
                image: self.path.display().to_string(),
                what: "manifest".into(),
                want: digest.to_string(),
                got: got.to_string(),
            });
        }
        Ok((bytes, digest))
    }

    fn blob(&self, digest: &Digest) -> Result<Blob, ImageError> {
        match self.blobs.get(digest.as_str()) {
            Some(file) => self.part(file),
            None => self.part(&format!("blobs/sha256/{}", digest.hex())),
        }
    }
}
