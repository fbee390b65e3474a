//! Carries out [`ChildStep`]s between `clone` and `exec`. Nothing here allocates, locks, logs or unwinds.

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::ptr;

use super::seccomp::Instruction;
use crate::plan::{ChildStep, FD_NEW_ROOT, FD_OLD_ROOT, mount_flags as flag};
use crate::{Capabilities, Propagation, User};

/// A kernel's error number.
type Errno = i32;

/// All that the child needs, made before the clone.
pub(super) struct Context<'a> {
    /// What to do.
    pub(super) steps: &'a [ChildStep],
    /// stdin, stdout, stderr; the reader of stdout is the shim.
    pub(super) stdio: [c_int; 3],
    /// A byte comes here when the child is in its cgroup (R1); the end of it means that the starter died.
    pub(super) go: c_int,
    /// Where (step, errno) goes; closed by a successful `exec`.
    pub(super) error: c_int,
    /// The compiled filter.
    pub(super) filter: &'a [Instruction],
    /// Arguments and environment, NULL at the end.
    pub(super) argv: &'a [*const c_char],
    pub(super) envp: &'a [*const c_char],
    /// For the test of R4: this step fails with EIO.
    pub(super) fail_at: Option<usize>,
}

/// What changes while steps are done.
struct Progress {
    /// A descriptor whose reader is the shim.
    alive: c_int,
}

/// Waits to be placed, does the steps, tells a failure, and does not come back.
pub(super) fn run(context: &Context<'_>) -> ! {
    let mut byte = [0_u8; 1];
    // SAFETY: `byte` is one byte long; the descriptor is ours.
    let read = unsafe { libc::read(context.go, byte.as_mut_ptr().cast(), 1) };
    if read == 1 {
        // Permissions are meant as they are written; the program gets the usual mask.
        // SAFETY: no pointers.
        unsafe { libc::umask(0) };
        let mut progress = Progress { alive: context.stdio[1] };
        for (at, step) in context.steps.iter().enumerate() {
            let done = if context.fail_at == Some(at) {
                Err(libc::EIO)
            } else {
                perform(step, context, &mut progress)
            };
            if let Err(errno) = done {
                let at = u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes();
                let [a, b, c, d] = at;
                let [e, f, g, h] = errno.to_le_bytes();
                let message = [a, b, c, d, e, f, g, h];
                // SAFETY: eight bytes are written from an array of eight; a pipe takes them whole.
                unsafe { libc::write(context.error, message.as_ptr().cast(), message.len()) };
                break;
            }
        }
    }
    // SAFETY: ends this process without running destructors that belong to the parent.
    unsafe { libc::_exit(127) }
}

