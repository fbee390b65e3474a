//! A watcher of one collection, which writes down all that it is told, and what is held against it: W1 and W2, and that
//! every acknowledged write was told (S1). Two watchers of one collection are begun, cut off and resumed at other times;
//! what both saw must be the same.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use coracle_benches::https::{Admin, Client, WatchEnd};
use coracle_sim::{
    history::History,
    wire::{revision, text},
};
use coracle_store::{Op, Revision, Txn};
use serde_json::Value;

use crate::{
    journal::Journal,
    user::{JSON, decoded},
};

/// A watch that is silent for so long is opened anew from where it was.
const SILENCE: Duration = Duration::from_secs(12);
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(200);

/// A collection, and how its keys begin.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collection {
    /// Path in the API.
    pub(crate) path: &'static str,
    /// Prefix of its keys.
    pub(crate) prefix: &'static str,
}

impl Collection {
    /// The key of an object of it.
    pub(crate) fn key(self, object: &Value) -> String {
        let name = text(object, "/metadata/name");
        format!("{}{}/{name}", self.prefix, text(object, "/metadata/namespace"))
    }
}

/// What was told from a list to the next list.
struct Segment {
    /// Revision of the list.
    from: u64,
    /// All up to here was told.
    to: u64,
    history: History,
}

/// See the module.
pub(crate) struct Watcher {
    collection: Collection,
    segments: Mutex<Vec<Segment>>,
}

impl Watcher {
    /// Has seen nothing yet.
    pub(crate) fn new(collection: Collection) -> Self {
        Self { collection, segments: Mutex::default() }
    }

    fn segments(&self) -> MutexGuard<'_, Vec<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches until all is over.
    pub(crate) fn run(&self, admin: &Admin, journal: &Journal) {
        let admin = admin.clone().patient(SILENCE);
        let mut must_list = true;
        while !journal.is_over() {
            match self.go_on(&admin, must_list, journal) {
                Ok(is_too_old) => must_list = is_too_old,
                // A connection that broke, or none.
                Err(_) => thread::sleep(RETRY),
            }
            must_list |= self.segments().is_empty();
        }
    }

    /// Lists if it must, then watches until that ends. True if the position is too old.
    fn go_on(&self, admin: &Admin, must_list: bool, journal: &Journal) -> Result<bool> {
        let mut client = admin.dial()?;
        if must_list {
            self.list(&mut client, journal)?;
            journal.checked("lists_by_watchers", 1);
        } else {
            journal.checked("watches_resumed", 1);
        }
        let from = self.segments().last().map_or(0, |segment| segment.to);
        let path = self.collection.path;
        let path = format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
        let mut is_too_old = false;
        let end = client.watch(&path, |line| {
            if journal.is_over() {
                return Ok(false);
            }
            match self.line(line, journal) {
                Ok(too_old) => {
                    is_too_old = too_old;
                    Ok(!too_old)
                }
                Err(why) => {
                    journal.broken(&why);
                    Ok(false)
                }
            }
        })?;
        if let WatchEnd::Refused(code) = end {
            thread::sleep(RETRY);
            return Ok(code == 410);
        }
        Ok(is_too_old)
    }

    fn list(&self, client: &mut Client, journal: &Journal) -> Result<()> {
        let newest = journal.newest();
        let (code, body) = client.answer("GET", self.collection.path, JSON, "")?;
        ensure!(code == 200, "GET {}: {code}", self.collection.path);
        let list = decoded(&body)?;
        let at = revision(&list);
        if at < newest {
            journal.broken(&format!(
                "W1: a list of {} is at {at}, somebody was told of {newest} before",
                self.collection.path
            ));
        }
        let mut items: Vec<Value> =
            list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        items.sort_by_key(revision);
        let mut history = History::default();
        for item in &items {
            let told = history.apply(&put(self.collection.key(item), item)?);
            told.map_err(|why| journal.broken(&format!("{why} (a list)"))).ok();
        }
        journal.told(at);
        self.segments().push(Segment { from: at, to: at, history });
        Ok(())
    }

