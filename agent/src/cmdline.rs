//! `coracle-agent doctor --fix`: the kernel's command line of a Raspberry Pi, whose firmware leaves the memory controller
//! off. The line is changed in place of a whole file, after a copy; a board that is no Pi is left alone.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

/// Where Raspberry Pi OS keeps the line: since bookworm, and before.
const PLACES: [&str; 2] = ["boot/firmware/cmdline.txt", "boot/cmdline.txt"];

/// What the kernel must be told; later words win over the firmware's own `cgroup_disable=memory`.
const WORDS: [&str; 2] = ["cgroup_enable=memory", "cgroup_memory=1"];

/// What `--fix` did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fixed {
    /// The line has the words now; the copy of what it was. They count after a reboot.
    Changed { file: PathBuf, copy: PathBuf },
    /// The line has the words already: only a reboot is missing.
    RebootIsMissing { file: PathBuf },
}

/// Changes the command line below `root` (`/`). An error says in one line why nothing was changed.
pub(crate) fn fix(root: &Path) -> Result<Fixed, String> {
    let model = fs::read(root.join("proc/device-tree/model")).unwrap_or_default();
    let model = String::from_utf8_lossy(&model).trim_end_matches('\0').to_owned();
    if !model.starts_with("Raspberry Pi") {
        let is = if model.is_empty() { "a board without a model" } else { &model };
        return Err(format!(
            "this is {is}, not a Raspberry Pi: add `{}` to the kernel's command line in its boot loader, and reboot",
            WORDS.join(" ")
        ));
    }
    // A note in the old place says where the file went; the first that is a line of `root=` counts.
    for place in PLACES {
        let file = root.join(place);
        let Ok(old) = fs::read_to_string(&file) else { continue };
        if !old.contains("root=") {
            continue;
        }
        let Some(new) = mended(&old) else { return Ok(Fixed::RebootIsMissing { file }) };
        let copy = file.with_extension("txt.before-coracle");
        let failed = |what: &str, error: std::io::Error| {
            format!("{what} failed: {error}; {} is as it was", file.display())
        };
        // The oldest copy is the one without any of our words: it stays.
        if !copy.exists() {
            replace(&copy, &old).map_err(|error| failed("the copy", error))?;
        }
        replace(&file, &new).map_err(|error| failed("the change", error))?;
        return Ok(Fixed::Changed { file, copy });
    }
    Err(format!("no /{} that names a root file system", PLACES.join(" and no /")))
}

/// The line with the words; `None` if it has them. One line, whatever its end was: the firmware reads no second.
fn mended(old: &str) -> Option<String> {
    let given: Vec<&str> = old.lines().next().unwrap_or_default().split_whitespace().collect();
    let off = |word: &&str| matches!(*word, "cgroup_disable=memory" | "cgroup_memory=0");
    let missing: Vec<&str> = WORDS.into_iter().filter(|word| !given.contains(word)).collect();
    if missing.is_empty() && !given.iter().any(off) {
        return None;
    }
    let kept = given.iter().copied().filter(|word| !off(word));
    Some(kept.chain(missing).collect::<Vec<_>>().join(" ") + "\n")
}

/// All of the new content or all of the old, also after a power cut.
fn replace(path: &Path, content: &str) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOCK: &str = "console=serial0,115200 console=tty1 root=PARTUUID=4e639091-02 rootfstype=ext4 fsck.repair=yes rootwait\n";

    /// A root with a board's model and, if given, a command line.
    fn board(name: &str, model: &str, place: &str, line: &str) -> PathBuf {
        let root =
            std::env::temp_dir().join(format!("coracle-cmdline-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("proc/device-tree")).unwrap();
        fs::write(root.join("proc/device-tree/model"), model).unwrap();
        fs::create_dir_all(root.join(place).parent().unwrap()).unwrap();
        fs::write(root.join(place), line).unwrap();
        root
    }

    #[test]
    fn a_pis_line_gets_the_words_after_a_copy_and_once() {
        let root = board("pi", "Raspberry Pi 4 Model B Rev 1.4\0", PLACES[0], STOCK);
        let file = root.join(PLACES[0]);
        let Ok(Fixed::Changed { copy, .. }) = fix(&root) else { panic!("not changed") };
        assert_eq!(fs::read_to_string(copy).unwrap(), STOCK);
        let line = fs::read_to_string(&file).unwrap();
        assert_eq!(line, STOCK.trim().to_owned() + " cgroup_enable=memory cgroup_memory=1\n");
        assert_eq!(fix(&root), Ok(Fixed::RebootIsMissing { file: file.clone() }));
        assert_eq!(fs::read_to_string(&file).unwrap(), line);
        assert!(!file.with_extension("new").exists());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_old_place_counts_where_it_holds_the_line() {
        let root = board("old", "Raspberry Pi Zero W Rev 1.1\0", PLACES[1], STOCK);
        assert!(matches!(fix(&root), Ok(Fixed::Changed { file, .. }) if file.ends_with(PLACES[1])));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_switches_it_off_goes() {
        assert_eq!(
            mended("root=x cgroup_disable=memory cgroup_memory=0 quiet").as_deref(),
            Some("root=x quiet cgroup_enable=memory cgroup_memory=1\n")
        );
    }

    #[test]
    fn a_board_that_is_no_pi_is_left_alone() {
        let root = board("pine", "Pine64 ROCK64\0", PLACES[1], STOCK);
        assert!(fix(&root).unwrap_err().contains("Pine64 ROCK64"));
        assert_eq!(fs::read_to_string(root.join(PLACES[1])).unwrap(), STOCK);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_note_that_the_file_moved_is_no_line() {
        let root = board("note", "Raspberry Pi 5\0", PLACES[1], "DO NOT EDIT THIS FILE\n");
        assert!(fix(&root).is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
