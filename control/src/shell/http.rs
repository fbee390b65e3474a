//! One request: its head and body with their limits, to the control plane and back.

use std::{cell::Cell, convert::Infallible, rc::Rc};

use coracle_api::Status;
use coracle_control_logic::{
    call::{Body as CallBody, HttpRequest, Peer},
    plane::{Response as Answer, ResponseBody},
};
use coracle_rt::within;
use http_body_util::BodyExt;
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{HeaderName, HeaderValue},
};

use super::{
    body::Body,
    drive::{Asked, Drive, refusal, try_again},
    tunnel, yaml,
};
use crate::{
    limits::{
        BODY_BYTES_DRAINED_MAX, BODY_BYTES_IN_FLIGHT_MAX, BODY_BYTES_MAX, BODY_TIMEOUT,
        STRANGERS_BODY_BYTES_MAX, STRANGERS_BODY_TIMEOUT,
    },
    log,
};

/// The header fields that the control plane reads, and `impersonate-*`.
const HEADERS_READ: &[&str] =
    &["accept", "authorization", "content-type", "if-none-match", "user-agent"];

/// What all requests share.
pub(crate) struct Front {
    /// The control plane.
    pub(crate) drive: Rc<Drive>,
    /// Bytes of request bodies being held.
    pub(crate) body_bytes: Cell<usize>,
    /// Answers what is the shell's own and not the control plane's (`/coracle/v1/backup`).
    pub(crate) own: OwnPaths,
}

/// The shell's own paths: given the path and the caller's certificate, a future answer if it is one.
pub(crate) type OwnPaths =
    Box<dyn Fn(&str, Option<&Peer>) -> Option<std::pin::Pin<Box<dyn Future<Output = Answer>>>>>;

/// Answers one request. `peer`: who the connection's certificate says it is.
pub(crate) async fn handle(
    front: Rc<Front>,
    peer: Option<Peer>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = front.drive.clock.now();
    let told = log_name(&request, peer.as_ref());
    if request.uri().path() == tunnel::PATH {
        return Ok(match tunnel::accept(&front.drive, peer, &mut request) {
            Ok(switching) => switching,
            Err(status) => plain(refusal(&status)),
        });
    }
    let own = (front.own)(request.uri().path(), peer.as_ref());
    let response = match own {
        Some(answer) => plain(answer.await),
        None => match read(&front, peer, request).await {
            Ok((call, held)) => {
                let (answer, asked) = front.drive.ask(call).await;
                // A write that waits for its turn keeps its body.
                drop(held);
                write(&front.drive, answer, asked).await
            }
            Err(answer) => plain(answer),
        },
    };
    let took_ms = front.drive.clock.now().0 - started.0;
    log::debug!("{told} {} {took_ms}ms", response.status().as_u16());
    Ok(response)
}

fn log_name(request: &Request<Incoming>, peer: Option<&Peer>) -> String {
    // Queries may be long, tokens are never in them.
    let who = peer.map_or("-", |peer| peer.common_name.as_str());
    format!("{who} {} {}", request.method(), request.uri())
}

fn too_large() -> Answer {
    let message = format!("Request entity too large: limit is {BODY_BYTES_MAX}");
    refusal(&Status::new(413, "RequestEntityTooLarge", message))
}

/// Counts held body bytes; gives them back when dropped.
struct Held<'a> {
    total: &'a Cell<usize>,
    mine: usize,
}

impl Held<'_> {
    fn add(&mut self, count: usize) -> bool {
        self.mine += count;
        self.total.set(self.total.get() + count);
        self.total.get() <= BODY_BYTES_IN_FLIGHT_MAX
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.total.set(self.total.get().saturating_sub(self.mine));
    }
}

