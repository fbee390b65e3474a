//! A directory as values: what a cut may leave, before it is made.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use super::Ino;
use crate::journal::Made;

#[derive(Clone, Debug)]
enum Node {
    Dir {
        mode: u32,
        names: BTreeMap<OsString, Ino>,
    },
    File {
        mode: u32,
        bytes: Vec<u8>,
    },
    Symlink {
        target: PathBuf,
    },
    /// A device or a pipe: it is not made.
    Special,
}

/// A directory and everything in it.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: BTreeMap<Ino, Node>,
}

impl Default for Tree {
    /// An empty directory.
    fn default() -> Self {
        let top = Node::Dir { mode: 0o700, names: BTreeMap::new() };
        Self { nodes: BTreeMap::from([(0, top)]) }
    }
}

impl Tree {
    /// Makes it at `root`, which must not be there.
    ///
    /// # Errors
    /// As the calls that make files.
    pub fn put(&self, root: &Path) -> io::Result<()> {
        self.put_node(0, root)
    }

    fn put_node(&self, ino: Ino, path: &Path) -> io::Result<()> {
        match self.nodes.get(&ino) {
            Some(Node::Dir { mode, names }) => {
                fs::create_dir(path)?;
                for (name, ino) in names {
                    self.put_node(*ino, &path.join(name))?;
                }
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            }
            Some(Node::File { mode, bytes }) => {
                fs::write(path, bytes)?;
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            }
            Some(Node::Symlink { target }) => symlink(target, path),
            Some(Node::Special) | None => Ok(()),
        }
    }

    /// All paths in it, with the content of those that are files.
    pub fn paths(&self) -> BTreeMap<PathBuf, Option<&[u8]>> {
        let mut found = BTreeMap::new();
        self.walk(0, Path::new(""), &mut found);
        found
    }

    fn walk<'a>(&'a self, ino: Ino, path: &Path, found: &mut BTreeMap<PathBuf, Option<&'a [u8]>>) {
        let Some(Node::Dir { names, .. }) = self.nodes.get(&ino) else { return };
        for (name, ino) in names {
            let path = path.join(name);
            let content = match self.nodes.get(ino) {
                Some(Node::File { bytes, .. }) => Some(bytes.as_slice()),
                Some(Node::Dir { .. } | Node::Symlink { .. } | Node::Special) | None => None,
            };
            self.walk(*ino, &path, found);
            found.insert(path, content);
        }
    }

    pub(super) fn find(&self, path: &Path) -> Option<Ino> {
        path.iter().try_fold(0, |at, name| match self.nodes.get(&at)? {
            Node::Dir { names, .. } => names.get(name).copied(),
            Node::File { .. } | Node::Symlink { .. } | Node::Special => None,
        })
    }

    /// The directory that a path's last name is in, which must be there, and that name.
    pub(super) fn place(&self, path: &Path) -> Option<(Ino, OsString)> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_owned()))
    }

    /// A node without a name; a file without content.
    pub(super) fn add(&mut self, what: &Made) -> Ino {
        let ino = self.nodes.last_key_value().map_or(0, |(last, _)| last + 1);
        let node = match what {
            Made::Dir { mode } => Node::Dir { mode: *mode, names: BTreeMap::new() },
            Made::File { mode, .. } => Node::File { mode: *mode, bytes: Vec::new() },
            Made::Symlink { target } => Node::Symlink { target: target.clone() },
            Made::Special => Node::Special,
        };
        self.nodes.insert(ino, node);
        ino
    }

    fn names(&mut self, dir: Ino) -> Option<&mut BTreeMap<OsString, Ino>> {
        match self.nodes.get_mut(&dir)? {
            Node::Dir { names, .. } => Some(names),
            Node::File { .. } | Node::Symlink { .. } | Node::Special => None,
        }
    }

    pub(super) fn link(&mut self, (dir, name): &(Ino, OsString), ino: Ino) {
        if let Some(names) = self.names(*dir) {
            names.insert(name.clone(), ino);
        }
    }

    /// Gives a name to a node of `all`, empty if it is new here.
    pub(super) fn enter(&mut self, at: &(Ino, OsString), ino: Ino, all: &Self) {
        self.nodes.entry(ino).or_insert_with(|| match all.nodes.get(&ino) {
            Some(Node::Dir { mode, .. }) => Node::Dir { mode: *mode, names: BTreeMap::new() },
            Some(Node::File { mode, .. }) => Node::File { mode: *mode, bytes: Vec::new() },
            Some(Node::Symlink { target }) => Node::Symlink { target: target.clone() },
            Some(Node::Special) | None => Node::Special,
        });
        self.link(at, ino);
    }

    pub(super) fn rename(&mut self, from: &(Ino, OsString), to: &(Ino, OsString), ino: Ino) {
        let there = self.names(from.0).and_then(|names| names.get(&from.1)) == Some(&ino);
        if there {
            self.remove(from, ino);
            self.link(to, ino);
        }
    }

    pub(super) fn remove(&mut self, (dir, name): &(Ino, OsString), ino: Ino) {
        if let Some(names) = self.names(*dir)
            && names.get(name) == Some(&ino)
        {
            names.remove(name);
        }
    }

    pub(super) fn write(&mut self, ino: Ino, content: Vec<u8>) {
        if let Some(Node::File { bytes, .. }) = self.nodes.get_mut(&ino) {
            *bytes = content;
        }
    }

    pub(super) fn content(&self, ino: Ino) -> &[u8] {
        match self.nodes.get(&ino) {
            Some(Node::File { bytes, .. }) => bytes,
            Some(Node::Dir { .. } | Node::Symlink { .. } | Node::Special) | None => &[],
        }
    }
}
