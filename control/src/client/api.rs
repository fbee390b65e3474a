//! Requests to the API server of a kubeconfig.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use coracle_keys::pem;
use serde_json::Value;
use ureq::{
    Agent, Body,
    http::{Request, Response, header::WARNING},
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider},
};

use super::kubeconfig::Kubeconfig;

/// Largest answer read whole, in bytes: a backup of a large cluster.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// Between a watch that ends and the next.
pub(crate) const WATCH_AGAIN_AFTER: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const JSON: &str = "application/json";

/// A request of which only the path differs from the usual ones.
#[derive(Default)]
pub(crate) struct Ask<'a> {
    /// `GET` if empty.
    pub(crate) method: &'a str,
    /// With the query.
    pub(crate) path: &'a str,
    /// JSON if empty.
    pub(crate) accept: &'a str,
    /// JSON if empty.
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
    /// For the request and its whole answer.
    pub(crate) timeout: Option<Duration>,
}

/// The server's no.
#[derive(Debug)]
pub(crate) struct Refused {
    /// HTTP's number.
    pub(crate) status: u16,
    reason: String,
    message: String,
}

impl Refused {
    fn read(status: u16, answer: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(answer).unwrap_or_default();
        let text = |name| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (mut reason, mut message) = (text("reason"), text("message"));
        if reason.is_empty() {
            reason = status.to_string();
        }
        if message.is_empty() {
            message = String::from_utf8_lossy(answer).chars().take(300).collect();
        }
        Self { status, reason, message }
    }

    /// Says what was being done.
    pub(crate) fn during(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error from server ({}): {}", self.reason, self.message)
    }
}

impl std::error::Error for Refused {}

/// The answer is that it is not there.
pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404)
}

/// The answer is that the watch's beginning is too long ago: list again.
pub(crate) fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 410)
}

/// One segment of a path, or a value in a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A server that can be asked.
pub(crate) struct Api {
    agent: Agent,
    config: Kubeconfig,
    /// Told once each.
    warned: RefCell<BTreeSet<String>>,
}

/// Which kubeconfig: the one named, else `$KUBECONFIG`, else the data directory's.
pub(crate) fn kubeconfig_path(named: Option<&Path>, data_dir: &Path) -> PathBuf {
    match (named, std::env::var_os("KUBECONFIG")) {
        (Some(path), _) => path.into(),
        (None, Some(path)) if !path.is_empty() => path.into(),
        _ => data_dir.join("admin.kubeconfig"),
    }
}

