//! Power cuts at every call: what was made, written and synced by one thread is written down, and a directory is made of
//! what a cut after any number of these calls may leave.
//!
//! The filesystem is at least as harsh as ext4 with `data=writeback`. Names (made, renamed, removed) come to the disk in
//! their order, so a cut keeps a beginning of what was not synced; a sync brings all names before it (a journal: ext4,
//! xfs) or only those of its own file or directory and of what is above (a log of single inodes: f2fs, btrfs). Content is
//! there once its file is synced; what was written since may be there, or missing, or zeros, or any mixture of these by
//! sectors of 512 bytes, whatever became of the names: a rename is no barrier.

mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::Path,
    rc::Rc,
};

pub use tree::Tree;

use crate::journal::{Call, Made, kept};

/// Bytes that reach a disk together or not at all.
const SECTOR: usize = 512;

/// Numbers from a seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0 to `bound` - 1; 0 if there is no such number.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8) % bound.max(1)
    }

    /// As [`Self::below`].
    pub fn size(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).unwrap_or(0)
    }
}

/// Begins to write down the calls of this thread. In what order directories are emptied, the seed says.
pub fn begin(seed: u64) {
    kept::begin(seed);
}

/// Whether the calls of this thread are being written down.
pub fn is_begun() -> bool {
    kept::is_kept()
}

/// Calls so far.
pub fn length() -> usize {
    kept::length()
}

/// Makes it look as if no file and no directory was ever synced: what a test of the tests wants.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Deaf {
    /// To nothing.
    No,
    /// To `fsync` of files.
    ToFiles,
    /// To `fsync` of directories.
    ToDirs,
    /// To `syncfs`.
    ToAll,
}

/// A node by its number; 0 is the top directory.
type Ino = usize;

#[derive(Clone, Debug)]
enum Op {
    Make { at: (Ino, OsString), ino: Ino },
    Rename { from: (Ino, OsString), to: (Ino, OsString), ino: Ino },
    Remove { at: (Ino, OsString), ino: Ino },
    Data { ino: Ino, bytes: Rc<[u8]> },
    Sync(Ino),
    SyncDir(Ino),
    SyncAll,
}

impl Op {
    /// The directories whose names it changes, and the node that is named.
    fn names(&self) -> Option<(Vec<Ino>, Ino)> {
        match self {
            Self::Make { at, ino } | Self::Remove { at, ino } => Some((vec![at.0], *ino)),
            Self::Rename { from, to, ino } => Some((vec![from.0, to.0], *ino)),
            Self::Data { .. } | Self::Sync(_) | Self::SyncDir(_) | Self::SyncAll => None,
        }
    }
}

/// The calls on one directory, and what was there before them.
#[derive(Clone, Debug)]
pub struct History {
    before: Tree,
    /// All nodes there ever were, without names and content.
    after: Tree,
    ops: Vec<Op>,
    /// How many of them are done after so many calls.
    done: Vec<usize>,
}

impl History {
    /// Ends the journal of this thread: what it says of `root`, where `before` was when it began.
    ///
    /// # Errors
    /// A name that no call has made: something writes past this crate.
    pub fn end(root: &Path, before: Tree, deaf: Deaf) -> Result<Self, String> {
        let mut after = before.clone();
        let (mut ops, mut done) = (Vec::new(), vec![0]);
        for call in kept::take() {
            ops.extend(op(&mut after, root, &call, deaf)?);
            done.push(ops.len());
        }
        Ok(Self { before, after, ops, done })
    }

    /// How many calls there are.
    pub fn length(&self) -> usize {
        self.done.len() - 1
    }

    fn upto(&self, at: usize) -> &[Op] {
        let done = self.done.get(at).copied().unwrap_or(self.ops.len());
        self.ops.get(..done).unwrap_or(&self.ops)
    }

    /// What all calls together have left.
    pub fn after(&self) -> &Tree {
        &self.after
    }

