//! A small world for tests of controllers: an API server without rights and rules, and a node agent that makes pods run.

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::{Meta, Object, Resource, Status, time};
use serde_json::{Value, json};

use super::{CallAction, Controller, ControllerCall};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
};

/// Where tests begin.
pub(crate) const START: Millis = Millis(1_800_000_000_000);

/// An object as the cache holds it: annotations are not in its `meta`.
pub(crate) fn object(resource: Resource, mut value: Value, revision: u64) -> Arc<Object> {
    let def = resource.def();
    value["apiVersion"] = def.api_version().into();
    value["kind"] = def.kind.into();
    value["metadata"]["resourceVersion"] = revision.to_string().into();
    let mut meta: Meta = serde_json::from_value(value["metadata"].clone())
        .expect("a test's metadata is well-formed");
    meta.annotations = BTreeMap::new();
    let bytes = serde_json::to_vec(&value).expect("keys are strings").into();
    let node = crate::cache::encode::node_of(resource, &value);
    Arc::new(Object { resource, meta, node, revision, bytes })
}

type Refuse = Box<dyn FnMut(&ControllerCall) -> Option<Status>>;

/// The world.
pub(crate) struct World {
    pub(crate) now: Millis,
    pub(crate) cache: Cache,
    pub(crate) rng: Rng,
    controllers: Vec<Box<dyn Controller>>,
    revision: u64,
    names: u64,
    /// Asked for and not looked at yet: (controller, call).
    asked: Vec<(usize, ControllerCall)>,
    /// Done and not told yet.
    done: Vec<(usize, ControllerCall, Result<Arc<Object>, Status>)>,
    /// All calls that were carried out, a line each.
    pub(crate) log: Vec<String>,
    refuse: Refuse,
    /// Called after each change of a pod.
    check: Box<dyn FnMut(&Cache)>,
}

impl World {
    pub(crate) fn new(controllers: Vec<Box<dyn Controller>>, seed: u64) -> Self {
        Self {
            now: START,
            cache: Cache::default(),
            rng: Rng(seed),
            controllers,
            revision: 0,
            names: 0,
            asked: Vec::new(),
            done: Vec::new(),
            log: Vec::new(),
            refuse: Box::new(|_| None),
            check: Box::new(|_| {}),
        }
    }

    /// Refuses the calls for which this gives a status.
    pub(crate) fn refuse(
        &mut self,
        refuse: impl FnMut(&ControllerCall) -> Option<Status> + 'static,
    ) {
        self.refuse = Box::new(refuse);
    }

    /// Looks at the world after each change of a pod.
    pub(crate) fn check(&mut self, check: impl FnMut(&Cache) + 'static) {
        self.check = Box::new(check);
    }

    pub(crate) fn chance(&mut self, of: u64) -> bool {
        self.rng.next_u64().is_multiple_of(of)
    }

    pub(crate) fn get(&self, resource: Resource, namespace: &str, name: &str) -> Value {
        self.cache.get(resource, namespace, name).map_or(Value::Null, |object| object.value())
    }

    pub(crate) fn list(&self, resource: Resource) -> Vec<Value> {
        self.cache.list(resource, None).map(|object| object.value()).collect()
    }

    pub(crate) fn count(&self, resource: Resource) -> usize {
        self.cache.list(resource, None).count()
    }

    /// Writes a version and tells all controllers; the same again is no change. `None`: takes the object out.
    fn publish(&mut self, resource: Resource, namespace: &str, name: &str, new: Option<Value>) {
        let old = self.cache.get(resource, namespace, name).cloned();
        self.revision += 1;
        let new = new.map(|value| object(resource, value, self.revision));
        match &new {
            Some(new) => {
                self.cache.insert(new.clone());
            }
            None => {
                self.cache.remove(resource, namespace, name);
            }
        }
        let change = Change { revision: self.revision, resource, old, new };
        for controller in &mut self.controllers {
            controller.changed(self.now, &change);
        }
        if resource == Resource::PODS {
            (self.check)(&self.cache);
        }
    }

    /// What a user does. Panics where the world refuses it.
    pub(crate) fn create(&mut self, resource: Resource, value: Value) -> Arc<Object> {
        let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("");
        let namespace = namespace.to_string();
        self.apply(&call(CallAction::Create(value), resource, &namespace, "", ""))
            .expect("a test creates what is not there")
    }

