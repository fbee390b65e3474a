//! CertificateSigningRequests: nodes' are approved by themselves where RBAC lets their users ask, approved ones are
//! signed by the rules of their signer, old ones are cleaned up.

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use coracle_api::{
    Object, Resource, time,
    views::{CertificateSigningRequestSpec, CertificateSigningRequestView},
};
use coracle_keys::{CertRequest, CsrFacts, Keys, pem, x509};
use serde_json::{Value, json};

use super::{
    ask::{Ask, Plan},
    limits::{
        CERTIFICATE_BACKDATE_SECONDS, CERTIFICATE_SECONDS_MAX, CERTIFICATE_SECONDS_MIN,
        CERTIFICATE_UNSET_CLOCK_SECONDS, CLOCK_SET_SECONDS_MIN, REQUEST_DECIDED_MS,
        REQUEST_PENDING_MS,
    },
    queue::Queue,
    work::Reconcile,
};
use crate::{
    Millis, Rng,
    authz::{Asked, Authorizer},
    cache::{Cache, Change},
    call::User,
};

#[cfg(test)]
mod tests;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// Group and name prefix of nodes.
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// Approver, signer and cleaner of certificate requests.
pub(crate) struct Certificates {
    keys: Arc<dyn Keys>,
    /// Last second of the root certificate.
    root_not_after_s: i64,
}

impl Certificates {
    pub(crate) fn new(keys: Arc<dyn Keys>) -> Self {
        let der = pem::decode("CERTIFICATE", keys.root_ca_pem());
        let facts = der.and_then(|der| x509::read_certificate(&der));
        let root_not_after_s = facts.map_or(i64::MAX, |facts| facts.not_after_s);
        Self { keys, root_not_after_s }
    }
}

impl Reconcile for Certificates {
    /// Name of a request.
    type Key = String;
    const NAME: &'static str = "certificates";
    const USER: &'static str = "system:serviceaccount:kube-system:certificate-controller";
    const COMPONENT: &'static str = "certificate-controller";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<String>) {
        if change.resource == Resource::CERTIFICATE_SIGNING_REQUESTS
            && let Some(new) = &change.new
        {
            queue.add(new.meta.name.clone());
        }
    }

    fn look(&mut self, now: Millis, key: &String, cache: &Cache, rng: &mut Rng, plan: &mut Plan) {
        let Some(object) = cache.get(Resource::CERTIFICATE_SIGNING_REQUESTS, "", key) else {
            return;
        };
        let Ok(request) = object.view::<CertificateSigningRequestView>() else { return };
        match expiry(&request) {
            Some(at) if at <= now => return plan.call(Ask::delete(object)),
            Some(at) => plan.wake(at),
            None => {}
        }
        let has = |r#type: &str| request.status.conditions.iter().any(|c| c.r#type == r#type);
        if has("Denied") || has("Failed") || !request.status.certificate.is_empty() {
            return;
        }
        if has("Approved") {
            self.sign(now, object, &request.spec, rng, plan);
        } else {
            self.approve(now, object, &request.spec, cache, plan);
        }
    }
}

impl Certificates {
    /// The PEM text of the request and what it says.
    fn read(&self, spec: &CertificateSigningRequestSpec) -> Result<(String, CsrFacts), String> {
        let pem = STANDARD.decode(&spec.request).map_err(|error| error.to_string())?;
        let pem = String::from_utf8(pem).map_err(|error| error.to_string())?;
        let facts = self.keys.read_csr(&pem).map_err(|error| error.0)?;
        Ok((pem, facts))
    }

