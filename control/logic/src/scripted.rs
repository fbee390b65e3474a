//! A whole control plane over the model store, played from a script: requests in, answers out. For tests.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_keys::fake::FakeKeys;
use coracle_store::{
    Store as _, Txn,
    mem::{MemDisk, MemStore},
};
use serde_json::Value;

use crate::{
    Millis,
    call::{Body, HttpRequest, Peer},
    plane::{
        Action, Config, ControlPlane, Event, RequestId, Response, ResponseBody, WatchId, WatchPoll,
    },
};

/// An answer that came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: AnswerBody,
}

#[derive(Debug)]
pub(crate) enum AnswerBody {
    Bytes(Vec<u8>),
    Watch(WatchId),
    Node(String, String),
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        match &self.body {
            AnswerBody::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            AnswerBody::Watch(_) | AnswerBody::Node(..) => format!("{:?}", self.body),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or(Value::Null)
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_string()
    }

    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(name, _)| *name == "warning")
            .map(|(_, text)| text.as_str())
            .collect()
    }

    #[track_caller]
    pub(crate) fn watch(&self) -> WatchId {
        match &self.body {
            AnswerBody::Watch(id) => *id,
            AnswerBody::Bytes(_) | AnswerBody::Node(..) => {
                panic!("{} is no watch: {}", self.code, self.text())
            }
        }
    }
}

/// One cluster's control plane with its store.
pub(crate) struct Scripted {
    pub(crate) plane: ControlPlane,
    pub(crate) disk: MemDisk,
    store: MemStore,
    pub(crate) now: Millis,
    next_request: u64,
    pub(crate) answers: BTreeMap<RequestId, Answer>,
    pub(crate) woken: Vec<WatchId>,
    pub(crate) batches: Vec<(Vec<Txn>, coracle_store::Revision)>,
    pub(crate) commits: usize,
    pub(crate) wake_at: Option<Millis>,
}

