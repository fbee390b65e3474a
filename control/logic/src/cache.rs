//! The watch cache: every object's newest version, and a ring of (old, new) pairs for watches.

use alloc::{boxed::Box, collections::BTreeMap, string::String, sync::Arc};

use coracle_api::{Object, Resource};

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

/// All objects, by resource, namespace and name.
#[derive(Debug, Default)]
pub struct Cache {
    objects: BTreeMap<Resource, BTreeMap<(String, String), Arc<Object>>>,
}

impl Cache {
    /// The newest version; `namespace` is empty for cluster-scoped resources.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&resource)?.get(&(namespace.into(), name.into()))
    }

    /// All of a resource in name order, in one namespace or (`None`) in all.
    pub fn list<'a>(
        &'a self,
        resource: Resource,
        namespace: Option<&'a str>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        let all = self.objects.get(&resource).into_iter().flatten();
        Box::new(
            all.filter(move |((ns, _), _)| namespace.is_none_or(|want| ns == want))
                .map(|(_, object)| object),
        )
    }

    /// Puts a version in place of whatever was there (tests and start-up use it directly; else the plane publishes).
    pub fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        let key = (object.meta.namespace.clone(), object.meta.name.clone());
        self.objects.entry(object.resource).or_default().insert(key, object)
    }

    /// Takes an object out.
    pub fn remove(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        self.objects.get_mut(&resource)?.remove(&(namespace.into(), name.into()))
    }
}
