//! What a control plane says to what it cannot take: manifests, requests and callers. Each answer names the thing, the
//! cause and where there is one the fix, and nothing half-done is left behind.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::ensure;
use coracle_benches::cluster::{Cluster, Kubectl, project, wait_for};
use serde_json::{Value, json};

/// curl against one control plane.
struct Api {
    cluster: Cluster,
    url: String,
    dir: PathBuf,
}

/// What came back.
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.code, self.body))
    }

    fn message(&self) -> String {
        self.status()["message"].as_str().unwrap_or_default().to_owned()
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const YAML: &str = "application/yaml";
const JSON: &str = "application/json";

impl Api {
    fn start() -> Self {
        let cluster = Cluster::start().unwrap();
        let dir = cluster.dir().join("made");
        fs::create_dir_all(&dir).unwrap();
        for (path, file) in [
            (".clusters[0].cluster.certificate-authority-data", "ca.crt"),
            (".users[0].user.client-certificate-data", "admin.crt"),
            (".users[0].user.client-key-data", "admin.key"),
        ] {
            let path = format!("go-template={{{{{}}}}}", go_path(path));
            let data = cluster.ok(&["config", "view", "--raw", "-o", &path]).unwrap();
            fs::write(dir.join(file), base64(&data)).unwrap();
        }
        Self { url: cluster.url().unwrap(), cluster, dir }
    }

    /// curl with these words more, as nobody.
    fn curl(&self, words: &[&str], path: &str) -> Result<Answer, String> {
        let output = Command::new("curl")
            .args(["-sS", "-i", "--max-time", "30", "--cacert"])
            .arg(self.dir.join("ca.crt"))
            .args(words)
            .arg(format!("{}{path}", self.url))
            .output()
            .expect("curl is installed (make setup)");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (mut head, mut body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        if head.contains(" 100") {
            (head, body) = body.split_once("\r\n\r\n").unwrap_or((body, ""));
        }
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Ok(Answer { code, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    /// curl as the administrator.
    fn admin(&self, words: &[&str], path: &str) -> Result<Answer, String> {
        let (cert, key) = (self.file("admin.crt"), self.file("admin.key"));
        let own = ["--cert", &cert, "--key", &key];
        self.curl(&[&own, words].concat(), path)
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn post(&self, content_type: &str, body: &str, path: &str) -> Answer {
        fs::write(self.dir.join("body"), body).unwrap();
        let (kind, data) =
            (format!("content-type: {content_type}"), format!("@{}", self.file("body")));
        self.admin(&["-X", "POST", "-H", &kind, "--data-binary", &data], path).unwrap()
    }

    /// Refused with this code, in words that hold all of these.
    #[track_caller]
    fn refuses(&self, (content_type, body, path): (&str, &str, &str), code: u16, says: &[&str]) {
        let answer = self.post(content_type, body, path);
        let start: String = body.chars().take(120).collect();
        assert_eq!(answer.code, code, "{start}: {}", answer.body);
        let message = answer.message();
        for words in says {
            assert!(message.contains(words), "{start}: {message:?} does not say {words:?}");
        }
        assert!(message.len() < 4000, "{} bytes of message", message.len());
    }

    /// Nothing but what every namespace has.
    #[track_caller]
    fn nothing_was_made(&self) {
        let list =
            self.cluster.ok(&["get", "configmaps,deployments,replicasets,pods", "-o", "name"]);
        assert_eq!(list.unwrap(), "configmap/kube-root-ca.crt");
    }
}

/// `.a[0].b-c` as go-template has it.
fn go_path(path: &str) -> String {
    let mut expression = String::from(".");
    for part in path.trim_start_matches('.').split('.') {
        let (name, index) = part.split_once('[').unwrap_or((part, ""));
        let index = index.trim_end_matches(']');
        expression = format!("(index {expression} {name:?})");
        if !index.is_empty() {
            expression = format!("(index {expression} {index})");
        }
    }
    expression
}

fn base64(text: &str) -> Vec<u8> {
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

fn map(data: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"x"}},"data":{data}}}"#)
}

fn deployment(name: &str, value: &str, template_label: &str) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": "x" } },
            "template": {
                "metadata": { "labels": { "app": template_label } },
                "spec": { "containers": [{ "name": "c", "image": "i", "env": [{ "name": "A", "value": value }] }] },
            },
        },
    })
    .to_string()
}

