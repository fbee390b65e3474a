//! Pulls from a real registry (Debian's docker-registry, filled by skopeo) and from one of ours that misbehaves.
#![expect(clippy::unwrap_used, reason = "tests")]

mod made;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use coracle_image::{Credential, ImageError, ImageStore, Mirror, Platform, PullPolicy, Registry};
use made::{Made, digest};

struct Real {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Real {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            dir.path().display()
        );
        let path = dir.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process =
            process.expect("docker-registry is installed (apt-get install docker-registry)");
        let real = Self { process, port, _dir: dir };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < deadline, "docker-registry does not listen");
            std::thread::yield_now();
        }
        real
    }

    fn push(&self, archive: &Path, name: &str, format: &str) {
        let target = format!("docker://127.0.0.1:{}/{name}", self.port);
        let source = format!("oci-archive:{}", archive.display());
        let output = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                "--format",
                format,
                &source,
                &target,
            ])
            .output()
            .expect("skopeo is installed (apt-get install skopeo)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn client(&self) -> Registry {
        let mirror =
            Mirror { host: "docker.io".into(), url: format!("http://127.0.0.1:{}", self.port) };
        Registry::new(vec![mirror], b"")
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_real_registry_stands_in_for_docker_io() {
    let real = Real::start();
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("image.tar");
    let store = ImageStore::open(&dir.path().join("images"), Platform::host()).unwrap();
    let registry = real.client();

    Made::new(&[&["hello=1"], &["world=1"]]).archive(&archive, "x/y:1");
    real.push(&archive, "example/oci:latest", "oci");
    real.push(&archive, "example/docker:latest", "v2s2");
    for name in ["example/oci", "example/docker"] {
        let image = store.resolve(name, PullPolicy::Always, &registry, &[]).unwrap();
        assert_eq!(fs::read(image.layers[1].join("hello")).unwrap(), b"1", "{name}");
        assert!(!image.pinned);
        let again = store.resolve(name, PullPolicy::Always, &registry, &[]).unwrap();
        assert_eq!(again, image);
        let by_digest = store
            .resolve(&format!("{name}@{}", image.digest), PullPolicy::IfNotPresent, &registry, &[])
            .unwrap();
        assert_eq!(by_digest.digest, image.digest);
    }

    // The tag moves: Always follows, IfNotPresent stays.
    let before = store.resolve("example/oci", PullPolicy::IfNotPresent, &registry, &[]).unwrap();
    Made::new(&[&["hello=2"]]).archive(&archive, "x/y:1");
    real.push(&archive, "example/oci:latest", "oci");
    assert_eq!(
        store.resolve("example/oci", PullPolicy::IfNotPresent, &registry, &[]).unwrap(),
        before
    );
    let after = store.resolve("example/oci", PullPolicy::Always, &registry, &[]).unwrap();
    assert_eq!(fs::read(after.layers[0].join("hello")).unwrap(), b"2");

    // An imported archive of the same name wins over the registry, under any policy.
    Made::new(&[&["hello=archive"]]).archive(&archive, "example/oci:latest");
    store.import(&archive, None).unwrap();
    let pinned = store.resolve("example/oci", PullPolicy::Always, &registry, &[]).unwrap();
    assert!(pinned.pinned);
    assert_eq!(fs::read(pinned.layers[0].join("hello")).unwrap(), b"archive");
}

#[test]
fn what_a_registry_does_not_have_is_not_found() {
    let real = Real::start();
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path(), Platform::host()).unwrap();
    let registry = Registry::new(Vec::new(), b"");
    let name = format!("127.0.0.1:{}/no/such:tag", real.port);
    let error = store.resolve(&name, PullPolicy::IfNotPresent, &registry, &[]).unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("HTTP 404"), "{error}");
    let error = store.resolve(&name, PullPolicy::Never, &registry, &[]).unwrap_err();
    assert!(matches!(error, ImageError::NeverPull { .. }), "{error}");
}

/// Answers each request by its path; `answer` gives status, headers and body, and gets the Authorization header.
/// `PORT` in the headers becomes the port that this gives.
fn misbehaving(answer: impl Fn(&str, &str) -> (u16, String, Vec<u8>) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines =
                BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            let rest: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let authorization = rest
                .iter()
                .find_map(|line| line.strip_prefix("authorization: "))
                .unwrap_or("")
                .to_owned();
            let path = first.split(' ').nth(1).unwrap_or("");
            let (status, headers, body) = answer(path, &authorization);
            let headers = headers.replace("PORT", &port.to_string());
            // A client that hung up is its own affair.
            let _ = write!(stream, "HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}\r\n")
                .and_then(|()| stream.write_all(&body));
        }
    });
    port
}

