//! The connection to the API server: one, over TLS and HTTP/2, for all requests and watches.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use coracle_api::Status;
use coracle_rt::{Io, Local, Timers, sleep, within};
use futures_rustls::{TlsConnector, client::TlsStream};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    header,
};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use smol::{Async, channel};
use std::net::{SocketAddr, TcpStream};

use super::{
    chance::{jitter, spread},
    limits,
    log::{info, warning},
    pool,
};

/// Why a call did not give what it was to give.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nothing is known of the outcome; try again.
    #[error("no answer from the API server: {0}")]
    Lost(String),
    /// The API server said no.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
}

impl ApiError {
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Lost(_) => None,
            Self::Refused(status) => Some(status.code),
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }
}

/// Where the API server is.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Name or address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Server {
    /// Reads `https://HOST[:PORT]`.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let bad =
            |why: &str| format!("`{url}` is no server address: {why}; it reads https://HOST:PORT");
        let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| bad("not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad("not https"));
        }
        let host = uri.host().ok_or_else(|| bad("no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(443) })
    }

    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// A TLS stream to it, and the address that answered.
    pub(crate) async fn connect(
        &self,
        config: Arc<ClientConfig>,
    ) -> std::io::Result<(TlsStream<Async<TcpStream>>, SocketAddr)> {
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let connecting = async {
            let (host, port) = (self.host.clone(), self.port);
            let found = pool::SLOW.run(move || {
                use std::net::ToSocketAddrs as _;
                (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
            });
            let mut last = std::io::Error::other("the name has no address");
            for address in found.await? {
                match Async::<TcpStream>::connect(address).await {
                    Ok(stream) => {
                        stream.get_ref().set_nodelay(true)?;
                        let name = ServerName::try_from(self.host.clone())
                            .map_err(std::io::Error::other)?;
                        let tls = TlsConnector::from(config).connect(name, stream).await?;
                        return Ok((tls, address));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        within(limits::CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|| Err(late()))
    }
}

/// The API server, for everyone in the agent. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Api {
    inner: Rc<Inner>,
}

struct Inner {
    server: Server,
    local: Local,
    tls: RefCell<Arc<ClientConfig>>,
    /// Sent as `Authorization: Bearer`; only before the node has a certificate.
    bearer: Option<String>,
    sender: RefCell<Option<SendRequest<Full<Bytes>>>>,
    /// The address behind the connection.
    peer: RefCell<Option<SocketAddr>>,
    /// Woken when a connection is made.
    up: RefCell<Vec<channel::Sender<()>>>,
    /// Closing it ends the present connection.
    cut: RefCell<Option<channel::Sender<()>>>,
}

impl Api {
    /// An API server that is dialled from now on, again and again whenever the connection is lost.
    pub(crate) fn dial(
        local: &Local,
        server: Server,
        tls: ClientConfig,
        bearer: Option<String>,
    ) -> Self {
        let inner = Rc::new(Inner {
            server,
            local: local.clone(),
            tls: RefCell::new(Arc::new(tls)),
            bearer,
            sender: RefCell::default(),
            peer: RefCell::default(),
            up: RefCell::default(),
            cut: RefCell::default(),
        });
        let weak = Rc::downgrade(&inner);
        local.spawn(async move {
            let mut delay = limits::RECONNECT.0;
            while let Some(inner) = weak.upgrade() {
                match inner.connect_once().await {
                    Ok(lost) => {
                        delay = limits::RECONNECT.0;
                        drop(inner);
                        let _ = lost.recv().await;
                        if let Some(inner) = weak.upgrade() {
                            inner.sender.replace(None);
                        }
                        // A server that takes connections and drops them at once is not to be hammered.
                        sleep(jitter(delay)).await;
                    }
                    Err(error) => {
                        warning!(
                            "cannot reach the API server at {}: {error}; pods go on, trying again",
                            inner.server.authority()
                        );
                        drop(inner);
                        sleep(jitter(delay)).await;
                        delay = (delay * 2).min(limits::RECONNECT.1);
                    }
                }
            }
        });
        Self { inner }
    }

    /// Takes other certificates from the next connection on, and makes that now.
    pub(crate) fn renew(&self, tls: ClientConfig) {
        self.inner.tls.replace(Arc::new(tls));
        self.inner.cut.replace(None);
    }

    pub(crate) fn server(&self) -> &Server {
        &self.inner.server
    }

    /// The address of the server on the present or last connection.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        *self.inner.peer.borrow()
    }

    /// Certificates for the second connection (the tunnel).
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.inner.tls.borrow())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.inner.sender.borrow().as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// Waits until there is a connection.
    pub(crate) async fn connected(&self) {
        loop {
            if self.is_connected() {
                return;
            }
            let (send, receive) = channel::bounded(1);
            self.inner.up.borrow_mut().push(send);
            let _ = receive.recv().await;
        }
    }

    /// Sends a request, again by its `Retry-After` while the API server says that it is too busy: that it does before
    /// it has done anything. The head of the answer comes back whatever its code.
    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ApiError> {
        let body = Bytes::from(body);
        let mut tries = 0;
        loop {
            let response = self.send_once(method.clone(), path, content_type, body.clone()).await?;
            let wait = busy(response.status(), response.headers(), tries);
            let Some(wait) = wait.filter(|_| tries < limits::BUSY_TRIES_MAX) else {
                return Ok(response);
            };
            drop(response);
            tries += 1;
            sleep(spread(wait)).await;
            self.connected().await;
        }
    }

    async fn send_once(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ApiError> {
        let lost = |text: &str| ApiError::Lost(text.to_owned());
        let inner = &self.inner;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", inner.server.authority()))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("coracle-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(bearer) = &inner.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request =
            request.body(Full::new(body)).map_err(|error| ApiError::Lost(error.to_string()))?;
        let sender = inner.sender.borrow().clone();
        let mut sender = sender.ok_or_else(|| lost("not connected"))?;
        match within(limits::ANSWER_TIMEOUT, sender.send_request(request)).await {
            None => Err(lost("it took too long")),
            Some(Err(error)) => Err(ApiError::Lost(error.to_string())),
            Some(Ok(response)) => Ok(response),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ApiError> {
        let response = self.send(method, path, content_type, body).await?;
        let code = response.status();
        let body = Limited::new(response.into_body(), limits::ANSWER_BYTES_MAX);
        let body = within(limits::ANSWER_TIMEOUT, body.collect()).await;
        let body = body.ok_or_else(|| ApiError::Lost("it took too long".into()))?;
        let bytes = body.map_err(|error| ApiError::Lost(error.to_string()))?.to_bytes();
        if code.is_success() { Ok(bytes.to_vec()) } else { Err(refusal(code, &bytes)) }
    }

    /// GET; the answer as it is.
    pub(crate) async fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ApiError> {
        self.call(Method::GET, path, "", Vec::new()).await
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        parse(&self.get_bytes(path).await?)
    }

    /// POST.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        parse(&self.call(Method::POST, path, "application/json", encode(body)).await?)
    }

    /// JSON merge patch (RFC 7386).
    pub(crate) async fn merge(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let kind = "application/merge-patch+json";
        parse(&self.call(Method::PATCH, path, kind, encode(body)).await?)
    }

    /// DELETE with options.
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<Value, ApiError> {
        parse(&self.call(Method::DELETE, path, "application/json", encode(options)).await?)
    }

    /// GET whose answer goes on: a watch.
    pub(crate) async fn stream(&self, path: &str) -> Result<Incoming, ApiError> {
        let response = self.send(Method::GET, path, "", Vec::new()).await?;
        let code = response.status();
        if code.is_success() {
            return Ok(response.into_body());
        }
        let body = Limited::new(response.into_body(), limits::ANSWER_BYTES_MAX).collect().await;
        let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
        Err(refusal(code, &bytes))
    }
}

impl Inner {
    /// Makes a connection; what is given back is closed when it is lost.
    async fn connect_once(&self) -> Result<channel::Receiver<()>, String> {
        let mut tls = (**self.tls.borrow()).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let (stream, peer) =
            self.server.connect(Arc::new(tls)).await.map_err(|error| error.to_string())?;
        let handshake = http2::Builder::new(self.local.clone())
            .timer(Timers)
            .keep_alive_interval(limits::PING_AFTER)
            .keep_alive_timeout(limits::PING_TIMEOUT)
            .keep_alive_while_idle(true)
            // Watches are many and quiet: small windows are enough, and memory is what we are short of.
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(256 * 1024)
            .max_frame_size(16 * 1024)
            .handshake(Io(stream));
        let (sender, connection) = within(limits::CONNECT_TIMEOUT, handshake)
            .await
            .ok_or("HTTP/2 took too long")?
            .map_err(|error| error.to_string())?;
        let (lost_send, lost) = channel::bounded::<()>(1);
        let (cut, cut_receive) = channel::bounded::<()>(1);
        self.cut.replace(Some(cut));
        self.local.spawn(async move {
            let cut = async {
                let _ = cut_receive.recv().await;
                Ok(())
            };
            if let Err(error) = smol::future::or(connection, cut).await {
                warning!("connection to the API server lost: {error}");
            }
            drop(lost_send);
        });
        info!("connected to the API server at {peer}");
        self.peer.replace(Some(peer));
        self.sender.replace(Some(sender));
        self.up.borrow_mut().clear();
        Ok(lost)
    }
}

fn encode(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::Lost(format!("its answer is no JSON: {error}")))
}

/// How long a server that is too busy wants to be left alone; longer each time that it says so again.
fn busy(code: StatusCode, headers: &header::HeaderMap, tries: u32) -> Option<Duration> {
    let is_busy = matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let after = headers.get(header::RETRY_AFTER).filter(|_| is_busy)?;
    let seconds: u64 = after.to_str().ok()?.trim().parse().ok()?;
    let wait = Duration::from_secs(seconds).saturating_mul(1 << tries.min(8));
    Some(wait.min(limits::BUSY_WAIT_MAX))
}

fn refusal(code: StatusCode, bytes: &[u8]) -> ApiError {
    let mut status: Status = serde_json::from_slice(bytes).unwrap_or_default();
    if status.message.is_empty() {
        status.message = format!("the API server answered {code}");
    }
    status.code = code.as_u16();
    ApiError::Refused(Box::new(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_says_how_long() {
        let check = |code: u16, after: Option<&str>, tries: u32, want_s: Option<u64>| {
            let mut headers = header::HeaderMap::new();
            if let Some(after) = after {
                headers.insert(header::RETRY_AFTER, after.parse().unwrap());
            }
            let got = busy(StatusCode::from_u16(code).unwrap(), &headers, tries);
            assert_eq!(got, want_s.map(Duration::from_secs), "{code} {after:?} {tries}");
        };
        check(429, Some("1"), 0, Some(1));
        check(429, Some("1"), 3, Some(8));
        check(503, Some("2"), 1, Some(4));
        // More than is believed, a date (which nobody sends), nothing, and an answer that is not about being busy.
        check(429, Some("86400"), 60, Some(30));
        check(429, Some("Sat, 28 Nov 2026 12:00:00 GMT"), 0, None);
        check(503, None, 0, None);
        check(500, Some("1"), 0, None);
    }

    #[test]
    fn servers_read() {
        let check = |url: &str, want: Result<&str, &str>| {
            let got = Server::parse(url).map(|server| server.authority());
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
                (got, want) => panic!("{url}: {got:?}, not {want:?}"),
            }
        };
        check("https://10.0.0.1:6443", Ok("10.0.0.1:6443"));
        check("https://pi.lan/", Ok("pi.lan:443"));
        check("https://[::1]:6443", Ok("[::1]:6443"));
        check("http://pi.lan", Err("not https"));
        check("pi.lan", Err("not https"));
    }
}