    /// Approves a node's request for a client certificate, if its user may have that done.
    fn approve(
        &self,
        now: Millis,
        object: &Object,
        spec: &CertificateSigningRequestSpec,
        cache: &Cache,
        plan: &mut Plan,
    ) {
        let Ok((_, facts)) = self.read(spec) else { return };
        if spec.signer_name != KUBELET_CLIENT
            || check(KUBELET_CLIENT, &facts, &spec.usages).is_err()
        {
            return;
        }
        let own = spec.username == facts.common_name;
        let ways = [
            (
                own,
                "selfnodeclient",
                "Auto approving self kubelet client certificate after SubjectAccessReview.",
            ),
            (
                true,
                "nodeclient",
                "Auto approving kubelet client certificate after SubjectAccessReview.",
            ),
        ];
        let way =
            ways.iter().find(|(fits, subresource, _)| *fits && may_ask(cache, spec, subresource));
        let Some((_, _, message)) = way else {
            // Rights may come later.
            plan.failed = true;
            return;
        };
        let condition = json!({
            "type": "Approved",
            "status": "True",
            "reason": "AutoApproved",
            "message": message,
            "lastUpdateTime": time::rfc3339(now.0),
            "lastTransitionTime": time::rfc3339(now.0),
        });
        plan.call(Ask::update(object, with_condition(object, condition)).on("approval"));
    }

    fn sign(
        &self,
        now: Millis,
        object: &Object,
        spec: &CertificateSigningRequestSpec,
        rng: &mut Rng,
        plan: &mut Plan,
    ) {
        if ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&spec.signer_name.as_str()) {
            return;
        }
        let issued = self.read(spec).and_then(|(csr_pem, facts)| {
            check(&spec.signer_name, &facts, &spec.usages)?;
            let now_s = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
            let asked = spec.expiration_seconds.map_or(CERTIFICATE_SECONDS_MAX, i64::from);
            let seconds = asked.clamp(CERTIFICATE_SECONDS_MIN, CERTIFICATE_SECONDS_MAX);
            let serial =
                (u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())).to_be_bytes();
            let request = CertRequest {
                csr_pem: &csr_pem,
                not_before_s: (now_s - CERTIFICATE_BACKDATE_SECONDS).max(0),
                not_after_s: until_s(now_s, seconds).min(self.root_not_after_s),
                client: spec.signer_name != KUBELET_SERVING,
                server: spec.signer_name == KUBELET_SERVING,
                serial,
            };
            self.keys.issue(&request).map_err(|error| error.0)
        });
        let value = match issued {
            Ok(chain) => {
                let mut value = object.value();
                if let Some(value) = value.as_object_mut() {
                    let status = value.entry("status").or_insert_with(|| json!({}));
                    if let Some(status) = status.as_object_mut() {
                        status.insert("certificate".into(), STANDARD.encode(chain).into());
                    }
                }
                value
            }
            Err(why) => with_condition(
                object,
                json!({
                    "type": "Failed",
                    "status": "True",
                    "reason": "SignerValidationFailure",
                    "message": why,
                    "lastUpdateTime": time::rfc3339(now.0),
                    "lastTransitionTime": time::rfc3339(now.0),
                }),
            ),
        };
        plan.call(Ask::update(object, value).on("status"));
    }
}

/// The request with one more condition.
fn with_condition(object: &Object, condition: Value) -> Value {
    let mut value = object.value();
    if let Some(fields) = value.as_object_mut() {
        let status = fields.entry("status").or_insert_with(|| json!({}));
        if let Some(status) = status.as_object_mut() {
            let conditions = status.entry("conditions").or_insert_with(|| json!([]));
            if let Some(conditions) = conditions.as_array_mut() {
                conditions.push(condition);
            }
        }
    }
    value
}

