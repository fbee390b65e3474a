//! What `doctor` finds around the kernel: the clock, the disk of the data directory, random numbers. Each lack has the line
//! that mends it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use coracle_agent_logic::node::PRESSURE_DISK_PART;
use coracle_runtime::{Fact, FactKind};
use nix::fcntl::OFlag;
use rustix::fs::{StatVfs, StatVfsMountFlags, statfs, statvfs};

/// This program was not there before: 2026-11-01. A clock that says less has not been set.
const BUILT_AFTER_S: u64 = 1_793_491_200;
/// A disk whose sync takes longer makes every write to the cluster wait as long.
const SYNC_MAX: Duration = Duration::from_millis(100);
/// Syncs tried; the middle one counts.
const SYNCS: usize = 5;
/// Where a program that keeps the clock leaves its mark.
const KEEPERS: [&str; 5] = [
    "/run/systemd/timesync/synchronized",
    "/run/chrony/chronyd.pid",
    "/run/chronyd.pid",
    "/run/ntpd.pid",
    "/run/ntpsec/ntpd.pid",
];
/// File systems that cannot be the upper layer of an overlay (overlayfs.rst): their magic numbers (linux/magic.h), names.
const NO_UPPER: [(u32, &str); 4] =
    [(0x794c_7630, "overlay"), (0x6969, "nfs"), (0x4d44, "vfat"), (0x2011_bab0, "exfat")];
const TMPFS: u32 = 0x0102_1994;

/// Looks at this machine. `data_dir`: where the agent's data is or will be.
pub(crate) fn facts(data_dir: &Path) -> Vec<Fact> {
    let kept = KEEPERS.iter().any(|mark| Path::new(mark).exists());
    let has_chip = fs::read_dir("/sys/class/rtc").is_ok_and(|mut chips| chips.next().is_some());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The directory may not be there yet: what is above it has its disk.
    let there = data_dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let mut facts = vec![clock(now.as_secs(), has_chip, kept)];
    match (statvfs(there), statfs(there)) {
        (Ok(space), Ok(kind)) => {
            facts.push(file_system(there, u32::try_from(kind.f_type).unwrap_or(0)));
            facts.push(space_left(there, &space));
            if !space.f_flag.contains(StatVfsMountFlags::RDONLY) {
                facts.push(sync_time(there, measured(there)));
            }
        }
        (Err(error), _) | (_, Err(error)) => facts.push(fact(
            "disk",
            FactKind::Fatal,
            format!("{} cannot be looked at: {error}", there.display()),
            "mount its disk, or give another --data-dir",
        )),
    }
    facts.push(entropy(random_ready()));
    facts
}

fn fact(name: &'static str, kind: FactKind, found: String, fix: impl Into<String>) -> Fact {
    Fact { name, kind, found, fix: fix.into() }
}

fn clock(unix_s: u64, has_chip: bool, kept: bool) -> Fact {
    let keeper = "run `apt-get install systemd-timesyncd`";
    let days = unix_s / 86_400;
    if unix_s < BUILT_AFTER_S {
        return fact(
            "clock",
            FactKind::Lacking,
            format!("not set: it is {days} days after 1970-01-01"),
            format!("{keeper} and wait for the network, or run `date -u -s 'YYYY-MM-DD hh:mm:ss'`"),
        );
    }
    match (has_chip, kept) {
        (_, true) => fact("clock", FactKind::Good, "set, and kept by the network".into(), ""),
        (true, false) => fact("clock", FactKind::Good, "set, and kept by a chip alone".into(), ""),
        (false, false) => fact(
            "clock",
            FactKind::Lacking,
            "set, but nothing keeps it: no chip, and no program that asks the network; it is wrong after a power cut".into(),
            keeper,
        ),
    }
}

fn file_system(dir: &Path, magic: u32) -> Fact {
    let at = dir.display();
    if let Some((_, name)) = NO_UPPER.iter().find(|(number, _)| *number == magic) {
        return fact(
            "data-dir",
            FactKind::Fatal,
            format!("{at} is on {name}, on which no container's root can be mounted"),
            "give a --data-dir on ext4, f2fs, xfs or btrfs",
        );
    }
    if magic == TMPFS {
        return fact(
            "data-dir",
            FactKind::Lacking,
            format!("{at} is in memory: identity, images and pods are gone after a reboot"),
            "give a --data-dir on a disk",
        );
    }
    fact("data-dir", FactKind::Good, format!("{at} is on a file system that overlays can use"), "")
}

fn space_left(dir: &Path, space: &StatVfs) -> Fact {
    let at = dir.display();
    if space.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let found = format!("{at} cannot be written");
        return fact("disk", FactKind::Fatal, found, format!("run `mount -o remount,rw {at}`"));
    }
    let mib = |blocks: u64| blocks.saturating_mul(space.f_frsize) >> 20;
    let found = format!("{} of {} MiB free", mib(space.f_bavail), mib(space.f_blocks));
    let clear = "`apt-get clean`, `journalctl --vacuum-size=50M` and `coracle-agent image remove NAME` make room";
    // As the node's own condition has it, DiskPressure.
    if space.f_bavail < space.f_blocks / PRESSURE_DISK_PART {
        return fact("disk", FactKind::Lacking, format!("{found}: no new pods come here"), clear);
    }
    // Some file systems have no fixed number: they say 0.
    if space.f_files > 0 && space.f_favail < space.f_files / 20 {
        let found = format!("{found}, but only {} of {} inodes", space.f_favail, space.f_files);
        return fact("disk", FactKind::Lacking, found, clear);
    }
    fact("disk", FactKind::Good, found, "")
}

