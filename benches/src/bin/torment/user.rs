//! Users who create, scale, edit and delete, and log what was acknowledged; each write is guarded by the revision that it
//! was computed from. What they read is held against S1, S2, S3 and W1 with each answer.
//!
//! An answer that does not come leaves the object unsure: it may have one of two states, until the next acknowledged
//! write. A name is never used twice, so that what was lost on its way and comes late changes nothing that is known.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use coracle_benches::https::{Admin, Client};
use coracle_sim::{
    rng::Rng,
    wire::{revision, text},
};
use serde_json::{Value, json};

use crate::{journal::Journal, watcher::Collection};

/// How bodies are sent.
pub(crate) const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
/// The annotation with the number of the write.
const NUMBER: &str = "torment/number";
/// Number of a write that must be refused.
const NEVER: u64 = u64::MAX;
/// A user waits so long for an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Objects of one user at one time.
const CONFIG_MAPS_MAX: usize = 30;
/// See [`CONFIG_MAPS_MAX`]. With [`REPLICAS_MAX`], fewer pods than three boards of one core have room for.
const DEPLOYMENTS_MAX: usize = 4;
/// Pods of one Deployment.
const REPLICAS_MAX: u64 = 4;
/// What all ConfigMap users count in together.
const COUNTER: &str = "counter";

/// ConfigMaps of the default namespace.
pub(crate) const CONFIG_MAPS: Collection = Collection {
    path: "/api/v1/namespaces/default/configmaps",
    prefix: "/registry/core/configmaps/",
};
/// Deployments of the default namespace.
pub(crate) const DEPLOYMENTS: Collection = Collection {
    path: "/apis/apps/v1/namespaces/default/deployments",
    prefix: "/registry/apps/deployments/",
};
/// Pods of the default namespace.
pub(crate) const PODS: Collection =
    Collection { path: "/api/v1/namespaces/default/pods", prefix: coracle_sim::history::PODS };

/// Reads a body.
pub(crate) fn decoded(body: &str) -> Result<Value> {
    serde_json::from_str(body).with_context(|| format!("no JSON: {body}"))
}

#[derive(Clone, Debug)]
enum State {
    /// Acknowledged at this revision (or a later one, where a controller writes too) with this number.
    There(u64, u64),
    /// One of these numbers, or perhaps not there if the flag is set.
    Unsure(Vec<u64>, bool),
    /// Its deletion was acknowledged.
    Gone,
}

/// What became of a request.
enum Outcome {
    /// 2xx, with the body.
    Done(Value),
    /// Nothing was written.
    Refused(u16),
    /// Nobody knows.
    Unknown,
}

/// Writes that were acknowledged, by key and revision.
pub(crate) type Acknowledged = Mutex<Vec<(String, u64)>>;

/// See the module.
pub(crate) struct User<'a> {
    name: String,
    collection: Collection,
    rng: Rng,
    admin: Admin,
    client: Option<Client>,
    known: BTreeMap<String, State>,
    /// An earlier revision of an object: a write computed from it is refused.
    stale: BTreeMap<String, u64>,
    made: u64,
    counted: (u64, u64),
    journal: &'a Journal,
    acknowledged: &'a Acknowledged,
}

impl<'a> User<'a> {
    /// One who has done nothing yet.
    pub(crate) fn new(
        name: &str,
        collection: Collection,
        rng: Rng,
        admin: &Admin,
        journal: &'a Journal,
        acknowledged: &'a Acknowledged,
    ) -> Self {
        Self {
            name: name.to_owned(),
            collection,
            rng,
            admin: admin.clone().patient(PATIENCE),
            client: None,
            known: BTreeMap::new(),
            stale: BTreeMap::new(),
            made: 0,
            counted: (0, 0),
            journal,
            acknowledged,
        }
    }

    fn is_deployments(&self) -> bool {
        self.collection == DEPLOYMENTS
    }