/// Whether the request keeps to its signer's rules.
///
/// # Errors
/// The rule that it breaks, in Kubernetes' words.
fn check(signer: &str, facts: &CsrFacts, usages: &[String]) -> Result<(), String> {
    let has = |usage: &str| usages.iter().any(|has| has == usage);
    let others = |allowed: &[&str]| usages.iter().any(|usage| !allowed.contains(&usage.as_str()));
    let no_names = facts.dns_names.is_empty() && facts.ip_addresses.is_empty();
    let node = || {
        if facts.organizations != [NODES] {
            return Err(format!("subject organization is not {NODES}"));
        }
        if !facts.common_name.starts_with(NODE_PREFIX) || facts.common_name == NODE_PREFIX {
            return Err(format!("subject common name does not begin with {NODE_PREFIX}"));
        }
        Ok(())
    };
    match signer {
        CLIENT => {
            if others(&["digital signature", "key encipherment", "client auth"])
                || !has("client auth")
            {
                return Err("usages did not match: only client auth, with digital signature and key encipherment, is allowed".into());
            }
        }
        KUBELET_CLIENT => {
            node()?;
            if facts.other_names {
                return Err("URI and e-mail subjectAltNames are not allowed".into());
            }
            if !no_names {
                return Err("DNS and IP subjectAltNames are not allowed".into());
            }
            if others(&["digital signature", "key encipherment", "client auth"])
                || !has("client auth")
                || !has("digital signature")
            {
                return Err(
                    "usages did not match [client auth digital signature key encipherment]".into(),
                );
            }
        }
        KUBELET_SERVING => {
            node()?;
            if facts.other_names {
                return Err("URI and e-mail subjectAltNames are not allowed".into());
            }
            if no_names {
                return Err("DNS or IP subjectAltName is required".into());
            }
            if others(&["digital signature", "key encipherment", "server auth"])
                || !has("server auth")
                || !has("digital signature")
            {
                return Err(
                    "usages did not match [digital signature key encipherment server auth]".into(),
                );
            }
        }
        other => return Err(format!("{other:?} is no signer of this cluster")),
    }
    Ok(())
}

/// Whether the request's user may have such requests approved. Asked rarely, so that the rules are gathered each time
/// instead of being kept a second time.
fn may_ask(cache: &Cache, spec: &CertificateSigningRequestSpec, subresource: &str) -> bool {
    let mut authorizer = Authorizer::default();
    for resource in [
        Resource::CLUSTER_ROLES,
        Resource::CLUSTER_ROLE_BINDINGS,
        Resource::ROLES,
        Resource::ROLE_BINDINGS,
    ] {
        for object in cache.list(resource, None) {
            let (revision, new) = (object.revision, Some(object.clone()));
            authorizer.changed(&Change { revision, resource, old: None, new });
        }
    }
    let user = User {
        name: spec.username.clone(),
        uid: spec.uid.clone(),
        groups: spec.groups.clone(),
        extra: spec.extra.iter().map(|(key, values)| (key.clone(), values.clone())).collect(),
    };
    let asked = Asked {
        verb: "create",
        group: "certificates.k8s.io",
        resource: "certificatesigningrequests",
        subresource,
        ..Asked::default()
    };
    authorizer.allows(&user, &asked, cache)
}

/// When the request is to be cleaned up: an hour after it was decided, a day after it was made.
fn expiry(request: &CertificateSigningRequestView) -> Option<Millis> {
    let parse = |text: &Option<String>| text.as_deref().and_then(time::parse_ms);
    let created = parse(&request.metadata.creation_timestamp);
    let decided: Vec<u64> = request
        .status
        .conditions
        .iter()
        .filter(|c| {
            matches!(c.r#type.as_str(), "Denied" | "Failed")
                || (c.r#type == "Approved" && !request.status.certificate.is_empty())
        })
        .filter_map(|c| parse(&c.last_update_time))
        .collect();
    match decided.into_iter().min() {
        Some(at) => Some(Millis(at + REQUEST_DECIDED_MS)),
        None => created.map(|at| Millis(at + REQUEST_PENDING_MS)),
    }
}

/// The end of a certificate that is to last `seconds`. A board without a clock of its own issues in 1970 what must still
/// hold once the time has come.
fn until_s(now_s: i64, seconds: i64) -> i64 {
    if now_s < CLOCK_SET_SECONDS_MIN {
        CLOCK_SET_SECONDS_MIN + CERTIFICATE_UNSET_CLOCK_SECONDS
    } else {
        now_s.saturating_add(seconds)
    }
}
