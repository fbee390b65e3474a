//! Ownership as a real API server noted it (recorded), and apply by scripts.

use alloc::{string::ToString, vec::Vec};

use serde_json::{Value, json};

use super::{Writer, apply, update};
use crate::schema::{TypeRef, type_by_gvk};

fn by(name: &'static str) -> Writer<'static> {
    Writer { name, api_version: "apps/v1", subresource: "", time: "2026-01-01T00:00:00Z" }
}

fn deployment() -> TypeRef {
    type_by_gvk("apps", "v1", "Deployment").unwrap()
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let found = entries.into_iter().find(|entry| entry["manager"] == manager);
    found.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn web() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}, "uid": "1", "generation": 1},
    "spec": {"progressDeadlineSeconds": 600, "replicas": 2, "revisionHistoryLimit": 10,
        "selector": {"matchLabels": {"app": "web"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
            "containers": [{"name": "web", "image": "nginx:1.25", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30}}},
    "status": {}})
}

/// The entry of `kubectl create -f` of this Deployment, as recorded.
#[test]
fn a_create_owns_what_it_set() {
    let mut object = web();
    update(deployment(), None, &mut object, &by("kubectl-create"));
    let want = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
        "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
        "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
        "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
            "f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {},
                "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                    {".": {}, "f:containerPort": {}, "f:protocol": {}}},
                "f:resources": {".": {}, "f:requests": {".": {}, "f:cpu": {}, "f:memory": {}}},
                "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}}},
            "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
            "f:terminationGracePeriodSeconds": {}}}}});
    assert_eq!(fields(&object, "kubectl-create"), want);
}

/// The image is changed and an annotation set by another, as recorded for `kubectl apply`.
#[test]
fn an_update_takes_what_it_changed() {
    let mut live = web();
    update(deployment(), None, &mut live, &by("kubectl-create"));
    let mut new = live.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:1.26".into();
    new["metadata"]["annotations"] = json!({"a": "b"});
    update(deployment(), Some(&live), &mut new, &by("other"));
    let want = json!({"f:metadata": {"f:annotations": {".": {}, "f:a": {}}},
        "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}}}}}}});
    assert_eq!(fields(&new, "other"), want);
    let first = fields(&new, "kubectl-create").to_string();
    assert!(!first.contains("f:image\"") && first.contains("f:imagePullPolicy"), "{first}");
    // The same again changes nothing, not even a time.
    let mut again = new.clone();
    let later = Writer { time: "2027-01-01T00:00:00Z", ..by("other") };
    update(deployment(), Some(&new), &mut again, &later);
    assert_eq!(again, new);
}

#[test]
fn a_status_write_owns_status_alone() {
    let mut live = web();
    update(deployment(), None, &mut live, &by("kubectl-create"));
    let mut new = live.clone();
    new["status"] = json!({"replicas": 2, "conditions": [{"type": "Available", "status": "True"}]});
    let writer = Writer { subresource: "status", ..by("controller") };
    update(deployment(), Some(&live), &mut new, &writer);
    let want = json!({"f:status": {"f:replicas": {}, "f:conditions": {".": {},
        "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}}});
    assert_eq!(fields(&new, "controller"), want);
    assert_eq!(new["metadata"]["managedFields"][0]["subresource"], "status");
}

fn config(replicas: i64, labels: &[&str]) -> Value {
    let labels: serde_json::Map<_, _> =
        labels.iter().map(|label| ((*label).into(), "1".into())).collect();
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [
            {"name": "web", "image": "nginx", "ports": [{"containerPort": 80}]}]}}}})
}

#[test]
fn apply_makes_merges_and_takes_away() {
    let made = apply(deployment(), None, &config(2, &["a", "b"]), &by("me"), false).unwrap();
    let want = json!({"f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}, "f:spec": {"f:replicas": {},
        "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {},
            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}});
    assert_eq!(fields(&made, "me"), want);
    let mut live = made.clone();
    live["spec"]["paused"] = true.into();
    let next = apply(deployment(), Some(&live), &config(3, &["b"]), &by("me"), false).unwrap();
    assert_eq!(next["spec"]["replicas"], 3);
    assert_eq!(next["spec"]["paused"], true);
    assert_eq!(next["metadata"]["labels"], json!({"b": "1"}));
    // Another applier shares what it sets to the same value; what two own stays when one lets go.
    let both =
        apply(deployment(), Some(&next), &config(3, &["b", "c"]), &by("you"), false).unwrap();
    let less = apply(deployment(), Some(&both), &config(3, &[]), &by("me"), false).unwrap();
    assert_eq!(less["metadata"]["labels"], json!({"b": "1", "c": "1"}));
}

