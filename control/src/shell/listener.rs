//! Listeners and connections: a bounded number, each with a TLS handshake in bounded time, then HTTP/1.1 or HTTP/2.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    sync::Arc,
};

use coracle_rt::{Io, Local, Timers, within};
use futures_rustls::{TlsAcceptor, server::TlsStream};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use rustls::ServerConfig;
use smol::{Async, channel};

use super::{
    http::{Front, handle},
    tls,
};
use crate::{
    limits::{
        CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HEAD_BYTES_MAX, HEAD_TIMEOUT,
        HEADERS_MAX, PING_EVERY, PING_TIMEOUT, STRANGERS_MAX, STREAM_SEND_BYTES,
        STREAM_WINDOW_BYTES, STREAMS_MAX,
    },
    log,
};

/// What all connections share.
pub(crate) struct Doors {
    /// Where requests go.
    pub(crate) front: Rc<Front>,
    /// For new handshakes; replaced when the certificate is made anew.
    pub(crate) tls: RefCell<Arc<ServerConfig>>,
    open: Cell<usize>,
    /// Of the open ones, those without a client certificate.
    strangers: Cell<usize>,
    freed: (channel::Sender<()>, channel::Receiver<()>),
}

impl Doors {
    /// No connection is open.
    pub(crate) fn new(front: Rc<Front>, tls: Arc<ServerConfig>) -> Rc<Self> {
        Rc::new(Self {
            front,
            tls: RefCell::new(tls),
            open: Cell::new(0),
            strangers: Cell::new(0),
            freed: channel::bounded(1),
        })
    }
}

/// A place among the open connections.
struct Place(Rc<Doors>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        let _nobody_waits = self.0.freed.0.try_send(());
    }
}

/// A place among those that have no client certificate.
struct StrangersPlace(Rc<Doors>);

impl StrangersPlace {
    fn take(doors: &Rc<Doors>) -> io::Result<Self> {
        let taken = doors.strangers.get();
        if STRANGERS_MAX <= taken {
            let message = format!(
                "{taken} connections without a client certificate are open, so this one is closed; close some, or use a certificate"
            );
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, message));
        }
        doors.strangers.set(taken + 1);
        Ok(Self(doors.clone()))
    }
}

impl Drop for StrangersPlace {
    fn drop(&mut self) {
        self.0.strangers.set(self.0.strangers.get().saturating_sub(1));
    }
}

/// Opens a listening socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Async<TcpListener>> {
    Async::new(TcpListener::bind(address)?)
}

/// Accepts for ever.
pub(crate) async fn accept(listener: Async<TcpListener>, doors: Rc<Doors>, local: Local) {
    loop {
        while doors.open.get() >= CONNECTIONS_MAX {
            log::warning!("{CONNECTIONS_MAX} connections are open; new ones wait until one closes");
            let _never_closed = doors.freed.1.recv().await;
        }
        match listener.accept().await {
            Ok((stream, from)) => {
                doors.open.set(doors.open.get() + 1);
                let place = Place(doors.clone());
                let local = local.clone();
                local.clone().spawn(async move {
                    if let Err(error) = connection(stream, &place.0, &local).await {
                        log::info!("connection of {from}: {error}");
                    }
                    drop(place);
                });
            }
            // Out of file descriptors, or the client gave up: neither is to spin on.
            Err(error) => {
                log::warning!("a connection could not be accepted: {error}");
                smol::Timer::after(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: Async<TcpStream>, doors: &Rc<Doors>, local: &Local) -> io::Result<()> {
    stream.get_ref().set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(doors.tls.borrow().clone());
    let handshake = within(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream: TlsStream<Async<TcpStream>> = match handshake {
        Some(Ok(stream)) => stream,
        Some(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        Some(Err(e)) => return Err(io::Error::new(e.kind(), format!("TLS handshake: {e}"))),
        None => {
            let message = format!("no TLS handshake within {}s", HANDSHAKE_TIMEOUT.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
    };
    let (_, session) = stream.get_ref();
    let peer = tls::peer(session.peer_certificates());
    let _place = if peer.is_none() { Some(StrangersPlace::take(doors)?) } else { None };
    let is_h2 = session.alpn_protocol() == Some(b"h2");
    let front = doors.front.clone();
    let service = service_fn(move |request| handle(front.clone(), peer.clone(), request));
    let served = if is_h2 {
        http2::Builder::new(local.clone())
            .timer(Timers)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .max_send_buf_size(STREAM_SEND_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(Io(stream), service)
            .await
    } else {
        http1::Builder::new()
            .timer(Timers)
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(Io(stream), service)
            .with_upgrades()
            .await
    };
    if let Err(error) = served {
        // Clients close connections without saying goodbye all the time.
        log::debug!("connection ended: {}", log::Chain(&error));
    }
    Ok(())
}
