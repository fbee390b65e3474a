//! W1-W6: what a watch tells, and what it never leaves out.

use alloc::{format, string::String, vec::Vec};

use serde_json::{Value, json};

use crate::{
    limits::{BOOKMARK_INTERVAL_MS, RING_BYTES_MAX, RING_CHANGES_MAX},
    scripted::Scripted,
};

const URL: &str = "/api/v1/namespaces/default/configmaps";

fn put(cluster: &mut Scripted, name: &str, label: &str) -> u64 {
    put_sized(cluster, name, label, 0)
}

/// The same with so many bytes of text in it.
fn put_sized(cluster: &mut Scripted, name: &str, label: &str, bytes: usize) -> u64 {
    let url = format!("{URL}/{name}");
    let mut body = json!({ "metadata": { "name": name, "labels": { "l": label } } });
    if bytes > 0 {
        body["data"] = json!({ "text": "x".repeat(bytes) });
    }
    let exists =
        cluster.plane.cache().get(coracle_api::Resource::CONFIG_MAPS, "default", name).is_some();
    let written = if exists {
        cluster.want(200, "PUT", &url, body)
    } else {
        cluster.want(201, "POST", URL, body)
    };
    written["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[test]
fn w1_w2_changes_come_in_order_and_complete() {
    let mut cluster = Scripted::new();
    let watch = cluster.watch(&format!("{URL}?watch=true"));
    assert!(cluster.events(watch).is_empty());
    let mut revisions = Vec::new();
    for round in 0..200 {
        revisions.push(put(&mut cluster, "a", &format!("{round}")));
        // Others' changes lie between.
        cluster.want(
            201,
            "POST",
            "/api/v1/namespaces",
            json!({ "metadata": { "name": format!("n{round}") } }),
        );
    }
    let (events, closed) = cluster.pull(watch);
    assert!(!closed);
    let told: Vec<u64> = events
        .iter()
        .map(|event| {
            event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(told, revisions);
    assert!(told.is_sorted());
}

#[test]
fn a_watch_is_woken_once_and_only_for_its_own() {
    let mut cluster = Scripted::new();
    let watch = cluster.watch(&format!("{URL}?watch=true&fieldSelector=metadata.name%3Da"));
    assert!(cluster.events(watch).is_empty());
    cluster.woken.clear();
    put(&mut cluster, "b", "1");
    assert!(cluster.woken.is_empty());
    put(&mut cluster, "a", "1");
    put(&mut cluster, "a", "2");
    assert_eq!(cluster.woken, [watch]);
    assert_eq!(cluster.events(watch), ["ADDED a", "MODIFIED a"]);
}

#[test]
fn w3_a_watch_resumes_where_another_broke() {
    let mut cluster = Scripted::new();
    let first = put(&mut cluster, "a", "1");
    put(&mut cluster, "a", "2");
    put(&mut cluster, "b", "1");
    cluster.want(200, "DELETE", &format!("{URL}/a"), Value::Null);
    let watch = cluster.watch(&format!("{URL}?watch=true&resourceVersion={first}"));
    assert_eq!(cluster.events(watch), ["MODIFIED a", "ADDED b", "DELETED a"]);
}

#[test]
fn a_delete_carries_its_own_revision() {
    let mut cluster = Scripted::new();
    let made = put(&mut cluster, "a", "1");
    let watch = cluster.watch(&format!("{URL}?watch=true&resourceVersion={made}"));
    cluster.want(200, "DELETE", &format!("{URL}/a"), Value::Null);
    let (events, _) = cluster.pull(watch);
    let event = &events[0];
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["labels"]["l"], "1");
    let revision: u64 =
        event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert_eq!(revision, cluster.plane.cache().revision());
}

#[test]
fn w4_outside_the_ring_is_410() {
    let mut cluster = Scripted::new();
    let first = put(&mut cluster, "a", "1");
    for round in 0..=RING_CHANGES_MAX {
        put(&mut cluster, "a", &format!("{round}"));
    }
    let gone =
        cluster.want(410, "GET", &format!("{URL}?watch=true&resourceVersion={first}"), Value::Null);
    assert_eq!(gone["reason"], "Expired");
    let exact = format!("{URL}?resourceVersion={first}&resourceVersionMatch=Exact");
    assert_eq!(cluster.want(410, "GET", &exact, Value::Null)["reason"], "Expired");
}

#[test]
fn w3_w4_the_ring_holds_what_its_bytes_allow() {
    const BYTES: usize = 16 * 1024;
    let mut cluster = Scripted::new();
    let rounds = 2 * RING_BYTES_MAX / BYTES;
    let revisions: Vec<u64> =
        (0..rounds).map(|round| put_sized(&mut cluster, "a", &format!("{round}"), BYTES)).collect();
    let told = |cluster: &mut Scripted, code: u16, back: usize| {
        let from = revisions[rounds - 1 - back];
        cluster.want(
            code,
            "GET",
            &format!("{URL}?resourceVersion={from}&resourceVersionMatch=Exact"),
            Value::Null,
        )
    };
    // A tenth for what lies beside the text.
    told(&mut cluster, 200, RING_BYTES_MAX / BYTES * 9 / 10);
    assert_eq!(told(&mut cluster, 410, RING_BYTES_MAX / BYTES)["reason"], "Expired");
}

#[test]
fn w5_entering_is_added_and_leaving_is_deleted() {
    let mut cluster = Scripted::new();
    let watch = cluster.watch(&format!("{URL}?watch=true&labelSelector=l%3Din"));
    for label in ["out", "in", "in", "out", "in"] {
        put(&mut cluster, "a", label);
    }
    cluster.want(200, "DELETE", &format!("{URL}/a"), Value::Null);
    // The second "in" changes nothing and is not written.
    assert_eq!(cluster.events(watch), ["ADDED a", "DELETED a", "ADDED a", "DELETED a"]);
}

#[test]
fn w6_a_slow_watch_is_closed_and_a_quiet_one_is_not() {
    let mut cluster = Scripted::new();
    let slow = cluster.watch(&format!("{URL}?watch=true"));
    let quiet = cluster.watch("/api/v1/namespaces?watch=true&fieldSelector=metadata.name%3Dq");
    cluster.pull(quiet);
    for round in 0..=RING_CHANGES_MAX {
        put(&mut cluster, "a", &format!("{round}"));
    }
    let (events, closed) = cluster.pull(slow);
    assert!(closed);
    assert_eq!(events.last().unwrap()["type"], "ERROR");
    assert_eq!(events.last().unwrap()["object"]["code"], 410);
    assert_eq!(events.len(), 1, "nothing is told after a gap");
    cluster.want(201, "POST", "/api/v1/namespaces", json!({ "metadata": { "name": "q" } }));
    assert_eq!(cluster.events(quiet), ["ADDED q"]);
}

#[test]
fn a_watch_list_begins_with_what_there_is() {
    let mut cluster = Scripted::new();
    put(&mut cluster, "a", "1");
    put(&mut cluster, "b", "1");
    let url = format!(
        "{URL}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let watch = cluster.watch(&url);
    let (events, _) = cluster.pull(watch);
    let kinds: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds, ["ADDED", "ADDED", "BOOKMARK"]);
    let end = &events[2]["object"];
    assert_eq!(end["kind"], "ConfigMap");
    assert_eq!(end["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(end["metadata"]["resourceVersion"], format!("{}", cluster.plane.cache().revision()));
    let refused =
        cluster.want(422, "GET", &format!("{URL}?watch=true&sendInitialEvents=true"), Value::Null);
    assert_eq!(refused["reason"], "Invalid");
}

#[test]
fn bookmarks_come_about_every_minute_and_the_watch_ends_in_time() {
    let mut cluster = Scripted::new();
    let watch =
        cluster.watch(&format!("{URL}?watch=true&allowWatchBookmarks=true&timeoutSeconds=90"));
    let without = cluster.watch(&format!("{URL}?watch=true&timeoutSeconds=90"));
    cluster.pull(watch);
    cluster.pull(without);
    cluster.woken.clear();
    cluster.want(201, "POST", "/api/v1/namespaces", json!({ "metadata": { "name": "x" } }));
    cluster.tick(BOOKMARK_INTERVAL_MS);
    assert_eq!(cluster.woken, [watch]);
    let (events, closed) = cluster.pull(watch);
    assert!(!closed);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "BOOKMARK");
    let revision = format!("{}", cluster.plane.cache().revision());
    assert_eq!(events[0]["object"]["metadata"]["resourceVersion"], revision);
    cluster.tick(30_001);
    for id in [watch, without] {
        let (events, closed) = cluster.pull(id);
        assert!(closed && events.is_empty(), "{events:?}");
    }
}

#[test]
fn a_change_while_a_bookmark_waits_is_not_lost() {
    let mut cluster = Scripted::new();
    let watch = cluster.watch(&format!("{URL}?watch=true&allowWatchBookmarks=true"));
    cluster.pull(watch);
    cluster.tick(BOOKMARK_INTERVAL_MS);
    put(&mut cluster, "a", "1");
    let events = cluster.events(watch);
    assert!(events.contains(&String::from("ADDED a")), "{events:?}");
}

#[test]
fn watchers_share_the_objects_bytes() {
    let mut cluster = Scripted::new();
    let watch = cluster.watch(&format!("{URL}?watch=true"));
    put(&mut cluster, "a", "1");
    let mut parts = Vec::new();
    cluster.plane.watch_next(watch, &mut parts);
    let object =
        cluster.plane.cache().get(coracle_api::Resource::CONFIG_MAPS, "default", "a").unwrap();
    assert!(alloc::sync::Arc::ptr_eq(&parts[1], &object.bytes));
}
