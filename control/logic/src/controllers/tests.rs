//! Namespaces, garbage, service accounts and the rest in a small world.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use coracle_api::{Resource, time};
use coracle_keys::{Keys as _, fake::FakeKeys};
use serde_json::{Value, json};

use super::{
    Config, Controller,
    aggregation::Aggregation,
    bootstrap_tokens::BootstrapTokens,
    deployment::Deployments,
    gc::Collector,
    namespaces::Namespaces,
    pod_gc::PodGc,
    replicaset::ReplicaSets,
    root_ca::RootCa,
    service_accounts::ServiceAccounts,
    testing::{START, World},
    work::Work,
};

fn names(world: &World, resource: Resource) -> Vec<String> {
    let names = world.list(resource).into_iter();
    names.map(|object| object["metadata"]["name"].as_str().unwrap().to_string()).collect()
}

fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
}

fn owned(name: &str, owners: &[(&str, &str, &str)]) -> Value {
    let owners: Vec<_> = owners
        .iter()
        .map(|(kind, name, uid)| {
            let api_version = if *kind == "ReplicaSet" { "apps/v1" } else { "v1" };
            json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "blockOwnerDeletion": true})
        })
        .collect();
    json!({"metadata": {"name": name, "namespace": "a", "ownerReferences": owners}})
}

fn world(controllers: Vec<Box<dyn Controller>>, seed: u64) -> World {
    World::new(controllers, seed)
}