    /// Changes an object as a user does, through this subresource.
    pub(crate) fn edit(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        subresource: &'static str,
        edit: impl FnOnce(&mut Value),
    ) {
        let mut value = self.get(resource, namespace, name);
        edit(&mut value);
        let call = call(CallAction::Update(value), resource, namespace, name, subresource);
        self.apply(&call).expect("a test edits what is there");
    }

    pub(crate) fn delete(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        propagation: Option<&'static str>,
    ) {
        let action = CallAction::Delete {
            uid: None,
            resource_version: None,
            propagation,
            grace_seconds: None,
        };
        self.apply(&call(action, resource, namespace, name, ""))
            .expect("a test deletes what is there");
    }

    /// Takes an object out, whatever holds it.
    pub(crate) fn remove(&mut self, resource: Resource, namespace: &str, name: &str) {
        self.publish(resource, namespace, name, None);
    }

    /// Carries out one call. Rights, rules and defaults are not the controllers' affair and are left out.
    fn apply(&mut self, call: &ControllerCall) -> Result<Arc<Object>, Status> {
        let def = call.resource.def();
        let old = self.cache.get(call.resource, &call.namespace, &call.name).cloned();
        if let CallAction::Create(value) = &call.action {
            return self.apply_create(call, value.clone());
        }
        let old = old.ok_or_else(|| Status::not_found(def.group, def.plural, &call.name))?;
        let conflict = |why: &str| Status::conflict(def.group, def.plural, &call.name, why);
        let new = match &call.action {
            CallAction::Create(_) => unreachable!("answered above"),
            CallAction::Update(value) => value.clone(),
            CallAction::Patch(how, patch) => {
                assert_eq!(
                    *how,
                    crate::call::PatchType::Merge,
                    "the only one that this world knows"
                );
                let mut value = old.value();
                merge(&mut value, patch);
                value
            }
            CallAction::Delete { uid, resource_version, propagation, grace_seconds } => {
                if uid.as_ref().is_some_and(|uid| *uid != old.meta.uid) {
                    return Err(conflict("another life"));
                }
                if resource_version
                    .as_ref()
                    .is_some_and(|version| *version != old.resource_version())
                {
                    return Err(conflict("another version"));
                }
                self.apply_delete(&old, *propagation, *grace_seconds);
                return Ok(old);
            }
        };
        let version = new.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        if version.is_some_and(|version| version != old.resource_version()) {
            return Err(conflict("the object has been modified"));
        }
        if new["metadata"]["uid"] != old.meta.uid.as_str() {
            return Err(conflict("another life"));
        }
        let stored = old.value();
        let new = combine(call, &stored, new);
        if new == stored {
            return Ok(old);
        }
        let ends = new["metadata"]["deletionTimestamp"].is_string()
            && is_empty(&new["metadata"]["finalizers"])
            && is_empty(&new["spec"]["finalizers"])
            && call.resource != Resource::PODS;
        self.publish(call.resource, &call.namespace, &call.name, (!ends).then_some(new));
        let now = self.cache.get(call.resource, &call.namespace, &call.name).cloned();
        Ok(now.unwrap_or(old))
    }

    fn apply_create(
        &mut self,
        call: &ControllerCall,
        mut value: Value,
    ) -> Result<Arc<Object>, Status> {
        let def = call.resource.def();
        self.names += 1;
        let names = self.names;
        let generate = value["metadata"]["generateName"].as_str().map(ToString::to_string);
        let metadata = value["metadata"].as_object_mut().expect("every object has metadata");
        if let Some(prefix) = generate {
            metadata.insert("name".into(), format!("{prefix}{names:05}").into());
        }
        if def.namespaced {
            metadata.insert("namespace".into(), call.namespace.as_str().into());
        }
        metadata.insert("uid".into(), format!("uid-{names:05}").into());
        metadata.insert("creationTimestamp".into(), time::rfc3339(self.now.0).into());
        metadata.insert("generation".into(), 1.into());
        let name = metadata["name"].as_str().expect("named").to_string();
        if self.cache.get(call.resource, &call.namespace, &name).is_some() {
            return Err(Status::already_exists(def.group, def.plural, &name));
        }
        if call.resource == Resource::PODS && value["status"].is_null() {
            value["status"] = json!({"phase": "Pending"});
        }
        self.publish(call.resource, &call.namespace, &name, Some(value));
        Ok(self.cache.get(call.resource, &call.namespace, &name).expect("just made").clone())
    }

