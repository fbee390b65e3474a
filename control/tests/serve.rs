//! The real binary: start, stop, lock, tokens, backup, restore, check.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking"
)]

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("coracle-serve-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn coracle(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command.args(words).arg("--data-dir").arg(data).env_remove("KUBECONFIG");
    command
}

fn output(data: &Path, words: &[&str]) -> Output {
    coracle(data, words).output().unwrap()
}

fn good(data: &Path, words: &[&str]) -> String {
    let output = output(data, words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Refused with exit code 1 and one line that says so.
fn bad(data: &Path, words: &[&str], want: &str) {
    let output = output(data, words);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {told}");
    assert_eq!(told.trim_end().lines().count(), 1, "{told}");
    assert!(told.contains(want), "{words:?}: {told}");
}

struct Serving {
    child: Child,
    data: PathBuf,
}

impl Serving {
    fn start(data: &Path) -> Self {
        let mut child = coracle(data, &["serve", "--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut all = String::new();
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                all.push_str(&String::from_utf8_lossy(&buffer[..count]));
                if sender.send(all.clone()).is_err() {
                    break;
                }
            }
        });
        let serving = Self { child, data: data.into() };
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut told = String::new();
        while !told.contains("ready after") {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(all) => told = all,
                Err(_) => panic!("not ready: {told}"),
            }
        }
        // Whoever stops listening must not stop the server's log.
        std::thread::spawn(move || while lines.recv().is_ok() {});
        serving
    }

    fn stop(mut self, signal: &str) -> Duration {
        let pid = self.child.id().to_string();
        let started = Instant::now();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(signal == "-KILL" || status.success(), "{signal}: {status}");
        started.elapsed()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Ended already in good runs.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        assert!(self.data.exists());
    }
}

#[test]
fn start_stop_and_start_again() {
    let dir = Dir::new("start");
    let data = dir.data();
    let serving = Serving::start(&data);
    for file in ["admin.kubeconfig", "join-token", "store.redb"] {
        let mode = fs::metadata(data.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    bad(&data, &["serve", "--listen", "127.0.0.1:0"], "another coracle is using");
    bad(&data, &["check"], "another coracle is using");
    let token = fs::read_to_string(data.join("join-token")).unwrap();
    let id = token.split("::").nth(1).unwrap().split('.').next().unwrap().to_owned();
    assert!(good(&data, &["token", "list"]).contains(&id));
    assert!(serving.stop("-TERM") < Duration::from_secs(2), "SIGTERM stops within 2 s");

    let serving = Serving::start(&data);
    assert_eq!(fs::read_to_string(data.join("join-token")).unwrap(), token, "kept");
    assert!(good(&data, &["token", "list"]).contains(&id), "stored");
    serving.stop("-KILL");
    let serving = Serving::start(&data);
    assert!(good(&data, &["token", "list"]).contains(&id), "stored, also after SIGKILL");
    assert!(serving.stop("-INT") < Duration::from_secs(2));
    assert!(good(&data, &["check"]).contains("the store is sound"));
}

#[test]
fn tokens_come_and_go() {
    let dir = Dir::new("tokens");
    let data = dir.data();
    bad(&data, &["token", "list"], "admin.kubeconfig");
    let serving = Serving::start(&data);
    let token = good(&data, &["token", "create", "--ttl", "1", "--description", "for pi7"]);
    assert!(token.starts_with("K10") && token.contains("::"), "{token}");
    let first = fs::read_to_string(data.join("join-token")).unwrap();
    let hash = |token: &str| token.split("::").next().unwrap().to_owned();
    assert_eq!(hash(&token), hash(&first), "both pin the same CA");
    let id = token.split("::").nth(1).unwrap()[..6].to_owned();
    let listed = good(&data, &["token", "list"]);
    let line = listed.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains("for pi7") && line.contains('T') && !line.contains("never"), "{line}");
    good(&data, &["token", "delete", token.trim()]);
    assert!(!good(&data, &["token", "list"]).contains(&id));
    bad(&data, &["token", "delete", &id], "not found");
    bad(&data, &["token", "delete", "../../x"], "no token id");
    serving.stop("-TERM");
    bad(&data, &["token", "list"], "is `coracle serve` running?");
}

#[test]
fn backup_and_restore() {
    let dir = Dir::new("backup");
    let (data, other) = (dir.data(), dir.0.join("other"));
    let file = dir.0.join("b.coracle").display().to_string();
    let serving = Serving::start(&data);
    let token = good(&data, &["token", "create", "--description", "kept"]);
    good(&data, &["backup", &file]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let later = good(&data, &["token", "create", "--description", "after"]);
    serving.stop("-TERM");
    bad(&data, &["restore", &file], "empty data directory");
    assert!(good(&other, &["restore", &file]).contains("resourceVersions go on from"));
    let serving = Serving::start(&other);
    let listed = good(&other, &["token", "list"]);
    let id = |token: &str| token.split("::").nth(1).unwrap()[..6].to_owned();
    assert!(listed.contains(&id(&token)), "secrets are unsealed with the restored keys");
    assert!(!listed.contains(&id(&later)));
    serving.stop("-TERM");
    good(&other, &["check"]);

    let offline = dir.0.join("offline.coracle").display().to_string();
    good(&other, &["backup", &offline]);
    let mut bytes = fs::read(&offline).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&offline, bytes).unwrap();
    bad(&dir.0.join("third"), &["restore", &offline], "damaged");
    assert!(!dir.0.join("third/store.redb").exists(), "nothing half-done is left");
}

/// Whatever bits flip: what was written is read, or the store is refused in one line that names the backup to use.
#[test]
fn a_damaged_store_is_refused_by_name() {
    let dir = Dir::new("damaged");
    let data = dir.data();
    let serving = Serving::start(&data);
    good(&data, &["token", "create"]);
    serving.stop("-TERM");
    let store = data.join("store.redb");
    let bytes = fs::read(&store).unwrap();
    fs::create_dir_all(data.join("backups")).unwrap();
    fs::write(data.join("backups/last-good"), "").unwrap();
    let (mut refused, mut panicked) = (0, 0);
    for at in (0..bytes.len()).step_by(bytes.len() / 400) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        fs::write(&store, &damaged).unwrap();
        let said = output(&data, &["check"]);
        let line = String::from_utf8(said.stderr).unwrap();
        if said.status.success() {
            continue;
        }
        let is_told = line.contains("damaged")
            && line.contains("coracle restore ")
            && line.contains("backups/last-good");
        assert!(said.status.code() == Some(1) && is_told, "byte {at}: {:?} {line}", said.status);
        assert_eq!(line.trim_end().lines().count(), 1, "byte {at}: {line}");
        refused += 1;
        panicked += u32::from(line.contains("panicked"));
    }
    println!("{refused} refused, {panicked} of them by a panic of redb");
    assert!(refused != 0, "nothing was noticed");
    assert!(panicked != 0, "no panic was told as a refusal");
    fs::write(&store, bytes).unwrap();
    good(&data, &["check"]);
}

#[test]
fn wrong_usage_is_2() {
    let dir = Dir::new("usage");
    for words in [&["serve", "--listen", "nonsense"][..], &["backup"], &["nonsense"]] {
        assert_eq!(output(&dir.data(), words).status.code(), Some(2), "{words:?}");
    }
}