    /// Acts until then.
    pub(crate) fn act_until(&mut self, until: Instant) {
        while Instant::now() < until && !self.journal.is_over() {
            if let Err(why) = self.act() {
                self.journal.broken(&format!("{why} (user {})", self.name));
                return;
            }
            let ms = if self.is_deployments() { (200, 2_000) } else { (10, 300) };
            thread::sleep(Duration::from_millis(self.rng.between(ms.0, ms.1)));
        }
    }

    fn ask(&mut self, method: &str, path: &str, kind: &str, body: &str) -> Outcome {
        if self.client.is_none() {
            self.client = self.admin.dial().ok();
        }
        // Without a connection nothing was sent.
        let Some(client) = &mut self.client else { return Outcome::Refused(0) };
        let Ok((code, body)) = client.answer(method, path, kind, body) else {
            self.client = None;
            self.journal.done("requests_without_answer");
            return Outcome::Unknown;
        };
        match (code, decoded(&body)) {
            (200..=299, Ok(value)) => Outcome::Done(value),
            (400..=499 | 503, _) => Outcome::Refused(code),
            _ => Outcome::Unknown,
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.collection.path)
    }

    fn act(&mut self) -> Result<(), String> {
        let sure = |(_, state): &(&String, &State)| matches!(state, State::There(..));
        let there: Vec<String> =
            self.known.iter().filter(sure).map(|(name, _)| name.clone()).collect();
        let unsure: Vec<String> = self
            .known
            .iter()
            .filter(|(_, state)| matches!(state, State::Unsure(..)))
            .map(|(name, _)| name.clone())
            .collect();
        let of = |rng: &mut Rng, names: &[String]| {
            let at = rng.below(names.len() as u64);
            names.get(usize::try_from(at).unwrap_or(0)).cloned()
        };
        let (one, doubtful) = (of(&mut self.rng, &there), of(&mut self.rng, &unsure));
        let max = if self.is_deployments() { DEPLOYMENTS_MAX } else { CONFIG_MAPS_MAX };
        match (self.rng.below(12), one, doubtful) {
            (0..=1, _, Some(name)) => self.look(&name),
            (0..=4, Some(name), _) => self.change(&name),
            (5, Some(name), _) => self.delete(&name),
            (6, Some(name), _) if self.stale.contains_key(&name) => self.write_stale(&name),
            (7, Some(name), _) => self.look(&name),
            (8, ..) => self.list(),
            (9..=10, ..) if !self.is_deployments() => self.count(),
            _ if there.len() + unsure.len() < max => self.create(),
            _ => Ok(()),
        }
    }

    fn acknowledge(&mut self, name: &str, value: &Value, number: u64) {
        let at = revision(value);
        let before = self.known.insert(name.to_owned(), State::There(at, number));
        if let Some(State::There(before, _)) = before {
            self.stale.insert(name.to_owned(), before);
        }
        self.journal.told(at);
        self.journal.done("writes_acknowledged");
        let key = self.collection.key(value);
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((key, at));
    }

    fn create(&mut self) -> Result<(), String> {
        self.made += 1;
        let name = format!("{}-{}", self.name, self.made);
        let body = self.object(&name, 1, None).to_string();
        match self.ask("POST", self.collection.path, JSON, &body) {
            Outcome::Done(value) => {
                if self.is_deployments() {
                    self.journal.say(&format!("user: create {name}"));
                    self.journal.done("deployments_created");
                }
                self.acknowledge(&name, &value, 1);
            }
            Outcome::Refused(_) => {}
            Outcome::Unknown => _ = self.known.insert(name, State::Unsure(vec![1], true)),
        }
        Ok(())
    }