#[test]
fn all_controllers_have_names_of_their_own() {
    let config = Config {
        keys: Arc::new(FakeKeys::new(1)),
        pod_cidr: "10.42.0.0/16".into(),
        canary: crate::canary::Switch::default(),
    };
    let mut names: Vec<_> =
        super::all(&config).iter().map(|controller| controller.name()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!((count, names.len()), (13, 13));
}

#[test]
fn namespaces_get_their_account_and_certificate() {
    let keys = Arc::new(FakeKeys::new(1));
    let pem = keys.root_ca_pem().to_string();
    let mut world = world(vec![Work::boxed(ServiceAccounts), Work::boxed(RootCa::new(keys))], 1);
    world.create(Resource::NAMESPACES, namespace("a"));
    world.settle(false, 0);
    assert_eq!(names(&world, Resource::SERVICE_ACCOUNTS), ["default"]);
    let map = |world: &World| world.get(Resource::CONFIG_MAPS, "a", "kube-root-ca.crt");
    assert_eq!(map(&world)["data"]["ca.crt"], pem);
    world.remove(Resource::SERVICE_ACCOUNTS, "a", "default");
    world.edit(Resource::CONFIG_MAPS, "a", "kube-root-ca.crt", "", |map| {
        map["data"]["ca.crt"] = "x".into()
    });
    world.settle(false, 1_000);
    assert_eq!(names(&world, Resource::SERVICE_ACCOUNTS), ["default"]);
    assert_eq!(map(&world)["data"], json!({"ca.crt": pem}));
    world.remove(Resource::CONFIG_MAPS, "a", "kube-root-ca.crt");
    world.settle(false, 0);
    assert_eq!(map(&world)["data"], json!({"ca.crt": pem}));
    // An ending namespace gets nothing.
    world.delete(Resource::NAMESPACES, "", "a", None);
    world.remove(Resource::SERVICE_ACCOUNTS, "a", "default");
    world.settle(false, 0);
    assert!(names(&world, Resource::SERVICE_ACCOUNTS).is_empty());
}

#[test]
fn namespaces_end_with_all_that_is_in_them() {
    for seed in 0..8 {
        let mut world = world(
            vec![
                Work::boxed(Namespaces::default()),
                Work::boxed(Collector::default()),
                Work::boxed(ServiceAccounts),
            ],
            seed,
        );
        world.create(Resource::NAMESPACES, namespace("a"));
        world.create(Resource::NAMESPACES, namespace("b"));
        for index in 0..80 {
            let name = alloc::format!("m{index}");
            world.create(
                Resource::CONFIG_MAPS,
                json!({"metadata": {"name": name, "namespace": "a"}}),
            );
        }
        world.create(
            Resource::CONFIG_MAPS,
            json!({"metadata": {"name": "stays", "namespace": "b"}}),
        );
        world.create(
            Resource::PODS,
            json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n"}}),
        );
        world.create(
            Resource::SECRETS,
            json!({"metadata": {"name": "held", "namespace": "a", "finalizers": ["x.example/hold"]}}),
        );
        world.settle(false, 0);
        world.delete(Resource::NAMESPACES, "", "a", None);
        world.settle(false, 1_000);
        assert_eq!(names(&world, Resource::CONFIG_MAPS).len(), 81, "the pod goes first");
        let conditions = |world: &World| {
            world.get(Resource::NAMESPACES, "", "a")["status"]["conditions"].clone()
        };
        let remaining = conditions(&world)[3]["message"].as_str().unwrap().to_string();
        assert!(remaining.contains("pods. has 1 resource instances"), "{remaining}");
        world.remove(Resource::PODS, "a", "p");
        world.settle(false, 1_000);
        assert_eq!(names(&world, Resource::CONFIG_MAPS), ["stays"]);
        let want = "Some content in the namespace has finalizers remaining: x.example/hold in 1 resource instances";
        assert_eq!(conditions(&world)[4]["message"], want);
        let before = world.log.len();
        world.settle(false, 3_600_000);
        assert_eq!(world.log.len(), before, "it waits without writing");
        world.edit(Resource::SECRETS, "a", "held", "", |secret| {
            secret["metadata"]["finalizers"] = json!([])
        });
        world.settle(false, 1_000);
        assert_eq!(names(&world, Resource::NAMESPACES), ["b"], "seed {seed}");
    }
}

/// A ConfigMap `owner`, and dependents of it, of it and another, of what never was, and of a kind that is not served.
fn family(seed: u64) -> World {
    let mut world = world(vec![Work::boxed(Collector::default())], seed);
    for name in ["owner", "other"] {
        world.create(Resource::CONFIG_MAPS, json!({"metadata": {"name": name, "namespace": "a"}}));
    }
    let uid = |world: &World, name: &str| {
        world.get(Resource::CONFIG_MAPS, "a", name)["metadata"]["uid"].as_str().unwrap().to_string()
    };
    let (owner, other) = (uid(&world, "owner"), uid(&world, "other"));
    world.create(Resource::SECRETS, owned("one", &[("ConfigMap", "owner", &owner)]));
    world.create(
        Resource::SECRETS,
        owned("two", &[("ConfigMap", "owner", &owner), ("ConfigMap", "other", &other)]),
    );
    world.create(Resource::SECRETS, owned("unserved", &[("Job", "j", "j")]));
    world.settle(false, 1_000);
    world
}

#[test]
fn what_lost_its_owners_goes() {
    for seed in 0..20 {
        let mut world = family(seed);
        world.create(
            Resource::SECRETS,
            owned("late", &[("ConfigMap", "owner", "of an earlier life")]),
        );
        world.create(Resource::SECRETS, owned("lost", &[("ReplicaSet", "gone", "gone")]));
        world.settle(false, 1_000);
        assert_eq!(names(&world, Resource::SECRETS), ["one", "two", "unserved"]);
        world.delete(Resource::CONFIG_MAPS, "a", "owner", Some("Background"));
        world.settle(false, 1_000);
        assert_eq!(names(&world, Resource::CONFIG_MAPS), ["other"]);
        assert_eq!(names(&world, Resource::SECRETS), ["two", "unserved"]);
        let owners = &world.get(Resource::SECRETS, "a", "two")["metadata"]["ownerReferences"];
        assert_eq!(owners.as_array().unwrap().len(), 1, "the lost owner is no longer named");
    }
}

#[test]
fn foreground_deletion_waits_for_dependents() {
    for seed in 0..20 {
        let mut world = family(seed);
        world.edit(Resource::SECRETS, "a", "one", "", |secret| {
            secret["metadata"]["finalizers"] = json!(["x.example/hold"]);
        });
        world.delete(Resource::CONFIG_MAPS, "a", "owner", Some("Foreground"));
        world.settle(false, 1_000);
        assert_eq!(names(&world, Resource::CONFIG_MAPS), ["other", "owner"]);
        let one = world.get(Resource::SECRETS, "a", "one");
        assert!(one["metadata"]["deletionTimestamp"].is_string());
        world.edit(Resource::SECRETS, "a", "one", "", |secret| {
            secret["metadata"]["finalizers"] = json!([])
        });
        world.settle(false, 1_000);
        assert_eq!(names(&world, Resource::CONFIG_MAPS), ["other"], "seed {seed}");
        assert_eq!(names(&world, Resource::SECRETS), ["two", "unserved"]);
    }
}

#[test]
fn orphans_stay_without_owner() {
    for seed in 0..20 {
        let mut world = family(seed);
        world.delete(Resource::CONFIG_MAPS, "a", "owner", Some("Orphan"));
        world.settle(false, 1_000);
        assert_eq!(names(&world, Resource::CONFIG_MAPS), ["other"]);
        assert_eq!(names(&world, Resource::SECRETS), ["one", "two", "unserved"]);
        assert!(world.get(Resource::SECRETS, "a", "one")["metadata"]["ownerReferences"].is_null());
    }
}

#[test]
fn a_deployment_lives_and_dies_whole() {
    for seed in 0..10 {
        for propagation in [Some("Background"), Some("Foreground")] {
            let controllers = vec![
                Work::boxed(Deployments::default()),
                Work::boxed(ReplicaSets::default()),
                Work::boxed(Collector::default()),
            ];
            let mut world = world(controllers, seed);
            let template = |image: &str| json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
            world.create(
                Resource::DEPLOYMENTS,
                json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {
                    "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template("a"),
                    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                    "progressDeadlineSeconds": 600}, "status": {}}),
            );
            world.settle(true, 60_000);
            world.edit(Resource::DEPLOYMENTS, "default", "web", "", |d| {
                d["spec"]["template"] = template("b")
            });
            for _ in 0..seed * 8 {
                world.settle_a_little();
            }
            world.delete(Resource::DEPLOYMENTS, "default", "web", propagation);
            world.settle(true, 60_000);
            for resource in [Resource::DEPLOYMENTS, Resource::REPLICA_SETS, Resource::PODS] {
                assert!(
                    names(&world, resource).is_empty(),
                    "{:?} seed {seed}",
                    names(&world, resource)
                );
            }
        }
    }
}