    fn apply_delete(
        &mut self,
        old: &Arc<Object>,
        propagation: Option<&'static str>,
        grace_seconds: Option<i64>,
    ) {
        let mut value = old.value();
        let mut finalizers = old.meta.finalizers.clone();
        let added = match propagation {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(added) = added
            && !finalizers.iter().any(|finalizer| finalizer == added)
        {
            finalizers.push(added.into());
            value["metadata"]["finalizers"] = json!(finalizers);
        }
        let running = old.resource == Resource::PODS
            && value["spec"]["nodeName"].is_string()
            && !matches!(value["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
            && grace_seconds != Some(0);
        let held = !finalizers.is_empty()
            || (old.resource == Resource::NAMESPACES && !is_empty(&value["spec"]["finalizers"]));
        if !running && !held {
            return self.publish(old.resource, &old.meta.namespace, &old.meta.name, None);
        }
        if old.meta.deletion_timestamp.is_none() {
            value["metadata"]["deletionTimestamp"] = time::rfc3339(self.now.0).into();
            if old.resource == Resource::NAMESPACES {
                value["status"]["phase"] = "Terminating".into();
            }
        }
        if value != old.value() {
            self.publish(old.resource, &old.meta.namespace, &old.meta.name, Some(value));
        }
    }

    /// Lets all controllers work once.
    pub(crate) fn step(&mut self) {
        for (index, controller) in self.controllers.iter_mut().enumerate() {
            let mut out = Vec::new();
            controller.step(self.now, &self.cache, &mut self.rng, &mut out);
            self.asked.extend(out.into_iter().map(|call| (index, call)));
        }
    }

    /// Carries out one of the calls, or tells one of the answers; any of them may be next.
    fn advance_one(&mut self) {
        let choices = self.asked.len() + self.done.len();
        let pick = usize::try_from(self.rng.next_u64() % choices as u64).expect("below a length");
        if pick < self.asked.len() {
            let (index, call) = self.asked.remove(pick);
            let refused = (self.refuse)(&call);
            let result = refused.map_or_else(|| self.apply(&call), Err);
            self.log.push(line(&call, &result));
            self.done.push((index, call, result));
        } else {
            let (index, call, result) = self.done.remove(pick - self.asked.len());
            self.controllers[index].done(self.now, &call, result.as_ref());
        }
    }

    /// Calls asked for and not carried out.
    pub(crate) fn waiting(&self) -> usize {
        self.asked.iter().filter(|(_, call)| call.resource != Resource::EVENTS).count()
    }

    /// Carries out all calls and tells all answers.
    pub(crate) fn answer_all(&mut self) {
        while !self.asked.is_empty() || !self.done.is_empty() {
            self.advance_one();
        }
    }

    fn next_due(&self) -> Option<Millis> {
        self.controllers.iter().filter_map(|controller| controller.next_due()).min()
    }

    /// Works until nothing is left to do at this time (delays of back-offs are waited for, up to `wait_ms`). With
    /// `agent` the pods are brought up and down meanwhile.
    pub(crate) fn settle(&mut self, agent: bool, wait_ms: u64) {
        let until = Millis(self.now.0 + wait_ms);
        for _ in 0..200_000 {
            self.step();
            if !self.asked.is_empty() || !self.done.is_empty() {
                self.advance_one();
                if agent && self.chance(4) {
                    self.run_agent();
                }
                continue;
            }
            if agent && self.run_agent() {
                continue;
            }
            match self.next_due() {
                Some(at) if at <= until => self.now = self.now.max(at),
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!(
            "does not settle; last calls: {:#?}",
            &self.log[self.log.len().saturating_sub(20)..]
        );
    }

    /// One step of the controllers, one call or answer, and perhaps one of a pod.
    pub(crate) fn settle_a_little(&mut self) {
        self.step();
        if !self.asked.is_empty() || !self.done.is_empty() {
            self.advance_one();
        }
        if self.chance(3) {
            self.run_agent();
        }
    }

    /// Brings one pod one step further. False: all are where they belong.
    fn run_agent(&mut self) -> bool {
        let pods: Vec<_> = self.cache.list(Resource::PODS, None).cloned().collect();
        let mut moves = Vec::new();
        for pod in pods {
            let mut value = pod.value();
            let ready = value.pointer("/status/conditions/0/status") == Some(&json!("True"));
            let image = value.pointer("/spec/containers/0/image").and_then(Value::as_str);
            let broken = image.is_some_and(|image| image.contains("broken"));
            if pod.meta.deletion_timestamp.is_some() {
                moves.push((pod.meta.clone(), None));
            } else if value["spec"]["nodeName"].is_null() {
                value["spec"]["nodeName"] = format!("node-{}", pod.revision % 3).into();
                moves.push((pod.meta.clone(), Some(value)));
            } else if !ready && !broken && value["status"]["phase"] != "Failed" {
                value["status"] = json!({"phase": "Running", "conditions": [{
                    "type": "Ready", "status": "True", "lastTransitionTime": time::rfc3339(self.now.0),
                }]});
                moves.push((pod.meta.clone(), Some(value)));
            }
        }
        if moves.is_empty() {
            return false;
        }
        let pick =
            usize::try_from(self.rng.next_u64() % moves.len() as u64).expect("below a length");
        let (meta, value) = moves.swap_remove(pick);
        self.publish(Resource::PODS, &meta.namespace, &meta.name, value);
        true
    }
}

fn call(
    action: CallAction,
    resource: Resource,
    namespace: &str,
    name: &str,
    subresource: &'static str,
) -> ControllerCall {
    let (namespace, name) = (namespace.into(), name.into());
    ControllerCall {
        id: 0,
        user: "kubernetes-admin",
        action,
        resource,
        namespace,
        name,
        subresource,
    }
}

/// The new version of `old` that a write of `new` through the call's subresource makes.
fn combine(call: &ControllerCall, old: &Value, mut new: Value) -> Value {
    for fixed in ["uid", "creationTimestamp", "deletionTimestamp", "generation", "resourceVersion"]
    {
        new["metadata"][fixed] = old["metadata"][fixed].clone();
    }
    match call.subresource {
        "status" | "approval" => {
            let mut value = old.clone();
            value["status"] = new["status"].clone();
            if call.resource == Resource::DEPLOYMENTS {
                value["metadata"]["annotations"] = new["metadata"]["annotations"].clone();
            }
            new = value;
        }
        "finalize" => {
            let mut value = old.clone();
            value["spec"]["finalizers"] = new["spec"]["finalizers"].clone();
            new = value;
        }
        _ => {
            new["status"] = old["status"].clone();
            let annotations = |value: &Value| value["metadata"]["annotations"].clone();
            let counts = new["spec"] != old["spec"]
                || (call.resource == Resource::DEPLOYMENTS
                    && annotations(&new) != annotations(old));
            if counts {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
                new["metadata"]["generation"] = (generation + 1).into();
            }
        }
    }
    strip_nulls(&mut new);
    new
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

fn strip_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(strip_nulls);
    }
}

/// RFC 7386.
fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, patch) in fields {
        merge(&mut value[key.as_str()], patch);
    }
    strip_nulls(value);
}

/// `replicaset create pods default/web-x: ok`.
fn line(call: &ControllerCall, result: &Result<Arc<Object>, Status>) -> String {
    let verb = match &call.action {
        CallAction::Create(_) => "create",
        CallAction::Update(_) => "update",
        CallAction::Patch(..) => "patch",
        CallAction::Delete { .. } => "delete",
    };
    let name = result.as_ref().map_or(&call.name, |object| &object.meta.name);
    let slash = if call.subresource.is_empty() { "" } else { "/" };
    let what = format!("{}{slash}{}", call.resource.def().plural, call.subresource);
    let answer = result.as_ref().map_or_else(|status| status.reason.clone(), |_| "ok".into());
    let mut place = call.namespace.clone();
    if !place.is_empty() {
        place.push('/');
    }
    format!("{verb} {what} {place}{name}: {answer}")
}