    /// An object with this number; a Deployment's replicas and template are drawn.
    fn object(&mut self, name: &str, number: u64, at: Option<u64>) -> Value {
        let mut value = if self.is_deployments() {
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "spec": {
                    "replicas": self.rng.below(REPLICAS_MAX + 1),
                    "selector": {"matchLabels": {"app": name}},
                    "template": {
                        "metadata": {"labels": {"app": name}},
                        "spec": {
                            "terminationGracePeriodSeconds": self.rng.between(1, 3),
                            "containers": [{
                                "name": "main",
                                "image": "docker.io/jagadesh1982/testing-service",
                                "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}},
                            }],
                        },
                    },
                },
            })
        } else {
            let filler = "x".repeat(usize::try_from(self.rng.below(4000)).unwrap_or(0));
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"filler": filler}})
        };
        let mut meta = json!({
            "name": name, "namespace": "default", "annotations": {NUMBER: number.to_string()},
        });
        if let (Some(at), Some(meta)) = (at, meta.as_object_mut()) {
            meta.insert("resourceVersion".into(), at.to_string().into());
        }
        if let Some(object) = value.as_object_mut() {
            object.insert("metadata".into(), meta);
        }
        value
    }

    /// Updates an object that is there, from the revision that is known.
    fn change(&mut self, name: &str) -> Result<(), String> {
        let Some(State::There(at, number)) = self.known.get(name).cloned() else { return Ok(()) };
        self.write(name, at, number + 1, vec![number])
    }

    /// Writes this number if the object is still at this revision; `before` are the numbers that it may have now.
    fn write(&mut self, name: &str, at: u64, number: u64, before: Vec<u64>) -> Result<(), String> {
        let path = self.path(name);
        let outcome = if self.is_deployments() {
            let (what, spec) = if self.rng.chance(600) {
                ("deployments_scaled", json!({"replicas": self.rng.below(REPLICAS_MAX + 1)}))
            } else {
                let annotations = json!({"edit": number.to_string()});
                (
                    "deployments_edited",
                    json!({"template": {"metadata": {"annotations": annotations}}}),
                )
            };
            let patch = json!({
                "metadata": {"resourceVersion": at.to_string(), "annotations": {NUMBER: number.to_string()}},
                "spec": spec,
            });
            let outcome = self.ask("PATCH", &path, MERGE, &patch.to_string());
            if matches!(outcome, Outcome::Done(_)) {
                self.journal.say(&format!("user: {what} {name}: {spec}"));
                self.journal.done(what);
            }
            outcome
        } else {
            let body = self.object(name, number, Some(at)).to_string();
            self.ask("PUT", &path, JSON, &body)
        };
        let is_sure = matches!(self.known.get(name), Some(State::There(..)));
        match outcome {
            Outcome::Done(value) => {
                if revision(&value) <= at {
                    return Err(format!(
                        "S2: {name} was written over {at} and is at {}",
                        revision(&value)
                    ));
                }
                self.acknowledge(name, &value, number);
            }
            Outcome::Refused(404) if is_sure => {
                return Err(format!("S1: {name} was acknowledged at {at} and is not there"));
            }
            // Controllers write Deployments too; a ConfigMap is its user's alone.
            Outcome::Refused(409) if is_sure && self.is_deployments() => return self.look(name),
            Outcome::Refused(409) if is_sure => {
                return Err(format!(
                    "S1: {name} was acknowledged at {at} and has another revision"
                ));
            }
            Outcome::Refused(_) => {}
            Outcome::Unknown => {
                let mut numbers = before;
                numbers.push(number);
                let may_be_gone = matches!(self.known.get(name), Some(State::Unsure(_, true)));
                self.known.insert(name.to_owned(), State::Unsure(numbers, may_be_gone));
            }
        }
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Result<(), String> {
        let Some(State::There(at, number)) = self.known.get(name).cloned() else { return Ok(()) };
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": {"resourceVersion": at.to_string()},
        });
        match self.ask("DELETE", &self.path(name), JSON, &body.to_string()) {
            Outcome::Done(_) => {
                if self.is_deployments() {
                    self.journal.say(&format!("user: delete {name}"));
                    self.journal.done("deployments_deleted");
                }
                self.journal.done("deletes_acknowledged");
                self.known.insert(name.to_owned(), State::Gone);
            }
            Outcome::Refused(404) => {
                return Err(format!("S1: {name} was acknowledged at {at} and is not there"));
            }
            Outcome::Refused(409) if self.is_deployments() => return self.look(name),
            Outcome::Refused(_) => {}
            Outcome::Unknown => {
                self.known.insert(name.to_owned(), State::Unsure(vec![number], true));
            }
        }
        Ok(())
    }

    /// A write from an old revision must be refused (S3).
    fn write_stale(&mut self, name: &str) -> Result<(), String> {
        let Some(stale) = self.stale.get(name).copied() else { return Ok(()) };
        let body = self.object(name, NEVER, Some(stale)).to_string();
        match self.ask("PUT", &self.path(name), JSON, &body) {
            Outcome::Done(value) => {
                Err(format!("S3: a stale write of {name} went through: {value}"))
            }
            Outcome::Refused(_) => {
                self.journal.checked("stale_writes_refused", 1);
                Ok(())
            }
            Outcome::Unknown => Ok(()),
        }
    }

    /// Reads one object and holds it against what is known; what was unsure is written anew.
    fn look(&mut self, name: &str) -> Result<(), String> {
        match self.ask("GET", &self.path(name), JSON, "") {
            Outcome::Done(value) => {
                self.hold(name, Some(&value))?;
                let (at, number) = (revision(&value), number_of(&value));
                match self.known.get(name).cloned() {
                    Some(State::There(..)) => {
                        self.known.insert(name.to_owned(), State::There(at, number));
                    }
                    Some(State::Unsure(numbers, _)) => {
                        let next = numbers.iter().max().map_or(1, |max| max + 1);
                        return self.write(name, at, next, numbers);
                    }
                    Some(State::Gone) | None => {}
                }
                Ok(())
            }
            Outcome::Refused(404) => self.hold(name, None),
            Outcome::Refused(_) | Outcome::Unknown => Ok(()),
        }
    }

    /// Holds what was read against what is known.
    fn hold(&self, name: &str, value: Option<&Value>) -> Result<(), String> {
        let Some(state) = self.known.get(name) else { return Ok(()) };
        self.journal.checked("objects_read", 1);
        holds(state, name, value)
    }

    /// Lists and holds all of it against what is known.
    fn list(&mut self) -> Result<(), String> {
        let newest = self.journal.newest();
        let Outcome::Done(list) = self.ask("GET", self.collection.path, JSON, "") else {
            return Ok(());
        };
        let at = revision(&list);
        if at < newest {
            return Err(format!("W1: a list is at {at}, somebody was told of {newest} before"));
        }
        self.journal.told(at);
        self.journal.checked("lists_read", 1);
        let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let there: BTreeMap<&str, &Value> =
            items.iter().map(|item| (text(item, "/metadata/name"), item)).collect();
        let names: Vec<String> = self.known.keys().cloned().collect();
        names.iter().try_for_each(|name| self.hold(name, there.get(name.as_str()).copied()))
    }

    /// Adds one to what all count in.
    fn count(&mut self) -> Result<(), String> {
        let outcome = match self.ask("GET", &self.path(COUNTER), JSON, "") {
            Outcome::Done(value) => {
                let body = self.object(COUNTER, number_of(&value) + 1, Some(revision(&value)));
                self.ask("PUT", &self.path(COUNTER), JSON, &body.to_string())
            }
            Outcome::Refused(404) => {
                let body = self.object(COUNTER, 1, None).to_string();
                self.ask("POST", self.collection.path, JSON, &body)
            }
            Outcome::Refused(_) | Outcome::Unknown => return Ok(()),
        };
        match outcome {
            Outcome::Done(value) => {
                self.counted.0 += 1;
                self.journal.told(revision(&value));
            }
            Outcome::Unknown => self.counted.1 += 1,
            Outcome::Refused(_) => {}
        }
        Ok(())
    }

    /// In calm: what is unsure becomes sure, everything is held against what is known.
    ///
    /// # Errors
    /// A broken promise, or no answer in calm.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        // Nothing of before is under way any more.
        self.client = None;
        for name in self.known.keys().cloned().collect::<Vec<_>>() {
            if let Some(State::Unsure(_, true)) = self.known.get(&name)
                && matches!(self.ask("GET", &self.path(&name), JSON, ""), Outcome::Refused(404))
            {
                self.known.insert(name, State::Gone);
                continue;
            }
            let mut tries = 0;
            while matches!(self.known.get(&name), Some(State::Unsure(..))) {
                self.look(&name)?;
                tries += 1;
                if 20 < tries {
                    return Err(format!("L1: {name} cannot be read and written in calm"));
                }
            }
        }
        self.list()
    }

    /// How many increments were acknowledged, and of how many nobody knows.
    pub(crate) fn counted(&self) -> (u64, u64) {
        self.counted
    }
}

