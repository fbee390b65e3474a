//! Every namespace has a ConfigMap `kube-root-ca.crt`, with which pods verify the API server.

use alloc::{string::String, sync::Arc};

use coracle_api::{Object, Resource, Status, views::ConfigMapView};
use coracle_keys::Keys;
use serde_json::json;

use super::{
    ControllerCall,
    ask::{Ask, Plan},
    queue::Queue,
    service_accounts::is_active,
    work::{self, Reconcile},
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
};

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";

/// The publisher of the root certificate.
pub(crate) struct RootCa {
    keys: Arc<dyn Keys>,
}

impl RootCa {
    pub(crate) fn new(keys: Arc<dyn Keys>) -> Self {
        Self { keys }
    }
}

impl Reconcile for RootCa {
    /// Name of a namespace.
    type Key = String;
    const NAME: &'static str = "root-ca";
    const USER: &'static str = "system:serviceaccount:kube-system:root-ca-cert-publisher";
    const COMPONENT: &'static str = "root-ca-cert-publisher";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<String>) {
        if change.resource == Resource::NAMESPACES
            && let Some(new) = &change.new
        {
            queue.add(new.meta.name.clone());
        } else if change.resource == Resource::CONFIG_MAPS {
            let object = change.new.as_ref().or(change.old.as_ref());
            if let Some(object) = object.filter(|object| object.meta.name == NAME) {
                queue.add(object.meta.namespace.clone());
            }
        }
    }

    fn look(&mut self, _now: Millis, key: &String, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        if !is_active(cache, key) {
            return;
        }
        let pem = self.keys.root_ca_pem();
        let Some(object) = cache.get(Resource::CONFIG_MAPS, key, NAME) else {
            let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using \
                               internal endpoints such as the internal service IP or kubernetes.default.svc. \
                               No other usage is guaranteed across distributions of Kubernetes clusters.";
            let map = json!({
                "metadata": {
                    "name": NAME,
                    "namespace": key,
                    "annotations": {"kubernetes.io/description": description},
                },
                "data": {FILE: pem},
            });
            plan.call(Ask::create(Resource::CONFIG_MAPS, key, map));
            return;
        };
        let Ok(map) = object.view::<ConfigMapView>() else { return };
        if map.data.len() != 1 || map.data.get(FILE).map(String::as_str) != Some(pem) {
            let mut value = object.value();
            if let Some(fields) = value.as_object_mut() {
                fields.insert("data".into(), json!({FILE: pem}));
            }
            plan.call(Ask::update(object, value));
        }
    }

    fn answered(
        &mut self,
        _now: Millis,
        _key: &String,
        _call: &ControllerCall,
        result: Result<&Arc<Object>, &Status>,
    ) -> bool {
        work::is_made(result)
    }
}
