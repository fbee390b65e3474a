//! A small world for tests: objects in a cache, with the rules in force that they make.

use alloc::{string::String, sync::Arc, vec::Vec};

use coracle_api::{Object, Resource};
use serde_json::Value;

use crate::{
    Millis,
    authz::Authorizer,
    cache::{Cache, Change, encode::object_at},
    call::{HttpRequest, Peer, User},
};

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW: Millis = Millis(1_767_225_600_000);

/// Objects and rules.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) cache: Cache,
    pub(crate) authorizer: Authorizer,
    revision: u64,
}

impl World {
    /// One that holds these.
    pub(crate) fn of(objects: impl IntoIterator<Item = Value>) -> Self {
        let mut world = Self::default();
        for object in objects {
            world.put(object);
        }
        world
    }

    /// Puts an object (hub version, by its kind) in place of what was there.
    pub(crate) fn put(&mut self, object: Value) -> Arc<Object> {
        let kind = object["kind"].as_str().expect("a kind");
        let resource = Resource::all().find(|one| one.def().kind == kind).expect("a served kind");
        self.revision += 1;
        let new = Arc::new(object_at(resource, object, self.revision).expect("an object"));
        let old = self.cache.insert(new.clone());
        let revision = self.revision;
        self.authorizer.changed(&Change { revision, resource, old, new: Some(new.clone()) });
        new
    }

    /// Takes one out.
    pub(crate) fn take(&mut self, resource: Resource, namespace: &str, name: &str) {
        self.revision += 1;
        let old = self.cache.remove(resource, namespace, name);
        let revision = self.revision;
        self.authorizer.changed(&Change { revision, resource, old, new: None });
    }
}

/// A user in these groups.
pub(crate) fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|group| String::from(*group)).collect();
    User { name: name.into(), groups, ..User::default() }
}

/// The user that a node is.
pub(crate) fn node(name: &str) -> User {
    let name = alloc::format!("system:node:{name}");
    user(&name, &["system:nodes", "system:authenticated"])
}

/// A request without a body; `peer` is `CN/O,O`.
pub(crate) fn request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    peer: Option<&str>,
) -> Arc<HttpRequest> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let peer = peer.map(|peer| {
        let (name, groups) = peer.split_once('/').unwrap_or((peer, ""));
        let organizations: Vec<String> =
            groups.split(',').filter(|group| !group.is_empty()).map(Into::into).collect();
        Peer { common_name: name.into(), organizations }
    });
    Arc::new(HttpRequest {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        headers: headers.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        peer,
        ..HttpRequest::default()
    })
}