/// Whether what was read may be, by what is known.
fn holds(state: &State, name: &str, value: Option<&Value>) -> Result<(), String> {
    match (state, value) {
        (State::There(at, number), Some(value)) => {
            let (now, has) = (revision(value), number_of(value));
            if now < *at || has != *number {
                return Err(format!(
                    "S1: {name} was acknowledged at {at} with number {number} and is at {now} with {has}"
                ));
            }
            Ok(())
        }
        (State::There(at, _), None) => {
            Err(format!("S1: {name} was acknowledged at {at} and is not there"))
        }
        (State::Unsure(numbers, _), Some(value)) if !numbers.contains(&number_of(value)) => {
            Err(format!("S1: {name} has number {}, {numbers:?} were sent", number_of(value)))
        }
        (State::Unsure(_, false), None) => {
            Err(format!("S1: {name} was acknowledged and is not there"))
        }
        (State::Gone, Some(value)) if value.pointer("/metadata/deletionTimestamp").is_none() => {
            Err(format!("S1: the deletion of {name} was acknowledged and it is there: {value}"))
        }
        (State::Unsure(..) | State::Gone, _) => Ok(()),
    }
}

fn number_of(value: &Value) -> u64 {
    // The name of the annotation, as a JSON pointer has it.
    text(value, "/metadata/annotations/torment~1number").parse().unwrap_or(0)
}

