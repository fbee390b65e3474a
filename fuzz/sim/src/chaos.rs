//! A user who does what comes to mind: scales, edits, deletes, drains, taints, and binds what is bound already. In calm
//! it takes back what it did to nodes and deletes what it made.

use coracle_control_logic::call::HttpRequest;
use serde_json::{Value, json};

use crate::{
    history::{History, PODS},
    rng::Rng,
    wire::{Method, News, Scene, Tag, admin, json, request, text},
    world::World,
};

/// Its Deployments begin so.
pub const NAME: &str = "chaos";
const APPS: &str = "/apis/apps/v1/namespaces/default";
const NODES: &str = "/registry/core/nodes/";
const DEPLOYMENTS: &str = "/registry/apps/deployments/default/chaos";
const TAINT: &str = "coracle.dev/chaos";

/// What it wants to be done, until it is.
#[derive(Clone, Debug)]
struct Deed {
    http: HttpRequest,
    /// Its answer must be a refusal.
    is_forbidden: bool,
    /// Also beyond a lost answer.
    insists: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Chaos {
    pause_ms: u64,
    pods: u64,
    names: u64,
    waiting: Vec<Deed>,
    under_way: Option<Deed>,
    tag: Tag,
    is_calm: bool,
    /// What it did.
    pub deeds: u64,
}

impl Chaos {
    /// Not begun.
    pub fn new(world: &World) -> Self {
        Self {
            pause_ms: world.chaos_ms,
            pods: world.chaos_pods.max(1),
            names: if world.chaos_pods > 8 { 1 } else { 3 },
            waiting: Vec::new(),
            under_way: None,
            tag: 0,
            is_calm: false,
            deeds: 0,
        }
    }

    /// Begins.
    pub fn start(&mut self, scene: &mut Scene<'_>) {
        if self.pause_ms != 0 {
            self.tag = scene.after(3_000);
        }
    }

    /// Takes everything back from now on.
    pub fn calm(&mut self) {
        self.is_calm = true;
        self.waiting.clear();
    }

    /// Whether everything is taken back.
    pub fn is_done(&self, history: &History) -> bool {
        self.pause_ms == 0
            || self.is_calm && self.under_way.is_none() && take_back(history).is_empty()
    }

    /// Takes what concerns it.
    ///
    /// # Errors
    /// The server refused what it must take, or took what it must refuse.
    pub fn news(&mut self, news: &News, scene: &mut Scene<'_>) -> Result<(), String> {
        if news.tag() != self.tag || self.pause_ms == 0 {
            return Ok(());
        }
        match news {
            News::Timer(_) => {
                if self.waiting.is_empty() {
                    self.waiting =
                        if self.is_calm { take_back(scene.history) } else { self.draw(scene) };
                }
                let Some(deed) = self.waiting.pop() else {
                    let ms = self.pause(scene.rng);
                    self.tag = scene.after(ms);
                    return Ok(());
                };
                self.deeds += 1;
                self.tag = scene.call(deed.http.clone());
                self.under_way = Some(deed);
            }
            News::Answer(_, code, body) => {
                let Some(deed) = self.under_way.take() else { return Ok(()) };
                judge(&deed, *code, body)?;
                if deed.insists && matches!(code, 429 | 500 | 503) {
                    self.waiting.push(deed);
                }
                self.rest(scene);
            }
            News::Lost(_) | News::Opened(_) | News::Bytes(..) | News::Closed(_) => {
                self.waiting.extend(self.under_way.take().filter(|deed| deed.insists));
                self.rest(scene);
            }
        }
        Ok(())
    }

    fn rest(&mut self, scene: &mut Scene<'_>) {
        let hurries = self.is_calm || !self.waiting.is_empty();
        let ms = if hurries { 200 } else { self.pause(scene.rng) };
        self.tag = scene.after(ms);
    }

    fn pause(&self, rng: &mut Rng) -> u64 {
        rng.between(1, self.pause_ms.max(1))
    }

