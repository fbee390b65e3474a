//! What each verb answers.

use alloc::vec::Vec;

use serde_json::{Value, json};

use crate::scripted::{AnswerBody, Scripted};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn config_map(name: &str, value: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": value } })
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
    })
}

#[test]
fn a_new_cluster_is_ready_and_has_its_namespaces() {
    let mut cluster = Scripted::new();
    assert!(cluster.plane.is_ready(), "{}", cluster.call("GET", "/readyz?verbose", None).text());
    assert_eq!(cluster.call("GET", "/readyz", None).text(), "ok");
    let verbose = cluster.call("GET", "/livez?verbose", None).text();
    assert!(verbose.ends_with("livez check passed\n"), "{verbose}");
    let names: Vec<Value> = cluster.get("/api/v1/namespaces")["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let service = cluster.get("/api/v1/namespaces/default/services/kubernetes");
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.1");
}

#[test]
fn create_gives_identity_and_get_gives_the_same_bytes() {
    let mut cluster = Scripted::new();
    let made = cluster.want(201, "POST", CONFIG_MAPS, config_map("a", "1"));
    let metadata = &made["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["creationTimestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(metadata["uid"].as_str().map(str::len), Some(36));
    assert_eq!(metadata["managedFields"][0]["operation"], "Update");
    let revision: u64 = metadata["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(revision > 0);
    assert_eq!(cluster.get("/api/v1/namespaces/default/configmaps/a"), made);

    let again = cluster.want(409, "POST", CONFIG_MAPS, config_map("a", "2"));
    assert_eq!(again["reason"], "AlreadyExists");
    assert_eq!(again["message"], "configmaps \"a\" already exists");
    let missing = cluster.want(404, "GET", &alloc::format!("{CONFIG_MAPS}/b"), Value::Null);
    assert_eq!(missing["message"], "configmaps \"b\" not found");
}

#[test]
fn bad_requests_are_refused_with_the_cause() {
    #[track_caller]
    fn check(method: &str, url: &str, body: Value, want: (u16, &str)) {
        let mut cluster = Scripted::new();
        cluster.want(201, "POST", CONFIG_MAPS, config_map("a", "1"));
        let body = (!body.is_null()).then_some(body);
        let answer = cluster.call(method, url, body.as_ref());
        assert_eq!((answer.code, answer.message().as_str()), want);
    }
    let one = alloc::format!("{CONFIG_MAPS}/a");
    check(
        "POST",
        CONFIG_MAPS,
        json!({ "kind": "Pod", "metadata": { "name": "x" } }),
        (400, "the kind in the data (Pod) does not match the expected kind (ConfigMap)"),
    );
    check(
        "POST",
        CONFIG_MAPS,
        json!({ "metadata": { "name": "x", "namespace": "other" } }),
        (
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    );
    check(
        "POST",
        CONFIG_MAPS,
        json!({ "metadata": { "name": "x", "resourceVersion": "5" } }),
        (400, "resourceVersion should not be set on objects to be created"),
    );
    check(
        "PUT",
        &one,
        config_map("b", "1"),
        (400, "the name of the object (b) does not match the name on the URL (a)"),
    );
    check(
        "GET",
        "/apis/apps/v1/namespaces/default/daemonsets",
        Value::Null,
        (404, "the server could not find the requested resource"),
    );
    check(
        "DELETE",
        &alloc::format!("{CONFIG_MAPS}/b"),
        Value::Null,
        (404, "configmaps \"b\" not found"),
    );
}

#[test]
fn an_update_needs_the_newest_version() {
    let mut cluster = Scripted::new();
    let made = cluster.want(201, "POST", CONFIG_MAPS, config_map("a", "1"));
    let url = alloc::format!("{CONFIG_MAPS}/a");
    let mut first = made.clone();
    first["data"]["k"] = "2".into();
    let written = cluster.want(200, "PUT", &url, first);
    assert_ne!(written["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(written["metadata"]["uid"], made["metadata"]["uid"]);

    let mut stale = made;
    stale["data"]["k"] = "3".into();
    let refused = cluster.want(409, "PUT", &url, stale);
    assert_eq!(
        refused["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    // Without a version it is taken on whatever is there.
    let unguarded = cluster.want(200, "PUT", &url, config_map("a", "4"));
    assert_eq!(unguarded["data"]["k"], "4");
}

#[test]
fn a_write_that_changes_nothing_is_not_made() {
    let mut cluster = Scripted::new();
    let made = cluster.want(201, "POST", CONFIG_MAPS, config_map("a", "1"));
    let commits = cluster.commits;
    cluster.now.0 += 60_000;
    let url = alloc::format!("{CONFIG_MAPS}/a");
    assert_eq!(cluster.want(200, "PUT", &url, made.clone()), made);
    assert_eq!(cluster.want(200, "PATCH", &url, json!({ "data": { "k": "1" } })), made);
    assert_eq!(cluster.commits, commits);
}

#[test]
fn every_kind_of_patch_works() {
    let mut cluster = Scripted::new();
    cluster.want(201, "POST", PODS, pod("p"));
    let url = alloc::format!("{PODS}/p");
    let merged =
        cluster.want(200, "MERGE", &url, json!({ "metadata": { "labels": { "a": "1" } } }));
    assert_eq!(merged["metadata"]["labels"], json!({ "a": "1" }));
    let image = json!({ "spec": { "containers": [{ "name": "main", "image": "other" }] } });
    let strategic = cluster.want(200, "STRATEGIC", &url, image);
    assert_eq!(strategic["spec"]["containers"][0]["image"], "other");
    assert_eq!(strategic["spec"]["containers"].as_array().map(Vec::len), Some(1));
    let operations = json!([{ "op": "remove", "path": "/metadata/labels/a" }]);
    let json_patched = cluster.want(200, "JSONPATCH", &url, operations);
    assert!(json_patched["metadata"]["labels"].get("a").is_none());

    let applied = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "ssa" }, "data": { "x": "1" },
    });
    let url = alloc::format!("{CONFIG_MAPS}/ssa?fieldManager=one");
    let made = cluster.want(201, "APPLY", &url, applied.clone());
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Apply");
    assert_eq!(cluster.want(200, "APPLY", &url, applied.clone()), made);
    let mut other = applied;
    other["data"]["x"] = "2".into();
    let url = alloc::format!("{CONFIG_MAPS}/ssa?fieldManager=two");
    assert_eq!(cluster.want(409, "APPLY", &url, other.clone())["reason"], "Conflict");
    let forced = cluster.want(200, "APPLY", &alloc::format!("{url}&force=true"), other);
    assert_eq!(forced["data"]["x"], "2");
}

#[test]
fn generated_names_differ() {
    let mut cluster = Scripted::new();
    let sent = json!({ "metadata": { "generateName": "x-" } });
    let one = cluster.want(201, "POST", CONFIG_MAPS, sent.clone());
    let two = cluster.want(201, "POST", CONFIG_MAPS, sent);
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
    assert_eq!(one["metadata"]["name"].as_str().map(str::len), Some(7));
}

#[test]
fn a_dry_run_writes_nothing() {
    let mut cluster = Scripted::new();
    let commits = cluster.commits;
    let url = alloc::format!("{CONFIG_MAPS}?dryRun=All");
    let shown = cluster.want(201, "POST", &url, config_map("a", "1"));
    assert_eq!(shown["metadata"]["uid"].as_str().map(str::len), Some(36));
    assert!(shown["metadata"].get("resourceVersion").is_none());
    cluster.want(404, "GET", &alloc::format!("{CONFIG_MAPS}/a"), Value::Null);
    assert_eq!(cluster.commits, commits);
    cluster.want(201, "POST", CONFIG_MAPS, config_map("a", "1"));
    cluster.want(200, "DELETE", &alloc::format!("{CONFIG_MAPS}/a?dryRun=All"), Value::Null);
    cluster.get(&alloc::format!("{CONFIG_MAPS}/a"));
}

#[test]
fn delete_answers_with_a_status_and_honours_preconditions() {
    let mut cluster = Scripted::new();
    let made = cluster.want(201, "POST", CONFIG_MAPS, config_map("a", "1"));
    let url = alloc::format!("{CONFIG_MAPS}/a");
    let other = json!({ "preconditions": { "uid": "another" } });
    let refused = cluster.want(409, "DELETE", &url, other);
    assert_eq!(refused["reason"], "Conflict");
    let gone = cluster.want(200, "DELETE", &url, json!({ "propagationPolicy": "Background" }));
    assert_eq!(gone["status"], "Success");
    assert_eq!(
        gone["details"],
        json!({ "name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"] })
    );
    cluster.want(404, "GET", &url, Value::Null);
}

#[test]
fn finalizers_hold_an_object_until_the_last_is_taken_out() {
    let mut cluster = Scripted::new();
    let mut sent = config_map("a", "1");
    sent["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.want(201, "POST", CONFIG_MAPS, sent);
    let url = alloc::format!("{CONFIG_MAPS}/a");
    let marked = cluster.want(200, "DELETE", &url, Value::Null);
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2023-11-14T22:13:20Z");
    let again = cluster.want(200, "DELETE", &url, Value::Null);
    assert_eq!(again, marked);
    cluster.want(200, "PATCH", &url, json!({ "metadata": { "finalizers": null } }));
    cluster.want(404, "GET", &url, Value::Null);
}

#[test]
fn propagation_policies_are_finalizers() {
    let mut cluster = Scripted::new();
    for (policy, want) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        cluster.want(201, "POST", CONFIG_MAPS, config_map(&policy.to_lowercase(), "1"));
        let url = alloc::format!("{CONFIG_MAPS}/{}", policy.to_lowercase());
        let marked = cluster.want(200, "DELETE", &url, json!({ "propagationPolicy": policy }));
        assert_eq!(marked["metadata"]["finalizers"], json!([want]));
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    }
}

fn bind(cluster: &mut Scripted, name: &str, node: &str) {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
        "target": { "kind": "Node", "name": node },
    });
    let answer = cluster.want(201, "POST", &alloc::format!("{PODS}/{name}/binding"), binding);
    assert_eq!(answer["status"], "Success");
}

#[test]
fn pods_are_deleted_gracefully_once_they_are_bound() {
    let mut cluster = Scripted::new();
    for name in ["unbound", "bound"] {
        cluster.want(201, "POST", PODS, pod(name));
    }
    let gone = cluster.want(200, "DELETE", &alloc::format!("{PODS}/unbound"), Value::Null);
    assert_eq!(gone["kind"], "Pod");
    cluster.want(404, "GET", &alloc::format!("{PODS}/unbound"), Value::Null);

    bind(&mut cluster, "bound", "pi1");
    let url = alloc::format!("{PODS}/bound");
    assert_eq!(cluster.get(&url)["spec"]["nodeName"], "pi1");
    let marked = cluster.want(200, "DELETE", &url, Value::Null);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2023-11-14T22:13:50Z");
    // It can only become shorter.
    let longer = cluster.want(200, "DELETE", &url, json!({ "gracePeriodSeconds": 60 }));
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = cluster.want(200, "DELETE", &url, json!({ "gracePeriodSeconds": 5 }));
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    cluster.want(200, "DELETE", &url, json!({ "gracePeriodSeconds": 0 }));
    cluster.want(404, "GET", &url, Value::Null);
}

#[test]
fn an_eviction_is_a_delete() {
    let mut cluster = Scripted::new();
    cluster.want(201, "POST", PODS, pod("p"));
    bind(&mut cluster, "p", "pi1");
    let eviction =
        json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "p" } });
    cluster.want(201, "POST", &alloc::format!("{PODS}/p/eviction"), eviction);
    assert!(
        cluster.get(&alloc::format!("{PODS}/p"))["metadata"].get("deletionTimestamp").is_some()
    );
}

