//! The content store: unpacked layers and the index of names, shared by the agent and its `image` subcommands.
//!
//! ```text
//! DIR/index.json        names, digests, configs; replaced whole, by rename
//! DIR/layers/<16 hex>   one unpacked layer, named by its diff id; there only when complete, checked and synced
//! DIR/tmp/<pid>.<n>     a layer or file on its way, or a layer on its way out; taken away where nobody pulls
//! DIR/holds/<holder>    the digest of an image that a container stands on
//! DIR/lock              flock: exclusive around each change of the index
//! DIR/pulls             flock: shared while layers are fetched, exclusive while unused ones are removed
//! ```

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use coracle_disk::{self as disk, Sync};
use flate2::read::MultiGzDecoder;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{
    Credential, Digest, Image, ImageConfig, ImageError, Platform, PullPolicy, Reference, Registry,
    archive::Archive,
    digesting::{Digesting, digest_of},
    limits,
    manifest::{self, Layer, Manifest, Manifests, Packing},
    registry::Blob,
    unpack::{UnpackError, unpack},
};

/// One image as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Full names that stand for it.
    pub names: Vec<String>,
    /// Digest of its manifest or index.
    pub digest: String,
    /// Diff ids, bottom first.
    pub layers: Vec<String>,
    /// Defaults for containers.
    pub config: ImageConfig,
    /// Imported: never asked for, never collected.
    pub pinned: bool,
    /// Bytes of its packed layers.
    pub bytes: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Index {
    images: Vec<Stored>,
}

/// Where a pull or an import gets its content from.
pub(crate) trait Source {
    /// The manifest or index under this digest or tag.
    fn manifest(&self, key: &str) -> Result<(Vec<u8>, Digest), ImageError>;
    /// A blob's bytes, unchecked.
    fn blob(&self, digest: &Digest) -> Result<Blob, ImageError>;
}

struct Remote<'a> {
    registry: &'a Registry,
    image: &'a Reference,
    credentials: &'a [Credential],
}

impl Source for Remote<'_> {
    fn manifest(&self, key: &str) -> Result<(Vec<u8>, Digest), ImageError> {
        self.registry.manifest(self.image, key, self.credentials)
    }

    fn blob(&self, digest: &Digest) -> Result<Blob, ImageError> {
        self.registry.blob(self.image, digest, self.credentials)
    }
}

/// The images of one node. Several processes may use the same directory.
#[derive(Debug)]
pub struct ImageStore {
    dir: PathBuf,
    platform: Platform,
    next_tmp: AtomicU64,
}

