//! What a container's first process does between `clone` and `exec`.
//!
//! Everything is here before the clone, texts with their NUL: the child allocates nothing, takes no lock and logs nothing.

use std::ffi::CString;
use std::fmt;

use crate::{Capabilities, Propagation, User};

/// The kernel's mount flags; the same numbers on every architecture. Source: linux/mount.h, mount(2).
#[allow(missing_docs, reason = "the names are the kernel's")]
pub mod mount_flags {
    pub const RDONLY: u64 = 1;
    pub const NOSUID: u64 = 2;
    pub const NODEV: u64 = 4;
    pub const NOEXEC: u64 = 8;
    pub const REMOUNT: u64 = 32;
    pub const BIND: u64 = 4096;
    pub const MOVE: u64 = 8192;
    pub const REC: u64 = 16384;
    pub const PRIVATE: u64 = 1 << 18;
    pub const SLAVE: u64 = 1 << 19;
    pub const STRICTATIME: u64 = 1 << 24;
}

/// One thing the child does. Paths before [`ChildStep::EnterRoot`] are the host's, after it the container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildStep {
    /// SIGKILL when the shim dies. Setting ids clears it, so it is done again after them, with a look whether the shim lives.
    DieWithShim,
    /// Session and group of its own, no terminal.
    NewSession,
    /// A session keyring of its own: the host's keys are not inherited.
    NewKeyring,
    /// Sees its own cgroup as the root of the tree; skipped by kernels before 4.6.
    NewCgroupNamespace,
    /// Writes `/proc/self/oom_score_adj`.
    OomScoreAdj(CString),
    /// Later mounts here stay here; the host's go on arriving until the old root is detached.
    SlaveMounts,
    /// Opens a path of the host at a fixed descriptor, as a place only (O_PATH).
    Open {
        /// The descriptor, from [`super::container::FD_BASE`].
        fd: i32,
        /// What.
        path: CString,
    },
    /// The same below a directory, by a relative path that does not leave it.
    OpenBelow {
        /// The descriptor.
        fd: i32,
        /// The directory.
        dir: CString,
        /// The path.
        path: CString,
        /// Its components, for kernels before 5.6: then no symlink at all is followed.
        parts: Vec<CString>,
    },
    /// Mounts the root: overlayfs over descriptors. Tried first with `volatile` (no flushing of a layer that is thrown
    /// away: spares flash), then without, as kernels before 5.10 want it.
    Overlay {
        /// Where.
        target: CString,
        /// `lowerdir=…,upperdir=…,workdir=…`.
        options: CString,
        /// The same with `,volatile`.
        options_volatile: CString,
    },
    /// Makes the mount at `root` this process' root: from here on no path leads out of it, by `..` or otherwise. The old
    /// root stays reachable by descriptor only.
    EnterRoot {
        /// Where the root was mounted.
        root: CString,
    },
    /// A directory in the image's way is one, not a symlink (CVE-2019-19921: /proc as a symlink). Made if absent.
    RealDir(CString),
    /// Makes a directory, mode 0755; `Ok` if it is there.
    MakeDir(CString),
    /// Mounts a filesystem.
    Mount {
        /// Kernel's name of the filesystem, also its source.
        fstype: CString,
        /// Where.
        target: CString,
        /// See [`mount_flags`].
        flags: u64,
        /// Its own options.
        options: CString,
        /// Skipped where the kernel does not have it.
        optional: bool,
    },
    /// Makes what a bind goes on: directories on the way, then a directory or an empty file as the source is.
    Target {
        /// The opened source; negative: a directory.
        fd: i32,
        /// Every directory on the way, the outermost first.
        parents: Vec<CString>,
        /// The target.
        path: CString,
    },
    /// Binds an opened source, without its device nodes (nodev).
    Bind {
        /// The directory `/proc/self/fd`.
        dir: i32,
        /// The opened source's number.
        name: CString,
        /// Where, in the container.
        target: CString,
        /// Made read-only after.
        readonly: bool,
        /// Set after.
        propagation: Propagation,
        /// The source, for errors.
        source: CString,
    },
    /// A character device.
    Device {
        /// Where.
        path: CString,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Makes an empty file, mode 0666; `Ok` if it is there.
    MakeFile(CString),
    /// Binds a device node.
    BindDevice {
        /// The directory it is in, opened.
        dir: i32,
        /// Its name there.
        name: CString,
        /// Where, in the container.
        target: CString,
    },
    /// A symlink.
    Symlink {
        /// Its text.
        to: CString,
        /// Where.
        at: CString,
    },
    /// Covers a path: a file by /dev/null, a directory by an empty read-only tmpfs. Absent ones are skipped.
    Mask(CString),
    /// Makes a path read-only. Absent ones are skipped.
    ReadonlyPath(CString),
    /// The root cannot be written.
    ReadonlyRoot,
    /// Makes the root the mount namespace's, and lets go of the host's mounts (R2).
    LeaveOldRoot,
    /// stdin, stdout and stderr.
    Stdio,
    /// Closes every other descriptor but the one that errors go up.
    CloseOthers,
    /// Working directory, made if absent. After [`ChildStep::CloseOthers`]: a path through `/proc/self/fd` leads nowhere (CVE-2024-21626).
    Cwd {
        /// Every directory on the way and the last.
        parents: Vec<CString>,
        /// Where to go.
        path: CString,
    },
    /// Open files 1024 (hard 524,288 or the host's), no core files: what systemd gives services, and flash is spared.
    Rlimits,
    /// Every signal as a new process expects it: none blocked, none ignored.
    Signals,
    /// Drops what is not in the set from the bounding set, and clears the ambient set.
    BoundingSet(Capabilities),
    /// Groups, gid, uid.
    Identity(User),
    /// Effective and permitted; inheritable is empty. For a uid other than 0 these are empty.
    Capabilities(Capabilities),
    /// No more rights by `exec`.
    NoNewPrivs,
    /// Loads the filter that was compiled before the clone. Without no_new_privs it needs CAP_SYS_ADMIN and so comes before the capabilities.
    Seccomp,
    /// Becomes the program: the first candidate that there is.
    Exec {
        /// Absolute or relative paths, in PATH's order.
        candidates: Vec<CString>,
        /// Arguments, the program's name first.
        argv: Vec<CString>,
        /// Environment.
        envp: Vec<CString>,
    },
}

