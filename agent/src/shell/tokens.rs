//! Service account tokens of pods: asked for by TokenRequest, bound to the pod, renewed at 80 % of their life.

use std::{cell::RefCell, collections::BTreeMap};

use coracle_agent_logic::{
    Pod, PodUid,
    volumes::{TokenWish, Tokens, token_wishes},
};
use serde_json::{Value, json};

use super::{api::Api, clock, limits};

/// Tokens in memory; never on a disk.
#[derive(Default)]
pub(crate) struct Mint {
    held: RefCell<BTreeMap<(PodUid, TokenWish), Held>>,
}

struct Held {
    token: String,
    /// Unix seconds.
    renew_s: i64,
}

impl Mint {
    /// The tokens that the pod's volumes need, and when the first of them is to be renewed (Unix seconds).
    ///
    /// # Errors
    /// The API server gives none; the text is for an event.
    pub(crate) async fn tokens(
        &self,
        api: &Api,
        pod: &Pod,
    ) -> Result<(Tokens, Option<i64>), String> {
        let mut tokens = Tokens::new();
        let mut first: Option<i64> = None;
        for wish in token_wishes(pod) {
            let key = (pod.uid.clone(), wish.clone());
            let fresh = {
                let held = self.held.borrow();
                let held = held.get(&key).filter(|held| clock::wall_s() < held.renew_s);
                held.map(|held| (held.token.clone(), held.renew_s))
            };
            let (token, renew_s) = match fresh {
                Some(fresh) => fresh,
                None => {
                    let (token, renew_s) = ask(api, pod, &wish).await?;
                    let held = Held { token: token.clone(), renew_s };
                    self.held.borrow_mut().insert(key, held);
                    (token, renew_s)
                }
            };
            tokens.insert(wish, token);
            first = Some(first.map_or(renew_s, |first| first.min(renew_s)));
        }
        Ok((tokens, first))
    }

    /// The pod is gone.
    pub(crate) fn release(&self, uid: &PodUid) {
        self.held.borrow_mut().retain(|(holder, _), _| holder != uid);
    }
}

async fn ask(api: &Api, pod: &Pod, wish: &TokenWish) -> Result<(String, i64), String> {
    let account = match pod.spec.service_account_name.as_str() {
        "" => "default",
        name => name,
    };
    let audiences: Vec<&str> = if wish.audience.is_empty() { vec![] } else { vec![&wish.audience] };
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": wish.expiration_seconds,
            "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.meta.name, "uid": pod.uid.as_str(),
            },
        },
    });
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", pod.meta.namespace);
    let asked_s = clock::wall_s();
    let answer = api
        .post(&path, &request)
        .await
        .map_err(|error| format!("failed to fetch token: {error} (service account {account})"))?;
    let token = answer.pointer("/status/token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err("failed to fetch token: the API server's answer has none".into());
    }
    // A span, not the moment of its end: the clocks of the two machines need not agree.
    let life_s = answer.pointer("/spec/expirationSeconds").and_then(Value::as_u64);
    let life_s = life_s.unwrap_or(wish.expiration_seconds).clamp(60, 24 * 3600);
    let renew_s = asked_s + i64::try_from(life_s * limits::TOKEN_RENEW_PERCENT / 100).unwrap_or(60);
    Ok((token.to_owned(), renew_s))
}
