//! ConfigMaps and Secrets that pods of this node mount: one watch each while a pod needs it, so that a change is in the
//! pod's volume within moments and nothing is asked for in vain. Others (for environments) are read when needed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use base64::Engine as _;
use coracle_agent_logic::{
    PodUid,
    env::{Data, ObjectRef, Objects},
};
use coracle_rt::Local;
use serde_json::Value;
use smol::{Task, channel};

use super::{
    api::{Api, ApiError},
    limits,
    watch::{self, Seen},
};

/// Namespace and object.
type Key = (String, ObjectRef);

/// What is followed.
pub(crate) struct Follower {
    local: Local,
    api: Api,
    followed: Rc<RefCell<BTreeMap<Key, Followed>>>,
    /// Pods whose volumes have to be looked at again.
    changed: channel::Sender<PodUid>,
}

struct Followed {
    /// `None` until the first answer.
    data: Option<Option<Data>>,
    users: BTreeSet<PodUid>,
    waiting: Vec<channel::Sender<()>>,
    _task: Task<()>,
}

impl Follower {
    pub(crate) fn new(local: &Local, api: Api, changed: channel::Sender<PodUid>) -> Self {
        Self { local: local.clone(), api, followed: Rc::default(), changed }
    }

    /// Follows these objects for the pod, and gives what they are now. Waits for the API server as long as it takes.
    pub(crate) async fn hold(
        &self,
        uid: &PodUid,
        namespace: &str,
        wanted: BTreeSet<ObjectRef>,
    ) -> Result<Objects, String> {
        let mut objects = Objects::new();
        for reference in wanted {
            let key = (namespace.to_owned(), reference.clone());
            let data = loop {
                let waiting = {
                    let mut followed = self.followed.borrow_mut();
                    if !followed.contains_key(&key) {
                        if followed.len() >= limits::OBJECTS_MAX {
                            return Err(format!(
                                "the pods of this node mount more than {} objects",
                                limits::OBJECTS_MAX
                            ));
                        }
                        let task = self.follow(key.clone());
                        let fresh = Followed {
                            data: None,
                            users: BTreeSet::new(),
                            waiting: Vec::new(),
                            _task: task,
                        };
                        followed.insert(key.clone(), fresh);
                    }
                    let Some(entry) = followed.get_mut(&key) else { continue };
                    entry.users.insert(uid.clone());
                    if let Some(data) = &entry.data {
                        break data.clone();
                    }
                    let (send, receive) = channel::bounded(1);
                    entry.waiting.push(send);
                    receive
                };
                // Its end is the sign.
                let _ = waiting.recv().await;
                // A pod that was taken down meanwhile must not begin to follow anew.
                let followed = self.followed.borrow();
                if !followed.get(&key).is_some_and(|entry| entry.users.contains(uid)) {
                    return Err("the pod needs its objects no more".into());
                }
            };
            objects.insert(reference, data);
        }
        Ok(objects)
    }

    /// What is known of an object without asking.
    pub(crate) fn known(&self, namespace: &str, reference: &ObjectRef) -> Option<Option<Data>> {
        let key = (namespace.to_owned(), reference.clone());
        self.followed.borrow().get(&key)?.data.clone()
    }

    /// The pod needs nothing more.
    pub(crate) fn release(&self, uid: &PodUid) {
        self.followed.borrow_mut().retain(|_, followed| {
            followed.users.remove(uid);
            !followed.users.is_empty()
        });
    }

    fn follow(&self, key: Key) -> Task<()> {
        let (api, changed, followed) =
            (self.api.clone(), self.changed.clone(), Rc::clone(&self.followed));
        self.local.held(async move {
            let (namespace, reference) = key.clone();
            let (plural, name) = plural(&reference);
            let path = format!("/api/v1/namespaces/{namespace}/{plural}");
            let selector = watch::field_selector("metadata.name", name);
            watch::follow(&api, &path, &selector, async |seen| {
                let next = match seen {
                    Seen::Listed(items) => items.first().map(|item| data(&reference, item)),
                    Seen::Changed(object) => Some(data(&reference, &object)),
                    Seen::Gone(_) => None,
                };
                let mut tell: Vec<PodUid> = Vec::new();
                if let Some(entry) = followed.borrow_mut().get_mut(&key) {
                    let first = entry.data.is_none();
                    if entry.data.as_ref() != Some(&next) {
                        entry.data = Some(next);
                        entry.waiting.clear();
                        if !first {
                            tell.extend(entry.users.iter().cloned());
                        }
                    }
                }
                for uid in tell {
                    let _ = changed.send(uid).await;
                }
            })
            .await;
        })
    }
}