async fn read(
    front: &Front,
    peer: Option<Peer>,
    request: Request<Incoming>,
) -> Result<(HttpRequest, Held<'_>), Answer> {
    let (head, incoming) = request.into_parts();
    let mut call = HttpRequest {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: Vec::new(),
        body: CallBody::default(),
        peer,
    };
    for (name, value) in &head.headers {
        let name = name.as_str();
        if HEADERS_READ.contains(&name) || name.starts_with("impersonate-") {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            call.headers.push((name.to_owned(), value));
        }
    }
    let mut held = Held { total: &front.body_bytes, mine: 0 };
    // A stranger's body is not waited for: what strangers may ask for has none, and slow ones would take the room that
    // bodies have. The answer comes at once, 401 most of the time. What is on its way is thrown away beside it: clients
    // take a stream that is reset under their hands for a fault of the network.
    if !incoming.is_end_stream() && !front.drive.knows(&call) {
        let drained = within(STRANGERS_BODY_TIMEOUT, throw_away(incoming));
        front.drive.local.spawn(async move {
            let _in_time = drained.await;
        });
        return Ok((call, held));
    }
    let bytes = match within(BODY_TIMEOUT, read_body(incoming, &mut held)).await {
        Some(bytes) => bytes?,
        None => {
            let message = format!("the request body took longer than {}s", BODY_TIMEOUT.as_secs());
            return Err(refusal(&Status::new(408, "Timeout", message)));
        }
    };
    let content_type = head.headers.get("content-type").and_then(|v| v.to_str().ok());
    call.body = if content_type.is_some_and(yaml::is_yaml) && !bytes.is_empty() {
        let decoded = yaml::to_json(&bytes).map_err(|e| refusal(&Status::bad_request(e.0)))?;
        CallBody { bytes: decoded.json, was_yaml: true, doubled: decoded.doubled }
    } else {
        CallBody { bytes, ..CallBody::default() }
    };
    Ok((call, held))
}

async fn throw_away(mut incoming: Incoming) {
    let mut seen = 0;
    while let Some(Ok(frame)) = incoming.frame().await {
        seen += frame.data_ref().map_or(0, |data| data.len());
        if STRANGERS_BODY_BYTES_MAX < seen {
            return;
        }
    }
}

async fn read_body(mut incoming: Incoming, held: &mut Held<'_>) -> Result<Vec<u8>, Answer> {
    let mut all = Vec::new();
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    let mut refused = (announced > BODY_BYTES_MAX).then(too_large);
    if refused.is_none() {
        all.reserve_exact(announced);
    }
    let mut seen = 0_usize;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|e| {
            refusal(&Status::bad_request(format!("the request body could not be read: {e}")))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen > BODY_BYTES_DRAINED_MAX {
            break;
        }
        if refused.is_some() {
            continue;
        }
        if seen > BODY_BYTES_MAX {
            refused = Some(too_large());
        } else if !held.add(data.len()) {
            let message = "too many large requests at one time; try again";
            refused = Some(try_again(429, "TooManyRequests", message));
        } else {
            all.extend_from_slice(&data);
            continue;
        }
        all = Vec::new();
    }
    match refused {
        Some(answer) => Err(answer),
        None => Ok(all),
    }
}

fn head(answer: &Answer) -> hyper::http::response::Builder {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = Response::builder().status(status);
    for (name, value) in &answer.headers {
        // A value with a line break (a Warning quoting a body) is shown without it.
        let clean: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let name = HeaderName::from_static(name);
        match HeaderValue::from_bytes(clean.as_bytes()) {
            Ok(value) => head = head.header(name, value),
            Err(_) => log::error!("the header field {name} cannot carry {clean:?}"),
        }
    }
    head
}

fn finish(head: hyper::http::response::Builder, body: Body) -> Response<Body> {
    head.body(body).unwrap_or_else(|_| Response::new(Body::empty()))
}

/// An answer that is whole.
fn plain(answer: Answer) -> Response<Body> {
    let head = head(&answer);
    let body = match answer.body {
        ResponseBody::Bytes(bytes) => Body::whole(bytes),
        ResponseBody::Parts(parts) => Body::Parts { parts: Some(parts), since_turn: 0 },
        ResponseBody::Watch(_) | ResponseBody::Node { .. } => Body::empty(),
    };
    finish(head, body)
}

async fn write(drive: &Drive, answer: Answer, asked: Asked) -> Response<Body> {
    match answer.body {
        ResponseBody::Watch(id) => finish(head(&answer), Body::Watch { asked, id, closed: false }),
        ResponseBody::Node { node, path_and_query } => {
            match drive.nodes.get(&node, &path_and_query).await {
                Ok(response) => {
                    let (parts, incoming) = response.into_parts();
                    let mut head = Response::builder().status(parts.status);
                    if let Some(kind) = parts.headers.get("content-type") {
                        head = head.header("content-type", kind);
                    }
                    finish(head, Body::Node(incoming))
                }
                Err(status) => plain(refusal(&status)),
            }
        }
        ResponseBody::Bytes(_) | ResponseBody::Parts(_) => plain(answer),
    }
}
