//! A writer that logs every acknowledged write (S1), tries stale ones (S3) and counts together with others.

use std::collections::BTreeMap;

use coracle_control_logic::call::HttpRequest;
use serde_json::{Value, json};

use crate::{
    history::History,
    wire::{Method, News, Scene, Tag, admin, json, request, revision, text},
};

const URL: &str = "/api/v1/namespaces/default/configmaps";
const PREFIX: &str = "/registry/core/configmaps/default/";
const COUNTER: &str = "counter";

/// What is under way.
#[derive(Clone, Debug)]
enum Doing {
    Pause,
    Create(String, u64),
    Update(String, u64),
    Stale(String),
    Delete(String),
    ReadCounter,
    Count,
    MakeCounter,
}

/// One writer.
#[derive(Debug)]
pub struct Writer {
    name: String,
    doing: Doing,
    tag: Tag,
    made: u64,
    /// Every object of its own whose state is known, with what was acknowledged: revision and number written.
    log: BTreeMap<String, (u64, u64)>,
    /// Revisions that its objects had before.
    stale: BTreeMap<String, u64>,
    gone: Vec<String>,
    /// Increments that were acknowledged, and those whose outcome is unknown.
    pub counted: (u64, u64),
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// No more is begun.
    pub stopped: bool,
}

impl Writer {
    /// A writer that has not begun.
    pub fn new(index: usize) -> Self {
        Self {
            name: format!("w{index}"),
            doing: Doing::Pause,
            tag: 0,
            made: 0,
            log: BTreeMap::new(),
            stale: BTreeMap::new(),
            gone: Vec::new(),
            counted: (0, 0),
            acknowledged: 0,
            stopped: false,
        }
    }

    /// Begins.
    pub fn start(&mut self, scene: &mut Scene<'_>) {
        self.pause(scene);
    }

    fn pause(&mut self, scene: &mut Scene<'_>) {
        self.doing = Doing::Pause;
        let ms = scene.rng.between(20, 1500);
        self.tag = scene.after(ms);
    }

    fn send(&mut self, doing: Doing, http: HttpRequest, scene: &mut Scene<'_>) {
        self.doing = doing;
        self.tag = scene.call(http);
    }

    fn begin(&mut self, scene: &mut Scene<'_>) {
        let known: Vec<String> = self.log.keys().cloned().collect();
        let at = usize::try_from(scene.rng.below(known.len() as u64)).unwrap_or(0);
        let own = known.get(at).cloned();
        let stale = own.as_ref().and_then(|own| self.stale.get(own)).copied();
        match (scene.rng.below(10), own, stale) {
            (0..=3, Some(name), _) => {
                let (_, number) = self.log.get(&name).copied().unwrap_or_default();
                let body = self.object(&name, number + 1, None, scene);
                let http = request(&admin(), Method::Put, &format!("{URL}/{name}"), &body);
                self.send(Doing::Update(name, number + 1), http, scene);
            }
            (4, Some(name), _) => {
                let url = format!("{URL}/{name}");
                let http = request(&admin(), Method::Delete, &url, &Value::Null);
                self.send(Doing::Delete(name), http, scene);
            }
            (5, Some(name), Some(stale)) => {
                let body = self.object(&name, u64::MAX, Some(stale), scene);
                let http = request(&admin(), Method::Put, &format!("{URL}/{name}"), &body);
                self.send(Doing::Stale(name), http, scene);
            }
            (6..=7, ..) => {
                let url = format!("{URL}/{COUNTER}");
                let http = request(&admin(), Method::Get, &url, &Value::Null);
                self.send(Doing::ReadCounter, http, scene);
            }
            _ => {
                self.made += 1;
                let name = format!("{}-{}", self.name, self.made);
                let body = self.object(&name, 1, None, scene);
                let http = request(&admin(), Method::Post, URL, &body);
                self.send(Doing::Create(name, 1), http, scene);
            }
        }
    }

