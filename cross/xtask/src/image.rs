//! An OCI image archive (image-spec 1.1, image-layout) of one static binary: one layer, the binary its entrypoint. The
//! same binary gives the same bytes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Packs `binary` as `/BINARY-NAME` and writes `archive`, whose image is called `name`.
pub(crate) fn pack(name: &str, binary: &Path, archive: &Path) -> Result<()> {
    let file =
        binary.file_name().context("the binary has no file name")?.to_string_lossy().into_owned();
    let program = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let layer = layer(&file, &program)?;
    let config = encoded(&json!({
        "os": "linux",
        "architecture": architecture(&program).context("the binary is no ELF file of a known machine")?,
        "config": {"Entrypoint": [format!("/{file}")], "WorkingDir": "/", "User": "65534:65534"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    }));
    let manifest = encoded(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len()}],
    }));
    let index = encoded(&json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&manifest),
            "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": name},
        }],
    }));
    if let Some(dir) = archive.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let out =
        fs::File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
    let mut tar = tar::Builder::new(out);
    append(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", 0o644, &index)?;
    for blob in [&manifest, &config, &layer] {
        append(&mut tar, &format!("blobs/{}", digest(blob).replace(':', "/")), 0o644, blob)?;
    }
    tar.into_inner()?.sync_all()?;
    Ok(())
}

fn layer(file: &str, program: &[u8]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["tmp/", "etc/"] {
        let mut header = header(if dir == "tmp/" { 0o1777 } else { 0o755 }, 0);
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, dir, &[][..])?;
    }
    append(&mut tar, "etc/passwd", 0o644, b"root:x:0:0:root:/:\nnobody:x:65534:65534:nobody:/:\n")?;
    append(&mut tar, file, 0o755, program)?;
    Ok(tar.into_inner()?)
}

fn append<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let size = u64::try_from(bytes.len())?;
    Ok(tar.append_data(&mut header(mode, size), name, bytes)?)
}

fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn encoded(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn digest(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// From the ELF header's `e_machine` (little-endian ELF, gABI): 62 x86-64, 183 AArch64, 40 ARM.
fn architecture(program: &[u8]) -> Option<&'static str> {
    if !program.starts_with(b"\x7fELF") {
        return None;
    }
    match program.get(18..20)? {
        [62, 0] => Some("amd64"),
        [183, 0] => Some("arm64"),
        [40, 0] => Some("arm"),
        _ => None,
    }
}