fn perform(step: &ChildStep, context: &Context<'_>, progress: &mut Progress) -> Result<(), Errno> {
    match step {
        ChildStep::DieWithShim => die_with_shim(progress.alive),
        ChildStep::NewSession => {
            // SAFETY: no pointers.
            check(unsafe { libc::setsid() }.into())
        }
        ChildStep::NewKeyring => new_keyring(),
        ChildStep::NewCgroupNamespace => {
            // SAFETY: no pointers.
            let done = check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into());
            skip(done, &[libc::EINVAL])
        }
        ChildStep::OomScoreAdj(score) => {
            // Lowering needs CAP_SYS_RESOURCE; a host without it says so in its facts.
            let done = write_file(c"/proc/self/oom_score_adj", score);
            skip(done, &[libc::EACCES, libc::EPERM])
        }
        ChildStep::SlaveMounts => mount(None, c"/", None, flag::SLAVE | flag::REC, None),
        ChildStep::Open { fd, path } => open_at(*fd, path),
        ChildStep::OpenBelow { fd, dir, path, parts } => {
            open_at(*fd, dir)?;
            open_below(*fd, path, parts)
        }
        ChildStep::Overlay { target, options, options_volatile } => {
            let kind = Some(c"overlay");
            match mount(kind, target, kind, flag::NODEV, Some(options_volatile)) {
                Err(libc::EINVAL) => mount(kind, target, kind, flag::NODEV, Some(options)),
                done => done,
            }
        }
        ChildStep::EnterRoot { root } => enter_root(root),
        ChildStep::RealDir(path) => real_dir(path),
        ChildStep::MakeDir(path) => make_dir(path),
        ChildStep::MakeFile(path) => make_file(path),
        ChildStep::Mount { fstype, target, flags, options, optional } => {
            let done = mount(Some(fstype), target, Some(fstype), *flags, Some(options));
            let absent = &[libc::ENODEV, libc::EINVAL, libc::EPERM, libc::EBUSY, libc::ENOENT];
            if *optional { skip(done, absent) } else { done }
        }
        ChildStep::Target { fd, parents, path } => {
            for parent in parents {
                make_dir(parent)?;
            }
            if *fd < 0 || is_dir(*fd)? { make_dir(path) } else { make_file(path) }
        }
        ChildStep::Bind { dir, name, target, readonly, propagation, source: _ } => {
            bind(*dir, name, target)?;
            set_attributes(target, ATTR_NODEV, true)?;
            if *readonly {
                set_attributes(target, ATTR_RDONLY, false)?;
            }
            let kind = match propagation {
                Propagation::Slave => flag::SLAVE,
                Propagation::Private | Propagation::Shared => flag::PRIVATE,
            };
            mount(None, target, None, kind | flag::REC, None)
        }
        ChildStep::BindDevice { dir, name, target } => bind(*dir, name, target),
        ChildStep::Device { path, major, minor } => device(path, *major, *minor),
        ChildStep::Symlink { to, at } => {
            // SAFETY: both are texts with their NUL.
            check(unsafe { libc::symlink(to.as_ptr(), at.as_ptr()) }.into())
        }
        ChildStep::Mask(path) => skip(mask(path), &[libc::ENOENT, libc::ENOTDIR]),
        ChildStep::ReadonlyPath(path) => skip(readonly_path(path), &[libc::ENOENT, libc::ENOTDIR]),
        ChildStep::ReadonlyRoot => set_attributes(c"/", ATTR_RDONLY, false),
        ChildStep::LeaveOldRoot => leave_old_root(),
        ChildStep::Stdio => {
            for (to, from) in (0..).zip(context.stdio) {
                // SAFETY: no pointers.
                check(unsafe { libc::dup2(from, to) }.into())?;
            }
            progress.alive = 1;
            Ok(())
        }
        ChildStep::CloseOthers => close_others(context.error),
        ChildStep::Cwd { parents, path } => {
            for parent in parents {
                make_dir(parent)?;
            }
            change_dir(path)
        }
        ChildStep::Rlimits => rlimits(),
        ChildStep::Signals => signals(),
        ChildStep::BoundingSet(set) => bounding_set(*set),
        ChildStep::Identity(user) => identity(user),
        ChildStep::Capabilities(set) => set_capabilities(*set),
        ChildStep::NoNewPrivs => prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        ChildStep::Seccomp => load_filter(context.filter),
        ChildStep::Exec { candidates, .. } => exec(candidates, context),
    }
}

fn check(result: c_long) -> Result<(), Errno> {
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Takes the errors that mean "the kernel or the image does not have it" for done.
fn skip(done: Result<(), Errno>, absent: &[Errno]) -> Result<(), Errno> {
    match done {
        Err(errno) if absent.contains(&errno) => Ok(()),
        done => done,
    }
}

fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> Result<(), Errno> {
    // SAFETY: only options that take numbers are passed here, except the filter, whose pointer its caller keeps alive.
    check(unsafe { libc::prctl(option, a, b, c, d) }.into())
}

fn signed(number: c_int) -> c_ulong {
    c_ulong::try_from(number).unwrap_or(0)
}

fn die_with_shim(alive: c_int) -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, signed(libc::SIGKILL), 0, 0, 0)?;
    // The shim may have died before: then nobody reads our output any more, and the pipe says so.
    let mut poll = libc::pollfd { fd: alive, events: 0, revents: 0 };
    // SAFETY: one entry, and its count.
    check(unsafe { libc::poll(&raw mut poll, 1, 0) }.into())?;
    if poll.revents & libc::POLLERR == 0 { Ok(()) } else { Err(libc::EOWNERDEAD) }
}