#[test]
fn a_collection_is_deleted_by_its_selector() {
    let mut cluster = Scripted::new();
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut sent = config_map(name, "1");
        sent["metadata"]["labels"] = json!({ "app": app });
        cluster.want(201, "POST", CONFIG_MAPS, sent);
    }
    let url = alloc::format!("{CONFIG_MAPS}?labelSelector=app%3Dx");
    let gone = cluster.want(200, "DELETE", &url, Value::Null);
    assert_eq!(gone["items"].as_array().map(Vec::len), Some(2));
    let left = cluster.get(CONFIG_MAPS);
    let names: Vec<&Value> =
        left["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["c"]);
}

#[test]
fn a_namespace_waits_for_its_finalizer() {
    let mut cluster = Scripted::new();
    let sent = json!({ "metadata": { "name": "demo" } });
    let made = cluster.want(201, "POST", "/api/v1/namespaces", sent);
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["status"]["phase"], "Active");
    let mut ending = cluster.want(200, "DELETE", "/api/v1/namespaces/demo", Value::Null);
    assert_eq!(ending["status"]["phase"], "Terminating");
    ending["spec"]["finalizers"] = json!([]);
    cluster.want(200, "PUT", "/api/v1/namespaces/demo/finalize", ending);
    cluster.want(404, "GET", "/api/v1/namespaces/demo", Value::Null);
}