/// How long a write takes until it is on the disk.
fn measured(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!(".coracle-doctor-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
    let mut once = || -> io::Result<Duration> {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        Ok(began.elapsed())
    };
    let took: io::Result<Vec<Duration>> = (0..SYNCS).map(|_| once()).collect();
    fs::remove_file(&path)?;
    let mut took = took?;
    took.sort_unstable();
    Ok(took.get(SYNCS / 2).copied().unwrap_or_default())
}

fn sync_time(dir: &Path, took: io::Result<Duration>) -> Fact {
    match took {
        Ok(took) if took <= SYNC_MAX => {
            fact("disk-sync", FactKind::Good, format!("{:.1} ms", took.as_secs_f64() * 1000.0), "")
        }
        Ok(took) => fact(
            "disk-sync",
            FactKind::Lacking,
            format!("{} ms until a write is on the disk: slow", took.as_millis()),
            "use a card of class A2 or an SSD for the control plane's --data-dir",
        ),
        Err(error) => fact(
            "disk-sync",
            FactKind::Fatal,
            format!("{} cannot be written: {error}", dir.display()),
            "run this as root; if the disk is full, make room; if it fails, replace it",
        ),
    }
}

/// Whether the kernel has random numbers already: reading them without waiting gives one.
fn random_ready() -> io::Result<bool> {
    let mut options = OpenOptions::new();
    let mut device: File =
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/random")?;
    match device.read(&mut [0]) {
        Ok(count) => Ok(count == 1),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn entropy(ready: io::Result<bool>) -> Fact {
    match ready {
        Ok(true) => fact("entropy", FactKind::Good, "random numbers are ready".into(), ""),
        Ok(false) => fact(
            "entropy",
            FactKind::Lacking,
            "random numbers are not ready: keys wait for them".into(),
            "run `apt-get install rng-tools5`, which feeds the board's own generator to the kernel",
        ),
        Err(error) => fact(
            "entropy",
            FactKind::Fatal,
            format!("/dev/random cannot be read: {error}"),
            "run `mount -t devtmpfs dev /dev`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fact: &Fact, kind: FactKind, says: &str) {
        assert_eq!(fact.kind, kind, "{fact:?}");
        assert_eq!(fact.fix.is_empty(), kind == FactKind::Good, "{fact:?}");
        assert!(fact.found.contains(says), "{fact:?}");
    }

    #[test]
    fn a_clock_is_set_and_kept() {
        check(&clock(86_400, true, false), FactKind::Lacking, "1 days after 1970");
        check(&clock(BUILT_AFTER_S, false, true), FactKind::Good, "by the network");
        check(&clock(BUILT_AFTER_S, true, false), FactKind::Good, "by a chip");
        check(&clock(BUILT_AFTER_S, false, false), FactKind::Lacking, "nothing keeps it");
    }

    #[test]
    fn a_disk_has_room_and_is_fast_enough() {
        let dir = Path::new("/data");
        let of = |free: u64, inodes: u64| {
            let mut space = statvfs("/").unwrap();
            (space.f_frsize, space.f_blocks, space.f_bavail) = (4096, 1_000_000, free);
            (space.f_files, space.f_favail) = (1000, inodes);
            space.f_flag = StatVfsMountFlags::empty();
            space
        };
        check(&space_left(dir, &of(500_000, 900)), FactKind::Good, "1953 of 3906 MiB free");
        check(&space_left(dir, &of(99_999, 900)), FactKind::Lacking, "no new pods");
        check(&space_left(dir, &of(500_000, 49)), FactKind::Lacking, "only 49 of 1000 inodes");
        let mut frozen = of(500_000, 900);
        frozen.f_flag = StatVfsMountFlags::RDONLY;
        check(&space_left(dir, &frozen), FactKind::Fatal, "cannot be written");
        check(&sync_time(dir, Ok(Duration::from_millis(2))), FactKind::Good, "2.0 ms");
        check(&sync_time(dir, Ok(Duration::from_millis(150))), FactKind::Lacking, "150 ms");
        let full = Err(io::Error::from(io::ErrorKind::StorageFull));
        check(&sync_time(dir, full), FactKind::Fatal, "cannot be written");
    }

    #[test]
    fn a_data_directory_can_hold_layers() {
        let dir = Path::new("/data");
        check(&file_system(dir, 0xef53), FactKind::Good, "overlays can use");
        check(&file_system(dir, 0x6969), FactKind::Fatal, "is on nfs");
        check(&file_system(dir, TMPFS), FactKind::Lacking, "gone after a reboot");
    }

    #[test]
    fn random_numbers_are_ready_or_awaited() {
        check(&entropy(random_ready()), FactKind::Good, "ready");
        check(&entropy(Ok(false)), FactKind::Lacking, "keys wait");
        check(&entropy(Err(io::ErrorKind::NotFound.into())), FactKind::Fatal, "/dev/random");
    }

    #[test]
    fn this_machine_has_all_of_them_and_keeps_nothing_of_it() {
        let dir = std::env::temp_dir();
        let names: Vec<&str> = facts(&dir.join("not/there/yet")).iter().map(|f| f.name).collect();
        assert_eq!(names, ["clock", "data-dir", "disk", "disk-sync", "entropy"]);
        let left = dir.join(format!(".coracle-doctor-{}", std::process::id()));
        assert!(!left.exists());
    }
}