impl Api {
    /// Gets ready; nothing is sent yet.
    pub(crate) fn new(config: Kubeconfig) -> anyhow::Result<Self> {
        let certificates = |text: &str| -> anyhow::Result<Vec<Certificate<'static>>> {
            let ders = pem::decode_all("CERTIFICATE", text)?;
            Ok(ders.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
        };
        let roots = certificates(&config.ca_pem)?;
        let client = match &config.certificate {
            None => None,
            Some((chain, key)) => {
                let key = PrivateKey::from_pem(key.as_bytes()).context("the client key")?;
                Some(ClientCert::new_with_certs(&certificates(chain)?, key))
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .client_cert(client)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent("coracle")
            .build()
            .new_agent();
        Ok(Self { agent, config, warned: RefCell::default() })
    }

    /// The namespace where none is named.
    pub(crate) fn namespace(&self) -> &str {
        &self.config.namespace
    }

    /// Sends a request; gives the answer, its body unread. Warnings go to stderr.
    ///
    /// # Errors
    /// [`Refused`] for any status but 2xx; otherwise the server was not reached.
    pub(crate) fn send(&self, ask: &Ask<'_>) -> anyhow::Result<Response<Body>> {
        let server = &self.config.server;
        let mut request = Request::builder()
            .method(if ask.method.is_empty() { "GET" } else { ask.method })
            .uri(format!("{server}{}", ask.path))
            .header("accept", if ask.accept.is_empty() { JSON } else { ask.accept });
        if !ask.body.is_empty() {
            let kind = if ask.content_type.is_empty() { JSON } else { ask.content_type };
            request = request.header("content-type", kind);
        }
        if let Some(token) = &self.config.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = if ask.body.is_empty() {
            let request = self.agent.configure_request(request.body(())?);
            self.agent.run(request.timeout_global(ask.timeout).build())
        } else {
            let request = self.agent.configure_request(request.body(ask.body)?);
            self.agent.run(request.timeout_global(ask.timeout).build())
        };
        let mut answer = answer
            .with_context(|| format!("cannot reach {server}; is `coracle serve` running?"))?;
        for warning in answer.headers().get_all(WARNING) {
            let text = warning_text(&String::from_utf8_lossy(warning.as_bytes()));
            if self.warned.borrow_mut().insert(text.clone()) {
                // A warning that cannot be written has no one to be told to.
                let _unheard = writeln!(std::io::stderr().lock(), "Warning: {text}");
            }
        }
        let status = answer.status().as_u16();
        if answer.status().is_success() {
            return Ok(answer);
        }
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Err(Refused::read(status, &body).into())
    }

    /// Sends a request and reads the answer.
    pub(crate) fn bytes(&self, ask: &Ask<'_>) -> anyhow::Result<Vec<u8>> {
        let mut answer = self.send(ask)?;
        Ok(answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?)
    }

    /// Sends a request and reads JSON.
    pub(crate) fn value(&self, ask: &Ask<'_>) -> anyhow::Result<Value> {
        let answer = self.bytes(ask)?;
        serde_json::from_slice(&answer)
            .with_context(|| format!("{} {}: the answer is no JSON", ask.method, ask.path))
    }

    /// Sends JSON and reads JSON.
    pub(crate) fn json(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Value> {
        self.value(&Ask { method, path, body, ..Ask::default() })
    }

    /// Reads events of a watch until `each` (type, object) says that it has enough (true), or the stream or the time
    /// ends (false). `path` holds a query.
    pub(crate) fn watch(
        &self,
        path: &str,
        accept: &str,
        deadline: Option<Instant>,
        each: &mut dyn FnMut(&str, Value) -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        let mut path = format!("{path}&watch=true&allowWatchBookmarks=true");
        let mut timeout = None;
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            path += &format!("&timeoutSeconds={}", left.as_secs() + 1);
            timeout = Some(left);
        }
        let answer = match self.send(&Ask { path: &path, accept, timeout, ..Ask::default() }) {
            Ok(answer) => answer,
            Err(error) if error.downcast_ref::<ureq::Error>().is_some_and(is_timeout) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let mut lines = BufReader::new(answer.into_body().into_reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.read_until(b'\n', &mut line) {
                // Whoever waits asks again, and is told there if the server is gone.
                Ok(0) | Err(_) => return Ok(false),
                Ok(_) => {}
            }
            let mut event: Value =
                serde_json::from_slice(&line).context("the watch sent what is no JSON")?;
            let object = event.get_mut("object").map(Value::take).unwrap_or_default();
            let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
            match kind {
                "ERROR" => {
                    let code = object.get("code").and_then(Value::as_u64).unwrap_or(500);
                    let status = u16::try_from(code).unwrap_or(500);
                    return Err(Refused::read(status, object.to_string().as_bytes()).into());
                }
                "BOOKMARK" => {}
                kind => {
                    if each(kind, object)? {
                        return Ok(true);
                    }
                }
            }
        }
    }
}

fn is_timeout(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Timeout(_))
}

/// `299 - "text"`, RFC 7234.
fn warning_text(header: &str) -> String {
    let quoted = header.splitn(3, ' ').nth(2).unwrap_or(header).trim();
    let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(quoted);
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_unquoted() {
        let check = |header: &str, want: &str| assert_eq!(warning_text(header), want);
        check(r#"299 - "old""#, "old");
        check(r#"299 - "doubled \"a\"""#, r#"doubled "a""#);
        check(r#"299 - "a\\b""#, r"a\b");
        check("odd", "odd");
    }

    #[test]
    fn what_is_put_into_paths() {
        assert_eq!(encode("a-b.c_d~E9"), "a-b.c_d~E9");
        assert_eq!(encode("../a=b,c&d é"), "..%2Fa%3Db%2Cc%26d%20%C3%A9");
    }
}
