//! What parts of the world say to each other.

use coracle_agent_logic::PodUid;
use coracle_control_logic::call::{Body, HttpRequest, Peer};
use serde_json::Value;

use crate::{history::History, rng::Rng, trace::Trace};

/// A caller's own number for a call, a stream or a timer; never used twice in a world.
pub type Tag = u64;

/// Someone who calls the control plane.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// `kubectl` by its script.
    Client,
    /// A user who does what comes to mind.
    Chaos,
    /// A writer whose acknowledged writes are logged.
    Writer(usize),
    /// A watch that is held against the model.
    Checker(usize),
    /// An agent.
    Node(usize),
}

/// What an actor asks of the world.
#[derive(Clone, Debug)]
pub enum Order {
    /// Send a request.
    Call(Tag, HttpRequest),
    /// Send [`News::Timer`] after so many ms.
    After(u64, Tag),
    /// Let this happen to a board, whatever its agent does meanwhile.
    Host(u64, HostEvent),
}

/// What happens on a board by itself.
#[derive(Clone, Debug)]
pub enum HostEvent {
    /// A container ends with this code.
    Exits(PodUid, String, u32, i32),
    /// Its agent is told of it.
    Told(PodUid, String, u32),
}

/// What the world says to an actor.
#[derive(Clone, Debug)]
pub enum News {
    /// An answer.
    Answer(Tag, u16, Vec<u8>),
    /// No answer: nothing is known of the outcome.
    Lost(Tag),
    /// A stream is open.
    Opened(Tag),
    /// Bytes of a stream.
    Bytes(Tag, Vec<u8>),
    /// The stream ended or broke.
    Closed(Tag),
    /// Time has come.
    Timer(Tag),
}

impl News {
    /// Of what.
    pub fn tag(&self) -> Tag {
        match self {
            Self::Answer(tag, ..)
            | Self::Lost(tag)
            | Self::Opened(tag)
            | Self::Bytes(tag, _)
            | Self::Closed(tag)
            | Self::Timer(tag) => *tag,
        }
    }
}

/// What an actor has at hand when it is told something.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Now, in ms since 1970.
    pub now_ms: u64,
    /// What the actor's own wall clock says.
    pub wall_ms: u64,
    /// Draws.
    pub rng: &'a mut Rng,
    /// All changes so far: only checkers look, and who draws what to do next.
    pub history: &'a History,
    /// Lines for people.
    pub trace: &'a mut Trace,
    /// What is asked for.
    pub orders: Vec<Order>,
    /// The next tag.
    pub next_tag: &'a mut Tag,
}

impl Scene<'_> {
    /// A tag of its own.
    pub fn tag(&mut self) -> Tag {
        *self.next_tag += 1;
        *self.next_tag
    }

    /// Sends a request; gives its tag.
    pub fn call(&mut self, http: HttpRequest) -> Tag {
        let tag = self.tag();
        self.orders.push(Order::Call(tag, http));
        tag
    }

    /// Asks for a timer; gives its tag.
    pub fn after(&mut self, ms: u64) -> Tag {
        let tag = self.tag();
        self.orders.push(Order::After(ms, tag));
        tag
    }
}

/// Kind of a request's body.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// No body.
    Get,
    /// JSON.
    Post,
    /// JSON.
    Put,
    /// A merge patch.
    Merge,
    /// A strategic merge patch.
    Strategic,
    /// With options, or without.
    Delete,
}

/// A request as this user sends it; `url` is path and query.
pub fn request(user: &Peer, method: Method, url: &str, body: &Value) -> HttpRequest {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let (method, content_type) = match method {
        Method::Get => ("GET", "application/json"),
        Method::Post => ("POST", "application/json"),
        Method::Put => ("PUT", "application/json"),
        Method::Merge => ("PATCH", "application/merge-patch+json"),
        Method::Strategic => ("PATCH", "application/strategic-merge-patch+json"),
        Method::Delete => ("DELETE", "application/json"),
    };
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    HttpRequest {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        headers: vec![
            ("content-type".into(), content_type.into()),
            ("accept".into(), "application/json".into()),
            ("user-agent".into(), "coracle-sim/1".into()),
        ],
        body: Body { bytes, was_yaml: false, doubled: Vec::new() },
        peer: Some(user.clone()),
    }
}

/// The administrator.
pub fn admin() -> Peer {
    Peer { common_name: "kubernetes-admin".into(), organizations: vec!["system:masters".into()] }
}

/// The JSON of an answer; `Null` if it is none.
pub fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

/// A text inside a value, empty if it is not there.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A number inside a value, 0 if it is not there.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// The resourceVersion, 0 if there is none.
pub fn revision(value: &Value) -> u64 {
    text(value, "/metadata/resourceVersion").parse().unwrap_or(0)
}
