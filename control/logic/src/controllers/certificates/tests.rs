//! Requests for certificates, from making to cleaning.

use alloc::{
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use coracle_api::Resource;
use coracle_keys::{
    CsrFacts,
    fake::{FakeKeys, request_pem},
};
use serde_json::{Value, json};

use super::{CLIENT, Certificates, KUBELET_CLIENT, KUBELET_SERVING, check};
use crate::controllers::{testing::World, work::Work};

fn node_facts(name: &str) -> CsrFacts {
    CsrFacts {
        common_name: name.into(),
        organizations: vec!["system:nodes".into()],
        ..CsrFacts::default()
    }
}

fn request(
    name: &str,
    signer: &str,
    facts: &CsrFacts,
    user: &str,
    groups: &[&str],
    usages: &[&str],
) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "request": STANDARD.encode(request_pem(facts, b"key")),
            "signerName": signer,
            "usages": usages,
            "username": user,
            "groups": groups,
        },
        "status": {},
    })
}

const CLIENT_USAGES: [&str; 2] = ["digital signature", "client auth"];

/// Bootstrappers may join as nodes, nodes may renew.
fn world(keys: Arc<FakeKeys>) -> World {
    let mut world = World::new(vec![Work::boxed(Certificates::new(keys))], 1);
    for (subresource, group) in
        [("nodeclient", "system:bootstrappers"), ("selfnodeclient", "system:nodes")]
    {
        world.create(
            Resource::CLUSTER_ROLES,
            json!({"metadata": {"name": subresource}, "rules": [{"apiGroups": ["certificates.k8s.io"],
                "resources": [alloc::format!("certificatesigningrequests/{subresource}")], "verbs": ["create"]}]}),
        );
        world.create(
            Resource::CLUSTER_ROLE_BINDINGS,
            json!({"metadata": {"name": subresource},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": subresource},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]}),
        );
    }
    world
}

fn get(world: &World, name: &str) -> Value {
    world.get(Resource::CERTIFICATE_SIGNING_REQUESTS, "", name)
}

/// Condition types, and `issued` where there is a certificate.
fn outcome(world: &World, name: &str) -> Vec<String> {
    let request = get(world, name);
    let conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut outcome: Vec<_> =
        conditions.iter().map(|c| c["type"].as_str().unwrap().to_string()).collect();
    if request["status"]["certificate"].is_string() {
        outcome.push("issued".into());
    }
    outcome
}

#[test]
fn nodes_join_and_renew_by_themselves() {
    let keys = Arc::new(FakeKeys::new(1));
    let mut world = world(keys.clone());
    let facts = node_facts("system:node:pi1");
    let mut check = |name: &str, facts: &CsrFacts, user: &str, groups: &[&str], want: &[&str]| {
        world.create(
            Resource::CERTIFICATE_SIGNING_REQUESTS,
            request(name, KUBELET_CLIENT, facts, user, groups, &CLIENT_USAGES),
        );
        world.settle(false, 1_000);
        assert_eq!(outcome(&world, name), want, "{name}");
    };
    check(
        "join",
        &facts,
        "system:bootstrap:abcdef",
        &["system:bootstrappers"],
        &["Approved", "issued"],
    );
    check("renew", &facts, "system:node:pi1", &["system:nodes"], &["Approved", "issued"]);
    check("another", &facts, "system:node:pi2", &["system:nodes"], &[]);
    check("nobody", &facts, "somebody", &["system:authenticated"], &[]);
    check(
        "no-node",
        &node_facts("admin"),
        "system:bootstrap:abcdef",
        &["system:bootstrappers"],
        &[],
    );
    let chain =
        STANDARD.decode(get(&world, "join")["status"]["certificate"].as_str().unwrap()).unwrap();
    let issued = keys.read_issued(&String::from_utf8(chain).unwrap()).unwrap();
    let now_s = i64::try_from(world.now.0 / 1000).unwrap();
    assert!((now_s - 310..now_s).contains(&issued.not_before_s));
    assert!((issued.not_after_s - now_s - 365 * 24 * 3600).abs() < 10);
}

#[test]
fn approved_requests_are_signed_for_as_long_as_asked() {
    let keys = Arc::new(FakeKeys::new(1));
    for (seconds, want) in [(1, 600), (7_200, 7_200), (i32::MAX, 365 * 24 * 3600)] {
        let mut world = world(keys.clone());
        let facts = CsrFacts { common_name: "jane".into(), ..CsrFacts::default() };
        let mut value = request("r", CLIENT, &facts, "jane", &[], &CLIENT_USAGES);
        value["spec"]["expirationSeconds"] = seconds.into();
        world.create(Resource::CERTIFICATE_SIGNING_REQUESTS, value);
        world.settle(false, 1_000);
        assert!(outcome(&world, "r").is_empty(), "people approve people's");
        world.edit(Resource::CERTIFICATE_SIGNING_REQUESTS, "", "r", "approval", |r| {
            r["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "lastUpdateTime": "2027-01-15T08:00:01Z"}]);
        });
        world.settle(false, 1_000);
        assert_eq!(outcome(&world, "r"), ["Approved", "issued"]);
        let chain =
            STANDARD.decode(get(&world, "r")["status"]["certificate"].as_str().unwrap()).unwrap();
        let issued = keys.read_issued(&String::from_utf8(chain).unwrap()).unwrap();
        let life = issued.not_after_s - i64::try_from(world.now.0 / 1000).unwrap();
        assert!((life - want).abs() <= 5, "{life} of {want}");
        // An hour later it is cleaned up.
        world.settle(false, 3_500_000);
        assert_eq!(outcome(&world, "r").len(), 2);
        world.settle(false, 200_000);
        assert!(get(&world, "r").is_null());
    }
}

#[test]
fn bad_requests_fail_and_pending_ones_are_forgotten() {
    let mut world = world(Arc::new(FakeKeys::new(1)));
    let facts = node_facts("system:node:pi1");
    world.create(
        Resource::CERTIFICATE_SIGNING_REQUESTS,
        request(
            "bad",
            KUBELET_SERVING,
            &facts,
            "system:node:pi1",
            &["system:nodes"],
            &["server auth"],
        ),
    );
    world.create(
        Resource::CERTIFICATE_SIGNING_REQUESTS,
        request("foreign", "example.com/mine", &facts, "u", &[], &CLIENT_USAGES),
    );
    for name in ["bad", "foreign"] {
        world.edit(Resource::CERTIFICATE_SIGNING_REQUESTS, "", name, "approval", |r| {
            r["status"]["conditions"] = json!([{"type": "Approved", "status": "True"}]);
        });
    }
    world.settle(false, 1_000);
    assert_eq!(outcome(&world, "bad"), ["Approved", "Failed"]);
    assert_eq!(outcome(&world, "foreign"), ["Approved"], "that signer is somebody else");
    world.settle(false, 25 * 3_600_000);
    assert!(get(&world, "bad").is_null() && get(&world, "foreign").is_null());
}

#[test]
fn rules_of_the_signers() {
    let node = node_facts("system:node:pi1");
    let with_dns = CsrFacts { dns_names: vec!["pi1".into()], ..node.clone() };
    let with_uri = CsrFacts { other_names: true, ..with_dns.clone() };
    let person = CsrFacts { common_name: "jane".into(), ..CsrFacts::default() };
    let two_groups = CsrFacts {
        organizations: vec!["system:nodes".into(), "system:masters".into()],
        ..node.clone()
    };
    let serving: &[&str] = &["digital signature", "key encipherment", "server auth"];
    let client: &[&str] = &["digital signature", "client auth"];
    let ok = |signer: &str, facts: &CsrFacts, usages: &[&str]| {
        let usages: Vec<String> = usages.iter().map(ToString::to_string).collect();
        check(signer, facts, &usages).is_ok()
    };
    assert!(ok(KUBELET_CLIENT, &node, client));
    assert!(!ok(KUBELET_CLIENT, &with_dns, client));
    assert!(!ok(KUBELET_CLIENT, &two_groups, client));
    assert!(!ok(KUBELET_CLIENT, &person, client));
    assert!(!ok(KUBELET_CLIENT, &node, &["client auth"]));
    assert!(!ok(KUBELET_CLIENT, &node, &["digital signature", "client auth", "server auth"]));
    assert!(!ok(KUBELET_CLIENT, &node_facts("system:node:"), client));
    assert!(ok(KUBELET_SERVING, &with_dns, serving));
    assert!(!ok(KUBELET_SERVING, &node, serving));
    assert!(!ok(KUBELET_SERVING, &with_uri, serving));
    assert!(!ok(KUBELET_SERVING, &with_dns, client));
    assert!(ok(CLIENT, &person, &["client auth"]));
    assert!(!ok(CLIENT, &person, &["client auth", "server auth"]));
    assert!(!ok("example.com/mine", &person, client));
}

#[test]
fn what_a_board_without_a_clock_issues_holds_once_the_time_has_come() {
    assert_eq!(super::until_s(86_400, 3_600), super::until_s(0, 600));
    assert!(super::until_s(86_400, 3_600) > 1_800_000_000);
    assert_eq!(super::until_s(1_800_000_000, 3_600), 1_800_003_600);
}