    /// What is there after so many calls, the power being on: the process was killed.
    pub fn killed(&self, at: usize) -> Tree {
        let mut tree = self.before.clone();
        for op in self.upto(at) {
            self.apply(&mut tree, op);
            if let Op::Data { ino, bytes } = op {
                tree.write(*ino, bytes.to_vec());
            }
        }
        tree
    }

    /// What a power cut after so many calls may leave.
    pub fn cut(&self, at: usize, rng: &mut Rng) -> Tree {
        let ops = self.upto(at);
        let is_journal = rng.below(2) == 0;
        let floor = ops.iter().rposition(|op| {
            matches!(op, Op::SyncAll) || is_journal && matches!(op, Op::Sync(_) | Op::SyncDir(_))
        });
        let floor = floor.map_or(0, |last| last + 1);
        let upto = match rng.below(4) {
            0 => floor,
            1 => ops.len(),
            _ => floor + rng.size((ops.len() - floor) as u64 + 1),
        };
        let mut kept = BTreeSet::new();
        for (index, op) in ops.iter().enumerate().skip(floor) {
            if let Op::Sync(node) | Op::SyncDir(node) = op {
                self.chain(*node, index, &mut kept);
            }
            if let Op::SyncDir(dir) = op {
                self.entries(*dir, index, &mut kept);
            }
        }
        let mut tree = self.before.clone();
        for (index, op) in ops.iter().enumerate() {
            if index < upto || kept.contains(&index) {
                self.apply(&mut tree, op);
            }
        }
        self.cut_content(ops, &mut tree, rng);
        tree
    }

    /// The calls that gave a node its names, and those above it theirs.
    fn chain(&self, node: Ino, before: usize, kept: &mut BTreeSet<usize>) {
        for (index, op) in self.ops.iter().enumerate().take(before) {
            let dirs = match op.names() {
                Some((dirs, ino)) if ino == node && !matches!(op, Op::Remove { .. }) => dirs,
                Some(_) | None => continue,
            };
            if kept.insert(index) {
                dirs.into_iter().for_each(|dir| self.chain(dir, index, kept));
            }
        }
    }

    /// What was done to the names in a directory.
    fn entries(&self, dir: Ino, before: usize, kept: &mut BTreeSet<usize>) {
        for (index, op) in self.ops.iter().enumerate().take(before) {
            if let Some((dirs, ino)) = op.names()
                && dirs.contains(&dir)
            {
                self.chain(ino, index, kept);
                kept.insert(index);
            }
        }
    }

    fn apply(&self, tree: &mut Tree, op: &Op) {
        match op {
            Op::Make { at, ino } => tree.enter(at, *ino, &self.after),
            Op::Rename { from, to, ino } => tree.rename(from, to, *ino),
            Op::Remove { at, ino } => tree.remove(at, *ino),
            Op::Data { .. } | Op::Sync(_) | Op::SyncDir(_) | Op::SyncAll => {}
        }
    }

    fn cut_content(&self, ops: &[Op], tree: &mut Tree, rng: &mut Rng) {
        let mut written: BTreeMap<Ino, Written> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Data { ino, bytes } => {
                    let first =
                        || Written { durable: self.before.content(*ino).into(), newest: None };
                    written.entry(*ino).or_insert_with(first).newest = Some(Rc::clone(bytes));
                }
                Op::Sync(ino) => {
                    written.entry(*ino).and_modify(Written::sync);
                }
                Op::SyncAll => written.values_mut().for_each(Written::sync),
                Op::Make { .. } | Op::Rename { .. } | Op::Remove { .. } | Op::SyncDir(_) => {}
            }
        }
        for (ino, Written { durable, newest }) in written {
            let content = match newest {
                None => durable.to_vec(),
                Some(newest) => lose(&durable, &newest, rng),
            };
            tree.write(ino, content);
        }
    }
}

/// A file's content: on the disk, and since.
struct Written {
    durable: Rc<[u8]>,
    newest: Option<Rc<[u8]>>,
}