    /// What comes to mind now; the last is done first.
    fn draw(&self, scene: &mut Scene<'_>) -> Vec<Deed> {
        let Scene { history, rng, .. } = scene;
        let name = format!("{NAME}-{}", rng.below(self.names));
        let url = format!("{APPS}/deployments/{name}");
        match rng.below(12) {
            0..=1 => vec![deed(
                Method::Post,
                &format!("{APPS}/deployments"),
                &self.deployment(&name, rng),
            )],
            2..=3 => {
                let body = json!({"spec": {"replicas": rng.between(0, self.pods)}});
                vec![deed(Method::Merge, &format!("{url}/scale"), &body)]
            }
            4 => {
                let meta = json!({"annotations": {"edited": rng.below(100).to_string()}});
                let body = json!({"spec": {"template": {"metadata": meta}}});
                vec![deed(Method::Merge, &url, &body)]
            }
            5 if rng.chance(300) => {
                let policy = rng.pick(&["Foreground", "Background", "Orphan"], "Background");
                let url = format!("{url}?propagationPolicy={policy}");
                vec![deed(Method::Delete, &url, &Value::Null)]
            }
            5..=7 => {
                let grace = rng.pick(&["", "?gracePeriodSeconds=1", "?gracePeriodSeconds=0"], "");
                let pod = some(history, PODS, rng);
                let url = pod.map(|pod| format!("{}{grace}", url_of_pod(pod)));
                url.into_iter().map(|url| deed(Method::Delete, &url, &Value::Null)).collect()
            }
            8 => bind_again(history, rng),
            9 => drain(history, rng),
            10 => {
                let effect =
                    rng.pick(&["NoSchedule", "NoExecute", "PreferNoSchedule"], "NoExecute");
                let taints = json!([{"key": TAINT, "value": "x", "effect": effect}]);
                node_patch(history, rng, &json!({"spec": {"taints": taints}}))
            }
            _ => {
                take_back(history).into_iter().filter(|deed| deed.http.method == "PATCH").collect()
            }
        }
    }

    fn deployment(&self, name: &str, rng: &mut Rng) -> Value {
        let cpu = rng.pick(&["10m", "100m", "300m", "700m"], "10m");
        let cpu = if self.pods > 8 { "50m" } else { cpu };
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": rng.between(1, self.pods),
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {
                        "terminationGracePeriodSeconds": rng.pick(&[0, 2, 30], 2),
                        "containers": [{
                            "name": "one", "image": "docker.io/library/one",
                            "resources": {"requests": {"cpu": cpu, "memory": "8Mi"}},
                        }],
                    },
                },
            },
        })
    }
}

fn deed(method: Method, url: &str, body: &Value) -> Deed {
    Deed { http: request(&admin(), method, url, body), is_forbidden: false, insists: false }
}

/// Whether the answer is one that may be given.
fn judge(deed: &Deed, code: u16, body: &[u8]) -> Result<(), String> {
    let (method, path) = (&deed.http.method, &deed.http.path);
    let body = json(body);
    let message = text(&body, "/message");
    match code {
        200..=299 if deed.is_forbidden => {
            Err(format!("P2: {method} {path} of a pod that is bound was answered {code}"))
        }
        // Gone, there already, changed meanwhile; the server starts, is full or lost its store.
        200..=299 | 404 | 409 | 429 | 500 | 503 => Ok(()),
        code => Err(format!("chaos: {method} {path} was answered {code}: {message}")),
    }
}

/// One of what is there below this prefix.
fn some<'a>(history: &'a History, prefix: &'a str, rng: &mut Rng) -> Option<&'a Value> {
    let all: Vec<&Value> = history.now(prefix).map(|(_, _, value)| value).collect();
    let at = usize::try_from(rng.below(all.len() as u64)).unwrap_or(0);
    all.get(at).copied()
}

fn url_of_pod(pod: &Value) -> String {
    format!("/api/v1/namespaces/default/pods/{}", text(pod, "/metadata/name"))
}