/// No increment of an acknowledged one was lost, none was counted twice (S3).
///
/// # Errors
/// The counter says otherwise, or cannot be read.
pub(crate) fn check_counter(users: &mut [User<'_>]) -> Result<(), String> {
    let least: u64 = users.iter().map(|user| user.counted().0).sum();
    let most = least + users.iter().map(|user| user.counted().1).sum::<u64>();
    let Some(user) = users.first_mut() else { return Ok(()) };
    let path = format!("{}/{COUNTER}", CONFIG_MAPS.path);
    let count = match user.ask("GET", &path, JSON, "") {
        Outcome::Done(value) => number_of(&value),
        Outcome::Refused(404) => 0,
        Outcome::Refused(code) => return Err(format!("L1: the counter cannot be read: {code}")),
        Outcome::Unknown => return Err("L1: the counter cannot be read in calm".into()),
    };
    user.journal.checked("counter", 1);
    if (least..=most).contains(&count) {
        return Ok(());
    }
    Err(format!("S3: the counter is at {count}; {least} to {most} increments were made"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(at: u64, number: u64) -> Value {
        json!({"metadata": {"resourceVersion": at.to_string(), "annotations": {NUMBER: number.to_string()}}})
    }

    #[test]
    fn what_is_read_is_held_against_what_is_known() {
        let known = BTreeMap::from([
            ("there", State::There(7, 3)),
            ("unsure", State::Unsure(vec![3, 4], false)),
            ("perhaps", State::Unsure(vec![3], true)),
            ("gone", State::Gone),
        ]);
        let holds = |name: &str, read: Option<Value>| {
            super::holds(&known[name], name, read.as_ref()).is_ok()
        };
        assert!(holds("there", Some(value(7, 3))) && holds("there", Some(value(9, 3))));
        assert!(!holds("there", Some(value(6, 3))) && !holds("there", Some(value(7, 2))));
        assert!(!holds("there", None));
        assert!(holds("unsure", Some(value(8, 4))) && holds("unsure", Some(value(7, 3))));
        assert!(!holds("unsure", Some(value(8, 5))) && !holds("unsure", None));
        assert!(holds("perhaps", None) && !holds("perhaps", Some(value(8, NEVER))));
        assert!(holds("gone", None) && !holds("gone", Some(value(7, 3))));
    }
}