#[test]
fn pods_of_nodes_that_are_gone_go_after_a_while() {
    let mut world = world(vec![Work::boxed(PodGc::default())], 1);
    world.create(Resource::NODES, json!({"metadata": {"name": "n1"}}));
    let pod = |name: &str, node: &str| json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"nodeName": node}});
    world.create(Resource::PODS, pod("kept", "n1"));
    world.create(Resource::PODS, pod("lost", "n2"));
    world.create(Resource::PODS, pod("back", "n3"));
    world.create(
        Resource::PODS,
        json!({"metadata": {"name": "unbound", "namespace": "a"}, "spec": {}}),
    );
    world.create(
        Resource::PODS,
        json!({"metadata": {"name": "ending", "namespace": "a", "deletionTimestamp": time::rfc3339(START.0)}, "spec": {}}),
    );
    world.settle(false, 50_000);
    assert_eq!(names(&world, Resource::PODS), ["back", "kept", "lost", "unbound"]);
    world.create(Resource::NODES, json!({"metadata": {"name": "n3"}}));
    world.settle(false, 40_000);
    assert_eq!(names(&world, Resource::PODS), ["back", "kept", "unbound"]);
    world.remove(Resource::NODES, "", "n1");
    world.settle(false, 120_000);
    assert_eq!(names(&world, Resource::PODS), ["back", "unbound"]);
}

