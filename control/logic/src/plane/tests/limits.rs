//! What is too much, and what is not there: 404, 405, 415, 429.

use alloc::{format, vec::Vec};

use serde_json::{Value, json};

use crate::{
    limits::{OBJECT_BYTES_MAX, REQUESTS_WAITING_MAX, WATCHES_MAX, WRITES_PER_KEY_MAX},
    scripted::Scripted,
};

const URL: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str) -> Value {
    json!({ "metadata": { "name": name } })
}

#[test]
fn what_is_not_served_is_said_so() {
    #[track_caller]
    fn check(method: &str, url: &str, content_type: &str, code: u16) {
        let mut cluster = Scripted::new();
        cluster.want(201, "POST", URL, config_map("a"));
        let mut http = Scripted::http(method, url, Some(&config_map("a")));
        http.headers = [("content-type".into(), content_type.into())].into();
        let id = cluster.send_http(http);
        cluster.run();
        let answer = cluster.answers.remove(&id).unwrap();
        assert_eq!(answer.code, code, "{method} {url}: {}", answer.text());
        assert_eq!(answer.json()["code"], code);
    }
    let json = "application/json";
    check("PUT", URL, json, 405);
    check("POST", "/version", json, 405);
    check("GET", "/nowhere", json, 404);
    check("GET", "/apis/batch/v1/jobs", json, 404);
    check("POST", URL, "text/html", 415);
    check("PATCH", &format!("{URL}/a"), json, 415);
}

#[test]
fn a_head_has_no_body() {
    let mut cluster = Scripted::new();
    let answer = cluster.call("HEAD", URL, None);
    assert_eq!((answer.code, answer.text().as_str()), (200, ""));
    let answer = cluster.call("HEAD", &format!("{URL}/none"), None);
    assert_eq!((answer.code, answer.text().as_str()), (404, ""));
    let answer = cluster.call("HEAD", &format!("{URL}?watch=1"), None);
    assert_eq!((answer.code, answer.text().as_str()), (200, ""));
    assert!(cluster.plane.watches.is_empty());
}

#[test]
fn a_key_has_only_so_many_writers() {
    let mut cluster = Scripted::new();
    cluster.want(201, "POST", URL, config_map("a"));
    let url = format!("{URL}/a");
    let ids: Vec<_> = (0..WRITES_PER_KEY_MAX + 3)
        .map(|n| cluster.send("PATCH", &url, Some(&json!({ "data": { "k": format!("{n}") } }))))
        .collect();
    // One is under way and so many wait; the others are told at once.
    assert_eq!(cluster.answers.len(), 2);
    for answer in cluster.answers.values() {
        assert_eq!(answer.code, 429);
        assert!(answer.headers.contains(&("retry-after", "1".into())));
    }
    cluster.run();
    let done = ids.iter().filter(|id| cluster.answers.get(id).unwrap().code == 200).count();
    assert_eq!(done, WRITES_PER_KEY_MAX + 1);
}

#[test]
fn only_so_many_requests_wait() {
    let mut cluster = Scripted::new();
    for n in 0..=REQUESTS_WAITING_MAX {
        cluster.send("POST", URL, Some(&config_map(&format!("c{n}"))));
    }
    let codes: Vec<u16> = cluster.answers.values().map(|answer| answer.code).collect();
    assert_eq!(codes, [429]);
    // Reads go on.
    assert_eq!(cluster.call("GET", "/readyz", None).code, 200);
    assert_eq!(
        cluster.plane.cache().count(coracle_api::Resource::CONFIG_MAPS, Some("default")),
        REQUESTS_WAITING_MAX
    );
}

#[test]
fn only_so_many_watches_are_open() {
    let mut cluster = Scripted::new();
    for _ in 0..WATCHES_MAX {
        cluster.watch(&format!("{URL}?watch=true"));
    }
    let answer = cluster.call("GET", &format!("{URL}?watch=true"), None);
    assert_eq!(answer.code, 429, "{}", answer.text());
}

#[test]
fn objects_grow_only_so_far_and_can_still_be_deleted() {
    let mut cluster = Scripted::new();
    let pods = "/api/v1/namespaces/default/pods";
    let one = format!("{pods}/a");
    let pod = json!({
        "metadata": { "name": "a", "finalizers": ["example.com/hold"] },
        "spec": { "nodeName": "n", "containers": [{ "name": "main", "image": "busybox" }] },
    });
    cluster.want(201, "POST", pods, pod);
    let grown = |cluster: &mut Scripted, bytes: usize| {
        let patch = json!({ "status": { "message": "x".repeat(bytes) } });
        cluster.call("PATCH", &format!("{one}/status"), Some(&patch)).code
    };
    assert_eq!(grown(&mut cluster, OBJECT_BYTES_MAX), 413);
    assert_eq!(grown(&mut cluster, OBJECT_BYTES_MAX - 8192), 200);
    cluster.want(200, "DELETE", &format!("{one}?gracePeriodSeconds=0"), Value::Null);
    assert_eq!(grown(&mut cluster, OBJECT_BYTES_MAX), 200);
    assert_eq!(grown(&mut cluster, 2 * OBJECT_BYTES_MAX), 413);
    let rest = json!({ "metadata": { "finalizers": null } });
    assert_eq!(cluster.call("PATCH", &one, Some(&rest)).code, 200);
    cluster.want(404, "GET", &one, Value::Null);
}
