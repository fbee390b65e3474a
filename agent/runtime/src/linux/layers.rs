//! Reading a small file of an image before it is mounted: the top layer that has it decides.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::passwd::{Account, UnknownUser, resolve_user};

/// Largest /etc/passwd or /etc/group that is read, in bytes; the rest of a longer one is not seen.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Resolves a user against an image's /etc/passwd and /etc/group. `layers` are unpacked, the top first.
///
/// See [`resolve_user`]. A file that cannot be read counts as absent.
pub fn user_of_image(wanted: &str, layers: &[PathBuf]) -> Result<Account, UnknownUser> {
    let read = |name: &str| read_of_layers(layers, name).unwrap_or_default().unwrap_or_default();
    resolve_user(wanted, &read("passwd"), &read("group"))
}

/// `/etc/NAME` of the top layer that has it. Symlinks are not followed: they could lead to the host's file.
fn read_of_layers(layers: &[PathBuf], name: &str) -> io::Result<Option<String>> {
    for layer in layers {
        let etc = layer.join("etc");
        match fs::symlink_metadata(&etc) {
            Ok(meta) if meta.is_dir() => {}
            Ok(meta) if is_whiteout(&meta) => return Ok(None),
            Ok(_) | Err(_) => continue,
        }
        let path = etc.join(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => return read_bounded(&path).map(Some),
            Ok(_) => return Ok(None),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// overlayfs' mark for "deleted": a character device 0/0.
fn is_whiteout(meta: &fs::Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_layer_decides_and_links_lead_nowhere() {
        let dir = std::env::temp_dir().join(format!("coracle-layers-{}", std::process::id()));
        let layer = |name: &str, passwd: Option<&str>| {
            let etc = dir.join(name).join("etc");
            fs::create_dir_all(&etc).unwrap();
            if let Some(text) = passwd {
                fs::write(etc.join("passwd"), text).unwrap();
            }
            dir.join(name)
        };
        let low = layer("low", Some("web:x:1:1::/low:\n"));
        let empty = layer("empty", None);
        let high = layer("high", Some("web:x:2:2::/high:\n"));
        let link = layer("link", None);
        std::os::unix::fs::symlink("/etc/passwd", link.join("etc/passwd")).unwrap();
        let uid = |layers: &[&PathBuf]| {
            let layers: Vec<_> = layers.iter().map(|layer| (*layer).clone()).collect();
            user_of_image("web", &layers).map(|account| account.user.uid)
        };
        let unknown = Err(UnknownUser::User("web".into()));
        assert_eq!(uid(&[&empty, &low]), Ok(1));
        assert_eq!(uid(&[&high, &low]), Ok(2));
        assert_eq!(uid(&[&empty]), unknown);
        assert_eq!(uid(&[&link, &low]), unknown);
        fs::remove_dir_all(&dir).unwrap();
    }
}
