//! Every namespace has a ServiceAccount `default`.

use alloc::{string::String, sync::Arc};

use coracle_api::{Object, Resource, Status};
use serde_json::json;

use super::{
    ControllerCall,
    ask::{Ask, Plan},
    queue::Queue,
    work::{self, Reconcile},
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
};

const DEFAULT: &str = "default";

/// The service account controller.
#[derive(Debug, Default)]
pub(crate) struct ServiceAccounts;

impl Reconcile for ServiceAccounts {
    /// Name of a namespace.
    type Key = String;
    const NAME: &'static str = "serviceaccount";
    const USER: &'static str = "system:serviceaccount:kube-system:service-account-controller";
    const COMPONENT: &'static str = "service-account-controller";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<String>) {
        if change.resource == Resource::NAMESPACES
            && let Some(new) = &change.new
        {
            queue.add(new.meta.name.clone());
        }
        if change.resource == Resource::SERVICE_ACCOUNTS
            && let (Some(old), None) = (&change.old, &change.new)
            && old.meta.name == DEFAULT
        {
            queue.add(old.meta.namespace.clone());
        }
    }

    fn look(&mut self, _now: Millis, key: &String, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let there = cache.get(Resource::SERVICE_ACCOUNTS, key, DEFAULT).is_some();
        if !there && is_active(cache, key) {
            let account = json!({"metadata": {"name": DEFAULT, "namespace": key}});
            plan.call(Ask::create(Resource::SERVICE_ACCOUNTS, key, account));
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

/// The namespace is there and is to stay.
pub(crate) fn is_active(cache: &Cache, namespace: &str) -> bool {
    let namespace = cache.get(Resource::NAMESPACES, "", namespace);
    namespace.is_some_and(|namespace| namespace.meta.deletion_timestamp.is_none())
}