#[test]
fn manifests_are_refused_in_words_and_nothing_is_made() {
    let api = Api::start();
    let yaml = |body: &str, code, says: &[&str]| api.refuses((YAML, body, MAPS), code, says);
    let json = |body: &str, code, says: &[&str]| api.refuses((JSON, body, MAPS), code, says);
    yaml("this: is: no: yaml\n  - at all: {", 400, &["YAML", "line 1 column 9"]);
    yaml("hello", 400, &["not an object"]);
    json("not json", 400, &["json parse error", "line 1"]);
    json("", 400, &["body of the request is empty"]);
    json("[1]", 400, &["not an object"]);
    api.refuses(("text/plain", "x", MAPS), 415, &["application/json", "application/yaml"]);
    let protobuf = "application/vnd.kubernetes.protobuf";
    api.refuses((protobuf, "k8s\0\u{7f}\u{7f}", MAPS), 400, &["protobuf parse error"]);
    api.refuses((protobuf, "{}", MAPS), 400, &["protobuf"]);

    yaml("kind: Nonsense\nmetadata: {name: x}", 400, &["(Nonsense)", "(ConfigMap)"]);
    yaml("apiVersion: v9\nkind: ConfigMap\nmetadata: {name: x}", 400, &["(v9)", "(v1)"]);
    let nowhere = "the server could not find the requested resource";
    api.refuses((JSON, "{}", "/api/v1/namespaces/default/nonsenses"), 404, &[nowhere]);
    api.refuses((JSON, "{}", "/apis/example.com/v1/bars"), 404, &[nowhere]);

    // Wrong types name the field and the type; wrong values name the field and what would be right.
    json(&map(r#"{"a":1}"#), 400, &["ConfigMap.data of type string"]);
    api.refuses(
        (YAML, "kind: Deployment\nmetadata: {name: x}\nspec: {replicas: two}", DEPLOYMENTS),
        400,
        &["spec.replicas of type int32"],
    );
    json(&map(r#"{"a/b":"c"}"#), 422, &["data[a/b]", "must consist of"]);
    api.refuses(
        (JSON, &deployment("Bad_Name", "", "x"), DEPLOYMENTS),
        422,
        &["metadata.name", "lowercase"],
    );
    api.refuses(
        (JSON, &deployment("x", "", "other"), DEPLOYMENTS),
        422,
        &["spec.template.metadata.labels", "`selector` does not match template `labels`"],
    );

    // Size.
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    json(&map(&format!("{{\"a\":{}}}", text(1_100_000))), 422, &["data: Too long", "1048576"]);
    api.refuses(
        (JSON, &deployment("x", &"x".repeat(1_100_000), "x"), DEPLOYMENTS),
        413,
        &["deployments.apps \"x\" is too large", "1048576", "split it"],
    );
    for bytes in [4_000_000, 9_000_000, 20_000_000] {
        json(&map(&format!("{{\"a\":{}}}", text(bytes))), 413, &["limit is 3145728"]);
    }

    // Depth and bombs, and none takes long.
    let started = Instant::now();
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    json(&map(&deep), 400, &["nested deeper than 128 levels"]);
    json(&map(&(r#"{"a":"#.repeat(10_000) + "1" + &"}".repeat(10_000))), 400, &["nested deeper"]);
    yaml(
        &format!("kind: ConfigMap\ndata: {deep}"),
        400,
        &["nested deeper than 80 levels", "line 2"],
    );
    yaml(&format!("kind: ConfigMap\ndata:\n  {}", "- ".repeat(10_000)), 400, &["nested deeper"]);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let nine = format!("*a{}, ", n - 1).repeat(9);
        bomb += &format!("a{n}: &a{n} [{}]\n", nine.trim_end_matches(", "));
    }
    yaml(&bomb, 400, &["aliases stand for too much"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(api.admin(&[], "/readyz").unwrap().code, 200);
    api.nothing_was_made();
}

#[test]
fn unknown_and_doubled_fields_warn_or_are_refused() {
    let api = Api::start();
    let yaml = "apiVersion: v1\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, wrong: 1}\ndata: {a: b, a: c}\nspec: {}\n";
    let json = r#"{"apiVersion":"v1","apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME","wrong":1},"data":{"a":"b","a":"c"},"spec":{}}"#;
    let faults = [
        r#"duplicate field "apiVersion""#,
        r#"duplicate field "data.a""#,
        r#"unknown field "metadata.wrong""#,
        r#"unknown field "spec""#,
    ];
    for (kind, body) in [(YAML, yaml), (JSON, json)] {
        let path = format!("{MAPS}?fieldValidation=Strict");
        api.refuses((kind, body, &path), 400, &[&["strict decoding error"], &faults[..]].concat());
        api.nothing_was_made();
    }
    for (name, kind, body) in [("of-yaml", YAML, yaml), ("of-json", JSON, json)] {
        let body = body.replace("NAME", name);
        let answer = api.post(kind, &body, &format!("{MAPS}?fieldValidation=Warn"));
        assert_eq!(answer.code, 201, "{}", answer.body);
        assert_eq!(
            answer.head.matches("\r\nwarning: 299").count(),
            faults.len(),
            "{}",
            answer.head
        );
        for fault in faults {
            let quoted = fault.replace('"', "\\\"").to_ascii_lowercase();
            assert!(answer.head.contains(&quoted), "{quoted}: {}", answer.head);
        }
        let made = answer.status();
        assert_eq!(made["data"], json!({ "a": "c" }), "the last one wins");
        assert!(made.get("spec").is_none() && made["metadata"].get("wrong").is_none(), "{made}");
        let name = name.replace("of", "quiet");
        let body = body.replace("of-", "quiet-");
        let answer = api.post(kind, &body, &format!("{MAPS}?fieldValidation=Ignore"));
        assert_eq!(answer.code, 201, "{name}: {}", answer.body);
        assert!(!answer.head.contains("warning"), "{}", answer.head);
    }
    let path = format!("{MAPS}?fieldValidation=Maybe");
    api.refuses((JSON, json, &path), 422, &["fieldValidation", "\"Ignore\", \"Strict\", \"Warn\""]);
}

impl Api {
    /// What the server sends to these bytes over TLS before it closes or a second has passed.
    fn raw(&self, bytes: &[u8]) -> String {
        let address = self.url.trim_start_matches("https://");
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", address, "-CAfile", &self.file("ca.crt")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed (make setup)");
        let mut stdin = child.stdin.take().unwrap();
        let _closed_by_server = stdin.write_all(bytes);
        let mut answer = vec![0; 16];
        let read = child.stdout.take().unwrap().read(&mut answer).unwrap();
        drop(stdin);
        let _ended = child.kill();
        child.wait().unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }
}

#[test]
fn malformed_and_oversize_requests_are_answered_and_block_nobody() {
    let api = Api::start();
    let long = "a".repeat(60_000);
    let header = format!("x-long: {long}");
    for version in ["--http1.1", "--http2"] {
        let code = |words: &[&str], path: &str| {
            api.admin(&[&[version], words].concat(), path).map(|answer| answer.code)
        };
        assert_eq!(code(&["-H", &header], "/version"), Ok(431), "{version}");
        assert_eq!(code(&[], &format!("/api/v1/{}", &long[..5000])), Ok(414), "{version}");
        assert_eq!(code(&[], &format!("{MAPS}?labelSelector={}", &long[..20_000])), Ok(414));
        assert_eq!(code(&["-X", "NONSENSE"], MAPS), Ok(405), "{version}");
        assert_eq!(
            code(&["-X", "PATCH", "-H", "content-type: text/x", "-d", "{}"], &format!("{MAPS}/x")),
            Ok(415)
        );
        assert_eq!(code(&["-H", "accept: text/html"], MAPS), Ok(406), "{version}");
    }
    for (query, says) in [
        ("labelSelector=a%20in%20(", "unable to parse requirement"),
        ("fieldSelector=spec.wrong%3D1", "field label not supported: spec.wrong"),
        ("resourceVersion=abc", "\"abc\""),
        ("continue=zzz", "list again without it"),
        ("watch=1&timeoutSeconds=x", "must be a whole number"),
    ] {
        let answer = api.admin(&[], &format!("{MAPS}?{query}")).unwrap();
        assert_eq!(answer.code, 400, "{query}: {}", answer.body);
        assert!(answer.message().contains(says), "{query}: {}", answer.message());
    }
    for path in ["/%2e%2e/etc", "/api/v1/namespaces/%ff", "/api/v1/namespaces/..%2f"] {
        let answer = api.admin(&["--path-as-is"], path).unwrap();
        assert_eq!(answer.code, 400, "{path}");
        assert!(answer.message().starts_with("invalid path segment"), "{}", answer.message());
    }
    for bytes in [
        b"NONSENSE\r\n\r\n".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /version HTTP/1.1\r\nno colon here\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"\0\x01\x02\x03\r\n\r\n",
    ] {
        let answer = api.raw(bytes);
        assert!(
            answer.starts_with("HTTP/1.1 400"),
            "{:?}: {answer}",
            String::from_utf8_lossy(bytes)
        );
    }

    // Callers that say nothing, or a byte of a handshake, or half a head: others are answered at once.
    let address = api.url.trim_start_matches("https://");
    let mut slow: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in slow.iter_mut().step_by(2) {
        stream.write_all(&[0x16]).unwrap();
    }
    let mut halves: Vec<_> = (0..5)
        .map(|_| {
            let mut child = Command::new("openssl")
                .args(["s_client", "-quiet", "-connect", address])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let head =
                b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
            child.stdin.as_mut().unwrap().write_all(head).unwrap();
            child
        })
        .collect();
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(api.admin(&[], MAPS).unwrap().code, 200);
    }
    let took = started.elapsed();
    for child in &mut halves {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(slow);
    api.nothing_was_made();
}

/// A certificate of that subject, signed by `ca` (none: by itself).
fn certificate(dir: &Path, name: &str, subject: &str, ca: Option<(&Path, &Path)>, days: &str) {
    let sign = match ca {
        None => format!(
            "openssl x509 -req -in {name}.csr -signkey {name}.key -extfile ext -days {days} -out {name}.crt"
        ),
        Some((cert, key)) => format!(
            "openssl x509 -req -in {name}.csr -CA {} -CAkey {} -set_serial 7 -extfile ext -days {days} -out {name}.crt",
            cert.display(),
            key.display()
        ),
    };
    let script = format!(
        "set -e; echo extendedKeyUsage=clientAuth >ext
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj '{subject}'
        {sign}"
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn certificates_of_others_and_of_yesterday_are_refused() {
    let api = Api::start();
    let pki = api.cluster.data().join("pki");
    let (ca, ca_key) = (pki.join("ca.crt"), pki.join("ca.key"));
    let admin = "/O=system:masters/CN=admin";
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "multiline", "-in"])
        .arg(&ca)
        .output()
        .unwrap();
    let subject = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = subject.lines().find_map(|line| line.trim().strip_prefix("commonName")).unwrap();
    let name = name.trim().trim_start_matches('=').trim();
    // A CA of the same name, with another key.
    certificate(&api.dir, "other-ca", &format!("/CN={name}"), None, "2");
    let other = (api.dir.join("other-ca.crt"), api.dir.join("other-ca.key"));
    certificate(&api.dir, "foreign", admin, Some((&other.0, &other.1)), "2");
    certificate(&api.dir, "own", admin, None, "2");
    certificate(&api.dir, "expired", admin, Some((&ca, &ca_key)), "-1");
    certificate(&api.dir, "good", "/CN=somebody", Some((&ca, &ca_key)), "2");
    for (name, alert) in
        [("foreign", "alert"), ("own", "alert"), ("expired", "certificate expired")]
    {
        let (cert, key) = (api.file(&format!("{name}.crt")), api.file(&format!("{name}.key")));
        let answer = api.curl(&["--http1.1", "--cert", &cert, "--key", &key], MAPS);
        let error = answer.map(|answer| answer.code).unwrap_err();
        // A client that is still sending when the alert comes sees the broken pipe first.
        assert!(error.contains(alert) || error.contains("Broken pipe"), "{name}: {error}");
        wait_for("the log to tell of it", || {
            let log = api.cluster.log("control");
            ensure!(log.contains("invalid peer certificate"), "{log}");
            Ok(())
        })
        .unwrap();
    }
    // Ours, but nobody who may: told by name.
    let (cert, key) = (api.file("good.crt"), api.file("good.key"));
    let answer = api.curl(&["--cert", &cert, "--key", &key], MAPS).unwrap();
    assert_eq!(answer.code, 403);
    assert!(answer.message().contains(r#"User "somebody" cannot list resource "configmaps""#));
}

#[test]
fn without_good_credentials_there_is_health_and_version_only() {
    let api = Api::start();
    let code = |words: &[&str], path: &str| api.curl(words, path).unwrap().code;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(code(&[], path), 200, "{path}");
    }
    for path in [
        "/",
        "/api",
        "/apis",
        "/api/v1",
        "/apis/apps/v1",
        "/openapi/v2",
        "/openapi/v3",
        "/metrics",
        "/nonsense",
        "/api/v1/nonsense",
        "/api/v1/pods?watch=1",
        "/api/v1/namespaces/default/secrets/x",
        "/api/v1/namespaces/default/pods/x/log",
        "/apis/apps/v1/deployments",
        "/coracle/v1/backup",
        "/coracle/v1/tunnel",
    ] {
        let answer = api.curl(&[], path).unwrap();
        assert_eq!((answer.code, answer.message().as_str()), (401, "Unauthorized"), "{path}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        assert_eq!(code(&["-X", method, "-d", "{}"], "/api/v1/namespaces"), 401, "{method}");
        assert_eq!(code(&["-X", method, "-d", "{}"], "/version"), 403, "{method}");
    }

    let token = |more: &[&str]| {
        let words = [&["create", "token", "default"], more].concat();
        api.cluster.ok(&words).unwrap()
    };
    let with = |token: &str| code(&["-H", &format!("authorization: Bearer {token}")], MAPS);
    let good = token(&[]);
    assert_eq!(with(&good), 403, "known, but nothing is allowed to it");
    let parts: Vec<&str> = good.split('.').collect();
    let [head, claims, signature] = parts[..] else { panic!("{good}") };
    let other = token(&["--audience", "other"]);
    let none = "eyJhbGciOiJub25lIn0";
    let foreign_signature = other.rsplit('.').next().unwrap();
    for bad in [
        format!("{head}.{claims}.{}", signature.chars().rev().collect::<String>()),
        format!("{head}.{claims}.{foreign_signature}"),
        format!("{head}.{claims}."),
        format!("{none}.{claims}."),
        format!("{head}.{}x.{signature}", &claims[..claims.len() - 1]),
        other.clone(),
        "a.b.c".into(),
        "abcdef.0123456789abcdef".into(),
        String::new(),
        "a".repeat(20_000),
    ] {
        assert_eq!(with(&bad), 401, "{bad}");
    }
    for scheme in ["Basic YWRtaW46YWRtaW4=", "Bearer", "nonsense"] {
        assert_eq!(code(&["-H", &format!("authorization: {scheme}")], MAPS), 401, "{scheme}");
    }

    // A service account that is deleted takes its tokens along; a bootstrap token that has expired is nobody's.
    api.cluster.ok(&["create", "serviceaccount", "gone"]).unwrap();
    let gone = api.cluster.ok(&["create", "token", "gone"]).unwrap();
    assert_eq!(with(&gone), 403);
    api.cluster.ok(&["delete", "serviceaccount", "gone"]).unwrap();
    assert_eq!(with(&gone), 401, "the token of a deleted service account");
    for (id, expiration, want) in
        [("aaaaaa", "2099-01-01T00:00:00Z", 403), ("bbbbbb", "2020-01-01T00:00:00Z", 401)]
    {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": { "name": format!("bootstrap-token-{id}"), "namespace": "kube-system" },
            "stringData": {
                "token-id": id, "token-secret": "0123456789abcdef", "expiration": expiration,
                "usage-bootstrap-authentication": "true",
            },
        });
        api.cluster.ok_with(&["create", "-f", "-"], &secret.to_string()).unwrap();
        assert_eq!(with(&format!("{id}.0123456789abcdef")), want, "{expiration}");
        assert_eq!(with(&format!("{id}.0123456789abcdee")), 401, "a wrong secret");
    }
}

/// A tmpfs that is unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let disk = Self(at.to_owned());
        disk.run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        disk
    }

    fn run(&self, program: &str, words: &[&str]) {
        let output = Command::new(program).args(words).arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: processes of a failed test may still be on it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_writes_only_and_loses_nothing() {
    let dir = std::env::temp_dir().join(format!("coracle-full-{}", std::process::id()));
    let disk = SmallDisk::mount(&dir, "6m");
    let mut cluster = Cluster::start_on(&dir).unwrap();
    let filler = "x".repeat(300_000);
    let manifest = |name: &str, text: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": text } })
            .to_string()
    };
    let create = |cluster: &Cluster, name: &str, text: &str| {
        let output = cluster
            .kubectl_with(Kubectl::Current, &["create", "-f", "-"], &manifest(name, text))
            .unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    };
    let mut acknowledged = Vec::new();
    let refusal = (0..60)
        .find_map(|number| {
            let name = format!("big{number}");
            let refused = create(&cluster, &name, &filler).err();
            if refused.is_none() {
                acknowledged.push(name);
            }
            refused
        })
        .expect("60 times 300 kB do not fit 6 MiB");
    for words in ["No space left on device", "store.redb", "free space on that disk"] {
        assert!(refusal.contains(words), "{refusal} does not say {words:?}");
    }
    let names = |cluster: &Cluster| {
        let list = cluster.ok(&["get", "configmaps", "-o", "name"])?;
        Ok(list.replace("configmap/", ""))
    };
    let all_there = |cluster: &Cluster| {
        let list = wait_for("reads to be answered", || names(cluster)).unwrap();
        for name in &acknowledged {
            assert!(list.lines().any(|line| line == name), "{name} was acknowledged: {list}");
        }
    };
    // Still full: again and again the same, and reads go on between.
    for _ in 0..3 {
        let refusal = create(&cluster, "more", &filler).unwrap_err();
        assert!(refusal.contains("store"), "{refusal}");
        all_there(&cluster);
    }
    disk.run("mount", &["-o", "remount,size=40m"]);
    wait_for("writes to work again", || {
        create(&cluster, "after", "small").map_err(anyhow::Error::msg)
    })
    .unwrap();
    all_there(&cluster);
    cluster.kill_server().unwrap();
    cluster.restart_server().unwrap();
    all_there(&cluster);
    assert!(names(&cluster).unwrap().contains("after"));
    drop(cluster);
    drop(disk);
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn the_command_lines_say_what_is_wrong() {
    let bin = coracle_benches::cluster::bin_dir().unwrap();
    let file = project().join("Makefile").display().to_string();
    for (program, words, code, says) in [
        ("coracle", vec!["nonsense"], 2, "nonsense"),
        ("coracle", vec!["serve", "--data-dir", &file], 1, &*file),
        ("coracle", vec!["serve", "--data-dir", &file, "--listen", "nowhere"], 2, "nowhere"),
        ("coracle-agent", vec!["nonsense"], 2, "nonsense"),
        ("coracle-agent", vec!["--data-dir", &file, "image", "list"], 1, &*file),
    ] {
        let output = Command::new(bin.join(program)).args(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{program} {words:?}: {said}");
        assert!(said.contains(says), "{program} {words:?}: {said}");
        assert!(code != 1 || said.trim().lines().count() == 1, "one line: {said}");
    }
}
