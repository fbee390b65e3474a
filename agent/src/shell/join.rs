//! How a node gets its identity: trust in the CA by the join token's hash, a key of its own, a certificate by request,
//! and a new one before that runs out.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::Engine as _;
use coracle_keys::{CsrFacts, KeyError, files, join::JoinToken, pem, ring, x509};
use coracle_rt::{Local, sleep};
use serde_json::{Value, json};

use super::{
    api::{Api, ApiError, Server},
    chance::{jitter, random_u32},
    clock, limits,
    log::{info, warning},
    state::StateDir,
    tls::{self, Identity},
    watch,
};

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("{0}")]
    Key(KeyError),
    #[error(
        "this node has not joined yet: give --token or --token-file (DIR/join-token of the control plane)"
    )]
    NoToken,
    #[error("certificate request {name} was denied: {why}")]
    Denied { name: String, why: String },
    #[error(
        "the API server refuses the join token: {0}; make a new one with `coracle token create`"
    )]
    Refused(String),
    #[error("cannot reach the API server at {server}: {why}")]
    Unreachable { server: String, why: String },
}

impl From<KeyError> for JoinError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// What a joined node has.
#[derive(Clone)]
pub(crate) struct Joined {
    pub(crate) ca_pem: String,
    pub(crate) identity: Identity,
}

/// The identity on disk, if it is this node's and has not run out.
pub(crate) fn kept(state: &StateDir, node: &str) -> Option<Joined> {
    let ca_pem = fs::read_to_string(state.agent("ca.pem")).ok()?;
    let pem = fs::read_to_string(state.agent("identity.pem")).ok()?;
    let (from_s, to_s, name) = facts(&pem).ok()?;
    if name != format!("system:node:{node}") {
        warning!(
            "the certificate in the data directory is of {name}, not of this node; joining anew"
        );
        return None;
    }
    // A board without a battery may think it is 1970: only the end counts.
    if to_s <= clock::wall_s() {
        warning!("the node's certificate ran out; joining anew (valid from {from_s} to {to_s})");
        return None;
    }
    Some(Joined { ca_pem, identity: Identity { pem } })
}

/// Validity and name of the first certificate.
fn facts(pem_text: &str) -> Result<(i64, i64, String), KeyError> {
    let leaf = pem::decode_all("CERTIFICATE", pem_text)?;
    let leaf = leaf.first().ok_or_else(|| KeyError("no certificate".into()))?;
    let facts = x509::read_certificate(leaf)?;
    Ok((facts.not_before_s, facts.not_after_s, facts.common_name))
}

/// Joins: tries until it succeeds or is told that it never will.
pub(crate) async fn join(
    local: &Local,
    state: &StateDir,
    server: &Server,
    node: &str,
    token: Option<&str>,
) -> Result<Joined, JoinError> {
    let token = JoinToken::parse(token.ok_or(JoinError::NoToken)?)?;
    let mut delay = limits::RECONNECT.0;
    let ca_pem = loop {
        match pin(server, &token).await {
            Ok(ca_pem) => break ca_pem,
            Err(JoinError::Unreachable { server, why }) => {
                warning!("cannot reach the API server at {server}: {why}; trying again");
                sleep(jitter(delay)).await;
                delay = (delay * 2).min(limits::RECONNECT.1);
            }
            Err(error) => return Err(error),
        }
    };
    files::write_private(&state.agent("ca.pem"), ca_pem.as_bytes())?;
    let tls = tls::client(&ca_pem, None, &["h2"])?;
    let api = Api::dial(local, server.clone(), tls, Some(token.bearer()));
    let identity = certify(&api, state, node).await?;
    info!("joined as node {node}");
    Ok(Joined { ca_pem, identity })
}

/// Looks at the server's chain without trusting it, and takes from it the root that the token speaks of.
async fn pin(server: &Server, token: &JoinToken) -> Result<String, JoinError> {
    let chain = Arc::new(Mutex::new(Vec::new()));
    let looking = tls::looking(&chain)?;
    let outcome = server.connect(Arc::new(looking)).await;
    let chain = chain.lock().map(|chain| chain.clone()).unwrap_or_default();
    if chain.is_empty() {
        let why =
            outcome.err().map_or_else(|| "no certificate was shown".into(), |e| e.to_string());
        return Err(JoinError::Unreachable { server: server.authority(), why });
    }
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let root = ring::ca_in_chain(&chain, &token.ca_sha256)?;
    Ok(pem::encode("CERTIFICATE", root))
}

