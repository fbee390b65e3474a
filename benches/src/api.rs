//! Requests that no kubectl sends: by curl and openssl, against a control plane of its own. For tests: what cannot go
//! wrong with the tools is unwrapped.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "called by tests only")]

use std::{
    fs,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::cluster::Cluster;

/// curl against one control plane.
pub struct Api {
    /// The cluster; of the control plane alone until agents are started.
    pub cluster: Cluster,
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// Files of the test: `ca.crt`, `admin.crt`, `admin.key` and what it makes.
    pub dir: PathBuf,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Of HTTP.
    pub code: u16,
    /// Status line and header fields, in lower case.
    pub head: String,
    /// As sent.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.code, self.body))
    }

    /// The message of the Status in the body.
    pub fn message(&self) -> String {
        self.status().get("message").and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// ConfigMaps of the default namespace.
pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Deployments of the default namespace.
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
/// Content type.
pub const YAML: &str = "application/yaml";
/// Content type.
pub const JSON: &str = "application/json";

impl Api {
    /// Starts a control plane and takes the administrator's credentials from its kubeconfig.
    pub fn start() -> Self {
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
    pub fn curl(&self, words: &[&str], path: &str) -> Result<Answer, String> {
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
    pub fn admin(&self, words: &[&str], path: &str) -> Result<Answer, String> {
        let (cert, key) = (self.file("admin.crt"), self.file("admin.key"));
        let own = ["--cert", &cert, "--key", &key];
        self.curl(&[&own, words].concat(), path)
    }

    /// A file of [`Api::dir`].
    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Posts a body as the administrator.
    pub fn post(&self, content_type: &str, body: &str, path: &str) -> Answer {
        fs::write(self.dir.join("body"), body).unwrap();
        let (kind, data) =
            (format!("content-type: {content_type}"), format!("@{}", self.file("body")));
        self.admin(&["-X", "POST", "-H", &kind, "--data-binary", &data], path).unwrap()
    }

    /// Refused with this code, in words that hold all of these.
    #[track_caller]
    pub fn refuses(
        &self,
        (content_type, body, path): (&str, &str, &str),
        code: u16,
        says: &[&str],
    ) {
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
    pub fn nothing_was_made(&self) {
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

impl Api {
    /// What the server sends to these bytes over TLS before it closes or a second has passed.
    pub fn raw(&self, bytes: &[u8]) -> String {
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
        String::from_utf8_lossy(answer.get(..read).unwrap_or_default()).into_owned()
    }
}