#[test]
fn expired_bootstrap_tokens_go() {
    let mut world = world(vec![Work::boxed(BootstrapTokens)], 1);
    let mut token = |name: &str, expiration: Option<&str>, r#type: &str| {
        let mut secret = json!({"metadata": {"name": name, "namespace": "kube-system"}, "type": r#type, "data": {}});
        if let Some(expiration) = expiration {
            secret["data"]["expiration"] = STANDARD.encode(expiration).into();
        }
        world.create(Resource::SECRETS, secret);
    };
    let r#type = "bootstrap.kubernetes.io/token";
    let soon = time::rfc3339(START.0 + 60_000);
    token("bootstrap-token-aaaaaa", Some(&soon), r#type);
    token("bootstrap-token-bbbbbb", Some("2001-01-01T00:00:00Z"), r#type);
    token("bootstrap-token-cccccc", None, r#type);
    token("bootstrap-token-dddddd", Some("2001-01-01T00:00:00Z"), "Opaque");
    world.settle(false, 1_000);
    let kept = ["bootstrap-token-aaaaaa", "bootstrap-token-cccccc", "bootstrap-token-dddddd"];
    assert_eq!(names(&world, Resource::SECRETS), kept);
    world.settle(false, 60_000);
    assert_eq!(names(&world, Resource::SECRETS), kept[1..]);
}

#[test]
fn events_are_counted_and_limited() {
    use super::{Note, Recorder, Tone, ask::About};
    use crate::Millis;
    let mut recorder = Recorder::new("test-controller");
    let note = |message: &str| Note {
        about: About::pod("a", "p", "u"),
        tone: Tone::Warning,
        reason: "Failed",
        message: message.into(),
    };
    for _ in 0..3 {
        recorder.tell(Millis(1_000), note("again"));
    }
    let (same, ask) = recorder.next().expect("one event");
    assert!(recorder.next().is_none(), "the same is one event");
    let super::CallAction::Create(event) = &ask.action else { panic!("{ask:?}") };
    assert_eq!((&event["count"], &event["type"]), (&json!(3), &json!("Warning")));
    assert_eq!(
        event["involvedObject"],
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": "a", "name": "p", "uid": "u"})
    );
    let call = super::ControllerCall {
        id: 1,
        user: "u",
        action: ask.action.clone(),
        resource: ask.resource,
        namespace: ask.namespace.clone(),
        name: ask.name.clone(),
        subresource: "",
    };
    recorder.tell(Millis(2_000), note("again"));
    assert!(recorder.next().is_none(), "one call about an event at a time");
    recorder.done(&same, &call, Ok(()));
    let (_, patch) = recorder.next().expect("the count goes on");
    let super::CallAction::Patch(_, patch) = patch.action else { panic!() };
    assert_eq!(patch["count"], 4);
    // 25 at once about one object, then one in five minutes.
    for index in 0..100 {
        recorder.tell(Millis(3_000), note(&alloc::format!("{index}")));
    }
    let calls = core::iter::from_fn(|| recorder.next()).count();
    assert!(calls <= 8, "{calls} under way");
    let mut fresh = Recorder::new("test-controller");
    let mut told = 0;
    for index in 0..100 {
        fresh.tell(Millis(3_000), note(&alloc::format!("{index}")));
        while let Some((same, ask)) = fresh.next() {
            told += 1;
            let call = super::ControllerCall { action: ask.action, ..call.clone() };
            fresh.done(&same, &call, Ok(()));
        }
    }
    assert_eq!(told, 25);
    fresh.tell(Millis(303_000), note("later"));
    assert!(fresh.next().is_some());
}

#[test]
fn aggregated_roles_follow_their_parts() {
    let mut world = world(vec![Work::boxed(Aggregation::default())], 1);
    let rule = |verb: &str| json!({"apiGroups": [""], "resources": ["pods"], "verbs": [verb]});
    let part = |name: &str, verbs: &[&str]| {
        let rules: Vec<_> = verbs.iter().map(|verb| rule(verb)).collect();
        json!({"metadata": {"name": name, "labels": {"to": "all"}}, "rules": rules})
    };
    world.create(Resource::CLUSTER_ROLES, part("one", &["get"]));
    world.create(
        Resource::CLUSTER_ROLES,
        json!({"metadata": {"name": "all", "labels": {"to": "all"}}, "rules": [],
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "all"}}]}}),
    );
    let rules = |world: &World| world.get(Resource::CLUSTER_ROLES, "", "all")["rules"].clone();
    world.settle(false, 1_000);
    assert_eq!(rules(&world), json!([rule("get")]));
    world.create(Resource::CLUSTER_ROLES, part("two", &["get", "list"]));
    world.settle(false, 1_000);
    assert_eq!(rules(&world), json!([rule("get"), rule("list")]));
    world.remove(Resource::CLUSTER_ROLES, "", "two");
    world.settle(false, 1_000);
    assert_eq!(rules(&world), json!([rule("get")]));
    let before = world.log.len();
    world.edit(Resource::CLUSTER_ROLES, "", "one", "", |role| {
        role["metadata"]["labels"]["other"] = "x".into();
    });
    world.settle(false, 1_000);
    assert_eq!(world.log.len(), before);
}
