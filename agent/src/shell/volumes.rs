//! A pod's volumes on disk and in memory: made before its sandbox, updated while it runs, taken away with it.
//!
//! Files of ConfigMaps, Secrets, fields and tokens are published as kubelet does it: a new directory `..TIME` is filled,
//! the symlink `..data` is switched to it with one rename, and each top name is a symlink into `..data`. A reader sees
//! all of the old or all of the new.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use coracle_agent_logic::{
    Pod,
    env::Objects,
    fields::Place,
    spec::{HostPath, Volume},
    volumes::{self, Files, Tokens},
};
use coracle_api::quantity::from_json;
use coracle_disk::{self as disk, Sync};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::state::private_dir;

/// Makes or updates all volumes of a pod below `dir`. Done twice it changes only what changed.
///
/// # Errors
/// The text of a FailedMount event.
pub(crate) fn prepare(
    dir: &Path,
    pod: &Pod,
    objects: &Objects,
    tokens: &Tokens,
    place: &Place,
) -> Result<(), String> {
    private_dir(dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    for volume in &pod.spec.volumes {
        let path = path_of(dir, volume)
            .ok_or_else(|| format!("volume name {:?} is no name", volume.name))?;
        let failed = |why: String| {
            format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name)
        };
        if let Some(host) = &volume.host_path {
            check_host_path(host).map_err(failed)?;
            continue;
        }
        let files = volumes::files(pod, volume, objects, tokens, place)?;
        make_dir(&path, volume).map_err(|error| failed(error.to_string()))?;
        let group = pod.spec.security_context.fs_group.and_then(|group| u32::try_from(group).ok());
        match files {
            Some(files) => {
                publish(&path, &files, group).map_err(|error| failed(error.to_string()))?
            }
            None => own(&path, group).map_err(|error| failed(error.to_string()))?,
        }
    }
    Ok(())
}

/// Where a volume is on the host: what containers get mounted.
pub(crate) fn source(dir: &Path, volume: &Volume) -> Option<PathBuf> {
    match &volume.host_path {
        Some(host) => Some(PathBuf::from(&host.path)),
        None => path_of(dir, volume),
    }
}

/// Unmounts and removes everything below `dir`. It need not be there.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut below: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        // The kernel writes a space as \040.
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(dir))
        .collect();
    below.sort();
    for path in below.iter().rev() {
        umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    disk::remove_dir_all(dir)
}

/// Volume names are DNS labels; what is none names no directory.
fn path_of(dir: &Path, volume: &Volume) -> Option<PathBuf> {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (!volume.name.is_empty() && volume.name.bytes().all(ok)).then(|| dir.join(&volume.name))
}

fn make_dir(path: &Path, volume: &Volume) -> io::Result<()> {
    let mode = if volume.empty_dir.is_some() { 0o777 } else { 0o755 };
    if !path.is_dir() {
        disk::make_dirs(path, 0o700)?;
    }
    if volumes::in_memory(volume) && !is_mount(path)? {
        let size = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit.as_ref());
        let size = size.and_then(|size| from_json(size).ok()).map(|size| size.value());
        let options = match size {
            Some(size) if size > 0 => format!("mode={mode:o},size={size}"),
            _ => format!("mode={mode:o}"),
        };
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))?;
    }
    // Only on the first time: an emptyDir's mode is the pod's to change afterwards.
    let now = fs::metadata(path)?.permissions().mode() & 0o7777;
    if now == 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn is_mount(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let parent = path.parent().unwrap_or(path);
    Ok(fs::symlink_metadata(path)?.dev() != fs::symlink_metadata(parent)?.dev())
}

/// Gives an emptyDir to the pod's group, set-group-ID so that what is made in it belongs to the group too.
fn own(path: &Path, group: Option<u32>) -> io::Result<()> {
    let Some(group) = group else { return Ok(()) };
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata(path)?.gid() != group {
        chown(path, None, Some(group))?;
        let mode = fs::metadata(path)?.permissions().mode();
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777 | 0o2070))?;
    }
    Ok(())
}

/// What becomes `..data`.
const SWITCH: &str = "..data_tmp";

fn publish(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    let data = dir.join("..data");
    if !same(&data, files) {
        switch(dir, &data, files, group)?;
    }
    let now = fs::read_link(&data)?;
    let tops: std::collections::BTreeSet<&str> =
        files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            disk::symlink(&Path::new("..data").join(top), &link)?;
        }
    }
    // Names that are no more, and generations: the one before, and those that an interruption left. Only a directory of
    // ours is ever removed, wherever the link leads.
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let path = entry.path();
        if is_generation(Path::new(&name)) && Path::new(&name) != now && !path.is_symlink() {
            disk::remove_dir_all(&path)?;
        } else if name
            .to_str()
            .is_some_and(|name| name == SWITCH || !name.starts_with("..") && !tops.contains(name))
        {
            disk::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Fills a new generation and has `..data` lead to it.
fn switch(dir: &Path, data: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    let (name, fresh) = fresh_dir(dir)?;
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            disk::make_dirs(parent, 0o755)?;
        }
        disk::create(&target, &file.bytes, file.mode, Sync::Later)?;
        // Whatever the umask is.
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))?;
        if group.is_some() {
            chown(&target, None, group)?;
        }
    }
    let switch = dir.join(SWITCH);
    disk::remove_file(&switch)?;
    disk::symlink(Path::new(&name), &switch)?;
    disk::rename(&switch, data)
}

