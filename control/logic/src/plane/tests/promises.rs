//! S1-S3, volatile changes, concurrent writers, restarts.

use alloc::{format, sync::Arc, vec::Vec};

use coracle_api::Resource;
use coracle_store::{Op, mem::Fault};
use serde_json::{Value, json};

use crate::{
    Millis,
    limits::{EVENT_TTL_MS, EVENTS_MAX},
    plane::{Config, ControlPlane, Event},
    scripted::Scripted,
};

const URL: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

fn config_map(name: &str, value: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "k": value } })
}

fn lease(holder: &str, second: u32) -> Value {
    json!({
        "metadata": { "name": "pi1" },
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 40,
            "renewTime": format!("2023-11-14T22:13:{second:02}.000000Z"),
        },
    })
}

#[test]
fn s1_no_answer_before_the_commit() {
    let mut cluster = Scripted::new();
    let id = cluster.send("POST", URL, Some(&config_map("a", "1")));
    assert!(cluster.answers.is_empty());
    assert_eq!(cluster.call("GET", &format!("{URL}/b"), None).code, 404);
    cluster.run();
    assert_eq!(cluster.answers.remove(&id).unwrap().code, 201);
    let mut cluster = cluster.restart();
    assert_eq!(cluster.get(&format!("{URL}/a"))["data"]["k"], "1");
}

#[test]
fn concurrent_writers_share_a_batch() {
    let mut cluster = Scripted::new();
    let commits = cluster.commits;
    let ids: Vec<_> = (0..20)
        .map(|n| cluster.send("POST", URL, Some(&config_map(&format!("c{n}"), "1"))))
        .collect();
    cluster.run();
    assert!(ids.iter().all(|id| cluster.answers.remove(id).unwrap().code == 201));
    assert_eq!(cluster.commits - commits, 2, "the first alone, then all others");
}

#[test]
fn s2_numbers_rise_over_restarts() {
    let mut cluster = Scripted::new();
    let mut last = 0;
    for round in 0..5 {
        for n in 0..3 {
            let made = cluster.want(201, "POST", URL, config_map(&format!("r{round}-{n}"), "1"));
            let revision: u64 =
                made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            assert!(revision > last);
            last = revision;
        }
        // Volatile changes take numbers too.
        let events = "/api/v1/namespaces/default/events";
        let event = json!({ "metadata": { "generateName": "e" }, "involvedObject": { "namespace": "default" } });
        let made = cluster.want(201, "POST", events, event);
        let revision: u64 = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(revision > last);
        last = revision;
        cluster = cluster.restart();
        let gone = cluster.call("GET", &format!("{URL}?watch=true&resourceVersion={last}"), None);
        assert_eq!(gone.code, 410, "what came before a restart cannot be resumed: {}", gone.text());
    }
}

#[test]
fn s3_one_of_two_guarded_writers_wins() {
    let mut cluster = Scripted::new();
    let made = cluster.want(201, "POST", URL, config_map("a", "0"));
    let url = format!("{URL}/a");
    let write = |value: &str| {
        let mut object = made.clone();
        object["data"]["k"] = value.into();
        object
    };
    let one = cluster.send("PUT", &url, Some(&write("1")));
    let two = cluster.send("PUT", &url, Some(&write("2")));
    cluster.run();
    assert_eq!(cluster.answers.remove(&one).unwrap().code, 200);
    assert_eq!(cluster.answers.remove(&two).unwrap().code, 409);
    assert_eq!(cluster.get(&url)["data"]["k"], "1");
}

#[test]
fn s3_no_increment_is_lost() {
    let mut cluster = Scripted::new();
    cluster.want(201, "POST", URL, config_map("a", "0"));
    let url = format!("{URL}/a");
    // 30 patches at once, none guarded by the client: all are applied, one after the other.
    let ids: Vec<_> = (0..30)
        .map(|n| cluster.send("PATCH", &url, Some(&json!({ "data": { format!("k{n}"): "x" } }))))
        .collect();
    cluster.run();
    assert!(ids.iter().all(|id| cluster.answers.remove(id).unwrap().code == 200));
    assert_eq!(cluster.get(&url)["data"].as_object().map(serde_json::Map::len), Some(31));
}

#[test]
fn two_creates_of_one_name_make_one() {
    let mut cluster = Scripted::new();
    let one = cluster.send("POST", URL, Some(&config_map("a", "1")));
    let two = cluster.send("POST", URL, Some(&config_map("a", "2")));
    cluster.run();
    assert_eq!(cluster.answers.remove(&one).unwrap().code, 201);
    assert_eq!(cluster.answers.remove(&two).unwrap().code, 409);
}

#[test]
fn every_transaction_is_guarded() {
    let mut cluster = Scripted::new();
    cluster.send("POST", URL, Some(&config_map("a", "1")));
    let (batch, reserve) = cluster.batches.last().unwrap();
    let txn = &batch[0];
    assert_eq!(txn.guards.len(), 1);
    assert_eq!(txn.guards[0].expected.0, 0);
    assert!(txn.revision <= *reserve);
    let Op::Put(key, value) = &txn.op else { panic!("{:?}", txn.op) };
    assert_eq!(&**key, "/registry/core/configmaps/default/a");
    let stored: Value = serde_json::from_slice(value).unwrap();
    assert!(stored["metadata"].get("resourceVersion").is_none());
}

