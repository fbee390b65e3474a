//! Reviews in, verdicts out; token requests in, tokens that authenticate out.

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
};

use coracle_keys::fake::FakeKeys;
use serde_json::{Value, json};

use super::*;
use crate::{
    bootstrap_policy,
    call::{Call, Target},
    fixture::{NOW, World, node, request, user},
};

/// The answer to a POST of this body, or `CODE message`.
fn ask(world: &World, who: &User, url: &str, body: Value) -> Result<Value, String> {
    let call = Call::parse(request("POST", url, &[], None)).expect("the path is good");
    let Target::Resource(target) = &call.target else { panic!("{url} is no resource") };
    let question = Question {
        user: who,
        target,
        cache: &world.cache,
        authorizer: &world.authorizer,
        keys: &FakeKeys::new(1),
        now: NOW,
    };
    answer(&question, body, &mut Rng(1))
        .map_err(|status| format!("{} {}", status.code, status.message))
}

fn world() -> World {
    let mut world = World::of(bootstrap_policy::objects().map(|(_, object)| object));
    world.put(json!({"kind": "Namespace", "metadata": {"name": "ns"}}));
    world.put(json!({
        "kind": "RoleBinding", "metadata": {"name": "b", "namespace": "ns"},
        "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "sa", "namespace": "ns"}],
    }));
    let account = |name: &str| json!({"kind": "ServiceAccount", "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}});
    world.put(account("sa"));
    world.put(account("other"));
    world.put(json!({"kind": "Node", "metadata": {"name": "n1", "uid": "uid-n1"}}));
    world.put(json!({
        "kind": "Pod", "metadata": {"name": "p", "namespace": "ns", "uid": "uid-p"},
        "spec": {"nodeName": "n1", "serviceAccountName": "sa"},
    }));
    world
}

const SELF: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const SUBJECT: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const LOCAL: &str = "/apis/authorization.k8s.io/v1/namespaces/ns/localsubjectaccessreviews";
const TOKEN: &str = "/api/v1/namespaces/ns/serviceaccounts/sa/token";
const REVIEW: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

#[test]
fn access_reviews_say_who_may_what_and_why() {
    let world = world();
    let jane = user("jane", &["system:authenticated"]);
    let check = |who: &User, url, spec: Value, want: (bool, &str)| {
        let got = ask(&world, who, url, json!({"spec": spec})).expect("answered");
        let status = &got["status"];
        assert_eq!(
            (status["allowed"].as_bool(), text(status, &["reason"])),
            (Some(want.0), want.1),
            "{got}"
        );
        assert_eq!(got["spec"], spec);
    };
    let on = |verb: &str, resource: &str, namespace: &str| json!({"resourceAttributes": {"verb": verb, "resource": resource, "namespace": namespace}});
    let why = "RBAC: allowed by RoleBinding \"b/ns\" of ClusterRole \"view\" to User \"jane\"";
    check(&jane, SELF, on("get", "pods", "ns"), (true, why));
    check(&jane, SELF, on("get", "pods", "other"), (false, ""));
    check(&jane, SELF, on("create", "pods", "ns"), (false, ""));
    check(&jane, SELF, on("*", "*", ""), (false, ""));
    check(
        &jane,
        SELF,
        json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}}),
        (
            true,
            "RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to Group \
             \"system:authenticated\"",
        ),
    );
    check(
        &jane,
        SELF,
        json!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}),
        (false, ""),
    );
    let root = user("root", &["system:masters"]);
    check(&root, SELF, on("*", "*", ""), (true, ""));
    let of = |mut spec: Value, user: &str, groups: Value| {
        spec["user"] = user.into();
        spec["groups"] = groups;
        spec
    };
    let sa = "system:serviceaccount:ns:sa";
    let why_sa =
        "RBAC: allowed by RoleBinding \"b/ns\" of ClusterRole \"view\" to ServiceAccount \"sa/ns\"";
    check(&root, SUBJECT, of(on("get", "pods", "ns"), sa, json!([])), (true, why_sa));
    check(&root, SUBJECT, of(on("get", "secrets", "ns"), sa, json!([])), (false, ""));
    check(
        &root,
        SUBJECT,
        of(on("get", "secrets", "ns"), "", json!(["system:masters"])),
        (true, ""),
    );
    check(&root, LOCAL, of(on("get", "pods", "ns"), "jane", json!([])), (true, why));
    let mut mine = on("list", "pods", "");
    mine["resourceAttributes"]["fieldSelector"] =
        json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]});
    check(&node("n1"), SELF, mine, (true, ""));
}

