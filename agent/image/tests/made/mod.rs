//! Images made by the tests, part by part, so that each part can be made wrong.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::{io::Write as _, path::Path};

pub fn digest(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A tar from words: `dir/`, `file=content`, `link->target`, `hard=>target`, `.wh.name`; a path may be absolute or hold `..`.
pub fn tar(words: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for word in words {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_700_000_000);
        let (name, content, kind, link) = if let Some((name, target)) = word.split_once("=>") {
            (name, "", tar::EntryType::Link, Some(target))
        } else if let Some((name, target)) = word.split_once("->") {
            (name, "", tar::EntryType::Symlink, Some(target))
        } else if let Some((name, content)) = word.split_once('=') {
            (name, content, tar::EntryType::Regular, None)
        } else if word.ends_with('/') {
            (*word, "", tar::EntryType::Directory, None)
        } else {
            (*word, "", tar::EntryType::Regular, None)
        };
        // Written by hand: the library rightly refuses to write bad names.
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o4750 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_size(u64::try_from(content.len()).unwrap());
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// One image: layers as tars, each packed as its media type says.
pub struct Made {
    pub architecture: &'static str,
    pub layers: Vec<(&'static str, Vec<u8>, Vec<u8>)>,
    pub command: &'static str,
}

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

impl Made {
    pub fn new(layers: &[&[&str]]) -> Self {
        let layers = layers
            .iter()
            .map(|words| {
                let plain = tar(words);
                (GZIP, gzip(&plain), plain)
            })
            .collect();
        Self { architecture: go_arch(), layers, command: "/hello" }
    }

    pub fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<_> =
            self.layers.iter().map(|(_, _, plain)| format!("{:?}", digest(plain))).collect();
        format!(
            r#"{{"os":"linux","architecture":"{}","config":{{"Entrypoint":["{}"],"Env":["A=b"],"Cmd":null}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            self.architecture,
            self.command,
            diff_ids.join(",")
        )
        .into_bytes()
    }

    pub fn manifest(&self) -> Vec<u8> {
        let config = self.config();
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|(kind, packed, _)| {
                format!(
                    r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#,
                    digest(packed),
                    packed.len()
                )
            })
            .collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}]}}"#,
            digest(&config),
            config.len(),
            layers.join(",")
        )
        .into_bytes()
    }

    /// Blobs by digest.
    pub fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let mut blobs = vec![
            (digest(&self.manifest()), self.manifest()),
            (digest(&self.config()), self.config()),
        ];
        blobs.extend(self.layers.iter().map(|(_, packed, _)| (digest(packed), packed.clone())));
        blobs
    }

    /// Writes an OCI archive under this name.
    pub fn archive(&self, path: &Path, name: &str) {
        write_archive(path, &self.blobs(), &digest(&self.manifest()), name);
    }
}

pub fn write_archive(path: &Path, blobs: &[(String, Vec<u8>)], top: &str, name: &str) {
    let mut files: Vec<(String, Vec<u8>)> = vec![
        ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        (
            "index.json".into(),
            format!(
                r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{top}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}]}}"#,
                blobs.iter().find(|(digest, _)| digest == top).map_or(0, |(_, bytes)| bytes.len())
            )
            .into_bytes(),
        ),
    ];
    for (digest, bytes) in blobs {
        files.push((format!("blobs/{}", digest.replace(':', "/")), bytes.clone()));
    }
    write_tar(path, &files);
}

pub fn write_tar(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len()).unwrap());
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.finish().unwrap();
}

pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
