//! A watcher whose view is held against the model with every event (W1-W5).

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    history::History,
    reflector::{Reflector, Seen},
    wire::{News, Scene, admin, revision, text},
};

/// What is watched.
#[derive(Copy, Clone, Debug)]
pub struct Watched {
    /// Path of the collection.
    pub path: &'static str,
    /// Its keys begin so.
    pub prefix: &'static str,
    /// A label that must have a value; empty: all objects.
    pub label: (&'static str, &'static str),
}

/// Every world has these.
pub const WATCHED: [Watched; 5] = [
    Watched { path: "/api/v1/pods", prefix: "/registry/core/pods/", label: ("", "") },
    Watched {
        path: "/apis/apps/v1/deployments",
        prefix: "/registry/apps/deployments/",
        label: ("", ""),
    },
    Watched {
        path: "/apis/apps/v1/replicasets",
        prefix: "/registry/apps/replicasets/",
        label: ("", ""),
    },
    Watched { path: "/api/v1/configmaps", prefix: "/registry/core/configmaps/", label: ("", "") },
    Watched {
        path: "/api/v1/namespaces/default/configmaps",
        prefix: "/registry/core/configmaps/default/",
        label: ("tier", "blue"),
    },
];

/// One checking watcher.
#[derive(Debug)]
pub struct Checker {
    watched: Watched,
    reflector: Reflector,
    /// Everything up to here was checked.
    position: u64,
    /// Name and namespace, with the revision that was seen.
    view: BTreeMap<Arc<str>, u64>,
    /// Events that were checked.
    pub events: u64,
}

impl Checker {
    /// A watcher that has not begun.
    pub fn new(watched: Watched) -> Self {
        let (label, value) = watched.label;
        let selector = if label.is_empty() {
            String::new()
        } else {
            format!("labelSelector={label}%3D{value}")
        };
        Self {
            watched,
            reflector: Reflector::new(admin(), watched.path, &selector),
            position: 0,
            view: BTreeMap::new(),
            events: 0,
        }
    }

    /// Begins.
    pub fn start(&mut self, scene: &mut Scene<'_>) {
        self.reflector.start(scene);
    }

    /// How often it listed, and how often it resumed.
    pub fn counts(&self) -> (u64, u64) {
        (self.reflector.lists, self.reflector.resumes)
    }

    /// Takes what concerns it.
    ///
    /// # Errors
    /// What it was told is not what happened.
    pub fn news(&mut self, news: &News, scene: &mut Scene<'_>) -> Result<(), String> {
        for seen in self.reflector.news(news, scene)? {
            self.seen(seen, scene.history)
                .map_err(|why| format!("{why} ({})", self.watched.path))?;
        }
        Ok(())
    }

    /// Whether it sees what is there (L1: every watcher catches up).
    pub fn caught_up(&self, history: &History) -> bool {
        let there = history
            .now(self.watched.prefix)
            .filter(|(_, _, value)| self.selects(value))
            .map(|(key, revision, _)| (key, revision));
        self.view.iter().map(|(key, revision)| (key, *revision)).eq(there)
    }

    fn selects(&self, value: &Value) -> bool {
        let (label, want) = self.watched.label;
        let have = value.get("metadata").and_then(|meta| meta.get("labels"));
        label.is_empty() || have.and_then(|labels| labels.get(label)) == Some(&Value::from(want))
    }

    fn key(&self, object: &Value) -> Arc<str> {
        let name = text(object, "/metadata/name");
        let namespace = text(object, "/metadata/namespace");
        let root = self.watched.prefix.trim_end_matches("default/");
        format!("{root}{namespace}/{name}").into()
    }

    fn seen(&mut self, seen: Seen, history: &History) -> Result<(), String> {
        match seen {
            Seen::Listed(at, items) => self.listed(at, &items, history),
            Seen::Line(kind, object) => self.line(&kind, &object, history),
        }
    }