impl Scripted {
    /// A new cluster, bootstrapped, without controllers; pods have the account that they need.
    pub(crate) fn new() -> Self {
        let mut this = Self::on(&MemDisk::default(), Millis(1_700_000_000_000), 1);
        let account = serde_json::json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" },
        });
        this.want(201, "POST", "/api/v1/namespaces/default/serviceaccounts", account);
        this
    }

    /// A new cluster, bootstrapped, with controllers.
    pub(crate) fn with_controllers() -> Self {
        Self::make(&MemDisk::default(), Millis(1_700_000_000_000), 1, |plane| plane)
    }

    /// A cluster on what this disk holds, without controllers.
    pub(crate) fn on(disk: &MemDisk, now: Millis, seed: u64) -> Self {
        Self::make(disk, now, seed, ControlPlane::without_controllers)
    }

    fn make(
        disk: &MemDisk,
        now: Millis,
        seed: u64,
        with: impl FnOnce(ControlPlane) -> ControlPlane,
    ) -> Self {
        let keys = Arc::new(FakeKeys::new(7));
        let mut store = MemStore::open(disk);
        let loaded = store.load().unwrap();
        let plane = with(ControlPlane::new(Config::default(), keys, loaded, now, seed).unwrap());
        let mut this = Self {
            plane,
            disk: disk.clone(),
            store,
            now,
            next_request: 0,
            answers: BTreeMap::new(),
            woken: Vec::new(),
            batches: Vec::new(),
            commits: 0,
            wake_at: None,
        };
        this.step(Event::Tick);
        this.run();
        this
    }

    /// Everything but the disk is gone; it starts again an hour later.
    pub(crate) fn restart(self) -> Self {
        Self::on(&self.disk, Millis(self.now.0 + 3_600_000), self.next_request + 99)
    }

    pub(crate) fn step(&mut self, event: Event) {
        let mut out = Vec::new();
        self.plane.step(self.now, event, &mut out);
        for action in out {
            match action {
                Action::Respond(id, response) => {
                    let clash = self.answers.insert(id, answer(response));
                    assert!(clash.is_none(), "{id:?} was answered twice");
                }
                Action::Commit { batch, reserve } => self.batches.push((batch, reserve)),
                Action::WatchReady(id) => self.woken.push(id),
                Action::WakeAt(at) => self.wake_at = Some(at),
            }
        }
        assert!(self.batches.len() <= 1, "one batch at a time");
    }

    /// Commits the batch that is under way, if there is one.
    pub(crate) fn commit(&mut self) -> bool {
        let Some((batch, reserve)) = self.batches.pop() else { return false };
        self.commits += 1;
        match self.store.commit(&batch, reserve) {
            Ok(outcomes) => self.step(Event::Committed(outcomes)),
            Err(error) => self.step(Event::StoreFailed(error.what)),
        }
        true
    }

    /// Commits until nothing is under way.
    pub(crate) fn run(&mut self) {
        while self.commit() {}
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, ms: u64) {
        self.now = Millis(self.now.0 + ms);
        self.step(Event::Tick);
        self.run();
    }

    pub(crate) fn http(method: &str, url: &str, body: Option<&Value>) -> HttpRequest {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let (method, content_type) = match method {
            "PATCH" | "MERGE" => ("PATCH", "application/merge-patch+json"),
            "STRATEGIC" => ("PATCH", "application/strategic-merge-patch+json"),
            "JSONPATCH" => ("PATCH", "application/json-patch+json"),
            "APPLY" => ("PATCH", "application/apply-patch+yaml"),
            other => (other, "application/json"),
        };
        HttpRequest {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            headers: [
                ("content-type".into(), content_type.into()),
                ("accept".into(), "application/json".into()),
                ("user-agent".into(), "scripted/1".into()),
            ]
            .into(),
            body: Body {
                bytes: body.map(|body| body.to_string().into_bytes()).unwrap_or_default(),
                was_yaml: content_type.ends_with("yaml"),
                doubled: Vec::new(),
            },
            peer: Some(Peer {
                common_name: "kubernetes-admin".into(),
                organizations: ["system:masters".into()].into(),
            }),
        }
    }

    /// Sends a request without waiting for commits.
    pub(crate) fn send_http(&mut self, http: HttpRequest) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.step(Event::Request(id, http));
        id
    }

    pub(crate) fn send(&mut self, method: &str, url: &str, body: Option<&Value>) -> RequestId {
        self.send_http(Self::http(method, url, body))
    }

    /// Sends a request and gives its answer.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, url: &str, body: Option<&Value>) -> Answer {
        let id = self.send(method, url, body);
        self.run();
        self.answers.remove(&id).unwrap_or_else(|| panic!("{method} {url}: no answer"))
    }

    /// The same, and it must have this code.
    #[track_caller]
    pub(crate) fn want(&mut self, code: u16, method: &str, url: &str, body: Value) -> Value {
        let body = (!body.is_null()).then_some(body);
        let answer = self.call(method, url, body.as_ref());
        assert_eq!(answer.code, code, "{method} {url}: {}", answer.text());
        answer.json()
    }

    /// The object or list at this URL.
    #[track_caller]
    pub(crate) fn get(&mut self, url: &str) -> Value {
        self.want(200, "GET", url, Value::Null)
    }

    /// Opens a watch.
    #[track_caller]
    pub(crate) fn watch(&mut self, url: &str) -> WatchId {
        self.call("GET", url, None).watch()
    }

    /// All events that a watch has now, and whether it is over.
    pub(crate) fn pull(&mut self, id: WatchId) -> (Vec<Value>, bool) {
        let mut bytes = Vec::new();
        let closed = loop {
            let mut parts = Vec::new();
            let poll = self.plane.watch_next(id, &mut parts);
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            match poll {
                WatchPoll::More => {}
                WatchPoll::Wait => break false,
                WatchPoll::Closed => break true,
            }
        };
        let text = String::from_utf8(bytes).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), closed)
    }

    /// `TYPE name` of each event that a watch has now.
    pub(crate) fn events(&mut self, id: WatchId) -> Vec<String> {
        let (events, _) = self.pull(id);
        events
            .iter()
            .map(|event| {
                let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-");
                format!("{} {name}", event["type"].as_str().unwrap_or("?"))
            })
            .collect()
    }

    /// What is on the disk.
    pub(crate) fn stored(&self) -> coracle_store::Loaded {
        MemStore::open(&self.disk).load().unwrap()
    }
}

fn answer(response: Response) -> Answer {
    let Response { status, headers, body } = response;
    let body = match body {
        ResponseBody::Bytes(bytes) => AnswerBody::Bytes(bytes.to_vec()),
        ResponseBody::Parts(parts) => {
            let mut all = Vec::new();
            parts.for_each(|part| all.extend_from_slice(&part));
            AnswerBody::Bytes(all)
        }
        ResponseBody::Watch(id) => AnswerBody::Watch(id),
        ResponseBody::Node { node, path_and_query } => AnswerBody::Node(node, path_and_query),
    };
    Answer { code: status, headers, body }
}