#[test]
fn reviews_that_make_no_sense_are_refused() {
    let world = world();
    let root = user("root", &["system:masters"]);
    let check = |url, spec: Value, want: &str| {
        assert_eq!(ask(&world, &root, url, json!({"spec": spec})).expect_err("refused"), want);
    };
    let pods = json!({"verb": "get", "resource": "pods", "namespace": "x"});
    check(
        SUBJECT,
        json!({"resourceAttributes": pods}),
        "422 SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one \
         of user or group must be specified",
    );
    check(
        LOCAL,
        json!({"resourceAttributes": pods, "user": "jane"}),
        "400 spec.resourceAttributes.namespace must match namespace: ns",
    );
    check(
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        json!({}),
        "400 no namespace on request",
    );
    check(REVIEW, json!({}), "400 token is required for TokenReview in authentication");
    let neither = ask(&world, &root, SELF, json!({"spec": {}})).expect_err("refused");
    assert!(
        neither.contains("exactly one of nonResourceAttributes or resourceAttributes"),
        "{neither}"
    );
    let both = json!({"resourceAttributes": pods, "nonResourceAttributes": {"path": "/"}});
    let both = ask(&world, &root, SELF, json!({"spec": both})).expect_err("refused");
    assert!(both.contains("cannot be specified in combination"), "{both}");
}

