//! List, then watch from there; on a break go on from the last revision; on 410 list anew: as the agent's shell does it.

use coracle_control_logic::call::Peer;
use serde_json::Value;

use crate::wire::{Method, News, Scene, Tag, json, number, request, revision, text};

/// One line of a watch, or a list.
#[derive(Clone, Debug)]
pub enum Seen {
    /// All that is there, at this revision.
    Listed(u64, Vec<Value>),
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, with its object.
    Line(String, Value),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Pause { relist: bool },
    Listing,
    Opening,
    Watching,
}

/// One collection that is followed.
#[derive(Debug)]
pub struct Reflector {
    user: Peer,
    path: String,
    selector: String,
    state: State,
    tag: Tag,
    /// Everything up to here was seen.
    pub revision: u64,
    waiting: Vec<u8>,
    /// How often it listed, and how often it went on without.
    pub lists: u64,
    /// See `lists`.
    pub resumes: u64,
}

impl Reflector {
    /// `path` of a collection; `selector` as a query, or empty.
    pub fn new(user: Peer, path: &str, selector: &str) -> Self {
        Self {
            user,
            path: path.into(),
            selector: selector.into(),
            state: State::Pause { relist: true },
            tag: 0,
            revision: 0,
            waiting: Vec::new(),
            lists: 0,
            resumes: 0,
        }
    }

    /// Begins, or begins anew.
    pub fn start(&mut self, scene: &mut Scene<'_>) {
        self.state = State::Listing;
        let url = format!("{}?{}", self.path, self.selector);
        self.tag = scene.call(request(&self.user, Method::Get, &url, &Value::Null));
    }

    fn watch(&mut self, scene: &mut Scene<'_>) {
        self.state = State::Opening;
        let and = if self.selector.is_empty() { "" } else { "&" };
        let url = format!(
            "{}?{}{and}watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
            self.path,
            self.selector,
            self.revision,
            scene.rng.between(60, 600),
        );
        self.tag = scene.call(request(&self.user, Method::Get, &url, &Value::Null));
    }

    fn pause(&mut self, relist: bool, scene: &mut Scene<'_>) {
        self.state = State::Pause { relist };
        self.waiting.clear();
        let ms = scene.rng.between(50, 1500);
        self.tag = scene.after(ms);
    }

    /// Takes what concerns it; gives what is seen by it.
    ///
    /// # Errors
    /// The server answered what no server may.
    pub fn news(&mut self, news: &News, scene: &mut Scene<'_>) -> Result<Vec<Seen>, String> {
        if news.tag() != self.tag {
            return Ok(Vec::new());
        }
        match (self.state, news) {
            (State::Pause { relist: true }, News::Timer(_)) => self.start(scene),
            (State::Pause { relist: false }, News::Timer(_)) => {
                self.resumes += 1;
                self.watch(scene);
            }
            (State::Listing, News::Answer(_, 200, body)) => {
                let mut list = json(body);
                self.revision = revision(&list);
                self.lists += 1;
                self.watch(scene);
                let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) else {
                    return Err(format!("{}: a list without items", self.path));
                };
                return Ok(vec![Seen::Listed(self.revision, items)]);
            }
            (State::Listing, _) => self.pause(true, scene),
            (State::Opening, News::Opened(_)) => self.state = State::Watching,
            (State::Opening, News::Answer(_, 410, _)) => self.pause(true, scene),
            (State::Watching, News::Bytes(_, bytes)) => return self.bytes(bytes, scene),
            _ => self.pause(false, scene),
        }
        Ok(Vec::new())
    }

    fn bytes(&mut self, bytes: &[u8], scene: &mut Scene<'_>) -> Result<Vec<Seen>, String> {
        self.waiting.extend_from_slice(bytes);
        let mut seen = Vec::new();
        while let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.waiting.drain(..=end).collect();
            let mut line = json(&line);
            let kind = text(&line, "/type").to_owned();
            let object = line.get_mut("object").map(Value::take).unwrap_or_default();
            if kind == "ERROR" {
                let code = number(&object, "/code");
                if code != 410 {
                    return Err(format!("{}: a watch said {object}", self.path));
                }
                self.pause(true, scene);
                return Ok(seen);
            }
            let at = revision(&object);
            // Equal: a bookmark behind the last event.
            if at < self.revision || at == self.revision && kind != "BOOKMARK" {
                return Err(format!(
                    "W1: watch of {} told {kind} {at} after {}",
                    self.path, self.revision
                ));
            }
            seen.push(Seen::Line(kind, object));
            self.revision = at;
        }
        Ok(seen)
    }
}