/// Asks for a certificate and waits for it. The key is kept until it has one, so that a crash in between costs nothing.
async fn certify(api: &Api, state: &StateDir, node: &str) -> Result<Identity, JoinError> {
    let key_path = state.agent("next.key");
    let key = match fs::read_to_string(&key_path) {
        Ok(key) => key,
        Err(_) => {
            let key = ring::new_key_pem()?;
            files::write_private(&key_path, key.as_bytes())?;
            key
        }
    };
    let wanted = CsrFacts {
        common_name: format!("system:node:{node}"),
        organizations: vec!["system:nodes".into()],
        ..CsrFacts::default()
    };
    let request = ring::request_pem(&wanted, &key)?;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let base64 = base64::engine::general_purpose::STANDARD;
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": format!("node-csr-{node}-{:08x}", random_u32())},
        "spec": {
            "request": base64.encode(request),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    });
    let mut delay = limits::RECONNECT.0;
    let name = loop {
        api.connected().await;
        match api.post(path, &body).await {
            Ok(made) => {
                let name = made.pointer("/metadata/name").and_then(Value::as_str);
                break name.unwrap_or_default().to_owned();
            }
            Err(ApiError::Refused(status)) if matches!(status.code, 401 | 403) => {
                return Err(JoinError::Refused(status.message));
            }
            // An answer that was lost: the request is there.
            Err(ApiError::Refused(status)) if status.code == 409 => {
                let name = body.pointer("/metadata/name").and_then(Value::as_str);
                break name.unwrap_or_default().to_owned();
            }
            Err(error) => {
                warning!("cannot ask for a certificate: {error}; trying again");
                sleep(jitter(delay)).await;
                delay = (delay * 2).min(limits::RECONNECT.1);
            }
        }
    };
    let chain = await_certificate(api, path, &name).await?;
    let identity = Identity { pem: format!("{chain}\n{key}") };
    files::write_private(&state.agent("identity.pem"), identity.pem.as_bytes())?;
    let _ = fs::remove_file(&key_path);
    Ok(identity)
}

async fn await_certificate(api: &Api, path: &str, name: &str) -> Result<String, JoinError> {
    let (send, receive) = smol::channel::bounded(1);
    let look = |object: &Value| {
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        for condition in conditions.into_iter().flatten() {
            let text =
                |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
            if matches!(text("type"), "Denied" | "Failed") {
                let why = format!("{} {}", text("reason"), text("message"));
                return Some(Err(JoinError::Denied { name: name.into(), why }));
            }
        }
        let encoded = object.pointer("/status/certificate").and_then(Value::as_str)?;
        let der = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
        String::from_utf8(der).ok().filter(|text| !text.is_empty()).map(Ok)
    };
    let selector = watch::field_selector("metadata.name", name);
    let following = watch::follow(api, path, &selector, async |seen| {
        let found = match &seen {
            watch::Seen::Listed(items) => items.iter().find_map(&look),
            watch::Seen::Changed(object) => look(object),
            watch::Seen::Gone(_) => None,
        };
        if let Some(found) = found {
            let _ = send.try_send(found);
        }
    });
    let found = async { receive.recv().await.ok() };
    let ended = async {
        following.await;
        None
    };
    smol::future::or(found, ended).await.unwrap_or_else(|| {
        Err(JoinError::Denied { name: name.into(), why: "nobody answered".into() })
    })
}

/// Seconds until `percent` of the certificate's life is over; `None`: it is, or it cannot be read.
fn until_renewal_s(pem: &str, percent: i64, now_s: i64) -> Option<u64> {
    let (from_s, to_s, _) = facts(pem).ok()?;
    let due_s = from_s + (to_s - from_s).max(0) / 100 * percent;
    u64::try_from(due_s - now_s).ok().filter(|wait_s| *wait_s > 0)
}

/// Renews the certificate for ever, each between 70 and 90 % of its life; `renewed` gets each new one.
pub(crate) async fn keep_certified(
    api: &Api,
    state: &StateDir,
    node: &str,
    mut identity: Identity,
    mut renewed: impl FnMut(&Identity),
) {
    loop {
        let (from, to) = limits::RENEW_PERCENT;
        let percent = i64::from(from + random_u32() % (to - from));
        // In steps: a board without a battery learns only after its start what year it is.
        while let Some(wait_s) = until_renewal_s(&identity.pem, percent, clock::wall_s()) {
            sleep(Duration::from_secs(wait_s).min(limits::CLOCK_EVERY)).await;
        }
        match certify(api, state, node).await {
            Ok(next) => {
                info!("the node's certificate was renewed");
                renewed(&next);
                identity = next;
            }
            Err(error) => {
                warning!("cannot renew the node's certificate: {error}; trying again in a minute");
                sleep(jitter(Duration::from_secs(60))).await;
            }
        }
    }
}