fn node_patch(history: &History, rng: &mut Rng, body: &Value) -> Vec<Deed> {
    let node = some(history, NODES, rng).map(|node| text(node, "/metadata/name"));
    let url = node.map(|name| format!("/api/v1/nodes/{name}"));
    url.into_iter().map(|url| deed(Method::Strategic, &url, body)).collect()
}

/// A second scheduler that comes too late: binds a bound pod to some other node.
fn bind_again(history: &History, rng: &mut Rng) -> Vec<Deed> {
    let (Some(pod), Some(node)) = (some(history, PODS, rng), some(history, NODES, rng)) else {
        return Vec::new();
    };
    let node = text(node, "/metadata/name");
    let bound = text(pod, "/spec/nodeName");
    if bound.is_empty() || bound == node {
        return Vec::new();
    }
    let meta = json!({"name": text(pod, "/metadata/name"), "uid": text(pod, "/metadata/uid")});
    let body = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": meta,
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let url = format!("{}/binding", url_of_pod(pod));
    vec![Deed { is_forbidden: true, ..deed(Method::Post, &url, &body) }]
}

/// Cordons a node, then evicts its pods.
fn drain(history: &History, rng: &mut Rng) -> Vec<Deed> {
    let Some(node) = some(history, NODES, rng) else { return Vec::new() };
    let name = text(node, "/metadata/name");
    let pods = history.now(PODS).map(|(_, _, pod)| pod);
    let evict = |pod: &Value| {
        let meta = json!({"name": text(pod, "/metadata/name"), "namespace": "default"});
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta});
        deed(Method::Post, &format!("{}/eviction", url_of_pod(pod)), &body)
    };
    let mut deeds: Vec<Deed> =
        pods.filter(|pod| text(pod, "/spec/nodeName") == name).map(evict).collect();
    let body = json!({"spec": {"unschedulable": true}});
    deeds.push(deed(Method::Strategic, &format!("/api/v1/nodes/{name}"), &body));
    deeds
}

/// Everything that is still of its doing, undone.
fn take_back(history: &History) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for (_, _, node) in history.now(NODES) {
        let url = format!("/api/v1/nodes/{}", text(node, "/metadata/name"));
        let taints = node.pointer("/spec/taints").and_then(Value::as_array);
        // A list that is replaced whole: what the node lifecycle put there stays.
        let (ours, others): (Vec<&Value>, Vec<&Value>) =
            taints.into_iter().flatten().partition(|taint| text(taint, "/key") == TAINT);
        if !ours.is_empty() {
            deeds.push(deed(Method::Merge, &url, &json!({"spec": {"taints": others}})));
        }
        if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
            let body = json!({"spec": {"unschedulable": null}});
            deeds.push(deed(Method::Merge, &url, &body));
        }
    }
    let mut delete = |url: String| {
        let url = format!("{url}?propagationPolicy=Background");
        deeds.push(deed(Method::Delete, &url, &Value::Null));
    };
    for (_, _, deployment) in history.now(DEPLOYMENTS) {
        if text(deployment, "/metadata/deletionTimestamp").is_empty() {
            delete(format!("{APPS}/deployments/{}", text(deployment, "/metadata/name")));
        }
    }
    // What lost its owner by an orphaning deletion.
    for (_, _, set) in history.now("/registry/apps/replicasets/default/chaos") {
        if set.pointer("/metadata/ownerReferences").is_none()
            && text(set, "/metadata/deletionTimestamp").is_empty()
        {
            delete(format!("{APPS}/replicasets/{}", text(set, "/metadata/name")));
        }
    }
    for (_, _, pod) in history.now(&format!("{PODS}default/chaos")) {
        if pod.pointer("/metadata/ownerReferences").is_none()
            && text(pod, "/metadata/deletionTimestamp").is_empty()
        {
            delete(url_of_pod(pod));
        }
    }
    deeds.iter_mut().for_each(|deed| deed.insists = true);
    deeds
}