#[test]
fn apply_conflicts_are_named_and_can_be_forced() {
    let made = apply(deployment(), None, &config(2, &[]), &by("me"), false).unwrap();
    let mut scaled = made.clone();
    scaled["spec"]["replicas"] = 5.into();
    update(deployment(), Some(&made), &mut scaled, &by("scaler"));
    let error = apply(deployment(), Some(&scaled), &config(2, &[]), &by("me"), false).unwrap_err();
    assert_eq!(error.code, 409);
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1: .spec.replicas"
    );
    let mut other = config(2, &[]);
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "other".into();
    let error = apply(deployment(), Some(&scaled), &other, &by("you"), false).unwrap_err();
    let named: Vec<_> =
        error.details.unwrap().causes.into_iter().map(|cause| cause.field).collect();
    assert_eq!(named, [".spec.template.spec.containers[name=\"web\"].image", ".spec.replicas"]);
    let forced = apply(deployment(), Some(&scaled), &config(2, &[]), &by("me"), true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(fields(&forced, "scaler"), Value::Null);
}

#[test]
fn list_items_come_and_go_by_their_keys() {
    let pod = type_by_gvk("", "v1", "Pod").unwrap();
    let config = |names: &[&str]| {
        let containers: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
    };
    let names = |object: &Value| -> Vec<Value> {
        let list = object["spec"]["containers"].as_array().unwrap();
        list.iter().map(|container| container["name"].clone()).collect()
    };
    let made = apply(pod, None, &config(&["a", "b"]), &by("me"), false).unwrap();
    let both = apply(pod, Some(&made), &config(&["c"]), &by("you"), false).unwrap();
    assert_eq!(names(&both), ["c", "a", "b"].map(Value::from));
    let less = apply(pod, Some(&both), &config(&["b"]), &by("me"), false).unwrap();
    assert_eq!(names(&less), ["c", "b"].map(Value::from));
    let bad = json!({"spec": {"containers": [{"image": "x"}]}});
    assert_eq!(apply(pod, None, &bad, &by("me"), false).unwrap_err().code, 400);
}

#[test]
fn the_first_apply_finds_an_unknown_owner_and_updaters_are_bounded() {
    let live = json!({"metadata": {"name": "web"}, "spec": {"replicas": 4}});
    let error = apply(deployment(), Some(&live), &config(2, &[]), &by("me"), false).unwrap_err();
    assert!(error.message.contains("\"before-first-apply\" using apps/v1: .spec.replicas"));
    let mut object = web();
    update(deployment(), None, &mut object, &by("m"));
    for at in 0..30 {
        let live = object.clone();
        object["metadata"]["labels"][at.to_string()] = "x".into();
        let names: [&'static str; 30] =
            core::array::from_fn(|at| &"abcdefghijklmnopqrstuvwxyz01234567"[at..=at]);
        update(deployment(), Some(&live), &mut object, &by(names[at]));
    }
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert!(entries.len() <= crate::limits::UPDATE_MANAGERS_MAX, "{}", entries.len());
    assert!(entries.iter().any(|entry| entry["manager"] == "ancient-changes"));
}