#[test]
fn everyone_can_ask_who_they_are_and_what_they_may() {
    let world = world();
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let spec = json!({"spec": {"namespace": "ns"}});
    let root = user("root", &["system:masters"]);
    let got = ask(&world, &root, rules, spec.clone()).expect("answered");
    assert_eq!(
        got["status"]["resourceRules"][0],
        json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
    );
    assert_eq!(
        got["status"]["nonResourceRules"][0],
        json!({"verbs": ["*"], "nonResourceURLs": ["*"]})
    );
    let got = ask(&world, &node("n1"), rules, spec).expect("answered");
    assert_eq!(got["status"]["incomplete"], true);

    let mut jane = user("jane", &["dev"]);
    jane.extra.push(("k".into(), ["v".into()].into()));
    let got = ask(&world, &jane, "/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({}));
    assert_eq!(
        got.expect("answered")["status"],
        json!({"userInfo": {"username": "jane", "groups": ["dev"], "extra": {"k": ["v"]}}})
    );
}

/// Who a token says its bearer is.
fn who(world: &World, token: &str, now: Millis) -> String {
    let headers = [("authorization", format!("Bearer {token}"))];
    let headers: alloc::vec::Vec<(&str, &str)> =
        headers.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let call = Call::parse(request("GET", "/api", &headers, None)).expect("parses");
    match call.authenticate(&world.cache, &FakeKeys::new(1), now) {
        Ok(call) => {
            let user: &Arc<User> = call.user();
            let extra: alloc::vec::Vec<String> = user
                .extra
                .iter()
                .filter(|(key, _)| !key.ends_with("credential-id"))
                .map(|(key, values)| {
                    format!("{}={}", key.rsplit('/').next().unwrap_or(""), values.join(","))
                })
                .collect();
            format!("{} {} {}", user.name, user.uid, extra.join(" "))
        }
        Err(status) => status.code.to_string(),
    }
}

#[test]
fn a_requested_token_authenticates_until_its_time_or_pod_ends() {
    let mut world = world();
    let root = user("root", &["system:masters"]);
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p"});
    let got = ask(
        &world,
        &root,
        TOKEN,
        json!({"spec": {"boundObjectRef": bound, "expirationSeconds": 601}}),
    )
    .expect("answered");
    assert_eq!(got["status"]["expirationTimestamp"], "2026-01-01T00:10:01Z");
    assert_eq!(got["spec"]["audiences"], json!([ISSUER]));
    assert_eq!(got["metadata"]["name"], "sa");
    let token = got["status"]["token"].as_str().expect("a token");
    let good =
        "system:serviceaccount:ns:sa uid-sa node-name=n1 node-uid=uid-n1 pod-name=p pod-uid=uid-p";
    assert_eq!(who(&world, token, NOW), good);
    assert_eq!(who(&world, token, Millis(NOW.0 + 600_999)), good);
    assert_eq!(who(&world, token, Millis(NOW.0 + 601_000)), "401");
    assert_eq!(who(&world, token, Millis(NOW.0 - 1000)), "401");

    let reviewed = |audiences: Value| {
        let spec = json!({"spec": {"token": token, "audiences": audiences}});
        ask(&world, &root, REVIEW, spec).expect("answered")["status"].clone()
    };
    let status = reviewed(Value::Null);
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:ns:sa");
    assert_eq!(status["audiences"], json!([ISSUER]));
    assert_eq!(reviewed(json!(["vault"])), json!({"user": {}, "error": "invalid bearer token"}));

    world.take(coracle_api::Resource::PODS, "ns", "p");
    assert_eq!(who(&world, token, NOW), "401");
}

#[test]
fn a_token_for_others_is_none_for_us() {
    let mut world = world();
    let root = user("root", &["system:masters"]);
    let got = ask(
        &world,
        &root,
        TOKEN,
        json!({"spec": {"audiences": ["vault"], "expirationSeconds": 1_i64 << 31}}),
    )
    .expect("answered");
    assert_eq!(got["status"]["expirationTimestamp"], "2026-01-31T00:00:00Z");
    let token = got["status"]["token"].as_str().expect("a token");
    assert_eq!(who(&world, token, NOW), "401");
    let spec = json!({"spec": {"token": token, "audiences": ["vault", "x"]}});
    let status = ask(&world, &root, REVIEW, spec.clone()).expect("answered")["status"].clone();
    assert_eq!(status["audiences"], json!(["vault"]));
    world.take(coracle_api::Resource::SERVICE_ACCOUNTS, "ns", "sa");
    let status = ask(&world, &root, REVIEW, spec).expect("answered")["status"].clone();
    assert_eq!(status["error"], "invalid bearer token");
}

#[test]
fn token_requests_are_checked() {
    let world = world();
    let root = user("root", &["system:masters"]);
    let check = |who: &User, url: &str, spec: Value, want: &str| {
        assert_eq!(ask(&world, who, url, json!({"spec": spec})).expect_err("refused"), want);
    };
    check(
        &root,
        "/api/v1/namespaces/ns/serviceaccounts/none/token",
        json!({}),
        "404 serviceaccounts \"none\" not found",
    );
    check(
        &root,
        TOKEN,
        json!({"expirationSeconds": 599}),
        "422 TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not \
         specify a duration less than 10 minutes",
    );
    let to = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}});
    check(&root, TOKEN, to("Pod", "none", ""), "404 pods \"none\" not found");
    check(
        &root,
        TOKEN,
        to("Pod", "p", "old"),
        "409 Operation cannot be fulfilled on pods \"p\": the UID in the bound object reference (old) does not match \
         the UID in record. The object might have been deleted and then recreated",
    );
    check(
        &root,
        "/api/v1/namespaces/ns/serviceaccounts/other/token",
        to("Pod", "p", ""),
        "400 cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name.",
    );
    check(
        &root,
        TOKEN,
        to("ConfigMap", "p", ""),
        "400 cannot bind token to object of type v1, Kind=ConfigMap: use a Pod, Secret or Node of v1",
    );
    check(
        &node("n2"),
        TOKEN,
        to("Pod", "p", "uid-p"),
        "403 serviceaccounts \"sa\" is forbidden: node requested token bound to a pod scheduled on a different node",
    );
    assert!(ask(&world, &node("n1"), TOKEN, json!({"spec": to("Pod", "p", "uid-p")})).is_ok());
}
