//! Listeners and connections: a bounded number, each with a TLS handshake in bounded time, then HTTP/1.1 or HTTP/2.
//!
//! Who a connection is from is known after its handshake. Nodes may fill all places but those few that handshakes have;
//! everyone else together has part of them, and is told 429 beyond: no crowd of clients keeps a node's Lease out.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use coracle_control_logic::call::Peer;
use futures_rustls::{TlsAcceptor, server::TlsStream};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use rustls::ServerConfig;
use smol::{Async, channel};

use super::{
    http::{Front, handle, turned_away},
    rt::{Io, Local, Timers, within},
    tls,
};
use crate::{
    limits::{
        CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX, HANDSHAKE_GRACE, HANDSHAKE_TIMEOUT,
        HANDSHAKES_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT, HEADERS_MAX, OTHER_CONNECTIONS_MAX,
        PING_EVERY, PING_TIMEOUT, STREAM_SEND_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX,
        TURN_AWAY_TIMEOUT,
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
    freed: (channel::Sender<()>, channel::Receiver<()>),
    /// Those of them that are served and not a node's.
    others: Cell<usize>,
    /// Handshakes under way, oldest first.
    greetings: RefCell<VecDeque<Greeting>>,
    greetings_ever: Cell<u64>,
    greeted: (channel::Sender<()>, channel::Receiver<()>),
}

/// A handshake under way. Its drop from the list cuts it off.
struct Greeting {
    number: u64,
    since: Instant,
    _cut: channel::Sender<()>,
}

impl Doors {
    /// No connection is open.
    pub(crate) fn new(front: Rc<Front>, tls: Arc<ServerConfig>) -> Rc<Self> {
        Rc::new(Self {
            front,
            tls: RefCell::new(tls),
            open: Cell::new(0),
            freed: channel::bounded(1),
            others: Cell::new(0),
            greetings: RefCell::default(),
            greetings_ever: Cell::new(0),
            greeted: channel::bounded(1),
        })
    }

    /// Waits until one more connection may be accepted.
    async fn has_room(&self) {
        while self.open.get() >= CONNECTIONS_MAX {
            log::warning!("{CONNECTIONS_MAX} connections are open; new ones wait until one closes");
            let _never_closed = self.freed.1.recv().await;
        }
        loop {
            let oldest = match self.greetings.borrow().front() {
                Some(oldest) if self.greetings.borrow().len() >= HANDSHAKES_MAX => oldest.since,
                Some(_) | None => return,
            };
            let left = HANDSHAKE_GRACE.saturating_sub(oldest.elapsed());
            if left.is_zero() {
                self.greetings.borrow_mut().pop_front();
                return;
            }
            within(left, self.greeted.1.recv()).await;
        }
    }

    /// Begins a handshake: a place in the list, and what ends when it is cut off.
    fn greet(self: &Rc<Self>) -> (Greeted, channel::Receiver<()>) {
        let (cut, cut_off) = channel::bounded(1);
        let number = self.greetings_ever.get() + 1;
        self.greetings_ever.set(number);
        let greeting = Greeting { number, since: Instant::now(), _cut: cut };
        self.greetings.borrow_mut().push_back(greeting);
        (Greeted { doors: self.clone(), number }, cut_off)
    }

    /// A place for who is no node, if there is one.
    fn seat(self: &Rc<Self>) -> Option<Seat> {
        let others = self.others.get();
        (others < OTHER_CONNECTIONS_MAX).then(|| {
            self.others.set(others + 1);
            Seat(self.clone())
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

/// A place among the handshakes.
struct Greeted {
    doors: Rc<Doors>,
    number: u64,
}

impl Drop for Greeted {
    fn drop(&mut self) {
        self.doors.greetings.borrow_mut().retain(|greeting| greeting.number != self.number);
        let _nobody_waits = self.doors.greeted.0.try_send(());
    }
}

/// A place among the connections that are not of nodes.
struct Seat(Rc<Doors>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.others.set(self.0.others.get().saturating_sub(1));
    }
}

/// What the certificate of a node says.
fn is_node(peer: Option<&Peer>) -> bool {
    peer.is_some_and(|peer| {
        peer.common_name.starts_with("system:node:")
            && peer.organizations.iter().any(|group| group == "system:nodes")
    })
}

/// Opens a listening socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Async<TcpListener>> {
    Async::new(TcpListener::bind(address)?)
}

/// Accepts for ever.
pub(crate) async fn accept(listener: Async<TcpListener>, doors: Rc<Doors>, local: Local) {
    loop {
        doors.has_room().await;
        match listener.accept().await {
            Ok((stream, from)) => {
                doors.open.set(doors.open.get() + 1);
                let (place, greeting) = (Place(doors.clone()), doors.greet());
                let local = local.clone();
                local.clone().spawn(async move {
                    if let Err(error) = connection(stream, &place.0, greeting, &local).await {
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

type Stream = TlsStream<Async<TcpStream>>;

async fn connection(
    stream: Async<TcpStream>,
    doors: &Rc<Doors>,
    (greeted, cut): (Greeted, channel::Receiver<()>),
    local: &Local,
) -> io::Result<()> {
    stream.get_ref().set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(doors.tls.borrow().clone());
    let handshake = async {
        within(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await.unwrap_or_else(|| {
            let message = format!("not done within {}s", HANDSHAKE_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        })
    };
    let cut_off = async {
        let _end = cut.recv().await;
        let message = format!("{HANDSHAKES_MAX} others wait; the oldest was cut off");
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, message))
    };
    let stream: Stream = match smol::future::or(handshake, cut_off).await {
        Ok(stream) => stream,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        Err(e) => return Err(io::Error::new(e.kind(), format!("TLS handshake: {e}"))),
    };
    let (_, session) = stream.get_ref();
    let peer = tls::peer(session.peer_certificates());
    let is_h2 = session.alpn_protocol() == Some(b"h2");
    let _seat = match is_node(peer.as_ref()) {
        true => None,
        false => match doors.seat() {
            Some(seat) => Some(seat),
            None => {
                let telling = within(TURN_AWAY_TIMEOUT, turn_away(stream, is_h2, local));
                let cut_off = async {
                    let _end = cut.recv().await;
                    None
                };
                smol::future::or(telling, cut_off).await;
                return Ok(());
            }
        },
    };
    drop(greeted);
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

/// Answers 429 to whatever is asked.
async fn turn_away(stream: Stream, is_h2: bool, local: &Local) {
    let service = service_fn(|_request| async { Ok::<_, Infallible>(turned_away()) });
    let told = if is_h2 {
        http2::Builder::new(local.clone()).serve_connection(Io(stream), service).await
    } else {
        let mut http = http1::Builder::new();
        http.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
        http.serve_connection(Io(stream), service).await
    };
    if let Err(error) = told {
        log::debug!("a connection that was turned away: {}", log::Chain(&error));
    }
}
