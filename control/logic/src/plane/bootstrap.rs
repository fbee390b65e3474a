//! What every cluster has: made at the first start, seen to at each start.

use alloc::{string::String, sync::Arc, vec::Vec};

use coracle_api::{Object, Resource, Status};
use serde_json::{Value, json};

use super::{
    Config, ControlPlane,
    writes::{Origin, Work},
};
use crate::{
    Millis,
    authz::MASTERS,
    bootstrap_policy::{self, Ensure},
    call::{Authenticated, Call, Options, ResourceTarget, User, Verb},
    kinds::access::text,
    registry::Payload,
};

/// What is to be there, and how far that is.
#[derive(Debug)]
pub(super) struct Bootstrap {
    wanted: Vec<(Resource, Value)>,
    begun: bool,
    left: usize,
    /// What did not work: `/readyz` says it.
    failed: Option<String>,
}

impl Bootstrap {
    pub(super) fn new(config: &Config) -> Self {
        Self { wanted: wanted(config), begun: false, left: 0, failed: None }
    }

    pub(super) fn is_done(&self) -> bool {
        self.begun && self.left == 0 && self.failed.is_none()
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    pub(super) fn ended(&mut self, result: Result<&Arc<Object>, &Status>) {
        self.left = self.left.saturating_sub(1);
        match result {
            Err(status) if status.code != 409 => self.failed = Some(status.message.clone()),
            _ => {}
        }
    }
}

impl ControlPlane {
    /// Asks for what is not there yet, through the front door as everyone.
    pub(super) fn begin_bootstrap(&mut self, now: Millis) {
        if core::mem::replace(&mut self.bootstrap.begun, true) {
            return;
        }
        let wanted = core::mem::take(&mut self.bootstrap.wanted);
        let user = Arc::new(User {
            name: "system:apiserver".into(),
            groups: [MASTERS.into(), crate::authn::AUTHENTICATED.into()].into(),
            ..User::default()
        });
        let ours = wanted
            .into_iter()
            .filter(|(resource, value)| {
                let namespace = text(value, &["metadata", "namespace"]);
                let name = text(value, &["metadata", "name"]);
                self.cache.get(*resource, namespace, name).is_none()
            })
            .map(|(resource, value)| Ensure::Create(resource, value));
        let all: Vec<Ensure> = ours.chain(bootstrap_policy::ensure(&self.cache)).collect();
        self.bootstrap.left = all.len();
        for one in all {
            let (verb, resource, value) = match one {
                Ensure::Create(resource, value) => (Verb::Create, resource, value),
                Ensure::Update(resource, value) => (Verb::Update, resource, value),
            };
            let namespace = text(&value, &["metadata", "namespace"]);
            let name = if verb == Verb::Create { "" } else { text(&value, &["metadata", "name"]) };
            let target = ResourceTarget::hub(resource, namespace, name, "");
            let options = Options { field_manager: "kube-apiserver".into(), ..Options::default() };
            let call = Call::<Authenticated>::of_controller(user.clone(), verb, target, options);
            match call.authorize(&self.authorizer, &self.cache) {
                Ok(call) => {
                    let payload = Payload::Object(value);
                    let origin = Origin::Bootstrap;
                    self.evaluate(now, Work { call, payload, origin, tries: 0 });
                }
                Err(status) => self.bootstrap.ended(Err(&status)),
            }
        }
    }
}

fn wanted(config: &Config) -> Vec<(Resource, Value)> {
    let mut wanted = Vec::new();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        wanted.push((Resource::NAMESPACES, json!({ "metadata": { "name": name } })));
    }
    for (name, value, description) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        let class = json!({
            "metadata": { "name": name },
            "value": value,
            "description": description,
        });
        wanted.push((Resource::PRIORITY_CLASSES, class));
    }
    wanted.push((
        Resource::SERVICES,
        json!({
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": { "component": "apiserver", "provider": "kubernetes" },
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": config.kubernetes_service_ip,
                "clusterIPs": [config.kubernetes_service_ip],
                "ipFamilyPolicy": "SingleStack",
                "ipFamilies": ["IPv4"],
                "sessionAffinity": "None",
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": config.port }],
            },
        }),
    ));
    wanted
}