fn length(body: &[u8]) -> String {
    format!("content-length: {}\r\n", body.len())
}

#[test]
fn token_authentication_is_answered_and_wrong_passwords_are_told() {
    let made = Made::new(&[&["hello=1"]]);
    let manifest = made.manifest();
    let blobs = made.blobs();
    let port = misbehaving(move |path, authorization| {
        if path.starts_with("/token") {
            // admin:good
            let good = authorization == "Basic YWRtaW46Z29vZA=="
                && path.contains("service=s%20x")
                && path.contains("scope=repository%3Aa%2Fb%3Apull");
            let body: &[u8] = if good { br#"{"token":"T"}"# } else { b"{}" };
            return (if good { 200 } else { 401 }, length(body), body.to_vec());
        }
        if authorization != "Bearer T" {
            let realm = "www-authenticate: Bearer realm=\"http://127.0.0.1:PORT/token\",service=\"s x\",scope=\"repository:a/b:pull\"\r\ncontent-length: 0\r\n";
            return (401, realm.into(), Vec::new());
        }
        let key = path.rsplit('/').next().unwrap_or("");
        let body = if key.ends_with("latest") {
            Some(&manifest)
        } else {
            blobs.iter().find(|(digest, _)| digest == key).map(|(_, bytes)| bytes)
        };
        body.map_or_else(
            || (404, length(b""), Vec::new()),
            |body| (200, length(body), body.clone()),
        )
    });
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path(), Platform::host()).unwrap();
    let registry = Registry::new(Vec::new(), b"");
    let name = format!("127.0.0.1:{port}/a/b");
    let user = |password: &str| {
        [Credential {
            registry: format!("127.0.0.1:{port}"),
            user: "admin".into(),
            password: password.into(),
        }]
    };
    let error = store.resolve(&name, PullPolicy::Always, &registry, &user("bad")).unwrap_err();
    assert!(matches!(error, ImageError::Unauthorized { .. }), "{error}");
    let error = store.resolve(&name, PullPolicy::Always, &registry, &[]).unwrap_err();
    assert!(matches!(error, ImageError::Unauthorized { .. }), "{error}");
    let image = store.resolve(&name, PullPolicy::Always, &registry, &user("good")).unwrap();
    assert_eq!(fs::read(image.layers[0].join("hello")).unwrap(), b"1");
}

#[test]
fn wrong_and_short_layers_leave_nothing_behind() {
    let made = Made::new(&[&["hello=1"]]);
    let (layer, manifest, blobs) = (digest(&made.layers[0].1), made.manifest(), made.blobs());
    let port = misbehaving(move |path, _| {
        let key = path.rsplit('/').next().unwrap_or("");
        if key == "latest" {
            return (200, length(&manifest), manifest.clone());
        }
        let body = blobs
            .iter()
            .find(|(digest, _)| digest == key)
            .map_or(Vec::new(), |(_, bytes)| bytes.clone());
        match (key == layer, path.contains("/short/")) {
            (true, true) => (200, length(&body), body[..body.len() / 2].to_vec()),
            (true, false) => {
                let mut other = body;
                let last = other.len() - 1;
                other[last] ^= 1;
                (200, length(&other), other)
            }
            (false, _) => (200, length(&body), body),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path(), Platform::host()).unwrap();
    let registry = Registry::new(Vec::new(), b"");
    let pull = |name: &str| {
        store
            .resolve(&format!("127.0.0.1:{port}/{name}"), PullPolicy::Always, &registry, &[])
            .unwrap_err()
    };
    let error = pull("x/wrong");
    assert!(matches!(error, ImageError::DigestMismatch { .. }), "{error}");
    let error = pull("x/short/y");
    assert!(matches!(error, ImageError::Network { .. }), "{error}");
    for part in ["layers", "tmp"] {
        assert_eq!(fs::read_dir(dir.path().join(part)).unwrap().count(), 0, "{part}");
    }
    assert!(store.list().unwrap().is_empty());
}
