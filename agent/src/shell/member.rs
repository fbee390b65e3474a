//! A node as a member of the cluster, whatever runs its pods: the pod machine with its events and its timer, and all that
//! it says to the control plane and hears from it. What touches a machine is a [`Board`]'s: the agent's own
//! ([`super::Shell`]), or a fake one ([`super::fake`]).
//!
//! ```text
//! API server ── watch ──► Event ──► Agent::step ──► Action ──► Board::begin (machine, API) ──► Event
//! ```

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
};

use coracle_agent_logic::{
    Action, Agent, Event, Millis, Pod, PodUid, event::Tale, node::NodeFacts,
};
use coracle_rt::{Local, sleep};
use serde_json::{Value, json};
use smol::channel;

use super::{
    api::{Api, ApiError, Server},
    clock,
    events::Tales,
    join, limits,
    log::warning,
    node,
    state::StateDir,
    tls,
    watch::{self, Seen},
};

/// A future of the one thread.
pub(crate) type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What runs the pods of a member.
pub(crate) trait Board {
    /// The node that it is the machine of.
    fn member(&self) -> &Member;
    /// Begins an action; its answer comes back as an event.
    fn begin(self: Rc<Self>, action: Action);
    /// What the machine is like now. `peer` is the API server's address, if there is a connection.
    fn look(self: Rc<Self>, peer: Option<SocketAddr>) -> Task<'static, NodeFacts>;
    /// The control plane gave the node this range for its pods.
    fn range_learned(self: Rc<Self>, cidr: String) -> Task<'static, ()>;
}

/// See the module.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) server: Server,
    pub(crate) local: Local,
    pub(crate) agent: RefCell<Agent>,
    pub(crate) machine: RefCell<NodeFacts>,
    /// The stored Node says other than the agent: its status is to be sent again.
    pub(crate) contradicted: Cell<bool>,
    pub(crate) tales: Rc<Tales>,
    api: OnceCell<Api>,
    /// Dropped when the API is there.
    awaiting: RefCell<Vec<channel::Sender<()>>>,
    events: channel::Sender<Event>,
    wake: Cell<Option<Millis>>,
}

impl Member {
    /// A node without pods that has not joined, and the events that [`drive`] is to take.
    pub(crate) fn new(
        local: Local,
        server: Server,
        labels: BTreeMap<String, String>,
        facts: NodeFacts,
        agent: Agent,
    ) -> (Self, channel::Receiver<Event>) {
        let (events, incoming) = channel::bounded(limits::EVENTS_MAX);
        let member = Self {
            tales: Rc::new(Tales::new(&facts.name)),
            name: facts.name.clone(),
            labels,
            server,
            local,
            agent: RefCell::new(agent),
            machine: RefCell::new(facts),
            contradicted: Cell::new(false),
            api: OnceCell::new(),
            awaiting: RefCell::default(),
            events,
            wake: Cell::new(None),
        };
        (member, incoming)
    }

    pub(crate) fn pod(&self, uid: &PodUid) -> Option<Arc<Pod>> {
        self.agent.borrow().pod(uid).cloned()
    }

    pub(crate) async fn send(&self, event: Event) {
        // The receiver lives as long as the member.
        let _ = self.events.send(event).await;
    }

    /// Queues an event of the API about a pod.
    pub(crate) fn tell(&self, uid: &PodUid, tale: Tale) {
        if let Some(pod) = self.pod(uid) {
            self.tales.about_pod(&pod, tale);
        }
    }

    /// The pod machine is to have its `Timer` then.
    pub(crate) fn wake_at(&self, at: Millis) {
        self.wake.set(Some(at));
    }

    /// The API server, once the node has joined.
    pub(crate) async fn api(&self) -> Api {
        loop {
            if let Some(api) = self.api.get() {
                return api.clone();
            }
            let (send, receive) = channel::bounded(1);
            self.awaiting.borrow_mut().push(send);
            // Its end is the sign.
            let _ = receive.recv().await;
        }
    }

    /// Sends a pod's status.
    pub(crate) async fn patch_status(&self, uid: PodUid, version: u64, status: Value) {
        let Some(pod) = self.pod(&uid) else { return };
        let api = self.api().await;
        api.connected().await;
        let path = format!("{}/status", path(&pod));
        let patch = json!({"metadata": {"uid": uid.as_str()}, "status": status});
        let event = match api.merge(&path, &patch).await {
            Ok(_) => Event::StatusAcked(uid, version),
            // It is gone, or another of the name is there: the watch says so too.
            Err(ApiError::Refused(refusal)) if matches!(refusal.code, 404 | 409) => {
                Event::StatusAcked(uid, version)
            }
            // Sent again it would be refused again, and the pod's deletion would wait for it for ever.
            Err(ApiError::Refused(refusal)) if matches!(refusal.code, 400 | 413 | 422) => {
                warning!("status of pod {} was refused: {}", pod.full_name(), refusal.message);
                Event::StatusAcked(uid, version)
            }
            Err(error) => {
                warning!("status of pod {}: {error}; trying again", pod.full_name());
                Event::StatusFailed(uid)
            }
        };
        self.send(event).await;
    }

