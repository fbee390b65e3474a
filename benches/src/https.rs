//! HTTP/1.1 over TLS as the administrator, on kept connections: as many requests at one time as there are clients,
//! without a kubectl between them and what is measured or tormented.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use coracle_keys::pem;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};

/// Tries of a request that the server was too busy for.
const TRIES_MAX: u32 = 20;
/// Longer than anything is to take, if nothing else is said.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Whom to dial, and with what.
#[derive(Clone)]
pub struct Admin {
    address: String,
    tls: Arc<ClientConfig>,
    silence_max: Duration,
}

impl Admin {
    /// From the administrator's kubeconfig.
    ///
    /// # Errors
    /// It is not there, or not as the control plane writes it.
    pub fn of(kubeconfig: &Path) -> Result<Self> {
        let text = fs::read_to_string(kubeconfig)?;
        let field = |name: &str| -> Result<String> {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
            let value = line.with_context(|| format!("the kubeconfig has no {name}"))?;
            let value = value.trim_start_matches(':').trim().trim_matches('"');
            let bytes = base64::engine::general_purpose::STANDARD.decode(value)?;
            Ok(String::from_utf8(bytes)?)
        };
        let ders = |name: &str| -> Result<Vec<CertificateDer<'static>>> {
            let all = pem::decode_all("CERTIFICATE", &field(name)?)?;
            Ok(all.into_iter().map(CertificateDer::from).collect())
        };
        let mut roots = RootCertStore::empty();
        for der in ders("certificate-authority-data")? {
            roots.add(der)?;
        }
        let key = pem::decode("PRIVATE KEY", &field("client-key-data")?)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(ders("client-certificate-data")?, key)?;
        let url = text.lines().find_map(|line| line.trim().strip_prefix("server:"));
        let url = url.context("the kubeconfig names no server")?.trim().trim_matches('"');
        let address = url.strip_prefix("https://").context("the URL is not https")?.to_owned();
        Ok(Self { address, tls: Arc::new(tls), silence_max: SILENCE_MAX })
    }

    /// The same, with another bound on how long a connection may be silent while something is awaited.
    #[must_use]
    pub fn patient(self, silence_max: Duration) -> Self {
        Self { silence_max, ..self }
    }

    /// A connection.
    ///
    /// # Errors
    /// Nobody answers there in time.
    pub fn dial(&self) -> Result<Client> {
        let to: SocketAddr = self.address.parse().context("the URL names no address")?;
        let stream = TcpStream::connect_timeout(&to, self.silence_max)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.silence_max))?;
        stream.set_write_timeout(Some(self.silence_max))?;
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.to_owned())?;
        let session = ClientConnection::new(Arc::clone(&self.tls), name)?;
        Ok(Client { stream: BufReader::new(StreamOwned::new(session, stream)) })
    }
}

/// How a watch ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// Who was told said so.
    Told,
    /// The server closed it.
    Closed,
    /// The server did not begin it: the status code.
    Refused(u16),
}

/// One connection.
pub struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

struct Head {
    code: u16,
    length: u64,
    is_chunked: bool,
    retry_after_s: Option<u64>,
}

impl Client {
    fn send(&mut self, method: &str, path: &str, kind: &str, body: &str) -> Result<Head> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.with_context(|| format!("`{}` is no status line", status.trim()))?;
        let mut head = Head { code, length: 0, is_chunked: false, retry_after_s: None };
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else { return Ok(head) };
            match name {
                "content-length" => head.length = value.trim().parse()?,
                "transfer-encoding" => head.is_chunked = value.trim() == "chunked",
                "retry-after" => head.retry_after_s = value.trim().parse().ok(),
                _ => {}
            }
        }
    }

    /// The next chunk of an answer; empty at its end.
    fn chunk(&mut self) -> Result<Vec<u8>> {
        let mut size = String::new();
        self.stream.read_line(&mut size)?;
        let size = u64::from_str_radix(size.trim(), 16).context("a chunk without size")?;
        let mut bytes = Vec::new();
        self.stream.by_ref().take(size).read_to_end(&mut bytes)?;
        let mut end = String::new();
        self.stream.read_line(&mut end)?;
        Ok(bytes)
    }

    /// The rest of an answer.
    fn body(&mut self, head: &Head) -> Result<String> {
        let mut bytes = Vec::new();
        if head.is_chunked {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                bytes.extend(chunk);
            }
        } else {
            self.stream.by_ref().take(head.length).read_to_end(&mut bytes)?;
            let read = u64::try_from(bytes.len())?;
            ensure!(read == head.length, "the answer ended after {read} of {} bytes", head.length);
        }
        Ok(String::from_utf8(bytes)?)
    }

    /// One request, once: the status code and the body of the answer.
    ///
    /// # Errors
    /// There was no whole answer: nobody knows what became of the request, and the connection is of no more use.
    pub fn answer(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        body: &str,
    ) -> Result<(u16, String)> {
        let head = self.send(method, path, kind, body)?;
        Ok((head.code, self.body(&head)?))
    }

    /// One request; the body of the answer. A server that is too busy is asked again when it says.
    ///
    /// # Errors
    /// No answer, or what the server said against it.
    pub fn ask(&mut self, method: &str, path: &str, kind: &str, body: &str) -> Result<String> {
        for _ in 0..TRIES_MAX {
            let head = self.send(method, path, kind, body)?;
            let answer = self.body(&head)?;
            match (head.code, head.retry_after_s) {
                (200..=299, _) => return Ok(answer),
                (429 | 503, Some(seconds)) => thread::sleep(Duration::from_secs(seconds)),
                (code, _) => bail!("{method} {path}: {code} {answer}"),
            }
        }
        bail!("{method} {path}: the server was too busy {TRIES_MAX} times")
    }

    /// Lines of a watch, until `tell` says that it does not go on (then to the end of the answer) or the server closes it.
    ///
    /// # Errors
    /// The connection broke, or what `tell` gave.
    pub fn watch(
        &mut self,
        path: &str,
        mut tell: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<WatchEnd> {
        let head = self.send("GET", path, "application/json", "")?;
        if head.code != 200 || !head.is_chunked {
            self.body(&head)?;
            return Ok(WatchEnd::Refused(head.code));
        }
        let mut waiting: Vec<u8> = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok(WatchEnd::Closed);
            }
            waiting.extend(chunk);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                if !tell(&line)? {
                    while !self.chunk()?.is_empty() {}
                    return Ok(WatchEnd::Told);
                }
            }
        }
    }
}