fn new_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: c_long = 1;
    let no_name = ptr::null::<c_char>();
    // SAFETY: a NULL name is an anonymous keyring.
    let done = check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) });
    skip(done, &[libc::ENOSYS, libc::EDQUOT])
}

fn write_file(path: &CStr, text: &CStr) -> Result<(), Errno> {
    let text = text.to_bytes();
    // SAFETY: a text with its NUL.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(fd.into())?;
    // SAFETY: the buffer is `text.len()` bytes long; the descriptor was just opened and is closed once.
    unsafe {
        let written = libc::write(fd, text.as_ptr().cast(), text.len());
        let done = if written < 0 { Err(errno()) } else { Ok(()) };
        libc::close(fd);
        done
    }
}

fn open_at(fixed: c_int, path: &CStr) -> Result<(), Errno> {
    // SAFETY: a text with its NUL.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    check(fd.into())?;
    replace(fd, fixed)
}

/// The same number on every architecture.
const SYS_OPENAT2: c_long = 437;

/// Replaces the directory opened at `fixed` by what is at `path` below it.
fn open_below(fixed: c_int, path: &CStr, parts: &[std::ffi::CString]) -> Result<(), Errno> {
    #[repr(C)]
    struct How {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    const NO_MAGICLINKS: u64 = 2;
    const BENEATH: u64 = 8;
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    let how =
        How { flags: u64::try_from(flags).unwrap_or(0), mode: 0, resolve: NO_MAGICLINKS | BENEATH };
    // SAFETY: a text with its NUL; the kernel's `open_how` with its size.
    let found = unsafe {
        let size = size_of::<How>();
        libc::syscall(SYS_OPENAT2, fixed, path.as_ptr(), &raw const how, size)
    };
    match check(found) {
        Ok(()) => replace(c_int::try_from(found).unwrap_or(-1), fixed),
        Err(libc::ENOSYS) => {
            for part in parts {
                // SAFETY: a text with its NUL.
                let next = unsafe { libc::openat(fixed, part.as_ptr(), flags | libc::O_NOFOLLOW) };
                check(next.into())?;
                replace(next, fixed)?;
                if file_type(fixed)? == libc::S_IFLNK {
                    return Err(libc::ELOOP);
                }
            }
            Ok(())
        }
        failed => failed,
    }
}

/// Makes `fixed` what `fd` is, and closes `fd`.
fn replace(fd: c_int, fixed: c_int) -> Result<(), Errno> {
    if fd == fixed {
        return Ok(());
    }
    // SAFETY: no pointers; `fd` was just opened and is closed once.
    unsafe {
        let done = check(libc::dup3(fd, fixed, libc::O_CLOEXEC).into());
        libc::close(fd);
        done
    }
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    fstype: Option<&CStr>,
    flags: u64,
    options: Option<&CStr>,
) -> Result<(), Errno> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    let flags = c_ulong::try_from(flags).unwrap_or(0);
    let (source, fstype, options) = (pointer(source), pointer(fstype), pointer(options));
    // SAFETY: each pointer is NULL or a text with its NUL.
    check(unsafe { libc::mount(source, target.as_ptr(), fstype, flags, options.cast()) }.into())
}

fn bind(dir: c_int, name: &CStr, target: &CStr) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::fchdir(dir) }.into())?;
    mount(Some(name), target, None, flag::BIND | flag::REC, None)?;
    // SAFETY: a text with its NUL.
    check(unsafe { libc::chdir(c"/".as_ptr()) }.into())
}

