//! Requests in, users or 401 out.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use coracle_api::{Resource, time};
use coracle_keys::{Keys, fake::FakeKeys};
use serde_json::{Value, json};

use super::*;
use crate::fixture::{NOW, World, request};

fn account(name: &str, uid: &str) -> Value {
    json!({"kind": "ServiceAccount", "metadata": {"name": name, "namespace": "ns", "uid": uid}})
}

fn pod(uid: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "ns", "uid": uid}})
}

fn claims() -> Value {
    let now = NOW.0 / 1000;
    json!({
        "iss": ISSUER, "aud": [ISSUER], "sub": "system:serviceaccount:ns:sa",
        "exp": now + 3600, "iat": now, "nbf": now, "jti": "j",
        "kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "sa", "uid": "u1"}},
    })
}

/// `name [group, …]`, or `401 Unauthorized`.
fn who(
    world: &World,
    keys: &dyn Keys,
    url: &str,
    header: Option<&str>,
    peer: Option<&str>,
) -> String {
    let headers: Vec<(&str, &str)> = header.iter().map(|value| ("authorization", *value)).collect();
    let call = Call::parse(request("GET", url, &headers, peer)).expect("the path is good");
    match call.authenticate(&world.cache, keys, NOW) {
        Ok(call) => format!("{} [{}]", call.user().name, call.user().groups.join(", ")),
        Err(status) => format!("{} {}", status.code, status.message),
    }
}

const REFUSED: &str = "401 Unauthorized";

#[test]
fn strangers_see_health_and_version_only() {
    let world = World::default();
    let keys = FakeKeys::new(1);
    let stranger = "system:anonymous [system:unauthenticated]";
    for url in ["/healthz", "/livez", "/readyz", "/version", "/readyz/ping", "/healthz/"] {
        assert_eq!(who(&world, &keys, url, None, None), stranger, "{url}");
        // A bad token is refused where none would do.
        assert_eq!(who(&world, &keys, url, Some("Bearer x.y.z"), None), REFUSED, "{url}");
    }
    let mut closed: Vec<String> =
        ["/", "/api", "/apis", "/metrics", "/openapi/v2", "/healthzz", "/version/x"]
            .iter()
            .map(|path| String::from(*path))
            .collect();
    for route in coracle_api::served::all() {
        let front =
            if route.group.is_empty() { "/api".into() } else { format!("/apis/{}", route.group) };
        let inside = if route.namespaced { "namespaces/ns/" } else { "" };
        let below = if route.subresource().is_empty() { "" } else { "/" };
        closed.push(format!(
            "{front}/{}/{inside}{}/n{below}{}",
            route.version,
            route.plural(),
            route.subresource()
        ));
        closed.push(format!("{front}/{}/{inside}{}", route.version, route.plural()));
    }
    for url in &closed {
        assert_eq!(who(&world, &keys, url, None, None), REFUSED, "{url}");
    }
}

#[test]
fn certificates_name_users() {
    let world = World::default();
    let keys = FakeKeys::new(1);
    let check = |peer, want: &str| {
        assert_eq!(who(&world, &keys, "/api/v1/pods", None, Some(peer)), want, "{peer}");
    };
    check("jane/dev,ops", "jane [dev, ops, system:authenticated]");
    check("system:node:n/system:nodes", "system:node:n [system:nodes, system:authenticated]");
    check("/system:masters", REFUSED);
    check("eve/system:unauthenticated", "eve [system:authenticated]");
}

#[test]
fn headers_that_are_no_tokens_are_refused() {
    let world = World::default();
    let keys = FakeKeys::new(1);
    for header in [
        "",
        "Bearer",
        "Bearer ",
        "Basic dTpw",
        "bearer a.b",
        "Bearer a.b.c.d",
        "Bearer ..",
        "token",
    ] {
        assert_eq!(who(&world, &keys, "/api/v1/pods", Some(header), None), REFUSED, "{header:?}");
    }
}

