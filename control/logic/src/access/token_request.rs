//! TokenRequest: a token of a service account, bound to what asks for it.

use alloc::{format, string::String, vec::Vec};

use coracle_api::{FieldErrors, Resource, Status, time};
use serde_json::{Value, json};

use super::Question;
use crate::{
    Rng,
    admission::{self, Attributes, Scene},
    authn::{
        ISSUER,
        service_account::{Bound, Claims, Named, user_name},
    },
    call::Verb,
    kinds::access::{at, child, int, items, or_set, set, text},
    limits,
};

const GROUP: &str = "authentication.k8s.io";

/// The request with its token in the status.
pub(super) fn answer(
    question: &Question<'_>,
    mut request: Value,
    rng: &mut Rng,
) -> Result<Value, Status> {
    let Question { cache, target, now, .. } = *question;
    place(question, &mut request)?;
    let spec = child(&mut request, "spec");
    if items(spec, &["audiences"]).is_empty() {
        set(spec, "audiences", json!([ISSUER]));
    }
    or_set(spec, "expirationSeconds", limits::TOKEN_SECONDS_DEFAULT);
    let seconds = check(&request)?;
    let account = cache
        .get(Resource::SERVICE_ACCOUNTS, &target.namespace, &target.name)
        .ok_or_else(|| Status::not_found("", "serviceaccounts", &target.name))?;
    admit(question, &mut request, rng)?;

    let issued = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    let seconds = seconds.min(limits::TOKEN_SECONDS_MAX);
    let mut bound = Bound {
        namespace: target.namespace.clone(),
        serviceaccount: Named { name: target.name.clone(), uid: account.meta.uid.clone() },
        ..Bound::default()
    };
    if let Some(reference) = at(&request, &["spec", "boundObjectRef"]) {
        bind(question, reference, &mut bound)?;
    }
    let claims = Claims {
        aud: items(&request, &["spec", "audiences"])
            .iter()
            .filter_map(|audience| audience.as_str().map(Into::into))
            .collect(),
        exp: issued.saturating_add(seconds),
        iat: issued,
        iss: ISSUER.into(),
        jti: number(rng),
        bound,
        nbf: issued,
        sub: user_name(&target.namespace, &target.name),
    };
    let text = serde_json::to_string(&claims).expect("claims have string keys only");
    let token = question
        .keys
        .sign_jwt(&text)
        .map_err(|error| Status::internal(&format!("cannot sign the token: {}", error.0)))?;
    let expires = u64::try_from(claims.exp).unwrap_or(0).saturating_mul(1000);
    set(child(&mut request, "spec"), "expirationSeconds", seconds);
    set(child(&mut request, "metadata"), "creationTimestamp", time::rfc3339(now.0));
    let status = json!({"token": token, "expirationTimestamp": time::rfc3339(expires)});
    set(&mut request, "status", status);
    Ok(request)
}

/// The request is about the account of the URL.
fn place(question: &Question<'_>, request: &mut Value) -> Result<(), Status> {
    let target = question.target;
    let metadata = child(request, "metadata");
    for (key, of_url) in [("name", &target.name), ("namespace", &target.namespace)] {
        let given = text(metadata, &[key]);
        if !given.is_empty() && given != of_url {
            return Err(Status::bad_request(format!(
                "the {key} of the object ({given}) does not match the {key} on the URL ({of_url})"
            )));
        }
        set(metadata, key, of_url.as_str());
    }
    Ok(())
}

/// 422 for times and audiences that cannot be; gives the seconds that are asked for.
fn check(request: &Value) -> Result<i64, Status> {
    let seconds = int(request, &["spec", "expirationSeconds"]).unwrap_or(0);
    let mut errors = FieldErrors::new();
    let at = "spec.expirationSeconds";
    if seconds < limits::TOKEN_SECONDS_MIN {
        errors.invalid(at, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(at, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    let audiences = items(request, &["spec", "audiences"]);
    if audiences.len() > limits::TOKEN_AUDIENCES_MAX {
        errors.too_many("spec.audiences", audiences.len(), limits::TOKEN_AUDIENCES_MAX);
    }
    for (index, audience) in audiences.iter().enumerate() {
        if audience.as_str().is_none_or(str::is_empty) {
            errors.required(&format!("spec.audiences[{index}]"), "");
        }
    }
    errors.into_result(GROUP, "TokenRequest", "")?;
    Ok(seconds)
}

/// NodeRestriction: nodes get tokens for their own pods only.
fn admit(question: &Question<'_>, request: &mut Value, rng: &mut Rng) -> Result<(), Status> {
    let target = question.target;
    let attributes = Attributes {
        user: question.user,
        verb: Verb::Create,
        resource: Resource::SERVICE_ACCOUNTS,
        subresource: "token",
        namespace: &target.namespace,
        name: &target.name,
        dry_run: false,
    };
    let mut scene = Scene {
        cache: question.cache,
        authorizer: question.authorizer,
        now: question.now,
        rng,
        warnings: &mut Vec::new(),
    };
    admission::admit_mutating(&attributes, None, request, &mut scene)?;
    admission::admit_validating(&attributes, None, request, &mut scene)
}

/// Fills in what the token is to live with.
fn bind(question: &Question<'_>, reference: &Value, bound: &mut Bound) -> Result<(), Status> {
    let of = |key| text(reference, &[key]);
    let (kind, name) = (of("kind"), of("name"));
    let (resource, namespace) = match (of("apiVersion"), kind) {
        ("v1", "Pod") => (Resource::PODS, bound.namespace.as_str()),
        ("v1", "Secret") => (Resource::SECRETS, bound.namespace.as_str()),
        ("v1", "Node") => (Resource::NODES, ""),
        (version, _) => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}: use a Pod, Secret or Node of v1"
            )));
        }
    };
    let def = resource.def();
    let object = question
        .cache
        .get(resource, namespace, name)
        .ok_or_else(|| Status::not_found(def.group, def.plural, name))?;
    let uid = of("uid");
    if !uid.is_empty() && uid != object.meta.uid {
        return Err(Status::conflict(
            def.group,
            def.plural,
            name,
            &format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            ),
        ));
    }
    let named = Named { name: name.into(), uid: object.meta.uid.clone() };
    match resource {
        Resource::PODS => {
            let pod = object.value();
            if text(&pod, &["spec", "serviceAccountName"]) != bound.serviceaccount.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    bound.serviceaccount.name
                )));
            }
            let node = text(&pod, &["spec", "nodeName"]);
            if !node.is_empty() {
                let uid = question.cache.get(Resource::NODES, "", node);
                let uid = uid.map(|node| node.meta.uid.clone()).unwrap_or_default();
                bound.node = Some(Named { name: node.into(), uid });
            }
            bound.pod = Some(named);
        }
        Resource::SECRETS => bound.secret = Some(named),
        _ => bound.node = Some(named),
    }
    Ok(())
}

/// A token's own number, as a uuid.
fn number(rng: &mut Rng) -> String {
    let (high, low) = (rng.next_u64(), rng.next_u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48 & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    )
}