#[test]
fn renewing_a_lease_writes_nothing_and_changing_its_holder_does() {
    let mut cluster = Scripted::new();
    cluster.want(201, "POST", LEASES, lease("a", 1));
    let url = format!("{LEASES}/pi1");
    let commits = cluster.commits;
    for second in 2..30 {
        let renewed = cluster.want(200, "PATCH", &url, lease("a", second));
        assert_eq!(renewed["spec"]["renewTime"], lease("a", second)["spec"]["renewTime"]);
    }
    assert_eq!(cluster.commits, commits, "an idle cluster writes nothing");
    // The guard is on the version that the store has, not on the newest one.
    cluster.want(200, "PATCH", &url, lease("b", 30));
    assert_eq!(cluster.commits, commits + 1);
    cluster.want(200, "PATCH", &url, lease("b", 31));
    let mut cluster = cluster.restart();
    assert_eq!(cluster.get(&url)["spec"]["renewTime"], "2023-11-14T22:13:30.000000Z");
    cluster.want(200, "DELETE", &url, Value::Null);
    assert!(cluster.stored().entries.iter().all(|entry| !entry.key.contains("leases")));
}

#[test]
fn a_renewal_after_a_restart_gets_a_reserved_number() {
    let mut cluster = Scripted::new();
    cluster.want(201, "POST", LEASES, lease("a", 1));
    let mut cluster = cluster.restart();
    let before = cluster.stored().revision_reserved;
    let renewed = cluster.want(200, "PATCH", &format!("{LEASES}/pi1"), lease("a", 2));
    let revision: u64 = renewed["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(revision > before.0 || cluster.commits > 0);
    assert!(cluster.stored().revision_reserved.0 >= revision);
}

#[test]
fn an_idle_cluster_makes_no_commit() {
    let mut cluster = Scripted::new();
    let commits = cluster.commits;
    for _ in 0..60 {
        cluster.tick(10_000);
    }
    assert_eq!(cluster.commits, commits);
    let mut cluster = cluster.restart();
    let commits = cluster.commits;
    for _ in 0..60 {
        cluster.tick(10_000);
    }
    assert_eq!(cluster.commits, commits);
}

#[test]
fn events_are_bounded_in_time_and_number() {
    let mut cluster = Scripted::new();
    let url = "/api/v1/namespaces/default/events";
    let event = json!({ "metadata": { "generateName": "e" }, "involvedObject": { "namespace": "default" } });
    let commits = cluster.commits;
    for _ in 0..EVENTS_MAX + 10 {
        cluster.want(201, "POST", url, event.clone());
    }
    assert_eq!(cluster.plane.cache().count(Resource::EVENTS, None), EVENTS_MAX);
    assert_eq!(cluster.commits, commits);
    cluster.tick(EVENT_TTL_MS + 1);
    assert_eq!(cluster.plane.cache().count(Resource::EVENTS, None), 0);
    assert_eq!(cluster.commits, commits);
}

#[test]
fn secrets_are_sealed_on_disk_and_plain_in_answers() {
    let mut cluster = Scripted::new();
    let url = "/api/v1/namespaces/default/secrets";
    let secret = json!({ "metadata": { "name": "s" }, "data": { "password": "aHVudGVyMg==" } });
    cluster.want(201, "POST", url, secret);
    let loaded = cluster.stored();
    let entry =
        loaded.entries.iter().find(|entry| entry.key.contains("/secrets/default/s")).unwrap();
    let text = alloc::string::String::from_utf8_lossy(&entry.value).into_owned();
    assert!(!text.contains("aHVudGVyMg"), "{text}");
    let mut cluster = cluster.restart();
    assert_eq!(cluster.get(&format!("{url}/s"))["data"]["password"], "aHVudGVyMg==");

    let other = Arc::new(coracle_keys::fake::FakeKeys::new(8));
    let refused = ControlPlane::new(Config::default(), other, cluster.stored(), Millis(0), 1);
    let error = refused.map(|_| ()).unwrap_err();
    assert!(error.0.contains("/secrets/default/s"), "{error}");
    assert!(error.0.contains("key"), "{error}");
}

#[test]
fn after_a_store_failure_nobody_is_told_a_lie() {
    for fault in [Fault::Lost, Fault::Kept] {
        let mut cluster = Scripted::new();
        let watch = cluster.watch(&format!("{URL}?watch=true"));
        cluster.disk.fail_next(fault);
        let answer = cluster.call("POST", URL, Some(&config_map("a", "1")));
        assert_eq!(answer.code, 500, "{}", answer.text());
        let (events, closed) = cluster.pull(watch);
        assert!(closed);
        assert_eq!(events.last().unwrap()["object"]["code"], 410);
        assert_eq!(cluster.call("GET", "/readyz", None).code, 500);
        assert_eq!(cluster.call("GET", URL, None).code, 503);
        let mut cluster = cluster.restart();
        let there = cluster.call("GET", &format!("{URL}/a"), None).code;
        assert_eq!(there, if fault == Fault::Kept { 200 } else { 404 });
    }
}

#[test]
fn a_request_that_is_gone_leaves_no_watch() {
    let mut cluster = Scripted::new();
    let id = cluster.send("GET", &format!("{URL}?watch=true"), None);
    let watch = cluster.answers.remove(&id).unwrap().watch();
    cluster.step(Event::Gone(id));
    assert!(cluster.pull(watch).1);
}