    /// Deletes a pod whose containers have ended.
    pub(crate) async fn delete(&self, uid: PodUid) {
        let Some(pod) = self.pod(&uid) else { return };
        let api = self.api().await;
        api.connected().await;
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid.as_str()},
        });
        let event = match api.delete(&path(&pod), &options).await {
            Ok(_) => Event::DeleteAcked(uid),
            Err(ApiError::Refused(refusal)) if matches!(refusal.code, 404 | 409) => {
                Event::DeleteAcked(uid)
            }
            Err(error) => {
                warning!("deletion of pod {}: {error}; trying again", pod.full_name());
                Event::DeleteFailed(uid)
            }
        };
        self.send(event).await;
    }

    async fn pod_seen(&self, mut item: Value) {
        // Half of a pod's JSON, and nothing to a node.
        if let Some(meta) = item.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("managedFields");
        }
        match Pod::parse(item.to_string().into_bytes().into()) {
            Ok(pod) => self.send(Event::PodChanged(Arc::new(pod))).await,
            Err(error) => warning!("a pod of this node cannot be read: {}; left alone", error.0),
        }
    }
}

/// Takes one event to its actions.
pub(crate) fn step(board: &Rc<dyn Board>, event: Event) {
    let mut actions = Vec::new();
    let member = board.member();
    member.agent.borrow_mut().step(clock::now(), event, &mut actions);
    member.wake.set(None);
    for action in actions {
        Rc::clone(board).begin(action);
    }
}

/// The loop: events, or the time that the machine asked for.
pub(crate) async fn drive(board: Rc<dyn Board>, incoming: channel::Receiver<Event>) {
    loop {
        let due = async {
            match board.member().wake.get() {
                Some(at) => sleep(clock::until(at)).await,
                None => smol::future::pending().await,
            }
            Some(Event::Timer)
        };
        let next = async { incoming.recv().await.ok() };
        match smol::future::or(next, due).await {
            Some(event) => step(&board, event),
            None => return,
        }
    }
}

/// Gets the node's identity, from disk or by the token, and dials the API server with it.
pub(crate) async fn join(
    board: &Rc<dyn Board>,
    state: &StateDir,
    token: Option<&str>,
) -> Result<Api, String> {
    let member = board.member();
    let node = &member.name;
    let joined = match join::kept(state, node) {
        Some(joined) => joined,
        None => join::join(&member.local, state, &member.server, node, token)
            .await
            .map_err(|error| error.to_string())?,
    };
    let tls =
        tls::client(&joined.ca_pem, Some(&joined.identity), &["h2"]).map_err(|error| error.0)?;
    let api = Api::dial(&member.local, member.server.clone(), tls, None);
    if member.api.set(api.clone()).is_err() {
        return Err("joined twice".into());
    }
    member.awaiting.borrow_mut().clear();
    let (board, state, renewing) = (Rc::clone(board), state.clone(), api.clone());
    member.local.spawn(async move {
        let ca_pem = joined.ca_pem;
        let node = &board.member().name;
        let renewed = |identity: &tls::Identity| match tls::client(&ca_pem, Some(identity), &["h2"])
        {
            Ok(tls) => renewing.renew(tls),
            Err(error) => warning!("cannot use the new certificate: {}", error.0),
        };
        join::keep_certified(&renewing, &state, node, joined.identity, renewed).await;
    });
    Ok(api)
}

/// Starts all that a member does for ever: its events, its Node with status and Lease, its pods.
pub(crate) fn attend(board: &Rc<dyn Board>, api: &Api) {
    let member = board.member();
    member.local.spawn(Rc::clone(&member.tales).send(api.clone()));
    member.local.spawn(node::keep_status(Rc::clone(board), api.clone()));
    member.local.spawn(node::follow(Rc::clone(board), api.clone()));
    member.local.spawn(node::keep_lease(Rc::clone(board), api.clone()));
    member.local.spawn(follow_pods(Rc::clone(board), api.clone()));
}

async fn follow_pods(board: Rc<dyn Board>, api: Api) {
    let member = board.member();
    let selector = watch::field_selector("spec.nodeName", &member.name);
    watch::follow(&api, "/api/v1/pods", &selector, async |seen| match seen {
        Seen::Listed(items) => {
            let mut uids = BTreeSet::new();
            for item in items {
                // A pod that cannot be read is still there: it must not be taken for deleted.
                uids.extend(uid_of(&item));
                member.pod_seen(item).await;
            }
            member.send(Event::Listed(uids)).await;
        }
        Seen::Changed(item) => member.pod_seen(item).await,
        Seen::Gone(item) => {
            if let Some(uid) = uid_of(&item) {
                member.send(Event::PodGone(uid)).await;
            }
        }
    })
    .await;
}

fn path(pod: &Pod) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.meta.namespace, pod.meta.name)
}

fn uid_of(item: &Value) -> Option<PodUid> {
    item.pointer("/metadata/uid").and_then(Value::as_str).and_then(PodUid::parse)
}
