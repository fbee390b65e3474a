//! The other side of the wire: a client over either version of HTTP, and a node that serves on its tunnel.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    io,
    net::TcpStream,
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use coracle_keys::{
    Keys, pem,
    ring::{Identity, RealKeys},
};
use coracle_rt::{Io, Local, Timers};
use futures_rustls::{TlsConnector, client::TlsStream};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    client::conn::{http1, http2},
    server,
    service::service_fn,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use smol::{Async, channel, stream::Stream};

/// A directory that goes with the value.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("coracle-shell-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

pub(super) struct Client {
    sender: Sender,
}

pub(super) async fn dial(
    port: u16,
    keys: &RealKeys,
    identity: Option<&Identity>,
    h2: bool,
) -> Result<TlsStream<Async<TcpStream>>, String> {
    let mut roots = RootCertStore::empty();
    let root = pem::decode("CERTIFICATE", keys.root_ca_pem()).unwrap();
    roots.add(CertificateDer::from(root)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = pem::decode_all("CERTIFICATE", &identity.chain_pem).unwrap();
            let key = pem::decode("PRIVATE KEY", &identity.key_pem).unwrap();
            let chain = chain.into_iter().map(CertificateDer::from).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::try_from(key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![if h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let socket = Async::<TcpStream>::connect(([127, 0, 0, 1], port)).await.unwrap();
    let name = "kubernetes.default.svc".try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, socket).await.map_err(|e| e.to_string())
}

impl Client {
    pub(super) async fn connect(
        local: &Local,
        port: u16,
        keys: &RealKeys,
        identity: Option<&Identity>,
        h2: bool,
    ) -> Result<Self, String> {
        let stream = Io(dial(port, keys, identity, h2).await?);
        let sender = if h2 {
            let (sender, connection) =
                http2::Builder::new(local.clone()).handshake(stream).await.map_err(told)?;
            local.spawn(async move { _ = connection.await });
            Sender::H2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.map_err(told)?;
            local.spawn(async move { _ = connection.with_upgrades().await });
            Sender::H1(sender)
        };
        Ok(Self { sender })
    }

    async fn request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, String> {
        match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await.map_err(told)?;
                sender.send_request(request).await.map_err(told)
            }
            Sender::H2(sender) => {
                sender.ready().await.map_err(told)?;
                sender.send_request(request).await.map_err(told)
            }
        }
    }

    pub(super) async fn start(
        &mut self,
        method: &str,
        path: &str,
    ) -> Result<Response<Incoming>, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://kubernetes.default.svc{path}"))
            .body(Full::default())
            .unwrap();
        self.request(request).await
    }

    pub(super) async fn try_send(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<(u16, String), String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://kubernetes.default.svc{path}"))
            .header("content-type", content_type)
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        let response = self.request(request).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(told)?.to_bytes();
        Ok((status, String::from_utf8(bytes.to_vec()).unwrap()))
    }

    pub(super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> (u16, String) {
        self.try_send(method, path, content_type, body).await.unwrap()
    }

    pub(super) async fn get(&mut self, path: &str) -> (u16, String) {
        self.send("GET", path, "text/plain", b"").await
    }
}

fn told(error: hyper::Error) -> String {
    crate::log::Chain(&error).to_string()
}

/// The next data of a body that is not empty; `None` at its end.
pub(super) async fn next_frame(body: &mut Incoming) -> Option<String> {
    loop {
        let data = body.frame().await?.ok()?.into_data().ok()?;
        if !data.is_empty() {
            return Some(String::from_utf8(data.to_vec()).unwrap());
        }
    }
}

/// A node's agent: after the tunnel is up it answers each request with the path and then what [`Node::say`] is told.
pub(super) struct Node {
    shared: Rc<NodeShared>,
}

#[derive(Default)]
struct NodeShared {
    streams: Cell<usize>,
    cancelled: Cell<usize>,
    open: RefCell<Vec<channel::Sender<String>>>,
}

struct Said {
    first: Option<String>,
    more: Pin<Box<channel::Receiver<String>>>,
    shared: Rc<NodeShared>,
}

impl Drop for Said {
    fn drop(&mut self) {
        self.shared.cancelled.set(self.shared.cancelled.get() + 1);
    }
}

impl Body for Said {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first.into()))));
        }
        let next = self.more.as_mut().poll_next(cx);
        next.map(|text| text.map(|text| Ok(Frame::data(text.into()))))
    }
}

impl Node {
    pub(super) async fn connect(
        local: &Local,
        port: u16,
        keys: &RealKeys,
        identity: &Identity,
    ) -> Result<Self, String> {
        let stream = Io(dial(port, keys, Some(identity), false).await?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(told)?;
        local.spawn(async move { _ = connection.with_upgrades().await });
        let request = Request::get("/coracle/v1/tunnel")
            .header("host", "kubernetes.default.svc")
            .header("connection", "Upgrade")
            .header("upgrade", "coracle-tunnel")
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = sender.send_request(request).await.map_err(told)?;
        if response.status() != 101 {
            return Err(response.status().to_string());
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(told)?;
        let shared = Rc::new(NodeShared::default());
        let serving = shared.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = serving.clone();
            async move {
                let (sender, more) = channel::unbounded();
                shared.streams.set(shared.streams.get() + 1);
                shared.open.borrow_mut().push(sender);
                let path = request.uri().path_and_query().unwrap().to_string();
                let body = Said { first: Some(path + "\n"), more: Box::pin(more), shared };
                Ok::<_, Infallible>(Response::new(body))
            }
        });
        let executor = local.clone();
        local.spawn(async move {
            let served = server::conn::http2::Builder::new(executor)
                .timer(Timers)
                .serve_connection(upgraded, service);
            _ = served.await;
        });
        Ok(Self { shared })
    }

    pub(super) fn say(&self, text: &str) {
        for sender in self.shared.open.borrow().iter() {
            _ = sender.try_send(text.to_owned());
        }
    }

    pub(super) fn streams(&self) -> usize {
        self.shared.streams.get()
    }

    pub(super) fn streams_cancelled(&self) -> usize {
        self.shared.cancelled.get()
    }
}
