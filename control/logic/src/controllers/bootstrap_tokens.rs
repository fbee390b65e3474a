//! Bootstrap tokens that expired are removed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use coracle_api::{Resource, time, views::SecretView};

use super::{
    ask::{Ask, Name, Plan},
    queue::Queue,
    work::Reconcile,
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
};

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

/// The cleaner of bootstrap tokens.
#[derive(Debug, Default)]
pub(crate) struct BootstrapTokens;

impl Reconcile for BootstrapTokens {
    type Key = Name;
    const NAME: &'static str = "bootstrap-tokens";
    const USER: &'static str = "system:serviceaccount:kube-system:token-cleaner";
    const COMPONENT: &'static str = "token-cleaner";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<Name>) {
        if change.resource == Resource::SECRETS
            && let Some(new) = &change.new
            && new.meta.namespace == "kube-system"
            && new.meta.name.starts_with("bootstrap-token-")
        {
            queue.add(Name::of(&new.meta));
        }
    }

    fn look(&mut self, now: Millis, key: &Name, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let Some(object) = cache.get(Resource::SECRETS, &key.namespace, &key.name) else { return };
        let Ok(secret) = object.view::<SecretView>() else { return };
        let expiration = secret.data.get("expiration").and_then(|text| STANDARD.decode(text).ok());
        let Some(expiration) = expiration.filter(|_| secret.r#type == SECRET_TYPE) else { return };
        // What cannot be read is not taken for a token either: it may as well go.
        let at = core::str::from_utf8(&expiration).ok().and_then(time::parse_ms).unwrap_or(0);
        if at <= now.0 {
            plan.call(Ask::delete(object));
        } else {
            plan.wake(Millis(at));
        }
    }
}