#[test]
fn scale_and_status_change_their_part_only() {
    let mut cluster = Scripted::new();
    let url = "/apis/apps/v1/namespaces/default/deployments";
    let sent = json!({
        "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
            },
        },
    });
    let made = cluster.want(201, "POST", url, sent);
    assert_eq!(made["spec"]["replicas"], 1);
    let one = alloc::format!("{url}/web");
    let scale = cluster.want(
        200,
        "PATCH",
        &alloc::format!("{one}/scale"),
        json!({ "spec": { "replicas": 3 } }),
    );
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    let status = json!({ "spec": { "replicas": 9 }, "status": { "collisionCount": 2 } });
    let changed = cluster.want(200, "PATCH", &alloc::format!("{one}/status"), status);
    assert_eq!(changed["spec"]["replicas"], 3);
    assert_eq!(changed["status"]["collisionCount"], 2);
    assert_eq!(changed["metadata"]["generation"], 2);
    let scale = cluster.get(&alloc::format!("{one}/scale"));
    assert_eq!(scale["spec"]["replicas"], 3);
}

#[test]
fn a_legacy_deployment_is_one_deployment_in_all_versions() {
    let mut cluster = Scripted::new();
    let sent = json!({
        "apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": { "name": "old" },
        "spec": { "replicas": 2, "template": {
            "metadata": { "labels": { "app": "old" } },
            "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
        } },
    });
    let url = "/apis/apps/v1beta1/namespaces/default/deployments";
    let answer = cluster.call("POST", url, Some(&sent));
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(answer.json()["apiVersion"], "apps/v1beta1");
    assert_eq!(
        answer.warnings(),
        [
            "299 - \"apps/v1beta1 Deployment is deprecated in v1.8+, unavailable in v1.16+; use apps/v1 Deployment\""
        ]
    );
    let new = cluster.get("/apis/apps/v1/namespaces/default/deployments/old");
    assert_eq!(new["apiVersion"], "apps/v1");
    assert_eq!(new["spec"]["revisionHistoryLimit"], 2);
    assert_eq!(new["spec"]["progressDeadlineSeconds"], 600);
    assert_eq!(new["spec"]["selector"]["matchLabels"], json!({ "app": "old" }));
    let list = cluster.get(url);
    assert_eq!(list["apiVersion"], "apps/v1beta1");
    assert_eq!(list["items"][0]["apiVersion"], "apps/v1beta1");
}