    fn object(&self, name: &str, number: u64, at: Option<u64>, scene: &mut Scene<'_>) -> Value {
        let tier = if scene.rng.chance(500) { "blue" } else { "green" };
        let mut value = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default", "labels": {"tier": tier}},
            "data": {"number": number.to_string()},
        });
        if let (Some(at), Some(meta)) =
            (at, value.pointer_mut("/metadata").and_then(Value::as_object_mut))
        {
            meta.insert("resourceVersion".into(), at.to_string().into());
        }
        value
    }

    /// Takes what concerns it.
    ///
    /// # Errors
    /// An answer breaks a promise.
    pub fn news(&mut self, news: &News, scene: &mut Scene<'_>) -> Result<(), String> {
        if news.tag() != self.tag {
            return Ok(());
        }
        let doing = std::mem::replace(&mut self.doing, Doing::Pause);
        let (code, body) = match news {
            News::Timer(_) => {
                if self.stopped {
                    self.doing = Doing::Pause;
                } else {
                    self.begin(scene);
                }
                return Ok(());
            }
            News::Answer(_, code, body) => (*code, json(body)),
            News::Lost(_) | News::Opened(_) | News::Bytes(..) | News::Closed(_) => (0, Value::Null),
        };
        if let (Doing::ReadCounter, 200) = (&doing, code) {
            let count: u64 = text(&body, "/data/number").parse().unwrap_or(0);
            let next = self.object(COUNTER, count + 1, Some(revision(&body)), scene);
            let http = request(&admin(), Method::Put, &format!("{URL}/{COUNTER}"), &next);
            self.send(Doing::Count, http, scene);
            return Ok(());
        }
        if let (Doing::ReadCounter, 404) = (&doing, code) {
            let first = self.object(COUNTER, 1, None, scene);
            let http = request(&admin(), Method::Post, URL, &first);
            self.send(Doing::MakeCounter, http, scene);
            return Ok(());
        }
        self.answered(doing, code, &body)?;
        self.pause(scene);
        Ok(())
    }

    fn answered(&mut self, doing: Doing, code: u16, body: &Value) -> Result<(), String> {
        let is_done = (200..300).contains(&code);
        self.acknowledged += u64::from(is_done);
        // 4xx but for "too many": it was refused, nothing was written.
        let is_refused = (400..500).contains(&code) || code == 503;
        match doing {
            Doing::Create(name, number) | Doing::Update(name, number) if is_done => {
                if let Some((before, _)) = self.log.insert(name.clone(), (revision(body), number)) {
                    self.stale.insert(name, before);
                }
            }
            Doing::Delete(name) if is_done => {
                self.log.remove(&name);
                self.gone.push(name);
            }
            Doing::Count | Doing::MakeCounter => {
                self.counted.0 += u64::from(is_done);
                self.counted.1 += u64::from(!is_done && !is_refused);
            }
            Doing::Stale(name) if is_done => {
                return Err(format!("S3: a stale write of {name} went through: {body}"));
            }
            Doing::Update(name, _) if code == 404 => {
                return Err(format!("S1: {name} was acknowledged and is not there"));
            }
            Doing::Create(name, _) | Doing::Update(name, _) | Doing::Delete(name)
                if !is_refused =>
            {
                // Nothing is known of it any more.
                self.log.remove(&name);
            }
            Doing::Create(..)
            | Doing::Update(..)
            | Doing::Delete(_)
            | Doing::Stale(_)
            | Doing::ReadCounter
            | Doing::Pause => {}
        }
        Ok(())
    }

    /// Every acknowledged write is there (S1).
    ///
    /// # Errors
    /// One is not.
    pub fn check(&self, history: &History) -> Result<(), String> {
        let under_way = match &self.doing {
            Doing::Create(name, _) | Doing::Update(name, _) | Doing::Delete(name) => name.as_str(),
            Doing::Pause
            | Doing::Stale(_)
            | Doing::ReadCounter
            | Doing::Count
            | Doing::MakeCounter => "",
        };
        for (name, (at, number)) in self.log.iter().filter(|(name, _)| *name != under_way) {
            let Some((revision, value)) = history.get(&format!("{PREFIX}{name}")) else {
                return Err(format!("S1: {name} {at} was acknowledged and is gone"));
            };
            if revision < *at || text(value, "/data/number") != number.to_string() {
                return Err(format!("S1: {name} was acknowledged at {at} and is at {revision}"));
            }
        }
        let back = self.gone.iter().find(|name| history.get(&format!("{PREFIX}{name}")).is_some());
        back.map_or(Ok(()), |name| Err(format!("S1: {name} was deleted and is back")))
    }
}

/// No increment of an acknowledged one was lost, none was counted twice (S3).
///
/// # Errors
/// The counter says otherwise.
pub fn check_counter(writers: &[Writer], history: &History) -> Result<(), String> {
    let acknowledged: u64 = writers.iter().map(|writer| writer.counted.0).sum();
    let unknown: u64 = writers.iter().map(|writer| writer.counted.1).sum();
    let under_way =
        writers.iter().any(|writer| matches!(writer.doing, Doing::Count | Doing::MakeCounter));
    let value = history.get(&format!("{PREFIX}{COUNTER}")).map(|(_, value)| value);
    let count: u64 = value.map_or("", |value| text(value, "/data/number")).parse().unwrap_or(0);
    let most = acknowledged + unknown;
    if under_way || (acknowledged..=most).contains(&count) {
        return Ok(());
    }
    Err(format!("S3: the counter is at {count}; {acknowledged} to {most} increments were made"))
}
