//! What every cluster has: made at the first start, seen to at each start.

use alloc::{collections::VecDeque, string::String, sync::Arc, vec::Vec};

use coracle_api::{Object, Resource, Status};
use serde_json::{Value, json};

use super::{
    Config, ControlPlane,
    writes::{Origin, Work},
};
use crate::{
    Millis,
    admission::priority::system_classes,
    authz::MASTERS,
    bootstrap_policy::{self, Ensure},
    call::{Authenticated, Call, Options, ResourceTarget, User, Verb},
    kinds::access::{set, text},
    registry::Payload,
};

/// What is to be there, and how far that is. One stage begins when all of the one before has ended: a namespace must
/// be there before what lies in it.
#[derive(Debug)]
pub(super) struct Bootstrap {
    stages: VecDeque<Stage>,
    left: usize,
    /// What did not work: `/readyz` says it.
    failed: Option<String>,
}

#[derive(Copy, Clone, Debug)]
enum Stage {
    ClusterScoped,
    Namespaced,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { stages: [Stage::ClusterScoped, Stage::Namespaced].into(), left: 0, failed: None }
    }
}

impl Bootstrap {
    pub(super) fn is_done(&self) -> bool {
        self.stages.is_empty() && self.left == 0 && self.failed.is_none()
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
    pub(super) fn go_on_with_bootstrap(&mut self, now: Millis) {
        while self.bootstrap.left == 0 {
            let Some(stage) = self.bootstrap.stages.pop_front() else { return };
            self.begin_stage(now, stage);
        }
    }

    fn begin_stage(&mut self, now: Millis, stage: Stage) {
        let mut all: Vec<Ensure> = match stage {
            Stage::ClusterScoped => cluster_scoped().filter_map(|one| self.missing(one)).collect(),
            Stage::Namespaced => {
                [service(&self.config)].into_iter().filter_map(|one| self.missing(one)).collect()
            }
        };
        all.extend(bootstrap_policy::ensure(&self.cache).into_iter().filter(|one| {
            let (Ensure::Create(resource, _) | Ensure::Update(resource, _)) = one;
            resource.def().namespaced == matches!(stage, Stage::Namespaced)
        }));
        if matches!(stage, Stage::Namespaced) {
            all.extend(self.endpoints());
        }
        let user = Arc::new(User {
            name: "system:apiserver".into(),
            groups: [MASTERS.into(), crate::authn::AUTHENTICATED.into()].into(),
            ..User::default()
        });
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

    fn missing(&self, (resource, value): (Resource, Value)) -> Option<Ensure> {
        let namespace = text(&value, &["metadata", "namespace"]);
        let name = text(&value, &["metadata", "name"]);
        let missing = self.cache.get(resource, namespace, name).is_none();
        missing.then_some(Ensure::Create(resource, value))
    }

    /// The EndpointSlice of the `kubernetes` Service has the addresses of this start.
    fn endpoints(&self) -> Option<Ensure> {
        let resource = Resource::ENDPOINT_SLICES;
        let wanted = endpoint_slice(&self.config);
        let Some(stored) = self.cache.get(resource, "default", "kubernetes") else {
            return Some(Ensure::Create(resource, wanted));
        };
        let mut value = stored.value();
        let same = ["endpoints", "ports"].iter().all(|key| value.get(*key) == wanted.get(*key));
        if same {
            return None;
        }
        for key in ["endpoints", "ports"] {
            set(&mut value, key, wanted.get(key).cloned().unwrap_or_default());
        }
        Some(Ensure::Update(resource, value))
    }
}

/// Namespaces and priority classes.
fn cluster_scoped() -> impl Iterator<Item = (Resource, Value)> {
    let namespaces = ["default", "kube-system", "kube-public", "kube-node-lease"]
        .into_iter()
        .map(|name| (Resource::NAMESPACES, json!({ "metadata": { "name": name } })));
    namespaces.chain(system_classes().map(|class| (Resource::PRIORITY_CLASSES, class)))
}

/// The Service under which pods find the API.
fn service(config: &Config) -> (Resource, Value) {
    let ip = &config.kubernetes_service_ip;
    let service = json!({
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilyPolicy": "SingleStack",
            "ipFamilies": ["IPv4"],
            "sessionAffinity": "None",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": config.port }],
        },
    });
    (Resource::SERVICES, service)
}

/// Where that Service leads.
fn endpoint_slice(config: &Config) -> Value {
    let v4 = config.advertise_ips.iter().filter(|ip| !ip.contains(':'));
    json!({
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": "IPv4",
        "endpoints": v4
            .map(|ip| json!({ "addresses": [ip], "conditions": { "ready": true } }))
            .collect::<Vec<Value>>(),
        "ports": [{ "name": "https", "port": config.port, "protocol": "TCP" }],
    })
}