#[test]
fn service_account_tokens_live_with_what_they_are_bound_to() {
    let keys = FakeKeys::new(1);
    let good = "system:serviceaccount:ns:sa \
                [system:serviceaccounts, system:serviceaccounts:ns, system:authenticated]";
    let check = |why: &str, objects: Vec<Value>, change: &dyn Fn(&mut Value), want: &str| {
        let mut claims = claims();
        change(&mut claims);
        let token = keys.sign_jwt(&claims.to_string()).expect("signs");
        let got = who(&World::of(objects), &keys, "/api", Some(&format!("Bearer {token}")), None);
        assert_eq!(got, want, "{why}");
    };
    let now = NOW.0 / 1000;
    let one = || Vec::from([account("sa", "u1")]);
    check("as issued", one(), &|_| (), good);
    check("one audience, no list", one(), &|c| c["aud"] = ISSUER.into(), good);
    check("several audiences", one(), &|c| c["aud"] = json!(["x", ISSUER]), good);
    check("another audience", one(), &|c| c["aud"] = json!(["vault"]), REFUSED);
    check("no audience", one(), &|c| c["aud"] = json!([]), REFUSED);
    check("another issuer", one(), &|c| c["iss"] = "https://elsewhere".into(), REFUSED);
    check("expired", one(), &|c| c["exp"] = now.into(), REFUSED);
    check("not yet good", one(), &|c| c["nbf"] = (now + 1).into(), REFUSED);
    check(
        "another subject",
        one(),
        &|c| c["sub"] = "system:serviceaccount:ns:admin".into(),
        REFUSED,
    );
    check("the account is deleted", Vec::new(), &|_| (), REFUSED);
    check("the account is another one now", Vec::from([account("sa", "u2")]), &|_| (), REFUSED);
    check("no uid", one(), &|c| c["kubernetes.io"]["serviceaccount"]["uid"] = "".into(), REFUSED);
    check("no claims of ours", one(), &|c| c["kubernetes.io"] = json!({}), REFUSED);

    let bind = |c: &mut Value| c["kubernetes.io"]["pod"] = json!({"name": "p", "uid": "p1"});
    check("its pod runs", Vec::from([account("sa", "u1"), pod("p1")]), &bind, good);
    check("its pod is gone", one(), &bind, REFUSED);
    check(
        "its pod is another one now",
        Vec::from([account("sa", "u1"), pod("p2")]),
        &bind,
        REFUSED,
    );
    let deleted = |seconds_ago: u64| {
        let mut pod = pod("p1");
        pod["metadata"]["deletionTimestamp"] = time::rfc3339(NOW.0 - seconds_ago * 1000).into();
        Vec::from([account("sa", "u1"), pod])
    };
    check("its pod is ending", deleted(30), &bind, good);
    check("its pod ended long ago", deleted(61), &bind, REFUSED);

    let node = json!({"kind": "Node", "metadata": {"name": "n", "uid": "n1"}});
    let on = |c: &mut Value| c["kubernetes.io"]["node"] = json!({"name": "n", "uid": "n1"});
    check("its node is there", Vec::from([account("sa", "u1"), node]), &on, good);
    check("its node is gone", one(), &on, REFUSED);
    let secret = |c: &mut Value| c["kubernetes.io"]["secret"] = json!({"name": "s", "uid": "s1"});
    check("its secret is gone", one(), &secret, REFUSED);
}

#[test]
fn forged_tokens_are_refused() {
    let world = World::of([account("sa", "u1")]);
    let keys = FakeKeys::new(1);
    let token = keys.sign_jwt(&claims().to_string()).expect("signs");
    let check = |token: &str| {
        let header = format!("Bearer {token}");
        assert_eq!(who(&world, &keys, "/api", Some(&header), None), REFUSED, "{token}");
    };
    check(&FakeKeys::new(2).sign_jwt(&claims().to_string()).expect("signs"));
    let parts: Vec<&str> = token.split('.').collect();
    check(&format!("{}.{}.", parts[0], parts[1]));
    check(&format!("{}.{}.{}", parts[0], parts[0], parts[2]));
    check(&token[..token.len() - 2]);
    check(&format!("{}x.{}", "a".repeat(limits_len()), &token));
}

fn limits_len() -> usize {
    crate::limits::TOKEN_BYTES_MAX
}

fn bootstrap_secret(change: &dyn Fn(&mut Value)) -> World {
    let mut fields = json!({
        "token-id": "abcdef", "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "expiration": "2026-01-01T01:00:00Z",
        "auth-extra-groups": "system:bootstrappers:worker",
    });
    change(&mut fields);
    let kind = fields.as_object_mut().and_then(|f| f.remove("type"));
    let data: serde_json::Map<String, Value> = fields
        .as_object()
        .expect("an object")
        .iter()
        .map(|(key, value)| (key.clone(), STANDARD.encode(value.as_str().expect("text")).into()))
        .collect();
    World::of([json!({
        "kind": "Secret", "type": kind.unwrap_or("bootstrap.kubernetes.io/token".into()),
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}, "data": data,
    })])
}

#[test]
fn bootstrap_tokens_are_good_while_their_secret_says_so() {
    let keys = FakeKeys::new(1);
    let good = "system:bootstrap:abcdef \
                [system:bootstrappers, system:bootstrappers:worker, system:authenticated]";
    let plain = "system:bootstrap:abcdef [system:bootstrappers, system:authenticated]";
    let check = |why: &str, change: &dyn Fn(&mut Value), token: &str, want: &str| {
        let header = format!("Bearer {token}");
        let got = who(&bootstrap_secret(change), &keys, "/api", Some(&header), None);
        assert_eq!(got, want, "{why}");
    };
    let token = "abcdef.0123456789abcdef";
    let set = |key: &'static str, value: &'static str| move |f: &mut Value| f[key] = value.into();
    check("as made", &|_| (), token, good);
    check("another secret", &|_| (), "abcdef.0123456789abcdeg", REFUSED);
    check("another id", &|_| (), "abcdeg.0123456789abcdef", REFUSED);
    check("a short secret", &|_| (), "abcdef.0123456789abcde", REFUSED);
    check("an empty secret stored", &set("token-secret", ""), token, REFUSED);
    check("expired", &set("expiration", "2026-01-01T00:00:00Z"), token, REFUSED);
    check("an unreadable expiration", &set("expiration", "never"), token, REFUSED);
    check(
        "not for authentication",
        &set("usage-bootstrap-authentication", "false"),
        token,
        REFUSED,
    );
    check("another type", &set("type", "Opaque"), token, REFUSED);
    check("the wrong id inside", &set("token-id", "abcdeg"), token, REFUSED);
    check("a group of another's", &set("auth-extra-groups", "system:masters"), token, plain);
    check(
        "one good group of two",
        &set("auth-extra-groups", "system:bootstrappers:worker, system:nodes"),
        token,
        good,
    );
    let mut world = bootstrap_secret(&|_| ());
    world.take(Resource::SECRETS, "kube-system", "bootstrap-token-abcdef");
    assert_eq!(who(&world, &keys, "/api", Some(&format!("Bearer {token}")), None), REFUSED);
}