impl ImageStore {
    /// Opens or makes the store in `dir` (0700); takes away what a crash left half done.
    pub fn open(dir: &Path, platform: Platform) -> Result<Self, ImageError> {
        for part in ["", "layers", "tmp", "holds"] {
            let path = dir.join(part);
            disk::make_dirs(&path, 0o700)
                .map_err(|source| io_error("cannot make", &path, source))?;
        }
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|source| io_error("cannot set the mode of", dir, source))?;
        let store = Self { dir: dir.to_owned(), platform, next_tmp: AtomicU64::new(0) };
        if let Some(_nobody_pulls) = store.when_nobody_pulls()? {
            store.sweep_tmp()?;
        }
        Ok(store)
    }

    /// The image under this name, fetched if the policy wants it. Blocks for as long as the network takes; calls for
    /// different images may run side by side.
    pub fn resolve(
        &self,
        name: &str,
        policy: PullPolicy,
        registry: &Registry,
        credentials: &[Credential],
    ) -> Result<Image, ImageError> {
        let reference = Reference::parse(name)?;
        let here = self.find(&reference)?;
        match (here, policy) {
            (Some(stored), _) if stored.pinned => self.image(&stored),
            (Some(stored), PullPolicy::IfNotPresent | PullPolicy::Never) => self.image(&stored),
            (None, PullPolicy::Never) => {
                Err(ImageError::NeverPull { image: reference.to_string() })
            }
            (here, PullPolicy::Always | PullPolicy::IfNotPresent) => {
                let source = Remote { registry, image: &reference, credentials };
                let (bytes, digest) = source.manifest(reference.manifest_key())?;
                if let Some(stored) = here.filter(|stored| stored.digest == digest.as_str()) {
                    return self.image(&stored);
                }
                let stored = self.take(&source, &reference.to_string(), &bytes, &digest, false)?;
                self.image(&stored)
            }
        }
    }

    /// Whether a name is here, without asking anyone.
    pub fn find(&self, reference: &Reference) -> Result<Option<Stored>, ImageError> {
        let name = reference.to_string();
        let index = self.read_index()?;
        Ok(index.images.into_iter().find(|stored| stored.names.contains(&name)))
    }

    /// Imports every image of an OCI or Docker archive; pins them. `name` names the only image of an archive that does
    /// not name it itself.
    pub fn import(&self, archive: &Path, name: Option<&str>) -> Result<Vec<Stored>, ImageError> {
        let archive = Archive::open(archive)?;
        let mut stored = Vec::new();
        for (own_name, key) in archive.images(name)? {
            let (bytes, digest) = archive.manifest(&key)?;
            stored.push(self.take(&archive, &own_name, &bytes, &digest, true)?);
        }
        Ok(stored)
    }

    /// All images, by first name.
    pub fn list(&self) -> Result<Vec<Stored>, ImageError> {
        let mut images = self.read_index()?.images;
        images.sort_by(|a, b| a.names.cmp(&b.names));
        Ok(images)
    }

    /// Forgets a name; with its last name the image goes, and layers that no other image has.
    pub fn remove(&self, name: &str) -> Result<(), ImageError> {
        let name = Reference::parse(name)?.to_string();
        let holds = self.holds()?;
        self.change_index(|index| {
            let found = index.images.iter_mut().find(|stored| stored.names.contains(&name));
            let stored = found.ok_or_else(|| ImageError::NotFound {
                image: name.clone(),
                why: "it is not on this node".into(),
            })?;
            if let Some((holder, _)) = holds.iter().find(|(_, digest)| *digest == stored.digest) {
                return Err(ImageError::InUse { image: name.clone(), holder: holder.clone() });
            }
            stored.names.retain(|one| *one != name);
            Ok(())
        })?;
        self.drop_unused()
    }

    /// Notes that `holder` (a container; `[a-zA-Z0-9._-]`) stands on the image, across restarts. Not synced: after a power
    /// cut nothing stands on anything, and who starts again holds again.
    pub fn hold(&self, image: &Image, holder: &str) -> Result<(), ImageError> {
        let path = self.dir.join("holds").join(safe_name(holder)?);
        let digest = image.digest.as_str().as_bytes();
        if fs::read(&path).is_ok_and(|now| now == digest) {
            return Ok(());
        }
        let by = self.tmp_path();
        disk::create(&by, digest, 0o600, Sync::Later)
            .and_then(|()| disk::rename(&by, &path))
            .map_err(|source| io_error("cannot write", &path, source))
    }

    /// Takes back all holds whose holders are of these.
    pub fn release_all(&self, is_one: impl Fn(&str) -> bool) -> Result<(), ImageError> {
        let holds = self.holds()?;
        holds
            .iter()
            .filter(|(holder, _)| is_one(holder))
            .try_for_each(|(holder, _)| self.release(holder))
    }

    /// Removes what nothing stands on and no name stands for, and layers of pulls that did not come to their ends. Writes
    /// nothing if there is nothing of that kind.
    pub fn collect(&self) -> Result<(), ImageError> {
        self.drop_unused()
    }

    /// Takes a hold back; it need not exist.
    pub fn release(&self, holder: &str) -> Result<(), ImageError> {
        let path = self.dir.join("holds").join(safe_name(holder)?);
        disk::remove_file(&path).map_err(|source| io_error("cannot remove", &path, source))
    }

    fn holds(&self) -> Result<Vec<(String, String)>, ImageError> {
        let dir = self.dir.join("holds");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|source| io_error("cannot list", &dir, source))? {
            let entry = entry.map_err(|source| io_error("cannot list", &dir, source))?;
            // A hold that went away in between holds nothing.
            if let Ok(digest) = fs::read_to_string(entry.path()) {
                found.push((entry.file_name().to_string_lossy().into_owned(), digest));
            }
        }
        Ok(found)
    }

    /// Fetches what is missing of an image and enters it under `name`.
    fn take(
        &self,
        source: &dyn Source,
        name: &str,
        bytes: &[u8],
        digest: &Digest,
        pinned: bool,
    ) -> Result<Stored, ImageError> {
        let pulls = self.open_lock("pulls")?;
        flock(&pulls, FlockOperation::LockShared)
            .map_err(|error| io_error("cannot lock", &self.dir, error.into()))?;
        let manifest = self.manifest_for_host(source, name, bytes)?;
        let config_bytes = self.config_bytes(source, name, &manifest.config)?;
        let (config, diff_ids) =
            manifest::parse_config(name, &config_bytes, &self.platform, manifest.layers.len())?;
        for (number, (layer, diff_id)) in manifest.layers.iter().zip(&diff_ids).enumerate() {
            self.layer(source, name, number + 1, layer, diff_id)?;
        }
        let stored = Stored {
            names: vec![name.to_owned()],
            digest: digest.to_string(),
            layers: diff_ids.iter().map(Digest::to_string).collect(),
            config,
            pinned,
            bytes: manifest.layers.iter().map(|layer| layer.size).sum(),
        };
        let entered = stored.clone();
        self.change_index(move |index| {
            for other in &mut index.images {
                other.names.retain(|one| one != name);
            }
            let count = index.images.len();
            match index.images.iter_mut().find(|other| other.digest == entered.digest) {
                Some(same) => {
                    same.names.push(name.to_owned());
                    same.pinned |= pinned;
                }
                None if limits::IMAGES_MAX <= count => {
                    let why = format!("the store holds {} images already; remove some with `coracle-agent image remove`", limits::IMAGES_MAX);
                    return Err(ImageError::Malformed { image: name.to_owned(), why });
                }
                None => index.images.push(entered),
            }
            Ok(())
        })?;
        drop(pulls);
        self.drop_unused()?;
        Ok(stored)
    }

    fn manifest_for_host(
        &self,
        source: &dyn Source,
        name: &str,
        bytes: &[u8],
    ) -> Result<Manifest, ImageError> {
        let mut bytes = bytes.to_vec();
        // An index may hold an index (archives do); deeper is nobody's honest work.
        for _ in 0..3 {
            match manifest::parse(name, &bytes)? {
                Manifests::One(manifest) => return Ok(manifest),
                Manifests::Index(list) => {
                    let chosen = manifest::choose(name, &list, &self.platform)?;
                    bytes = source.manifest(&chosen.digest)?.0;
                }
            }
        }
        Err(ImageError::Malformed {
            image: name.into(),
            why: "its indexes are nested more than 3 deep".into(),
        })
    }

    fn config_bytes(
        &self,
        source: &dyn Source,
        name: &str,
        want: &Digest,
    ) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let mut blob = source.blob(want)?.take(limits::CONFIG_BYTES_MAX);
        blob.read_to_end(&mut bytes).map_err(|error| ImageError::Network {
            image: name.into(),
            why: format!("config {want}: {error}"),
        })?;
        let got = digest_of(&bytes);
        if got != *want {
            return Err(mismatch(name, "config", want, &got));
        }
        Ok(bytes)
    }

    /// One layer, in one pass from the source to files; there under its final name only when both digests hold.
    fn layer(
        &self,
        source: &dyn Source,
        name: &str,
        number: usize,
        layer: &Layer,
        diff_id: &Digest,
    ) -> Result<(), ImageError> {
        let place = self.layer_dir(diff_id.as_str())?;
        if place.is_dir() {
            return Ok(());
        }
        let tmp = self.tmp_dir()?;
        let result = self.layer_into(&tmp, source, name, number, layer, diff_id).and_then(|()| {
            let tmp_file =
                File::open(&tmp).map_err(|source| io_error("cannot open", &tmp, source))?;
            // One sync for all files of the layer, before the name that says it is complete.
            rustix::fs::syncfs(&tmp_file)
                .map_err(io::Error::from)
                .and_then(|()| disk::note_all_synced())
                .map_err(|error| self.disk(name, "cannot sync a layer", error))?;
            match disk::rename(&tmp, &place) {
                Ok(()) => sync_dir(&self.dir.join("layers")),
                // Another pull was faster with the same layer.
                Err(_) if place.is_dir() => disk::remove_dir_all(&tmp)
                    .map_err(|source| io_error("cannot remove", &tmp, source)),
                Err(source) => Err(io_error("cannot rename to", &place, source)),
            }
        });
        if result.is_err() {
            // Best effort: what stays is swept at the next start.
            let _ = disk::remove_dir_all(&tmp);
        }
        result
    }

    fn layer_into(
        &self,
        dir: &Path,
        source: &dyn Source,
        name: &str,
        number: usize,
        layer: &Layer,
        diff_id: &Digest,
    ) -> Result<(), ImageError> {
        let what = format!("layer {number}");
        let mut packed = Digesting::new(source.blob(&layer.digest)?, limits::LAYER_BYTES_MAX);
        let unpacked = {
            let plain: Box<dyn Read + '_> = match layer.packing {
                Packing::Plain => Box::new(&mut packed),
                Packing::Gzip => Box::new(MultiGzDecoder::new(&mut packed)),
                Packing::Zstd => Box::new(ZstdFrames { input: &mut packed, frame: None }),
            };
            let mut plain = Digesting::new(plain, limits::LAYER_BYTES_MAX);
            unpack(&mut plain, dir).and_then(|()| {
                plain.finish().map_err(|error| {
                    UnpackError::Io("the layer ends early or is damaged".into(), error)
                })
            })
        };
        if let Err(UnpackError::Io(what, error)) = &unpacked
            && error.kind() == io::ErrorKind::StorageFull
        {
            return Err(self.disk(name, what, io::Error::from(error.kind())));
        }
        // Wrong bytes explain every other fault, so they are looked at first.
        let ended = |why: String| ImageError::Network {
            image: name.into(),
            why: format!("{what} {}: {why}", layer.digest),
        };
        let (got, bytes) = packed.finish().map_err(|error| ended(error.to_string()))?;
        if got != layer.digest {
            if bytes < layer.size {
                return Err(ended(format!("ended after {bytes} of {} bytes", layer.size)));
            }
            return Err(mismatch(name, &what, &layer.digest, &got));
        }
        let bad = |why: String| ImageError::Malformed {
            image: name.into(),
            why: format!("{what}: {why}"),
        };
        match unpacked {
            Ok((got, _)) if got == *diff_id => Ok(()),
            Ok((got, _)) => Err(mismatch(name, &format!("{what}, unpacked,"), diff_id, &got)),
            Err(UnpackError::Refused(why)) => Err(bad(why)),
            Err(UnpackError::Io(what, error)) => Err(bad(format!("{what}: {error}"))),
        }
    }

    fn image(&self, stored: &Stored) -> Result<Image, ImageError> {
        let damaged = |why: String| ImageError::Malformed { image: stored.names.join(", "), why };
        let digest = Digest::parse(&stored.digest)
            .ok_or_else(|| damaged("the store's index has a bad digest".into()))?;
        let mut layers = Vec::with_capacity(stored.layers.len());
        for diff_id in stored.layers.iter().rev() {
            let dir = self.layer_dir(diff_id)?;
            if !dir.is_dir() {
                return Err(damaged(format!(
                    "{} is gone; remove the image and pull or import it again",
                    dir.display()
                )));
            }
            layers.push(dir);
        }
        Ok(Image { digest, layers, config: stored.config.clone(), pinned: stored.pinned })
    }

    /// 64 bits of the digest: short, so that a hundred layers fit in one page of mount options. Two layers that share
    /// them would need 2^32 tries to make.
    fn layer_dir(&self, diff_id: &str) -> Result<PathBuf, ImageError> {
        let short =
            Digest::parse(diff_id).and_then(|digest| digest.hex().get(..16).map(str::to_owned));
        let short = short.ok_or_else(|| ImageError::Malformed {
            image: diff_id.into(),
            why: "it is no digest".into(),
        })?;
        Ok(self.dir.join("layers").join(short))
    }

    /// A name that nothing has: what a dead process of the same number left is swept by then, or passed over.
    fn tmp_path(&self) -> PathBuf {
        loop {
            let number = self.next_tmp.fetch_add(1, Ordering::Relaxed);
            let path = self.dir.join("tmp").join(format!("{}.{number}", std::process::id()));
            if fs::symlink_metadata(&path).is_err() {
                return path;
            }
        }
    }

    fn tmp_dir(&self) -> Result<PathBuf, ImageError> {
        let path = self.tmp_path();
        disk::make_dir(&path, 0o755).map_err(|source| io_error("cannot make", &path, source))?;
        Ok(path)
    }

    /// The lock that pulls share, if none is under way in any process; for as long as it is held none begins. A number of
    /// a process says nothing: after a power cut it is another's.
    fn when_nobody_pulls(&self) -> Result<Option<File>, ImageError> {
        let pulls = self.open_lock("pulls")?;
        Ok(flock(&pulls, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(pulls))
    }

    fn sweep_tmp(&self) -> Result<(), ImageError> {
        let dir = self.dir.join("tmp");
        for entry in
            fs::read_dir(&dir).map_err(|source| io_error("cannot list", &dir, source))?.flatten()
        {
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed =
                if is_dir { disk::remove_dir_all(&path) } else { disk::remove_file(&path) };
            removed.map_err(|source| io_error("cannot remove", &path, source))?;
        }
        Ok(())
    }

    fn read_index(&self) -> Result<Index, ImageError> {
        let path = self.dir.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io_error("cannot read (remove it and import or pull anew)", &path, error.into())
            }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(source) => Err(io_error("cannot read", &path, source)),
        }
    }

    fn change_index(
        &self,
        change: impl FnOnce(&mut Index) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let mut index = self.read_index()?;
        change(&mut index)?;
        let bytes = serde_json::to_vec(&index)
            .map_err(|error| io_error("cannot encode", &self.dir, error.into()))?;
        let path = self.dir.join("index.json");
        disk::replace_by(&self.tmp_path(), &path, &bytes, 0o600, Sync::Now)
            .map_err(|source| io_error("cannot write", &path, source))
    }

    /// Forgets images without a name and removes layers that no image has. Held images stay until they are released.
    /// While a pull is under way, whose new layers are in no index yet, nothing goes: its own end comes here again.
    fn drop_unused(&self) -> Result<(), ImageError> {
        let Some(_nobody_pulls) = self.when_nobody_pulls()? else { return Ok(()) };
        let holds = self.holds()?;
        let is_unused = |stored: &Stored| {
            stored.names.is_empty() && !holds.iter().any(|(_, digest)| *digest == stored.digest)
        };
        let mut index = self.read_index()?;
        if index.images.iter().any(is_unused) {
            self.change_index(|index| {
                index.images.retain(|stored| !is_unused(stored));
                Ok(())
            })?;
            index = self.read_index()?;
        }
        let mut used = Vec::new();
        for stored in &index.images {
            for diff_id in &stored.layers {
                used.push(self.layer_dir(diff_id)?);
            }
        }
        let dir = self.dir.join("layers");
        for entry in
            fs::read_dir(&dir).map_err(|source| io_error("cannot list", &dir, source))?.flatten()
        {
            let layer = entry.path();
            if used.contains(&layer) {
                continue;
            }
            // By another name first: under its own a layer is whole, however its removal is interrupted.
            let out = self.tmp_path();
            disk::rename(&layer, &out)
                .and_then(|()| disk::remove_dir_all(&out))
                .map_err(|source| io_error("cannot remove", &layer, source))?;
        }
        Ok(())
    }

    fn lock(&self) -> Result<File, ImageError> {
        let file = self.open_lock("lock")?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| io_error("cannot lock", &self.dir, error.into()))?;
        Ok(file)
    }

    fn open_lock(&self, name: &str) -> Result<File, ImageError> {
        let path = self.dir.join(name);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        file.map_err(|source| io_error("cannot open", &path, source))
    }

    fn disk(&self, name: &str, what: &str, source: io::Error) -> ImageError {
        if source.kind() == io::ErrorKind::StorageFull {
            ImageError::Full { image: name.into(), dir: self.dir.display().to_string() }
        } else {
            ImageError::Io {
                what: format!("{what} (image `{name}`, in {})", self.dir.display()),
                source,
            }
        }
    }
}