#[test]
fn lists_select_and_page_over_one_state() {
    let mut cluster = Scripted::new();
    for name in ["a", "b", "c", "d"] {
        let mut sent = config_map(name, "1");
        sent["metadata"]["labels"] = json!({ "first": if name == "a" { "true" } else { "false" } });
        cluster.want(201, "POST", CONFIG_MAPS, sent);
    }
    let names = |list: &Value| -> Vec<Value> {
        list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].clone()).collect()
    };
    let list = cluster.get(&alloc::format!("{CONFIG_MAPS}?labelSelector=first%21%3Dtrue"));
    assert_eq!(names(&list), ["b", "c", "d"]);
    let list = cluster.get(&alloc::format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dc"));
    assert_eq!(names(&list), ["c"]);
    assert_eq!(list["kind"], "ConfigMapList");

    let first = cluster.get(&alloc::format!("{CONFIG_MAPS}?limit=2"));
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    // What happens between the pages is not in them.
    cluster.want(200, "DELETE", &alloc::format!("{CONFIG_MAPS}/c"), Value::Null);
    cluster.want(201, "POST", CONFIG_MAPS, config_map("cc", "1"));
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = cluster.get(&alloc::format!("{CONFIG_MAPS}?limit=5&continue={token}"));
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact =
        alloc::format!("{CONFIG_MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    assert_eq!(names(&cluster.get(&exact)), ["a", "b", "c", "d"]);
    cluster.want(400, "GET", &alloc::format!("{CONFIG_MAPS}?continue=nonsense"), Value::Null);
    cluster.want(
        504,
        "GET",
        &alloc::format!("{CONFIG_MAPS}?resourceVersion=99999999999"),
        Value::Null,
    );
}

#[test]
fn metadata_can_be_asked_for_alone() {
    let mut cluster = Scripted::new();
    cluster.want(201, "POST", CONFIG_MAPS, config_map("a", "1"));
    let mut http = Scripted::http("GET", CONFIG_MAPS, None);
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    http.headers = [("accept".into(), accept.into())].into();
    let id = cluster.send_http(http);
    let list = cluster.answers.remove(&id).unwrap().json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    assert!(list["items"][0].get("data").is_none());
    let mut http = Scripted::http("GET", CONFIG_MAPS, None);
    http.headers = [("accept".into(), "text/html".into())].into();
    let id = cluster.send_http(http);
    assert_eq!(cluster.answers.remove(&id).unwrap().code, 406);
}

#[test]
fn logs_are_asked_of_the_node_that_has_them() {
    let mut cluster = Scripted::new();
    let mut two = pod("two");
    two["spec"]["containers"] =
        json!([{ "name": "a", "image": "x" }, { "name": "b", "image": "x" }]);
    cluster.want(201, "POST", PODS, pod("one"));
    cluster.want(201, "POST", PODS, two);
    let log = alloc::format!("{PODS}/one/log");
    let unbound = cluster.call("GET", &log, None);
    assert_eq!((unbound.code, unbound.text().as_str()), (200, ""), "nothing has run yet");
    bind(&mut cluster, "one", "pi1");
    let refused = cluster.want(400, "GET", &log, Value::Null);
    assert_eq!(
        refused["message"],
        "container \"main\" in pod \"one\" is waiting to start: ContainerCreating"
    );
    let refused = cluster.want(400, "GET", &alloc::format!("{PODS}/two/log"), Value::Null);
    assert_eq!(
        refused["message"],
        "a container name must be specified for pod two, choose one of: [a b]"
    );
    let refused = cluster.want(400, "GET", &alloc::format!("{log}?container=x"), Value::Null);
    assert_eq!(refused["message"], "container x is not valid for pod one");

    let running = json!({ "status": { "phase": "Running", "containerStatuses": [{
        "name": "main", "image": "busybox", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": { "startedAt": "2023-11-14T22:13:20Z" } },
    }] } });
    cluster.want(200, "STRATEGIC", &alloc::format!("{PODS}/one/status"), running);
    let answer = cluster.call("GET", &log, None);
    assert_eq!(answer.code, 503, "{}", answer.text());
    let peer = crate::call::Peer {
        common_name: "system:node:pi1".into(),
        organizations: ["system:nodes".into()].into(),
    };
    cluster.step(crate::plane::Event::NodeTunnel(peer, true));
    let answer = cluster.call("GET", &alloc::format!("{log}?follow=true&tailLines=5"), None);
    let AnswerBody::Node(node, path) = &answer.body else { panic!("{answer:?}") };
    assert_eq!(node, "pi1");
    assert_eq!(path, "/containerLogs/default/one/main?follow=true&tailLines=5");
    let refused = cluster.want(400, "GET", &alloc::format!("{log}?previous=true"), Value::Null);
    assert_eq!(
        refused["message"],
        "previous terminated container \"main\" in pod \"one\" not found"
    );
}

#[test]
fn unknown_fields_are_warned_about_or_refused() {
    let mut cluster = Scripted::new();
    let mut sent = config_map("a", "1");
    sent["spec"] = json!({});
    let answer = cluster.call("POST", CONFIG_MAPS, Some(&sent));
    assert_eq!(
        (answer.code, answer.warnings()),
        (201, [r#"299 - "unknown field \"spec\"""#].into())
    );
    let strict = alloc::format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let refused = cluster.want(400, "POST", &strict, sent);
    assert!(refused["message"].as_str().unwrap().contains("unknown field \"spec\""), "{refused}");
}