    /// Takes an event. True if the position is too old.
    fn line(&self, line: &[u8], journal: &Journal) -> Result<bool, String> {
        let event: Value = serde_json::from_slice(line).map_err(|error| {
            format!("W2: a watch of {} told no JSON: {error}", self.collection.path)
        })?;
        let (kind, object) = (text(&event, "/type"), event.get("object").unwrap_or(&Value::Null));
        if kind == "ERROR" {
            return if object.get("code").and_then(Value::as_u64) == Some(410) {
                Ok(true)
            } else {
                Err(format!("W4: a watch of {} told {object}", self.collection.path))
            };
        }
        let at = revision(object);
        let mut segments = self.segments();
        let Some(segment) = segments.last_mut() else { return Ok(true) };
        if kind == "BOOKMARK" {
            if at < segment.to {
                return Err(format!("W1: a bookmark at {at} after {}", segment.to));
            }
            segment.to = at;
            return Ok(false);
        }
        let key = self.collection.key(object);
        if at <= segment.to {
            return Err(format!("W1: {kind} {at} of {key} after {}", segment.to));
        }
        let is_known = segment.history.get(&key).is_some();
        if is_known != (kind != "ADDED") {
            let known = if is_known { "known" } else { "not known" };
            return Err(format!("W2: {kind} {at} of {key}, which was {known}"));
        }
        let txn = if kind == "DELETED" {
            Ok(Txn { guards: Vec::new(), op: Op::Delete(key.into()), revision: Revision(at) })
        } else {
            put(key, object)
        };
        segment.history.apply(&txn.map_err(|error| error.to_string())?)?;
        segment.to = at;
        drop(segments);
        journal.told(at);
        journal.checked("watch_events", 1);
        Ok(false)
    }

    /// Whether it was told all that is there.
    pub(crate) fn caught_up(&self, list: &Value) -> Result<()> {
        let segments = self.segments();
        let segment = segments.last().context("it has seen nothing")?;
        let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
        let there: BTreeMap<String, u64> =
            items.map(|item| (self.collection.key(item), revision(item))).collect();
        let told = segment.history.now(self.collection.prefix);
        let told: BTreeMap<String, u64> = told.map(|(key, at, _)| (key.to_string(), at)).collect();
        ensure!(
            there == told,
            "a watch of {} has {told:?}, there is {there:?}",
            self.collection.path
        );
        Ok(())
    }

    /// Every acknowledged write in what was watched was told (S1, W2).
    pub(crate) fn told_all(
        &self,
        acknowledged: &[(String, u64)],
        journal: &Journal,
    ) -> Result<(), String> {
        let segments = self.segments();
        let mut held = 0;
        for (key, at) in
            acknowledged.iter().filter(|(key, _)| key.starts_with(self.collection.prefix))
        {
            for segment in segments.iter().filter(|one| one.from < *at && *at <= one.to) {
                let change = segment.history.change(*at);
                if change.is_none_or(|change| *change.key != **key) {
                    return Err(format!(
                        "W2: {key} was acknowledged at {at}; a watch from {} to {} did not tell it",
                        segment.from, segment.to
                    ));
                }
                held += 1;
            }
        }
        journal.checked("acknowledged_writes_told", held);
        Ok(())
    }

    /// What this one and another were told of the same time is the same, and each list of the other is what this one knew
    /// of that moment (W2).
    pub(crate) fn agrees(&self, other: &Self, journal: &Journal) -> Result<(), String> {
        let prefix = self.collection.prefix;
        let (ours, theirs) = (self.segments(), other.segments());
        for (a, b) in ours.iter().flat_map(|a| theirs.iter().map(move |b| (a, b))) {
            let (from, to) = (a.from.max(b.from), a.to.min(b.to));
            let of = |segment: &Segment| -> BTreeMap<u64, (String, bool)> {
                let all = segment.history.between(prefix, from, to.saturating_add(1));
                all.map(|(at, change)| (at, (change.key.to_string(), change.new.is_some())))
                    .collect()
            };
            if from < to {
                let (one, two) = (of(a), of(b));
                if one != two {
                    let odd = one.iter().find(|(at, what)| two.get(at) != Some(what));
                    let odd =
                        odd.or_else(|| two.iter().find(|(at, what)| one.get(at) != Some(what)));
                    return Err(format!(
                        "W2: two watches of {prefix} were told another thing of {from} to {to}: {odd:?}"
                    ));
                }
                journal.checked("events_told_alike", one.len() as u64);
            }
            if a.from < b.from && b.from <= a.to {
                let revisions = |segment: &Segment| -> BTreeMap<String, u64> {
                    let there = segment.history.at(prefix, b.from);
                    there.into_iter().map(|(key, (at, _))| (key.to_string(), at)).collect()
                };
                let (known, listed) = (revisions(a), revisions(b));
                if known != listed {
                    return Err(format!(
                        "W2: a list of {prefix} at {} has {listed:?}, a watch knew {known:?}",
                        b.from
                    ));
                }
                journal.checked("lists_held_against_a_watch", 1);
            }
        }
        Ok(())
    }
}