/// All frames of a zstd stream, one after the other (RFC 8878, 3: frames may be concatenated or skippable).
struct ZstdFrames<R: Read> {
    input: R,
    frame: Option<Box<ruzstd::decoding::FrameDecoder>>,
}

impl<R: Read> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::{
            BlockDecodingStrategy, FrameDecoder,
            errors::{FrameDecoderError, ReadFrameHeaderError},
        };
        loop {
            let Some(frame) = &mut self.frame else {
                let mut frame = Box::new(FrameDecoder::new());
                match frame.init(&mut self.input) {
                    Ok(()) => self.frame = Some(frame),
                    Err(FrameDecoderError::ReadFrameHeaderError(
                        ReadFrameHeaderError::SkipFrame { length, .. },
                    )) => {
                        io::copy(&mut (&mut self.input).take(u64::from(length)), &mut io::sink())?;
                    }
                    // Nothing more between frames is the end; the digests say whether it came too early.
                    Err(FrameDecoderError::ReadFrameHeaderError(
                        ReadFrameHeaderError::MagicNumberReadError(_),
                    )) => return Ok(0),
                    Err(error) => return Err(io::Error::other(error.to_string())),
                }
                continue;
            };
            let count = frame.read(buffer)?;
            if count != 0 || buffer.is_empty() {
                return Ok(count);
            }
            if frame.is_finished() && frame.can_collect() == 0 {
                self.frame = None;
                continue;
            }
            let some = BlockDecodingStrategy::UptoBytes(buffer.len().max(1));
            frame
                .decode_blocks(&mut self.input, some)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
    }
}

fn mismatch(name: &str, what: &str, want: &Digest, got: &Digest) -> ImageError {
    ImageError::DigestMismatch {
        image: name.into(),
        what: what.into(),
        want: want.to_string(),
        got: got.to_string(),
    }
}

pub(crate) fn io_error(what: &str, path: &Path, source: io::Error) -> ImageError {
    ImageError::Io { what: format!("{what} {}", path.display()), source }
}

fn safe_name(holder: &str) -> Result<&str, ImageError> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if holder.is_empty() || holder.starts_with('.') || 200 < holder.len() || !holder.bytes().all(ok)
    {
        return Err(ImageError::InvalidName {
            given: holder.into(),
            why: "a holder is 1 to 200 of [a-zA-Z0-9._-]",
        });
    }
    Ok(holder)
}

fn sync_dir(dir: &Path) -> Result<(), ImageError> {
    disk::sync_dir(dir).map_err(|source| io_error("cannot sync", dir, source))
}