impl Written {
    fn sync(&mut self) {
        if let Some(newest) = self.newest.take() {
            self.durable = newest;
        }
    }
}

/// What may be there of a file that was written and not synced.
fn lose(durable: &[u8], newest: &[u8], rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        0 | 1 => newest.to_vec(),
        2 => Vec::new(),
        3 => vec![0; newest.len()],
        4 => durable.to_vec(),
        _ => {
            let mut bytes = vec![0; newest.len()];
            for (at, sector) in bytes.chunks_mut(SECTOR).enumerate() {
                let from = match rng.below(3) {
                    0 => newest,
                    1 => durable,
                    _ => continue,
                };
                let from = from.get(at * SECTOR..).unwrap_or_default();
                sector.iter_mut().zip(from).for_each(|(to, byte)| *to = *byte);
            }
            // The length may be of another moment than the content.
            bytes.truncate(bytes.len() - rng.size(2) * rng.size(bytes.len() as u64));
            bytes
        }
    }
}

/// What a call was, below `root`; nothing if it was elsewhere or is not heard. `tree` is kept as all calls leave it.
fn op(tree: &mut Tree, root: &Path, call: &Call, deaf: Deaf) -> Result<Vec<Op>, String> {
    let inside = |path: &'_ Path| {
        let path = path.strip_prefix(root).ok()?;
        (!path.as_os_str().is_empty()).then(|| path.to_owned())
    };
    let unknown = |path: &Path| format!("{} was made past the journal", path.display());
    let find = |tree: &Tree, path: &Path| tree.find(path).ok_or_else(|| unknown(path));
    let place = |tree: &Tree, path: &Path| tree.place(path).ok_or_else(|| unknown(path));
    Ok(match call {
        Call::Made { path, what } => {
            let Some(path) = inside(path) else { return Ok(Vec::new()) };
            let at = place(tree, &path)?;
            let ino = tree.add(what);
            tree.link(&at, ino);
            let made = Op::Make { at, ino };
            match what {
                Made::File { bytes, .. } => vec![made, Op::Data { ino, bytes: Rc::clone(bytes) }],
                Made::Dir { .. } | Made::Symlink { .. } | Made::Special => vec![made],
            }
        }
        Call::Linked { from, to } => {
            let (Some(from), Some(to)) = (inside(from), inside(to)) else { return Ok(Vec::new()) };
            let (ino, at) = (find(tree, &from)?, place(tree, &to)?);
            tree.link(&at, ino);
            vec![Op::Make { at, ino }]
        }
        Call::Renamed { from, to } => {
            let (Some(from), Some(to)) = (inside(from), inside(to)) else { return Ok(Vec::new()) };
            let ino = find(tree, &from)?;
            let (from, to) = (place(tree, &from)?, place(tree, &to)?);
            tree.rename(&from, &to, ino);
            vec![Op::Rename { from, to, ino }]
        }
        Call::Removed(path) => {
            // Locks and sockets hold nothing: they are made past the journal.
            let path = inside(path);
            let known = path.and_then(|path| Some((tree.place(&path)?, tree.find(&path)?)));
            let Some((at, ino)) = known else { return Ok(Vec::new()) };
            tree.remove(&at, ino);
            vec![Op::Remove { at, ino }]
        }
        Call::Written { path, bytes } => {
            let Some(path) = inside(path) else { return Ok(Vec::new()) };
            vec![Op::Data { ino: find(tree, &path)?, bytes: Rc::clone(bytes) }]
        }
        Call::Synced(path) if deaf != Deaf::ToFiles => {
            let Some(path) = inside(path) else { return Ok(Vec::new()) };
            vec![Op::Sync(find(tree, &path)?)]
        }
        Call::DirSynced(path) if deaf != Deaf::ToDirs => {
            let Some(path) = inside(path) else { return Ok(Vec::new()) };
            vec![Op::SyncDir(find(tree, &path)?)]
        }
        Call::AllSynced if deaf != Deaf::ToAll => vec![Op::SyncAll],
        Call::Synced(_) | Call::DirSynced(_) | Call::AllSynced => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::{Sync, create, make_dir, note_all_synced, remove_file, replace, sync_dir};

    /// What cuts leave of `file` after `work`, each as text (`-`: no such name).
    fn left(name: &str, deaf: Deaf, work: impl Fn(&Path)) -> BTreeSet<String> {
        let root = std::env::temp_dir().join(format!("coracle-cut-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).unwrap();
        begin(1);
        work(&root);
        let history = History::end(&root, Tree::default(), deaf).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let mut rng = Rng::new(2);
        let mut found = BTreeSet::new();
        for _ in 0..200 {
            let tree = history.cut(history.length(), &mut rng);
            let paths = tree.paths();
            found.insert(match paths.get(Path::new("dir/file")) {
                Some(content) => String::from_utf8_lossy(content.unwrap_or_default()).into_owned(),
                None => "-".into(),
            });
        }
        found
    }

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_was_not_synced_may_be_missing_or_zeros() {
        let work = |root: &Path| {
            make_dir(&root.join("dir"), 0o700).unwrap();
            create(&root.join("dir/file"), b"new", 0o600, Sync::Later).unwrap();
        };
        assert!(left("a", Deaf::No, work).is_superset(&set(&["-", "", "\0\0\0", "new"])));
    }

    #[test]
    fn a_synced_file_is_there_with_its_name() {
        let work = |root: &Path| {
            make_dir(&root.join("dir"), 0o700).unwrap();
            create(&root.join("dir/file"), b"new", 0o600, Sync::Now).unwrap();
        };
        assert_eq!(left("b", Deaf::No, work), set(&["new"]));
        assert!(left("c", Deaf::ToFiles, work).contains("-"));
    }

    #[test]
    fn what_takes_a_place_is_the_old_or_the_new() {
        let work = |sync: Sync| {
            move |root: &Path| {
                make_dir(&root.join("dir"), 0o700).unwrap();
                create(&root.join("dir/file"), b"old", 0o600, Sync::Now).unwrap();
                replace(&root.join("dir/file"), b"new", 0o600, sync).unwrap();
            }
        };
        assert_eq!(left("d", Deaf::No, work(Sync::Later)), set(&["old", "new"]));
        assert_eq!(left("e", Deaf::No, work(Sync::Now)), set(&["new"]));
        assert!(left("f", Deaf::ToDirs, work(Sync::Now)).contains("old"));
        assert!(left("g", Deaf::ToFiles, work(Sync::Later)).contains(""));
    }

    #[test]
    fn directories_and_whole_filesystems_are_synced() {
        let work = |all: bool| {
            move |root: &Path| {
                make_dir(&root.join("dir"), 0o700).unwrap();
                create(&root.join("dir/file"), b"old", 0o600, Sync::Later).unwrap();
                if all {
                    note_all_synced().unwrap();
                } else {
                    remove_file(&root.join("dir/file")).unwrap();
                    sync_dir(&root.join("dir")).unwrap();
                }
            }
        };
        assert_eq!(left("h", Deaf::No, work(true)), set(&["old"]));
        assert_eq!(left("i", Deaf::No, work(false)), set(&["-"]));
        assert!(left("j", Deaf::ToAll, work(true)).contains("-"));
    }

    #[test]
    fn who_writes_past_the_journal_is_found() {
        let root = std::env::temp_dir().join(format!("coracle-cut-{}-past", std::process::id()));
        fs::create_dir_all(root.join("dir")).unwrap();
        begin(1);
        create(&root.join("dir/file"), b"", 0o600, Sync::Later).unwrap();
        let error = History::end(&root, Tree::default(), Deaf::No).unwrap_err();
        assert_eq!(error, "dir/file was made past the journal");
        fs::remove_dir_all(root).unwrap();
    }
}
