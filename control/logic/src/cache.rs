//! The watch cache: every object's newest version, and a ring of (old, new) pairs for watches.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc};

use coracle_api::{Object, Resource};

pub mod encode;
pub mod ring;
pub mod watch;

/// One published change.
#[derive(Clone, Debug)]
pub struct Change {
    /// Number of the change.
    pub revision: u64,
    /// Of what.
    pub resource: Resource,
    /// The version before; `None`: it was made now.
    pub old: Option<Arc<Object>>,
    /// The version after; `None`: it is gone now.
    pub new: Option<Arc<Object>>,
}

impl Change {
    /// The newest version that there is: after the change, or for a delete before it.
    pub fn subject(&self) -> Option<&Arc<Object>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

type Names = BTreeMap<Box<str>, Arc<Object>>;
type Namespaces = BTreeMap<Box<str>, Names>;

/// All objects, by resource, namespace and name.
#[derive(Debug, Default)]
pub struct Cache {
    objects: BTreeMap<Resource, Namespaces>,
    revision: u64,
}

impl Cache {
    /// The newest version; `namespace` is empty for cluster-scoped resources.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&resource)?.get(namespace)?.get(name)
    }

    /// All of a resource in name order, in one namespace or (`None`) in all.
    pub fn list<'a>(
        &'a self,
        resource: Resource,
        namespace: Option<&'a str>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        let Some(all) = self.objects.get(&resource) else {
            return Box::new(core::iter::empty());
        };
        match namespace {
            Some(namespace) => Box::new(all.get(namespace).into_iter().flat_map(BTreeMap::values)),
            None => Box::new(all.values().flat_map(BTreeMap::values)),
        }
    }

    /// How many there are, without looking at each.
    pub fn count(&self, resource: Resource, namespace: Option<&str>) -> usize {
        let Some(all) = self.objects.get(&resource) else { return 0 };
        match namespace {
            Some(namespace) => all.get(namespace).map_or(0, BTreeMap::len),
            None => all.values().map(BTreeMap::len).sum(),
        }
    }

    /// Number of the last change that is in here.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Says that everything up to this number is in here.
    pub(crate) fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// Puts a version in place of whatever was there (tests and start-up use it directly; else the plane publishes).
    pub fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        self.advance(object.revision);
        self.objects
            .entry(object.resource)
            .or_default()
            .entry(object.meta.namespace.as_str().into())
            .or_default()
            .insert(object.meta.name.as_str().into(), object)
    }

    /// Takes an object out.
    pub fn remove(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        let all = self.objects.get_mut(&resource)?;
        let names = all.get_mut(namespace)?;
        let gone = names.remove(name);
        if names.is_empty() {
            all.remove(namespace);
        }
        gone
    }
}