const ATTR_RDONLY: u64 = 1;
const ATTR_NODEV: u64 = 4;
/// The same number on every architecture; the C libraries do not have it yet.
const SYS_MOUNT_SETATTR: c_long = 442;

/// Adds attributes to a mount, keeping the others; to all below it too where the kernel can (5.12) and `recursive` is set.
fn set_attributes(target: &CStr, attributes: u64, recursive: bool) -> Result<(), Errno> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let attr = MountAttr { set: attributes, clear: 0, propagation: 0, userns: 0 };
    let at = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure is the kernel's first version of `mount_attr` and its size is passed.
    let done = check(unsafe {
        libc::syscall(
            SYS_MOUNT_SETATTR,
            libc::AT_FDCWD,
            target.as_ptr(),
            at,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    });
    match done {
        Err(libc::ENOSYS | libc::EPERM | libc::EINVAL) => remount(target, attributes),
        done => done,
    }
}

/// The old way: a bind remount sets all flags at once, so those that are there are read first.
fn remount(target: &CStr, attributes: u64) -> Result<(), Errno> {
    // SAFETY: an all-zero statvfs is a valid one; the path has its NUL.
    let there = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        check(libc::statvfs(target.as_ptr(), &raw mut stat).into())?;
        stat.f_flag as u64
    };
    // The low four flags have the same bits in statvfs and mount; the times' do not.
    const ST_NOATIME: u64 = 1024;
    const MS_NOATIME: u64 = 1024;
    let kept = there & 0xf | if there & ST_NOATIME != 0 { MS_NOATIME } else { 0 };
    mount(None, target, None, flag::REMOUNT | flag::BIND | kept | attributes, None)
}

/// The root is only entered: with the host's mounted over it, as `pivot_root` leaves it, the `..` of an image's symlink
/// would step into the host's.
fn enter_root(root: &CStr) -> Result<(), Errno> {
    open_at(FD_OLD_ROOT, c"/")?;
    // SAFETY: texts with their NUL.
    unsafe {
        check(libc::chdir(root.as_ptr()).into())?;
        check(libc::chroot(c".".as_ptr()).into())?;
        check(libc::chdir(c"/".as_ptr()).into())
    }
}

/// No path of the image may be resolved between the first and the last call.
fn leave_old_root() -> Result<(), Errno> {
    open_at(FD_NEW_ROOT, c"/")?;
    let here = c".".as_ptr();
    // SAFETY: texts with their NUL.
    unsafe {
        check(libc::fchdir(FD_OLD_ROOT).into())?;
        check(libc::chroot(here).into())?;
        check(libc::fchdir(FD_NEW_ROOT).into())?;
        match check(libc::syscall(libc::SYS_pivot_root, here, here)) {
            // An initramfs cannot be pivoted away: the new root is moved over it, as `switch_root` does, and there is
            // nothing to detach.
            Err(libc::EINVAL) => {
                mount(Some(c"."), c"/", None, flag::MOVE, None)?;
                check(libc::chroot(here).into())?;
            }
            done => {
                done?;
                check(libc::fchdir(FD_OLD_ROOT).into())?;
                check(libc::umount2(here, libc::MNT_DETACH).into())?;
            }
        }
        check(libc::chdir(c"/".as_ptr()).into())
    }
}

fn real_dir(path: &CStr) -> Result<(), Errno> {
    make_dir(path)?;
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: a text with its NUL; the descriptor is closed once.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags);
        check(fd.into())?;
        check(libc::close(fd).into())
    }
}

fn make_dir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a text with its NUL.
    let done = check(unsafe { libc::mkdir(path.as_ptr(), 0o755) }.into());
    skip(done, &[libc::EEXIST, libc::EROFS])
}

fn make_file(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a text with its NUL.
    let done = check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFREG | 0o666, 0) }.into());
    skip(done, &[libc::EEXIST, libc::EROFS])
}

