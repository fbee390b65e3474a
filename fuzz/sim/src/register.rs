//! A node at the API server, as the agent's shell keeps it: registered, its status patched on change, its Lease renewed.

use coracle_agent_logic::{
    Pod,
    event::Tale,
    node::{self, NodeFacts},
};
use coracle_control_logic::call::Peer;
use serde_json::{Value, json};

use crate::{
    limits::{FACTS_EVERY_MS, LEASE_EVERY_MS},
    reflector::{Reflector, Seen},
    rng::Rng,
    wire::{Method, News, Scene, Tag, json, request, text},
};

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Create,
    Patch,
    Rest,
}

/// Both loops of one agent, and its watch of its own Node.
#[derive(Debug)]
pub struct Registration {
    peer: Peer,
    facts: NodeFacts,
    step: Step,
    status: Tag,
    /// The status as it was last read or sent; `None`: to be read.
    known: Option<Value>,
    /// The stored Node says other than the agent.
    contradicted: bool,
    own: Reflector,
    lease: (Tag, bool),
}

impl Registration {
    /// Not begun.
    pub fn new(peer: Peer, facts: NodeFacts) -> Self {
        let selector = format!("fieldSelector=metadata.name%3D{}", facts.name);
        Self {
            own: Reflector::new(peer.clone(), "/api/v1/nodes", &selector),
            peer,
            facts,
            step: Step::Rest,
            status: 0,
            known: None,
            contradicted: false,
            lease: (0, false),
        }
    }

    /// Begins both loops.
    pub fn start(&mut self, scene: &mut Scene<'_>) {
        self.status = scene.after(1);
        self.lease.0 = scene.after(1);
        self.own.start(scene);
    }

    /// Takes what concerns them.
    ///
    /// # Errors
    /// The server refused what every node may do.
    pub fn news(&mut self, news: &News, scene: &mut Scene<'_>) -> Result<(), String> {
        if let News::Answer(_, code @ (400 | 401 | 403 | 422), body) = news
            && [self.status, self.lease.0].contains(&news.tag())
        {
            let body = json(body);
            let message = text(&body, "/message");
            // A first start: the roles of nodes are not there yet.
            if *code != 403 || scene.history.newest() > 2_000 {
                return Err(format!("{}: answered {code}: {message}", self.facts.name));
            }
        }
        for seen in self.own.news(news, scene)? {
            let objects = match seen {
                Seen::Listed(_, items) => items,
                Seen::Line(_, object) => vec![object],
            };
            self.contradicted |= objects.iter().any(is_contradicted);
        }
        if news.tag() == self.status {
            self.status_news(news, scene);
        } else if news.tag() == self.lease.0 {
            self.lease_news(news, scene);
        }
        Ok(())
    }

    fn status_news(&mut self, news: &News, scene: &mut Scene<'_>) {
        let url = format!("/api/v1/nodes/{}", self.facts.name);
        let now_s = i64::try_from(scene.wall_ms / 1000).unwrap_or(0);
        let http = match (self.step, news) {
            (Step::Rest, News::Timer(_)) => {
                if std::mem::take(&mut self.contradicted) {
                    self.known = None;
                }
                match self.known.take() {
                    Some(known) => return self.send(known, now_s, scene),
                    None => {
                        self.step = Step::Read;
                        request(&self.peer, Method::Get, &url, &Value::Null)
                    }
                }
            }
            (Step::Read, News::Answer(_, 404, _)) => {
                self.step = Step::Create;
                let body = node::object(&self.facts, &[].into());
                request(&self.peer, Method::Post, "/api/v1/nodes", &body)
            }
            (Step::Read | Step::Create, News::Answer(_, 200 | 201, body)) => {
                let known = json(body).get("status").cloned().unwrap_or(Value::Null);
                return self.send(known, now_s, scene);
            }
            (Step::Patch, News::Answer(_, 200, _)) => return self.rest(FACTS_EVERY_MS, scene),
            _ => {
                self.known = None;
                return self.rest(3_000, scene);
            }
        };
        self.status = scene.call(http);
    }

    /// Sends the status if it says something new.
    fn send(&mut self, known: Value, now_s: i64, scene: &mut Scene<'_>) {
        let status = node::status(&self.facts, Some(&known), now_s);
        if ours(&status, &known) {
            self.known = Some(known);
            return self.rest(FACTS_EVERY_MS, scene);
        }
        self.step = Step::Patch;
        let url = format!("/api/v1/nodes/{}/status", self.facts.name);
        let body = json!({ "status": status });
        self.known = Some(status);
        self.status = scene.call(request(&self.peer, Method::Merge, &url, &body));
    }

    fn rest(&mut self, ms: u64, scene: &mut Scene<'_>) {
        self.step = Step::Rest;
        self.status = scene.after(ms);
    }

    fn lease_news(&mut self, news: &News, scene: &mut Scene<'_>) {
        let collection = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let name = &self.facts.name;
        let micro = coracle_api::time::rfc3339_micro(scene.wall_ms * 1000);
        let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micro});
        let http = match (self.lease.1, news) {
            (false, News::Timer(_)) => {
                let url = format!("{collection}/{name}");
                request(&self.peer, Method::Merge, &url, &json!({"spec": spec}))
            }
            (false, News::Answer(_, 404, _)) => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec,
                });
                self.lease.1 = true;
                request(&self.peer, Method::Post, collection, &lease)
            }
            (_, News::Answer(_, 200 | 201, _)) => {
                self.lease = (scene.after(LEASE_EVERY_MS), false);
                return;
            }
            _ => {
                self.lease = (scene.after(2_000), false);
                return;
            }
        };
        self.lease.0 = scene.call(http);
    }
}

/// The control plane took the node for lost: only the node itself can say that it is ready again.
fn is_contradicted(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        text(condition, "/type") == "Ready" && text(condition, "/status") != "True"
    })
}

/// Whether the stored status says what the agent would say.
fn ours(status: &Value, known: &Value) -> bool {
    status.as_object().into_iter().flatten().all(|(name, value)| {
        let before = known.get(name).unwrap_or(&Value::Null);
        node::same(&json!({ name: value }), &json!({ name: before }))
    })
}

/// An Event about a pod.
pub fn event(node: &str, pod: &Pod, tale: &Tale, now_ms: u64, rng: &mut Rng) -> Value {
    let at = coracle_api::time::rfc3339(now_ms);
    let kind = if tale.warning { "Warning" } else { "Normal" };
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": format!("{}.{:016x}", pod.meta.name, rng.draw()),
            "namespace": pod.meta.namespace,
        },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "name": pod.meta.name,
            "namespace": pod.meta.namespace, "uid": pod.uid.as_str(),
        },
        "reason": tale.reason, "message": tale.message, "type": kind,
        "source": {"component": "coracle-agent", "host": node},
        "firstTimestamp": at, "lastTimestamp": at, "count": 1,
    })
}
