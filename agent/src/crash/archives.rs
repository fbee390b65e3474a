//! Images for the workload, as OCI archives: three that share layers.

use std::{fs, io, path::Path};

use coracle_keys::{join::hex, ring::sha256};
use serde_json::{Value, json};

/// Name of each image and the numbers of its layers.
pub(crate) const IMAGES: [(&str, &[u64]); 3] = [("a:1", &[1, 2]), ("b:1", &[1, 3]), ("c:1", &[4])];

/// Writes the archive of an image.
pub(crate) fn write(path: &Path, name: &str, layers: &[u64]) -> io::Result<()> {
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |bytes: Vec<u8>| {
        let digest = hex(&sha256(&bytes));
        let descriptor = json!({"digest": format!("sha256:{digest}"), "size": bytes.len()});
        blobs.push((format!("blobs/sha256/{digest}"), bytes));
        descriptor
    };
    let typed = |mut descriptor: Value, kind: &str| {
        if let Some(fields) = descriptor.as_object_mut() {
            fields.insert("mediaType".into(), format!("application/vnd.oci.image.{kind}").into());
        }
        descriptor
    };
    let layers: Vec<Value> =
        layers.iter().map(|number| typed(add(layer(*number)), "layer.v1.tar")).collect();
    let diff_ids: Vec<&Value> = layers.iter().filter_map(|layer| layer.get("digest")).collect();
    let platform = coracle_image::Platform::host();
    let config = json!({
        "os": "linux", "architecture": platform.architecture, "variant": platform.variant,
        "config": {"Entrypoint": ["/bin/service"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = typed(add(config.to_string().into_bytes()), "config.v1+json");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let mut top = typed(add(manifest.to_string().into_bytes()), "manifest.v1+json");
    if let Some(fields) = top.as_object_mut() {
        fields.insert("annotations".into(), json!({"org.opencontainers.image.ref.name": name}));
    }
    let index = json!({"schemaVersion": 2, "manifests": [top]}).to_string().into_bytes();
    blobs.push(("index.json".into(), index));
    let mut tar = Vec::new();
    for (name, bytes) in &blobs {
        entry(&mut tar, name, b'0', 0o644, "", bytes);
    }
    tar.resize(tar.len() + 1024, 0);
    fs::write(path, tar)
}

/// A layer with what layers have: directories, files of some sectors, links of both kinds, a file that comes twice.
fn layer(number: u64) -> Vec<u8> {
    let mut tar = Vec::new();
    let text = |length: usize| format!("layer {number} ").into_bytes().repeat(length / 8);
    entry(&mut tar, "bin/", b'5', 0o755, "", b"");
    entry(&mut tar, "bin/service", b'0', 0o4755, "", &text(1500));
    entry(&mut tar, &format!("bin/of-{number}"), b'1', 0, "bin/service", b"");
    entry(&mut tar, "etc/", b'5', 0o755, "", b"");
    entry(&mut tar, "etc/passwd", b'0', 0o644, "", b"root:x:0:0::/root:/bin/sh\n");
    entry(&mut tar, "etc/link", b'2', 0o777, "passwd", b"");
    entry(&mut tar, "deep/er/data", b'0', 0o600, "", &text(700));
    entry(&mut tar, "deep/er/data", b'0', 0o640, "", &text(300));
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// One entry as POSIX.1-1988 has it (ustar).
fn entry(tar: &mut Vec<u8>, name: &str, kind: u8, mode: u32, link: &str, bytes: &[u8]) {
    let mut header = vec![0_u8; 512];
    let mut put = |at: usize, field: &[u8]| {
        header.iter_mut().skip(at).zip(field).for_each(|(to, from)| *to = *from);
    };
    // Whoever runs this may own what is unpacked.
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, format!("{uid:07o}").as_bytes());
    put(116, format!("{gid:07o}").as_bytes());
    put(124, format!("{:011o}", bytes.len()).as_bytes());
    put(136, b"14000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()).for_each(|(to, b)| *to = b);
    tar.extend(header);
    tar.extend(bytes);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