fn device(path: &CStr, major: u32, minor: u32) -> Result<(), Errno> {
    let number = libc::makedev(major, minor);
    // SAFETY: a text with its NUL.
    unsafe {
        check(libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, number).into())?;
        // Whatever the umask was.
        check(libc::chmod(path.as_ptr(), 0o666).into())
    }
}

fn is_dir(fd: c_int) -> Result<bool, Errno> {
    Ok(file_type(fd)? == libc::S_IFDIR)
}

fn file_type(fd: c_int) -> Result<libc::mode_t, Errno> {
    // SAFETY: an all-zero stat is a valid one.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstat(fd, &raw mut stat).into())?;
        Ok(stat.st_mode & libc::S_IFMT)
    }
}

fn mask(path: &CStr) -> Result<(), Errno> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: a text with its NUL; the descriptor is closed once.
    let dir = unsafe {
        let fd = libc::open(path.as_ptr(), flags);
        check(fd.into())?;
        let dir = is_dir(fd);
        libc::close(fd);
        dir?
    };
    if dir {
        let flags = flag::RDONLY | flag::NOSUID | flag::NODEV | flag::NOEXEC;
        mount(Some(c"tmpfs"), path, Some(c"tmpfs"), flags, Some(c"size=0k"))
    } else {
        mount(Some(c"/dev/null"), path, None, flag::BIND, None)
    }
}

fn readonly_path(path: &CStr) -> Result<(), Errno> {
    mount(Some(path), path, None, flag::BIND | flag::REC, None)?;
    set_attributes(path, ATTR_RDONLY, false)
}

/// The same number on every architecture.
const SYS_CLOSE_RANGE: c_long = 436;

fn close_others(keep: c_int) -> Result<(), Errno> {
    let range = |first: c_int, last: libc::c_uint| {
        // SAFETY: closes descriptors of this process only, and nothing of it owns one any more.
        check(unsafe { libc::syscall(SYS_CLOSE_RANGE, first, last, 0) })
    };
    let below = libc::c_uint::try_from(keep - 1).unwrap_or(0);
    let done = if keep > 3 { range(3, below) } else { Ok(()) };
    match done.and_then(|()| range(keep + 1, libc::c_uint::MAX)) {
        // Before Linux 5.9. Everything is close-on-exec as well; this is for the working directory's sake.
        Err(libc::ENOSYS) => {
            for fd in (3..4096).filter(|fd| *fd != keep) {
                // SAFETY: as above.
                unsafe { libc::close(fd) };
            }
            Ok(())
        }
        done => done,
    }
}

fn change_dir(path: &CStr) -> Result<(), Errno> {
    let mut buffer = [0_u8; 4096];
    // SAFETY: a text with its NUL; the buffer and its length.
    unsafe {
        check(libc::chdir(path.as_ptr()).into())?;
        check(libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()))?;
    }
    // The kernel writes "(unreachable)…" for a directory outside the root.
    if buffer.first() == Some(&b'/') { Ok(()) } else { Err(libc::EACCES) }
}

fn rlimits() -> Result<(), Errno> {
    #[repr(C)]
    struct Limit {
        soft: u64,
        hard: u64,
    }
    let call = |resource: c_long, new: *const Limit, old: *mut Limit| {
        // SAFETY: the pointers are NULL or to the kernel's `rlimit64`.
        check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new, old) })
    };
    const CORE: c_long = 4;
    const NOFILE: c_long = 7;
    for (resource, soft, hard) in [(CORE, 0, u64::MAX), (NOFILE, 1024, 524_288)] {
        let mut limit = Limit { soft: 0, hard: 0 };
        call(resource, ptr::null(), &raw mut limit)?;
        limit.hard = limit.hard.min(hard);
        limit.soft = limit.hard.min(soft);
        call(resource, &raw const limit, ptr::null_mut())?;
    }
    Ok(())
}

