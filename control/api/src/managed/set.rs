//! Sets of field paths, in the shape of `fieldsV1`.
//!
//! A path element is its `fieldsV1` key: `f:spec`, `k:{"name":"web"}`, `v:"x"`. A tree holds the paths; a node that is in
//! the set and has others below it is written with `"."`.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Map, Value};

/// Paths, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    nodes: BTreeMap<String, Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: Set,
}

impl Set {
    /// Reads `fieldsV1`; what is no object reads as empty.
    pub(super) fn from_fields(fields: &Value) -> Self {
        let mut set = Self::default();
        for (key, below) in fields.as_object().into_iter().flatten() {
            if key == "." {
                continue;
            }
            let member =
                below.as_object().is_none_or(|map| map.is_empty() || map.contains_key("."));
            set.nodes.insert(key.clone(), Node { member, below: Self::from_fields(below) });
        }
        set
    }

    /// Writes `fieldsV1`.
    pub(super) fn to_fields(&self) -> Value {
        let mut map = Map::new();
        for (key, node) in &self.nodes {
            let mut below = node.below.to_fields();
            if let Value::Object(below) = &mut below
                && node.member
                && !below.is_empty()
            {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            map.insert(key.clone(), below);
        }
        Value::Object(map)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds one path. The empty path is in no set.
    pub(super) fn insert(&mut self, path: &[String]) {
        let Some((last, above)) = path.split_last() else { return };
        let mut set = self;
        for element in above {
            set = &mut set.nodes.entry(element.clone()).or_default().below;
        }
        set.nodes.entry(last.clone()).or_default().member = true;
    }

    /// Takes out a node with all below it.
    pub(super) fn remove_tree(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.nodes.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(node) = self.nodes.get_mut(*first) {
                    node.below.remove_tree(rest);
                    if !node.member && node.below.is_empty() {
                        self.nodes.remove(*first);
                    }
                }
            }
        }
    }

    /// Takes out this one path of the top, not what is below it.
    pub(super) fn remove_top(&mut self, element: &str) {
        if let Some(node) = self.nodes.get_mut(element) {
            node.member = false;
            if node.below.is_empty() {
                self.nodes.remove(element);
            }
        }
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (key, node) in &other.nodes {
            let slot = out.nodes.entry(key.clone()).or_default();
            slot.member |= node.member;
            slot.below = slot.below.union(&node.below);
        }
        out
    }

    /// Paths of this set that `other` does not have.
    pub(super) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| ours && !theirs)
    }

    /// Paths of both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| ours && theirs)
    }

    fn combine(&self, other: &Self, keep: fn(bool, bool) -> bool) -> Self {
        let mut out = Self::default();
        let nothing = Node::default();
        for (key, node) in &self.nodes {
            let theirs = other.nodes.get(key).unwrap_or(&nothing);
            let below = node.below.combine(&theirs.below, keep);
            let member = keep(node.member, theirs.member);
            if member || !below.is_empty() {
                out.nodes.insert(key.clone(), Node { member, below });
            }
        }
        out
    }

    /// Elements of the top: (element, whether it is in the set itself, what is below it).
    pub(super) fn elements(&self) -> impl Iterator<Item = (&str, bool, &Self)> {
        self.nodes.iter().map(|(key, node)| (key.as_str(), node.member, &node.below))
    }

    /// What is below an element of the top; `None`: neither it nor anything below it is in the set.
    pub(super) fn below(&self, element: &str) -> Option<&Self> {
        self.nodes.get(element).map(|node| &node.below)
    }

    /// Every path, as messages write it: `.spec.containers[name="web"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, above: &str, out: &mut Vec<String>) {
        for (key, node) in &self.nodes {
            let here = format!("{above}{}", element_text(key));
            if node.member {
                out.push(here.clone());
            }
            node.below.collect(&here, out);
        }
    }
}

fn element_text(element: &str) -> String {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("k:", keys)) => {
            let keys = parsed(keys);
            let pairs = keys.as_object().into_iter().flatten();
            let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some(("v:", value)) => format!("[={value}]"),
        _ => element.to_string(),
    }
}
