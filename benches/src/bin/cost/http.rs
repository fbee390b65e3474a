//! Plain HTTP/1.1 on one kept connection, through `kubectl proxy`: thousands of requests without a kubectl each.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use coracle_benches::cluster::{Cluster, project};

/// A running `kubectl proxy` and a connection to it. Ends with it.
pub(crate) struct Proxy {
    child: Child,
    stream: BufReader<TcpStream>,
}

impl Proxy {
    /// Starts it as the administrator.
    pub(crate) fn start(cluster: &Cluster) -> Result<Self> {
        let tool = project().join("target/tools/kubectl");
        ensure!(Path::new(&tool).exists(), "{} is not there; run `make setup`", tool.display());
        let mut child = Command::new(tool)
            .args(["proxy", "--port=0"])
            .env("KUBECONFIG", cluster.kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run kubectl proxy")?;
        let mut line = String::new();
        let said = child.stdout.take().context("kubectl proxy has no output")?;
        BufReader::new(said).read_line(&mut line)?;
        // "Starting to serve on 127.0.0.1:PORT"
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        let stream = TcpStream::connect(&address)
            .with_context(|| format!("kubectl proxy said `{}`", line.trim()))?;
        stream.set_nodelay(true)?;
        Ok(Self { child, stream: BufReader::new(stream) })
    }

    /// One request; the body of the answer, or what the server said against it.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<String> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        let (mut status, mut length, mut chunked) = (String::new(), 0, false);
        self.stream.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= line == "transfer-encoding: chunked";
        }
        let mut answer = String::new();
        if chunked {
            loop {
                let mut size = String::new();
                self.stream.read_line(&mut size)?;
                let size = u64::from_str_radix(size.trim(), 16).context("a chunk without size")?;
                self.stream.by_ref().take(size).read_to_string(&mut answer)?;
                let mut end = String::new();
                self.stream.read_line(&mut end)?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.stream.by_ref().take(length).read_to_string(&mut answer)?;
        }
        if !status.contains(" 20") {
            bail!("{method} {path}: {} {answer}", status.trim());
        }
        Ok(answer)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Best effort: it is gone already, or it ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