fn signals() -> Result<(), Errno> {
    /// Zeros are the kernel's `sigaction` for SIG_DFL, whose size is below this on every architecture.
    const DEFAULT: [u64; 8] = [0; 8];
    const MASK_BYTES: usize = 8;
    // The C library's functions would keep their hands on two signals of their own, and leave them ignored if they are.
    // SAFETY: reads of the kernel are within the array; no old action or mask is asked for.
    unsafe {
        libc::umask(0o022);
        for signal in 1..=64 {
            let none = ptr::null_mut::<c_void>();
            // SIGKILL and SIGSTOP cannot be set, and need not be.
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), none, MASK_BYTES);
        }
        let (how, none) = (libc::SIG_SETMASK, ptr::null_mut::<c_void>());
        let mask = DEFAULT.as_ptr();
        check(libc::syscall(libc::SYS_rt_sigprocmask, how, mask, none, MASK_BYTES))
    }
}

fn bounding_set(set: Capabilities) -> Result<(), Errno> {
    for cap in 0..64 {
        if set.bits() & (1 << cap) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) {
            // Past the kernel's last capability.
            Err(libc::EINVAL) => break,
            done => done?,
        }
    }
    let clear = signed(libc::PR_CAP_AMBIENT_CLEAR_ALL);
    skip(prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0), &[libc::EINVAL])
}

// 32-bit machines have calls for 16-bit ids under the plain names.
#[cfg(not(any(target_arch = "arm", target_arch = "x86")))]
use libc::{
    SYS_setgroups as SYS_SETGROUPS, SYS_setresgid as SYS_SETRESGID, SYS_setresuid as SYS_SETRESUID,
};
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
use libc::{
    SYS_setgroups32 as SYS_SETGROUPS, SYS_setresgid32 as SYS_SETRESGID,
    SYS_setresuid32 as SYS_SETRESUID,
};

fn identity(user: &User) -> Result<(), Errno> {
    let User { uid, gid, groups } = user;
    for fd in 0..=2 {
        // So that the container may open /dev/stdout by name; devices stay root's.
        if file_type(fd)? == libc::S_IFIFO {
            // SAFETY: no pointers.
            check(unsafe { libc::fchown(fd, *uid, *gid) }.into())?;
        }
    }
    // The C library's functions would signal other threads; there are none here.
    // SAFETY: the list and its length.
    unsafe {
        check(libc::syscall(SYS_SETGROUPS, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(SYS_SETRESGID, *gid, *gid, *gid))?;
        check(libc::syscall(SYS_SETRESUID, *uid, *uid, *uid))
    }
}

fn set_capabilities(set: Capabilities) -> Result<(), Errno> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    #[derive(Copy, Clone)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    /// Two halves; linux/capability.h.
    const VERSION_3: u32 = 0x2008_0522;
    let half = |bits: u64| {
        let bits = u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        Half { effective: bits, permitted: bits, inheritable: 0 }
    };
    let header = Header { version: VERSION_3, pid: 0 };
    let data = [half(set.bits()), half(set.bits() >> 32)];
    // SAFETY: the kernel's structures of version 3.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}

fn load_filter(filter: &[Instruction]) -> Result<(), Errno> {
    #[repr(C)]
    struct Program {
        count: u16,
        instructions: *const Instruction,
    }
    let count = u16::try_from(filter.len()).map_err(|_too_long| libc::E2BIG)?;
    let program = Program { count, instructions: filter.as_ptr() };
    // SAFETY: `Program` is the kernel's `sock_fprog`, `Instruction` its `sock_filter`; both outlive the call.
    let done = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program as *const c_void,
        )
    };
    check(done.into())
}

fn exec(candidates: &[std::ffi::CString], context: &Context<'_>) -> Result<(), Errno> {
    let mut found = libc::ENOENT;
    for path in candidates {
        // SAFETY: the path has its NUL; both vectors end with NULL and their texts live in the steps.
        unsafe { libc::execve(path.as_ptr(), context.argv.as_ptr(), context.envp.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            // There, but not to be run: told unless a later directory of PATH has one that can.
            libc::EACCES => found = libc::EACCES,
            other => return Err(other),
        }
    }
    Err(found)
}
