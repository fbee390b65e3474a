//! What a decision gives: calls to make, events to tell, when to look again.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use coracle_api::{Meta, Object, Resource};
use serde_json::{Value, json};

use super::{CallAction, limits::CALLS_PER_LOOK_MAX};
use crate::{Millis, call::PatchType};

/// Name of an object; `namespace` is empty for cluster-scoped ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Name {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(meta: &Meta) -> Self {
        Self::new(&meta.namespace, &meta.name)
    }
}

/// One call, without number and user.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) action: CallAction,
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: &'static str,
    /// Told when the call went well; `{name}` in it is the name of the object that the call gave.
    pub(crate) then: Option<Note>,
    /// Told when the call was refused; `{error}` in it is the refusal's message.
    pub(crate) otherwise: Option<Note>,
}

impl Ask {
    fn new(action: CallAction, resource: Resource, namespace: &str, name: &str) -> Self {
        let (namespace, name) = (namespace.into(), name.into());
        Self { action, resource, namespace, name, subresource: "", then: None, otherwise: None }
    }

    /// Create; the name is the object's own (none with `generateName`).
    pub(crate) fn create(resource: Resource, namespace: &str, object: Value) -> Self {
        let name: String =
            object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("").into();
        Self::new(CallAction::Create(object), resource, namespace, &name)
    }

    /// Replace by this value, which was made from that version: the version guards it.
    pub(crate) fn update(of: &Object, value: Value) -> Self {
        Self::new(CallAction::Update(value), of.resource, &of.meta.namespace, &of.meta.name)
    }

    /// Patch whatever version there is.
    pub(crate) fn patch(of: &Object, how: PatchType, patch: Value) -> Self {
        Self::new(CallAction::Patch(how, patch), of.resource, &of.meta.namespace, &of.meta.name)
    }

    /// Delete this life of the object.
    pub(crate) fn delete(of: &Object) -> Self {
        let uid = Some(of.meta.uid.clone());
        let action = CallAction::Delete {
            uid,
            resource_version: None,
            propagation: None,
            grace_seconds: None,
        };
        Self::new(action, of.resource, &of.meta.namespace, &of.meta.name)
    }

    /// The same on a subresource.
    pub(crate) fn on(mut self, subresource: &'static str) -> Self {
        self.subresource = subresource;
        self
    }

    /// The same, telling this when it went well.
    pub(crate) fn then(mut self, note: Note) -> Self {
        self.then = Some(note);
        self
    }

    /// The same, telling this when it was refused.
    pub(crate) fn otherwise(mut self, note: Note) -> Self {
        self.otherwise = Some(note);
        self
    }
}

/// How an event is meant.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tone {
    Normal,
    Warning,
}

/// An event to tell about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) about: About,
    pub(crate) tone: Tone,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What an event is about (`involvedObject`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct About {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// 0: any.
    pub(crate) revision: u64,
}

/// An event is about this version of this object.
pub(crate) fn about(object: &Object) -> About {
    About::of(object)
}

impl Note {
    pub(crate) fn normal(about: &Object, reason: &'static str, message: String) -> Self {
        Self { about: About::of(about), tone: Tone::Normal, reason, message }
    }

    pub(crate) fn warning(about: &Object, reason: &'static str, message: String) -> Self {
        Self { about: About::of(about), tone: Tone::Warning, reason, message }
    }
}

impl About {
    pub(crate) fn of(object: &Object) -> Self {
        Self {
            resource: object.resource,
            namespace: object.meta.namespace.clone(),
            name: object.meta.name.clone(),
            uid: object.meta.uid.clone(),
            revision: object.revision,
        }
    }

    /// A pod that may have changed since it was looked at.
    pub(crate) fn pod(namespace: &str, name: &str, uid: &str) -> Self {
        let (namespace, name, uid) = (namespace.into(), name.into(), uid.into());
        Self { resource: Resource::PODS, namespace, name, uid, revision: 0 }
    }

    /// `involvedObject` as the API has it.
    pub(crate) fn reference(&self) -> Value {
        let def = self.resource.def();
        let mut reference = BTreeMap::from([
            ("kind", def.kind.into()),
            ("name", self.name.clone()),
            ("uid", self.uid.clone()),
            ("apiVersion", def.api_version()),
        ]);
        if self.revision != 0 {
            reference.insert("resourceVersion", format!("{}", self.revision));
        }
        if !self.namespace.is_empty() {
            reference.insert("namespace", self.namespace.clone());
        }
        json!(reference)
    }
}

/// All that one look at one key decided.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In order; independent of each other.
    pub(crate) calls: Vec<Ask>,
    /// Told at once.
    pub(crate) notes: Vec<Note>,
    /// Look again then, even if nothing changes.
    pub(crate) again_at: Option<Millis>,
    /// Look again as soon as these calls are answered, even if nothing changes.
    pub(crate) again: bool,
    /// It did not go well: look again after the back-off.
    pub(crate) failed: bool,
}

impl Plan {
    /// Asks for a call. Beyond the bound it is left for the next look, which comes when the others are answered.
    pub(crate) fn call(&mut self, ask: Ask) {
        if self.calls.len() < CALLS_PER_LOOK_MAX {
            self.calls.push(ask);
        } else {
            self.again = true;
        }
    }

    /// Look again then at the latest.
    pub(crate) fn wake(&mut self, at: Millis) {
        self.again_at = Some(self.again_at.map_or(at, |earlier| earlier.min(at)));
    }
}
