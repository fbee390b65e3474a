//! Events of the API about this node's pods: sent one after the other, repetitions counted instead of written anew.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use coracle_agent_logic::{Pod, event::Tale, time::rfc3339};
use serde_json::{Value, json};
use smol::channel;

use super::{
    api::{Api, ApiError},
    chance::random_u32,
    clock, limits,
    log::warning,
};

/// What makes two events the same: a hash of namespace, subject, reason and message.
type Key = [u8; 32];

/// Events to be sent.
pub(crate) struct Tales {
    node: String,
    waiting: RefCell<VecDeque<Waiting>>,
    dropped: RefCell<u64>,
    known: RefCell<BTreeMap<Key, Known>>,
    bell: (channel::Sender<()>, channel::Receiver<()>),
}

struct Waiting {
    namespace: String,
    about: Value,
    tale: Tale,
    at_s: i64,
}

#[derive(Clone)]
struct Known {
    name: String,
    count: u64,
    last_s: i64,
}

impl Tales {
    pub(crate) fn new(node: &str) -> Self {
        Self {
            node: node.into(),
            waiting: RefCell::default(),
            dropped: RefCell::default(),
            known: RefCell::default(),
            bell: channel::bounded(1),
        }
    }

    /// Queues an event about a pod. When too many wait, the oldest goes.
    pub(crate) fn about_pod(&self, pod: &Pod, tale: Tale) {
        let mut about = json!({
            "apiVersion": "v1", "kind": "Pod", "namespace": pod.meta.namespace,
            "name": pod.meta.name, "uid": pod.uid.as_str(),
        });
        if let (Some(container), Value::Object(fields)) = (&tale.container, &mut about) {
            fields.insert("fieldPath".into(), format!("spec.containers{{{container}}}").into());
        }
        self.push(Waiting {
            namespace: pod.meta.namespace.clone(),
            about,
            tale,
            at_s: clock::wall_s(),
        });
    }

    /// Queues an event about the node.
    pub(crate) fn about_node(&self, reason: &'static str, message: String) {
        let about =
            json!({"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": self.node});
        let tale = Tale { warning: false, reason, message, container: None };
        self.push(Waiting { namespace: "default".into(), about, tale, at_s: clock::wall_s() });
    }

    fn push(&self, waiting: Waiting) {
        let mut queue = self.waiting.borrow_mut();
        if queue.len() >= limits::TALES_WAITING_MAX {
            queue.pop_front();
            *self.dropped.borrow_mut() += 1;
        }
        queue.push_back(waiting);
        let _ = self.bell.0.try_send(());
    }

    /// Sends for ever.
    pub(crate) async fn send(self: Rc<Self>, api: Api) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            let Some(next) = next else {
                let _ = self.bell.1.recv().await;
                continue;
            };
            api.connected().await;
            let dropped = self.dropped.replace(0);
            if dropped > 0 {
                warning!("{dropped} events were not sent: too many were waiting");
            }
            match self.send_one(&api, &next).await {
                Ok(()) => {}
                Err(ApiError::Lost(_)) => self.waiting.borrow_mut().push_front(next),
                // The namespace is going away, or the API server wants none of it: an event is not worth more.
                Err(ApiError::Refused(status)) => {
                    warning!("event {} was refused: {}", next.tale.reason, status.message);
                }
            }
        }
    }

    async fn send_one(&self, api: &Api, waiting: &Waiting) -> Result<(), ApiError> {
        let Waiting { namespace, about, tale, at_s } = waiting;
        let same = format!("{namespace}\n{about}\n{}\n{}", tale.reason, tale.message);
        let key: Key = coracle_keys::ring::sha256(same.as_bytes());
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let before = self.known.borrow().get(&key).cloned();
        if let Some(mut known) = before {
            known.count += 1;
            known.last_s = *at_s;
            let patch = json!({"count": known.count, "lastTimestamp": rfc3339(*at_s)});
            match api.merge(&format!("{path}/{}", known.name), &patch).await {
                Ok(_) => {
                    self.known.borrow_mut().insert(key, known);
                    return Ok(());
                }
                // It was cleaned away: begin anew.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let subject = about.get("name").and_then(Value::as_str).unwrap_or_default();
        let name = format!("{subject}.{:08x}{:08x}", random_u32(), random_u32());
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "reason": tale.reason,
            "message": tale.message,
            "type": if tale.warning { "Warning" } else { "Normal" },
            "source": {"component": "kubelet", "host": self.node},
            "reportingComponent": "kubelet",
            "reportingInstance": self.node,
            "firstTimestamp": rfc3339(*at_s),
            "lastTimestamp": rfc3339(*at_s),
            "count": 1,
        });
        api.post(&path, &event).await?;
        let mut known = self.known.borrow_mut();
        if known.len() >= limits::TALES_MAX {
            let oldest = known.iter().min_by_key(|(_, known)| known.last_s).map(|(key, _)| *key);
            oldest.map(|key| known.remove(&key));
        }
        known.insert(key, Known { name, count: 1, last_s: *at_s });
        Ok(())
    }
}