    fn listed(&mut self, at: u64, items: &[Value], history: &History) -> Result<(), String> {
        if at < self.position {
            return Err(format!("W1: a list at {at} after {} was seen", self.position));
        }
        let mut want = history.at(self.watched.prefix, at);
        want.retain(|_, (_, value)| self.selects(value));
        self.view.clear();
        for item in items {
            let key = self.key(item);
            let Some((revision_there, value)) = want.remove(&key) else {
                return Err(format!("W2: a list at {at} has {key}, which was not there"));
            };
            if revision(item) != revision_there || !same(item, &value, false) {
                return Err(format!("W2: a list at {at} has another version of {key}"));
            }
            self.view.insert(key, revision_there);
        }
        if let Some(missing) = want.keys().next() {
            return Err(format!("W2: a list at {at} lacks {missing}"));
        }
        self.position = at;
        Ok(())
    }

    fn line(&mut self, kind: &str, object: &Value, history: &History) -> Result<(), String> {
        let at = revision(object);
        let skipped = history
            .between(self.watched.prefix, self.position, at)
            .find(|(_, change)| self.as_seen(&change.old, &change.new).is_some());
        if let Some((skipped, change)) = skipped {
            return Err(format!(
                "W2: {kind} {at} was told after {}; change {skipped} of {} was not",
                self.position, change.key
            ));
        }
        let change =
            history.change(at).filter(|change| change.key.starts_with(self.watched.prefix));
        let want = change.and_then(|change| self.as_seen(&change.old, &change.new));
        self.position = at;
        if kind == "BOOKMARK" {
            return match want {
                // The watcher was told of it just now.
                Some(_) if change.is_some_and(|change| self.knows(&change.key, at)) => Ok(()),
                Some(_) => Err(format!("W2: a bookmark at {at}, which was not told")),
                None => Ok(()),
            };
        }
        let (Some(want), Some(change)) = (want, change) else {
            return Err(format!("W2: {kind} {at} of {} never happened", self.key(object)));
        };
        let key = self.key(object);
        if want != kind || key != change.key {
            return Err(format!("W5: {at} was told as {kind} {key}, it was {want} {}", change.key));
        }
        let gone = kind == "DELETED";
        let value = if gone { &change.old } else { &change.new };
        if !value.as_ref().is_some_and(|value| same(object, value, gone)) {
            return Err(format!("W2: {kind} {at} of {key} shows another version"));
        }
        if gone {
            self.view.remove(&key);
        } else {
            self.view.insert(key, at);
        }
        self.events += 1;
        Ok(())
    }

    /// Whether the view has this version; a key that is gone counts as known.
    fn knows(&self, key: &str, at: u64) -> bool {
        self.view.get(key).is_none_or(|seen| *seen == at)
    }

    fn as_seen(&self, old: &Option<Arc<Value>>, new: &Option<Arc<Value>>) -> Option<&'static str> {
        let selected =
            |value: &Option<Arc<Value>>| value.as_ref().is_some_and(|value| self.selects(value));
        match (selected(old), selected(new)) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        }
    }
}

/// Whether an object that was told is the stored one; of a deleted one only which life it was.
fn same(told: &Value, stored: &Value, gone: bool) -> bool {
    if gone {
        return text(told, "/metadata/uid") == text(stored, "/metadata/uid");
    }
    // The revision is the entry's, and items of a list need no type.
    let both = told.as_object().zip(stored.as_object());
    both.is_some_and(|(told, stored)| {
        same_but(&["apiVersion", "kind"], told, stored, |name, told, stored| {
            let both = told.as_object().zip(stored.as_object()).filter(|_| name == "metadata");
            both.map_or_else(
                || told == stored,
                |(told, stored)| {
                    same_but(&["resourceVersion"], told, stored, |_, told, stored| told == stored)
                },
            )
        })
    })
}

/// Whether both have the same members, besides these.
fn same_but(
    besides: &[&str],
    one: &Map<String, Value>,
    other: &Map<String, Value>,
    same: impl Fn(&str, &Value, &Value) -> bool,
) -> bool {
    let counts = |(name, _): &(&String, &Value)| !besides.contains(&name.as_str());
    let (mut one, mut other) = (one.iter().filter(counts), other.iter().filter(counts));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some((name, value)), Some((other_name, other)))
                if name == other_name && same(name, value, other) => {}
            _ => return false,
        }
    }
}
