//! The watch cache: every object's newest version, and a ring of (old, new) pairs for watches.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
/// Namespaces and names.
type Bound = BTreeSet<(Box<str>, Box<str>)>;

/// All objects, by resource, namespace and name.
#[derive(Debug, Default)]
pub struct Cache {
    objects: BTreeMap<Resource, Namespaces>,
    /// The pods of each node that has any. Without it, whoever asks for a node's pods decodes all pods.
    on_node: BTreeMap<Box<str>, Bound>,
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

    /// The pods that are bound to a node.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<Object>> {
        let bound = self.on_node.get(node).into_iter().flatten();
        bound.filter_map(|(namespace, name)| self.get(Resource::PODS, namespace, name))
    }

    fn unbind(&mut self, pod: &Object) {
        let node = &*pod.node;
        if let Some(bound) = self.on_node.get_mut(node) {
            bound.remove(&(pod.meta.namespace.as_str().into(), pod.meta.name.as_str().into()));
            if bound.is_empty() {
                self.on_node.remove(node);
            }
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
        let new = object.clone();
        let old = self
            .objects
            .entry(object.resource)
            .or_default()
            .entry(object.meta.namespace.as_str().into())
            .or_default()
            .insert(object.meta.name.as_str().into(), object);
        if new.resource == Resource::PODS {
            // One that is bound stays where it is (P2); another life of its name need not.
            if let Some(old) = old.as_ref().filter(|old| old.meta.uid != new.meta.uid) {
                self.unbind(old);
            }
            if !new.node.is_empty() {
                let pod = (new.meta.namespace.as_str().into(), new.meta.name.as_str().into());
                self.on_node.entry(new.node.clone()).or_default().insert(pod);
            }
        }
        old
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
        if let Some(pod) = gone.as_ref().filter(|gone| gone.resource == Resource::PODS) {
            self.unbind(pod);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString as _, vec::Vec};

    use serde_json::json;

    use super::*;

    #[test]
    fn the_pods_of_a_node_are_found() {
        let mut cache = Cache::default();
        let mut revision = 0;
        let mut put = |cache: &mut Cache, name: &str, uid: &str, node: &str| {
            revision += 1;
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "ns", "uid": uid},
                "spec": {"nodeName": node},
            });
            let object = encode::object_at(Resource::PODS, pod, revision).unwrap();
            cache.insert(Arc::new(object));
        };
        let on = |cache: &Cache, node: &str| {
            let names: Vec<_> = cache.pods_on(node).map(|pod| pod.meta.name.to_string()).collect();
            names.join(" ")
        };
        put(&mut cache, "b", "1", "");
        put(&mut cache, "a", "2", "pi1");
        assert_eq!(on(&cache, ""), "");
        put(&mut cache, "b", "1", "pi1");
        put(&mut cache, "b", "1", "pi1");
        assert_eq!(on(&cache, "pi1"), "a b");
        // The name's next life is elsewhere.
        put(&mut cache, "a", "3", "pi2");
        assert_eq!((on(&cache, "pi1"), on(&cache, "pi2")), ("b".into(), "a".into()));
        cache.remove(Resource::PODS, "ns", "b");
        cache.remove(Resource::PODS, "ns", "a");
        assert!(cache.on_node.is_empty());
    }
}