/// Waits until all watchers were told all that is there.
pub(crate) fn catch_up(watchers: &[Watcher], admin: &Admin, bound: Duration) -> Result<()> {
    let until = Instant::now() + bound;
    loop {
        let look = || -> Result<()> {
            let mut client = admin.dial()?;
            for watcher in watchers {
                let (code, body) = client.answer("GET", watcher.collection.path, JSON, "")?;
                ensure!(code == 200, "GET {}: {code}", watcher.collection.path);
                watcher.caught_up(&decoded(&body)?)?;
            }
            Ok(())
        };
        match look() {
            Ok(()) => return Ok(()),
            Err(why) if until < Instant::now() => return Err(why),
            Err(_) => thread::sleep(RETRY),
        }
    }
}

fn put(key: String, object: &Value) -> Result<Txn> {
    let bytes = serde_json::to_vec(object)?;
    let op = Op::Put(key.into(), bytes.into());
    Ok(Txn { guards: Vec::new(), op, revision: Revision(revision(object)) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::user::CONFIG_MAPS;

    /// A watcher that was told these events, each `KIND NAME REVISION`, from a list at this revision with these items.
    fn told(from: u64, items: &[(&str, u64)], events: &str) -> Result<Watcher, String> {
        let watcher = Watcher::new(CONFIG_MAPS);
        let journal = Journal::new(false);
        let mut history = History::default();
        for (name, at) in items {
            let object = object(name, *at);
            history.apply(&put(CONFIG_MAPS.key(&object), &object).unwrap())?;
        }
        watcher.segments().push(Segment { from, to: from, history });
        for event in events.split(", ").filter(|event| !event.is_empty()) {
            let words: Vec<&str> = event.split(' ').collect();
            let object = object(words[1], words[2].parse().unwrap());
            let line = json!({"type": words[0], "object": object}).to_string();
            assert!(!watcher.line(line.as_bytes(), &journal)?, "too old");
        }
        Ok(watcher)
    }

    fn object(name: &str, at: u64) -> Value {
        json!({"metadata": {"name": name, "namespace": "default", "resourceVersion": at.to_string()}})
    }

    #[test]
    fn order_and_kinds_of_events_are_held_against_what_is_known() {
        assert!(told(5, &[("a", 3)], "MODIFIED a 6, ADDED b 7, DELETED a 9").is_ok());
        for (events, says) in [
            ("ADDED b 7, MODIFIED a 6", "W1"),
            ("ADDED b 5", "W1"),
            ("ADDED a 6", "W2"),
            ("MODIFIED b 6", "W2"),
            ("DELETED a 6, DELETED a 7", "W2"),
        ] {
            let why = told(5, &[("a", 3)], events).err().unwrap();
            assert!(why.starts_with(says), "{events}: {why}");
        }
    }

    #[test]
    fn an_event_that_was_not_told_is_missed() {
        let journal = Journal::new(false);
        let whole = told(5, &[], "ADDED a 6, ADDED b 7, MODIFIED a 8").unwrap();
        let same = told(5, &[], "ADDED a 6, ADDED b 7, MODIFIED a 8").unwrap();
        let gap = told(5, &[], "ADDED a 6, MODIFIED a 8").unwrap();
        assert_eq!(whole.agrees(&same, &journal), Ok(()));
        assert!(whole.agrees(&gap, &journal).unwrap_err().starts_with("W2"));
        assert!(gap.agrees(&whole, &journal).unwrap_err().starts_with("W2"));
        let key = CONFIG_MAPS.key(&object("b", 7));
        assert_eq!(whole.told_all(&[(key.clone(), 7)], &journal), Ok(()));
        assert!(gap.told_all(&[(key.clone(), 7)], &journal).unwrap_err().starts_with("W2"));
        // Before and after what it watched, nothing can be said.
        assert_eq!(gap.told_all(&[(key.clone(), 5), (key, 9)], &journal), Ok(()));
    }

    #[test]
    fn a_list_is_held_against_what_another_was_told() {
        let journal = Journal::new(false);
        let watch = told(5, &[], "ADDED a 6, ADDED b 7, DELETED a 8").unwrap();
        let right = told(7, &[("a", 6), ("b", 7)], "").unwrap();
        let wrong = told(7, &[("a", 6)], "").unwrap();
        assert_eq!(watch.agrees(&right, &journal), Ok(()));
        assert!(watch.agrees(&wrong, &journal).unwrap_err().starts_with("W2"));
    }
}
