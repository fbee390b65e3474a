//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may say yes to which signer, and no
//! certificate of ours makes a master.

use alloc::format;

use base64::{Engine, engine::general_purpose::STANDARD};
use coracle_api::{Resource, Status};
use coracle_keys::{pem, x509};
use serde_json::Value;

use super::{Attributes, Scene, forbidden};
use crate::{
    authz::{Asked, MASTERS},
    call::Verb,
    kinds::access::{at, same, text},
};

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// 403 for an approval or a certificate by whom the signer has not let, and for a client certificate of a master.
pub(super) fn validate(
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    if attributes.resource != Resource::CERTIFICATE_SIGNING_REQUESTS {
        return Ok(());
    }
    match (attributes.verb, attributes.subresource, old) {
        (Verb::Create, "", _) => no_master(attributes, new),
        (Verb::Update | Verb::Patch, "approval", Some(old)) => {
            may(attributes, old, "approve", scene)
        }
        (Verb::Update | Verb::Patch, "status", Some(old)) => {
            let path = &["status", "certificate"];
            let failed = |csr: &Value| {
                crate::kinds::access::items(csr, &["status", "conditions"])
                    .iter()
                    .any(|condition| text(condition, &["type"]) == "Failed")
            };
            if same(at(old, path), at(new, path)) && failed(old) == failed(new) {
                return Ok(());
            }
            may(attributes, old, "sign", scene)
        }
        _ => Ok(()),
    }
}

fn may(
    attributes: &Attributes<'_>,
    csr: &Value,
    verb: &'static str,
    scene: &Scene<'_>,
) -> Result<(), Status> {
    let signer = text(csr, &["spec", "signerName"]);
    let all_of_domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    let allowed = [signer, &all_of_domain].iter().any(|name| {
        let asked = Asked {
            verb,
            group: "certificates.k8s.io",
            resource: "signers",
            name,
            ..Asked::default()
        };
        scene.authorizer.allows(attributes.user, &asked, scene.cache)
    });
    if allowed {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(forbidden(attributes, csr, &why))
}

fn no_master(attributes: &Attributes<'_>, csr: &Value) -> Result<(), Status> {
    if text(csr, &["spec", "signerName"]) != CLIENT_SIGNER {
        return Ok(());
    }
    let groups = organizations(csr).ok_or_else(|| {
        forbidden(attributes, csr, "failed to parse CSR: spec.request is no certificate request")
    })?;
    if !groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
    Err(forbidden(attributes, csr, &why))
}

/// The groups that the request asks for; `None`: it cannot be read.
fn organizations(csr: &Value) -> Option<alloc::vec::Vec<alloc::string::String>> {
    let request = STANDARD.decode(text(csr, &["spec", "request"])).ok()?;
    let request = core::str::from_utf8(&request).ok()?;
    let der = pem::decode("CERTIFICATE REQUEST", request).ok()?;
    let request = x509::read_request(&der).ok()?;
    Some(request.facts.organizations)
}