/// As in an error: `mount proc on /proc`.
impl fmt::Display for ChildStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |c: &CString| c.to_string_lossy().into_owned();
        match self {
            Self::DieWithShim => f.write_str("bind the container's life to its shim's"),
            Self::NewSession => f.write_str("make a session"),
            Self::NewKeyring => f.write_str("make a session keyring"),
            Self::NewCgroupNamespace => f.write_str("make a cgroup namespace"),
            Self::OomScoreAdj(score) => write!(f, "set oom_score_adj to {}", text(score)),
            Self::SlaveMounts => f.write_str("cut mounts off from the host's"),
            Self::Open { path, .. } => write!(f, "open {}", text(path)),
            Self::OpenBelow { dir, path, .. } => {
                write!(f, "open {} without leaving {}", text(path), text(dir))
            }
            Self::Overlay { .. } => f.write_str(
                "mount the root as overlayfs (its directory must be on a local filesystem with extended attributes, as ext4)",
            ),
            Self::EnterRoot { .. } => f.write_str("enter the root"),
            Self::RealDir(path) => write!(f, "use {} of the image as a directory", text(path)),
            Self::MakeDir(path) => write!(f, "make directory {}", text(path)),
            Self::Mount { fstype, target, .. } => {
                write!(f, "mount {} on {}", text(fstype), text(target))
            }
            Self::Target { path, .. } => write!(f, "make mount point {}", text(path)),
            Self::Bind { target, source, .. } => {
                write!(f, "bind {} on {}", text(source), text(target))
            }
            Self::Device { path, .. } => write!(f, "make device {}", text(path)),
            Self::MakeFile(path) => write!(f, "make file {}", text(path)),
            Self::BindDevice { target, .. } => write!(f, "bind device {}", text(target)),
            Self::Symlink { at, .. } => write!(f, "make symlink {}", text(at)),
            Self::Mask(path) => write!(f, "mask {}", text(path)),
            Self::ReadonlyPath(path) => write!(f, "make {} read-only", text(path)),
            Self::ReadonlyRoot => f.write_str("make the root read-only"),
            Self::LeaveOldRoot => f.write_str("leave the host's root"),
            Self::Stdio => f.write_str("connect stdin, stdout and stderr"),
            Self::CloseOthers => f.write_str("close inherited descriptors"),
            Self::Cwd { path, .. } => write!(f, "change to working directory {}", text(path)),
            Self::Rlimits => f.write_str("set resource limits"),
            Self::Signals => f.write_str("reset signals"),
            Self::BoundingSet(set) => write!(f, "reduce the bounding set to {set:?}"),
            Self::Identity(User { uid, gid, .. }) => write!(f, "become user {uid}, group {gid}"),
            Self::Capabilities(set) => write!(f, "set capabilities {set:?}"),
            Self::NoNewPrivs => f.write_str("set no_new_privs"),
            Self::Seccomp => f.write_str("load the seccomp filter"),
            Self::Exec { argv, .. } => match argv.first() {
                Some(program) => write!(f, "exec {}", text(program)),
                None => f.write_str("exec"),
            },
        }
    }
}