/// `..NUMBER`, as [`fresh_dir`] names them.
fn is_generation(name: &Path) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix(".."));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn fresh_dir(dir: &Path) -> io::Result<(String, PathBuf)> {
    let base = super::clock::wall_ms();
    for number in base.. {
        let name = format!("..{number}");
        let path = dir.join(&name);
        match disk::make_dir(&path, 0o755) {
            Ok(()) => return Ok((name, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no name left"))
}

/// Whether what is published is exactly this.
fn same(data: &Path, files: &Files) -> bool {
    let Ok(there) = count(data) else { return false };
    there == files.len()
        && files.iter().all(|(path, file)| {
            let path = data.join(path);
            let mode = fs::metadata(&path).map(|meta| meta.permissions().mode() & 0o777);
            mode.is_ok_and(|mode| mode == file.mode)
                && fs::read(&path).is_ok_and(|bytes| bytes == file.bytes)
        })
}

fn count(dir: &Path) -> io::Result<usize> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(sum)
}

/// What `hostPath.type` asks for.
fn check_host_path(host: &HostPath) -> Result<(), String> {
    let path = Path::new(&host.path);
    if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir)
    {
        return Err(format!("hostPath {} is not an absolute path without `..`", host.path));
    }
    let kind = fs::metadata(path).map(|meta| meta.file_type());
    let wrong =
        |wanted: &str| Err(format!("hostPath type check failed: {} is not {wanted}", host.path));
    let made = |result: io::Result<()>| {
        result.map_err(|error| format!("cannot make {}: {error}", host.path))
    };
    match (host.kind.as_str(), kind) {
        // Docker and kubelet make a missing path of no type a directory.
        ("", Ok(_)) => Ok(()),
        ("" | "DirectoryOrCreate", Err(_)) => {
            made(fs::DirBuilder::new().recursive(true).mode(0o755).create(path))
        }
        ("FileOrCreate", Err(_)) => made(File::create(path).map(drop)),
        ("Directory" | "DirectoryOrCreate", Ok(kind)) if kind.is_dir() => Ok(()),
        ("File" | "FileOrCreate", Ok(kind)) if kind.is_file() => Ok(()),
        ("Socket", Ok(kind)) if kind.is_socket() => Ok(()),
        ("CharDevice", Ok(kind)) if kind.is_char_device() => Ok(()),
        ("BlockDevice", Ok(kind)) if kind.is_block_device() => Ok(()),
        ("Directory" | "DirectoryOrCreate", _) => wrong("a directory"),
        ("File" | "FileOrCreate", _) => wrong("a file"),
        ("Socket", _) => wrong("a socket file"),
        ("CharDevice", _) => wrong("a character device"),
        ("BlockDevice", _) => wrong("a block device"),
        (other, _) => Err(format!("unknown hostPath type {other}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use coracle_agent_logic::volumes::File as Content;

    fn dir(name: &str) -> PathBuf {
        let dir =
            std::env::temp_dir().join(format!("coracle-volumes-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn files(pairs: &[(&str, &str)]) -> Files {
        let file = |text: &str| Content { bytes: text.as_bytes().to_vec(), mode: 0o440 };
        pairs.iter().map(|(path, text)| ((*path).into(), file(text))).collect()
    }

    #[test]
    fn files_are_switched_as_one() {
        let dir = dir("switch");
        publish(&dir, &files(&[("a", "1"), ("deep/b", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(dir.join("deep/b")).unwrap(), "2");
        assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
        let first = fs::read_link(dir.join("..data")).unwrap();

        publish(&dir, &files(&[("a", "1"), ("deep/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(dir.join("..data")).unwrap(), first, "nothing changed");

        publish(&dir, &files(&[("a", "3"), ("c", "4")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert_eq!(fs::read_to_string(dir.join("c")).unwrap(), "4");
        assert!(fs::symlink_metadata(dir.join("deep")).is_err());
        assert!(!dir.join(first).exists(), "the old directory is gone");
        remove(&dir).unwrap();
        assert!(!dir.exists());
        remove(&dir).unwrap();
    }

    #[test]
    fn a_link_that_leads_out_removes_nothing() {
        let (inside, outside) = (dir("link-in"), dir("link-out"));
        fs::write(outside.join("kept"), "1").unwrap();
        symlink(&outside, inside.join("..data")).unwrap();
        publish(&inside, &files(&[("a", "1")]), None).unwrap();
        assert_eq!(fs::read_to_string(inside.join("a")).unwrap(), "1");
        assert!(outside.join("kept").exists());
        remove(&inside).unwrap();
        remove(&outside).unwrap();
    }

    #[test]
    fn host_paths_are_what_they_say() {
        let dir = dir("host");
        let check = |name: &str, kind: &str, want: bool| {
            let path = dir.join(name).to_str().unwrap().to_owned();
            let got = check_host_path(&HostPath { path, kind: kind.into() });
            assert_eq!(got.is_ok(), want, "{name} {kind} {got:?}");
        };
        check("no", "Directory", false);
        check("made", "DirectoryOrCreate", true);
        check("made", "Directory", true);
        check("made", "File", false);
        check("file", "FileOrCreate", true);
        check("file", "File", true);
        check("file", "Socket", false);
        check("../out", "", false);
        remove(&dir).unwrap();
    }
}