/// Reads objects once.
pub(crate) async fn read(
    api: &Api,
    namespace: &str,
    wanted: BTreeSet<ObjectRef>,
) -> Result<Objects, ApiError> {
    let mut objects = Objects::new();
    for reference in wanted {
        let (plural, name) = plural(&reference);
        let found = match api.get(&format!("/api/v1/namespaces/{namespace}/{plural}/{name}")).await
        {
            Ok(object) => Some(data(&reference, &object)),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        objects.insert(reference, found);
    }
    Ok(objects)
}

fn plural(reference: &ObjectRef) -> (&'static str, &str) {
    match reference {
        ObjectRef::ConfigMap(name) => ("configmaps", name),
        ObjectRef::Secret(name) => ("secrets", name),
    }
}

/// Keys and values of a ConfigMap or Secret.
pub(crate) fn data(reference: &ObjectRef, object: &Value) -> Data {
    let pairs = |field: &str| object.get(field).and_then(Value::as_object).into_iter().flatten();
    let decoded =
        |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let encoded = match reference {
        ObjectRef::ConfigMap(_) => "binaryData",
        ObjectRef::Secret(_) => "data",
    };
    let mut data: Data = pairs(encoded)
        .filter_map(|(key, value)| Some((key.clone(), decoded(value.as_str()?))))
        .collect();
    if matches!(reference, ObjectRef::ConfigMap(_)) {
        data.extend(
            pairs("data").filter_map(|(key, value)| {
                Some((key.clone(), value.as_str()?.as_bytes().to_vec()))
            }),
        );
    }
    data
}

/// For the copy on disk: `[[kind, name, null | {key: base64}], …]`.
pub(crate) fn to_disk(objects: &Objects) -> Vec<u8> {
    let encode = |bytes: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
    let all: Vec<Value> = objects
        .iter()
        .map(|(reference, data)| {
            let (plural, name) = plural(reference);
            let data: Option<BTreeMap<&String, String>> = data
                .as_ref()
                .map(|data| data.iter().map(|(key, value)| (key, encode(value))).collect());
            serde_json::json!([plural, name, data])
        })
        .collect();
    Value::from(all).to_string().into_bytes()
}

/// Reads [`to_disk`] back; what is not understood is left out.
pub(crate) fn from_disk(bytes: &[u8]) -> Objects {
    type Stored = (String, String, Option<BTreeMap<String, String>>);
    let stored: Vec<Stored> = serde_json::from_slice(bytes).unwrap_or_default();
    let decode =
        |text: &String| base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    stored
        .into_iter()
        .filter_map(|(plural, name, data)| {
            let reference = match plural.as_str() {
                "configmaps" => ObjectRef::ConfigMap(name),
                "secrets" => ObjectRef::Secret(name),
                _ => return None,
            };
            let data = data
                .map(|data| data.iter().map(|(key, value)| (key.clone(), decode(value))).collect());
            Some((reference, data))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn data_is_read_and_kept() {
        let map = ObjectRef::ConfigMap("m".into());
        let secret = ObjectRef::Secret("s".into());
        let objects: Objects = [
            (
                map.clone(),
                Some(data(&map, &json!({"data": {"a": "1"}, "binaryData": {"b": "AP8="}}))),
            ),
            (secret.clone(), Some(data(&secret, &json!({"data": {"t": "czNjcmV0"}})))),
            (ObjectRef::Secret("none".into()), None),
        ]
        .into();
        let of =
            |reference: &ObjectRef, key: &str| objects[reference].as_ref().unwrap()[key].clone();
        assert_eq!(of(&map, "a"), b"1");
        assert_eq!(of(&map, "b"), [0, 255]);
        assert_eq!(of(&secret, "t"), b"s3cret");
        assert_eq!(from_disk(&to_disk(&objects)), objects);
        assert_eq!(from_disk(b"torn"), Objects::new());
    }
}
