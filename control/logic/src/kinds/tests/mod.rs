//! Tables over the whole of a kind's way in: defaults, conversion, preparation, validation.

mod refused;

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use serde_json::{Value, json};

use super::*;
use crate::kinds::access::{at, set, text};

fn context<'a>(user: &'a User, group: &'a str, version: &'a str) -> Context<'a> {
    Context { now: Millis(1_700_000_000_000), user, group, version }
}

/// What is stored of a new object; the namespace and uid that the registry gives are given here.
fn created(resource: Resource, group: &str, version: &str, sent: &Value) -> Result<Value, Status> {
    let user = User { name: "tester".into(), ..User::default() };
    let context = context(&user, group, version);
    let mut object = sent.clone();
    default(resource, &context, &mut object);
    let mut object = to_hub(group, version, object)?;
    prepare_create(resource, &context, &mut object);
    if resource.def().namespaced {
        set(access::child(&mut object, "metadata"), "namespace", "default");
    }
    validate_create(resource, &context, &object)?;
    Ok(object)
}

fn updated(
    resource: Resource,
    group: &str,
    version: &str,
    sent: &Value,
    old: &Value,
) -> Result<Value, Status> {
    let user = User { name: "tester".into(), ..User::default() };
    let context = context(&user, group, version);
    let mut object = sent.clone();
    default(resource, &context, &mut object);
    let mut object = to_hub(group, version, object)?;
    prepare_update(resource, &context, &mut object, old);
    validate_update(resource, &context, &object, old)?;
    Ok(object)
}

fn deployment(name: &str) -> Value {
    json!({
        "kind": "Deployment", "metadata": { "name": name },
        "spec": { "template": {
            "metadata": { "labels": { "app": name } },
            "spec": { "containers": [
                { "name": name, "image": "nginx:1.7.9", "ports": [{ "containerPort": 80 }] }
            ] },
        } },
    })
}

fn pod(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": spec })
}

/// The causes, each `field: message`.
fn causes(result: Result<Value, Status>) -> Vec<String> {
    let Err(status) = result else { return Vec::new() };
    let details = status.details.unwrap_or_default();
    let mut lines: Vec<String> =
        details.causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    if lines.is_empty() {
        lines.push(status.message);
    }
    lines
}

#[test]
fn what_was_sent_becomes_what_kubernetes_answered() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../testdata/created.json")).unwrap();
    assert!(cases.len() > 15);
    for case in cases {
        let plural = text(&case, &["plural"]);
        let group = if plural == "deployments" { "apps" } else { "" };
        let resource = Resource::find(group, plural).unwrap();
        let mut got = created(resource, group, "v1", &case["sent"]).unwrap();
        access::remove(&mut got["metadata"], "namespace");
        if plural == "services" {
            access::remove(&mut got["spec"], "clusterIP");
        }
        assert_eq!(got, case["answered"], "{}", case["from"]);
    }
}

#[test]
fn each_version_has_its_own_defaults() {
    let check = |group: &str, version: &str, pace: Value, history: i64, deadline: i64| {
        let mut sent = deployment("nginx");
        set(&mut sent, "apiVersion", format!("{group}/{version}"));
        let got = created(Resource::DEPLOYMENTS, group, version, &sent).unwrap();
        assert_eq!(got["apiVersion"], "apps/v1");
        assert_eq!(got["metadata"]["labels"], json!({ "app": "nginx" }), "{group}/{version}");
        let spec = &got["spec"];
        assert_eq!(spec["selector"], json!({ "matchLabels": { "app": "nginx" } }));
        assert_eq!(spec["replicas"], 1);
        let rolling = json!({ "maxUnavailable": pace, "maxSurge": pace });
        assert_eq!(spec["strategy"], json!({ "type": "RollingUpdate", "rollingUpdate": rolling }));
        assert_eq!(spec["revisionHistoryLimit"], history);
        assert_eq!(spec["progressDeadlineSeconds"], deadline);
        let container = &spec["template"]["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        let back = from_hub(group, version, got);
        assert_eq!(back["apiVersion"], format!("{group}/{version}"));
    };
    check("apps", "v1beta1", json!("25%"), 2, 600);
    check("extensions", "v1beta1", json!(1), 2_147_483_647, 2_147_483_647);

    for version in ["v1", "v1beta2"] {
        let got = created(Resource::DEPLOYMENTS, "apps", version, &deployment("nginx"));
        assert_eq!(
            causes(got),
            [
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"nginx\"}: `selector` does not match template `labels`",
            ]
        );
    }
    let mut bare = deployment("nginx");
    access::remove(&mut bare["spec"]["template"], "metadata");
    let got = created(Resource::DEPLOYMENTS, "apps", "v1beta1", &bare).unwrap_err();
    assert_eq!(
        got.message,
        "Deployment.apps \"nginx\" is invalid: [spec.selector: Required value, spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`]"
    );
}

#[test]
fn rollback_to_is_an_annotation_in_the_hub() {
    let mut sent = deployment("nginx");
    set(&mut sent["spec"], "rollbackTo", json!({ "revision": 3 }));
    let got = created(Resource::DEPLOYMENTS, "apps", "v1beta1", &sent).unwrap();
    assert_eq!(got["metadata"]["annotations"][versions::ROLLBACK_TO], "3");
    assert_eq!(at(&got, &["spec", "rollbackTo"]), None);
    let legacy = from_hub("apps", "v1beta1", got.clone());
    assert_eq!(legacy["spec"]["rollbackTo"]["revision"], 3);
    assert_eq!(at(&legacy, &["metadata", "annotations"]), None);
    assert_eq!(at(&from_hub("apps", "v1", got), &["spec", "rollbackTo"]), None);

    let request = json!({ "name": "nginx", "updatedAnnotations": { "a": "b" }, "rollbackTo": {} });
    let old = created(Resource::DEPLOYMENTS, "apps", "v1beta1", &deployment("nginx")).unwrap();
    let got = rollback(&old, &request).unwrap();
    assert_eq!(got["metadata"]["annotations"], json!({ "a": "b", (versions::ROLLBACK_TO): "0" }));
    assert_eq!(rollback(&old, &json!({ "name": "other" })).unwrap_err().code, 400);
}

#[test]
fn quality_of_service_and_pod_defaults() {
    let check = |resources: Value, qos: &str, stored: Value| {
        let container = json!({ "name": "c", "image": "i", "resources": resources });
        let got = created(Resource::PODS, "", "v1", &pod(json!({ "containers": [container] })));
        let got = got.unwrap();
        assert_eq!(got["status"]["qosClass"], qos);
        assert_eq!(got["spec"]["containers"][0]["resources"], stored);
        assert_eq!(got["spec"]["containers"][0]["imagePullPolicy"], "Always");
    };
    check(json!({}), "BestEffort", json!({}));
    check(
        json!({ "requests": { "cpu": "0.5" } }),
        "Burstable",
        json!({ "requests": { "cpu": "500m" } }),
    );
    let both = json!({ "cpu": "1", "memory": "1Gi" });
    check(
        json!({ "limits": { "cpu": "1000m", "memory": "1024Mi" } }),
        "Guaranteed",
        json!({ "limits": both, "requests": both }),
    );
    check(
        json!({ "limits": both, "requests": { "cpu": "100m" } }),
        "Burstable",
        json!({ "limits": both, "requests": { "cpu": "100m", "memory": "1Gi" } }),
    );
}

#[test]
fn an_image_without_tag_means_latest() {
    let check = |image: &str, policy: &str| {
        let spec = json!({ "containers": [{ "name": "c", "image": image }] });
        let got = created(Resource::PODS, "", "v1", &pod(spec)).unwrap();
        assert_eq!(got["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    };
    check("a", "Always");
    check("host:5000/a", "Always");
    check("host:5000/a:latest", "Always");
    check("host:5000/a:1", "IfNotPresent");
    check("a@sha256:00", "IfNotPresent");
}

#[test]
fn generations_move_with_the_desired_state() {
    let old = created(Resource::DEPLOYMENTS, "apps", "v1beta1", &deployment("web")).unwrap();
    assert_eq!(old["metadata"]["generation"], 1);
    let check = |version: &str, change: &dyn Fn(&mut Value), want: Result<i64, &str>| {
        let mut new = old.clone();
        change(&mut new);
        let got = updated(Resource::DEPLOYMENTS, "apps", version, &new, &old);
        match want {
            Ok(generation) => assert_eq!(got.unwrap()["metadata"]["generation"], generation),
            Err(want) => assert_eq!(causes(got), [want]),
        }
    };
    check("v1", &|_| {}, Ok(1));
    check("v1", &|d| d["spec"]["replicas"] = json!(2), Ok(2));
    check("v1", &|d| d["metadata"]["annotations"] = json!({ "a": "b" }), Ok(2));
    check("v1", &|d| d["metadata"]["labels"] = json!({ "a": "b" }), Ok(1));
    check("v1", &|d| d["status"] = json!({ "replicas": 9 }), Ok(1));
    check("v1", &|d| d["metadata"]["generation"] = json!(7), Ok(1));
    let relabel = |d: &mut Value| {
        d["spec"]["selector"] = json!({ "matchLabels": { "x": "y" } });
        d["spec"]["template"]["metadata"]["labels"] = json!({ "x": "y" });
    };
    check("v1beta1", &relabel, Ok(2));
    check(
        "v1",
        &relabel,
        Err("spec.selector: Invalid value: {\"matchLabels\":{\"x\":\"y\"}}: field is immutable"),
    );
}

#[test]
fn a_binding_assigns_once() {
    let user = User::default();
    let context = context(&user, "", "v1");
    let spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
    let pod = created(Resource::PODS, "", "v1", &pod(spec)).unwrap();
    let to = |node: &str| json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": node } });
    let bound = binding::bind(&context, &pod, &to("pi")).unwrap();
    assert_eq!(bound["spec"]["nodeName"], "pi");
    assert_eq!(
        bound["status"]["conditions"],
        json!([{
            "type": "PodScheduled", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": "2023-11-14T22:13:20Z",
        }])
    );
    let again = binding::bind(&context, &bound, &to("other")).unwrap_err();
    assert_eq!(again.code, 409);
    assert_eq!(
        again.message,
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"pi\""
    );
    let mut wrong = to("pi");
    wrong["target"]["kind"] = json!("Cloud");
    assert_eq!(binding::bind(&context, &pod, &wrong).unwrap_err().code, 422);
    let mut other_life = to("pi");
    other_life["metadata"]["uid"] = json!("x");
    assert_eq!(binding::bind(&context, &pod, &other_life).unwrap_err().code, 409);
}

#[test]
fn service_addresses() {
    use service_ip::{Allocation, SERVICE_CIDR, allocation, first_free, is_free, set_ip, used};
    let service = |spec: Value| json!({ "spec": spec });
    assert_eq!(allocation(&service(json!({})), None), Allocation::Any);
    assert_eq!(allocation(&service(json!({ "clusterIP": "None" })), None), Allocation::Nothing);
    assert_eq!(allocation(&service(json!({ "type": "ExternalName" })), None), Allocation::Nothing);
    let mut first = service(json!({}));
    let ip = first_free(&used([].iter())).unwrap();
    assert_eq!(ip.to_string(), "10.43.0.2");
    set_ip(&mut first, ip);
    assert_eq!(first["spec"], json!({ "clusterIP": "10.43.0.2", "clusterIPs": ["10.43.0.2"] }));
    let taken = used([first.clone()].iter());
    assert!(!is_free(ip, &taken));
    assert_eq!(first_free(&taken).unwrap().to_string(), "10.43.0.3");
    assert!(!is_free(SERVICE_CIDR.0, &taken));
    assert!(is_free("10.43.255.254".parse().unwrap(), &taken));
    assert!(!is_free("10.43.255.255".parse().unwrap(), &taken));
    assert!(!is_free("10.44.0.1".parse().unwrap(), &taken));
    assert_eq!(allocation(&first, Some(&first)), Allocation::Nothing);
}

#[test]
fn scales_have_the_shape_of_their_version() {
    let mut object = created(Resource::DEPLOYMENTS, "apps", "v1beta1", &deployment("web")).unwrap();
    object["status"] = json!({ "replicas": 2 });
    let got = scale::get("apps", "v1", &object);
    assert_eq!(got["apiVersion"], "autoscaling/v1");
    assert_eq!(got["spec"], json!({ "replicas": 1 }));
    assert_eq!(got["status"], json!({ "replicas": 2, "selector": "app=web" }));
    let got = scale::get("extensions", "v1beta1", &object);
    assert_eq!(got["apiVersion"], "extensions/v1beta1");
    assert_eq!(
        got["status"],
        json!({ "replicas": 2, "selector": { "app": "web" }, "targetSelector": "app=web" })
    );
    let put = |replicas: i64| {
        let body = json!({ "metadata": { "name": "web" }, "spec": { "replicas": replicas } });
        scale::put(Resource::DEPLOYMENTS, &body, &object)
    };
    assert_eq!(put(5).unwrap()["spec"]["replicas"], 5);
    assert_eq!(put(-1).unwrap_err().code, 422);
}

#[test]
fn field_selectors() {
    assert!(field_label(Resource::PODS, "spec.nodeName").is_ok());
    assert!(field_label(Resource::NODES, "metadata.name").is_ok());
    assert!(field_label(Resource::NODES, "metadata.namespace").is_err());
    let refused = field_label(Resource::PODS, "spec.foo").unwrap_err();
    assert_eq!((refused.code, &*refused.message), (400, "field label not supported: spec.foo"));
    let check = |resource, object: Value, path: &str, want: &str| {
        assert_eq!(fields::value(resource, &object, path), want, "{path}");
    };
    check(Resource::PODS, json!({ "status": { "phase": "Running" } }), "status.phase", "Running");
    check(Resource::PODS, json!({}), "spec.nodeName", "");
    check(Resource::PODS, json!({}), "spec.hostNetwork", "false");
    check(
        Resource::NODES,
        json!({ "spec": { "unschedulable": true } }),
        "spec.unschedulable",
        "true",
    );
    check(Resource::EVENTS, json!({ "reportingComponent": "x" }), "source", "x");
    check(Resource::EVENTS, json!({ "involvedObject": { "name": "p" } }), "regarding.name", "p");
    check(Resource::REPLICA_SETS, json!({}), "status.replicas", "0");
}

#[test]
fn events_have_two_shapes() {
    let newer = json!({
        "apiVersion": "events.k8s.io/v1", "metadata": { "name": "e" }, "eventTime": "2026-01-01T00:00:00.000000Z",
        "regarding": { "kind": "Pod", "namespace": "default", "name": "p" }, "note": "n", "reason": "R",
        "action": "A", "type": "Normal", "reportingController": "c", "reportingInstance": "i",
    });
    let core = created(Resource::EVENTS, "events.k8s.io", "v1", &newer).unwrap();
    assert_eq!(core["apiVersion"], "v1");
    assert_eq!(core["involvedObject"]["name"], "p");
    assert_eq!(core["message"], "n");
    assert_eq!(core["reportingComponent"], "c");
    let back = from_hub("events.k8s.io", "v1", core);
    assert_eq!(back["regarding"], newer["regarding"]);
    assert_eq!(back["note"], "n");
}

#[test]
fn a_certificate_request_says_who_asked() {
    let user = User {
        name: "system:bootstrap:x".into(),
        groups: vec!["system:bootstrappers".into()],
        ..User::default()
    };
    let context = context(&user, "certificates.k8s.io", "v1");
    let resource = Resource::CERTIFICATE_SIGNING_REQUESTS;
    let mut request = json!({
        "metadata": { "name": "r" }, "spec": { "username": "admin", "groups": ["system:masters"] },
    });
    prepare_create(resource, &context, &mut request);
    assert_eq!(request["spec"]["username"], "system:bootstrap:x");
    assert_eq!(request["spec"]["groups"], json!(["system:bootstrappers"]));

    let approved = json!({ "type": "Approved", "status": "True", "reason": "r" });
    let mut new = request.clone();
    new["status"] = json!({ "conditions": [approved], "certificate": "x" });
    let mut by_approval = new.clone();
    prepare_subresource(resource, "approval", &context, &mut by_approval, &request);
    assert_eq!(at(&by_approval, &["status", "certificate"]), None);
    let condition = &by_approval["status"]["conditions"][0];
    assert_eq!(condition["type"], "Approved");
    assert_eq!(condition["lastUpdateTime"], "2023-11-14T22:13:20Z");
    let mut by_status = new;
    prepare_subresource(resource, "status", &context, &mut by_status, &request);
    assert_eq!(at(&by_status, &["status", "conditions"]), None, "status gives no verdict");
    let mut withdrawn = by_approval.clone();
    withdrawn["status"] = json!({});
    let refused = validate_subresource(resource, "approval", &context, &withdrawn, &by_approval);
    assert_eq!(refused.unwrap_err().code, 422);
}

#[test]
fn warnings_say_what_is_likely_not_meant() {
    let user = User::default();
    let context = context(&user, "apps", "v1");
    let mut sent = deployment("web");
    let container = &mut sent["spec"]["template"]["spec"]["containers"][0];
    container["env"] = json!([{ "name": "X" }, { "name": "X" }]);
    container["ports"] = json!([{ "containerPort": 80, "protocol": "TCP" }, { "containerPort": 80, "protocol": "TCP" }]);
    assert_eq!(
        warnings(Resource::DEPLOYMENTS, &context, &sent, None),
        [
            "spec.template.spec.containers[0].env[1]: hides previous definition of \"X\", which may be dropped when using apply",
            "spec.template.spec.containers[0].ports[1]: duplicate port definition with spec.template.spec.containers[0].ports[0]",
        ]
    );
    assert_eq!(warnings(Resource::DEPLOYMENTS, &context, &sent, Some(&sent)), Vec::<String>::new());
    assert_eq!(
        deprecation("apps", "v1beta1", "Deployment").unwrap(),
        "apps/v1beta1 Deployment is deprecated in v1.8+, unavailable in v1.16+; use apps/v1 Deployment"
    );
    assert_eq!(deprecation("apps", "v1", "Deployment"), None);
}

#[test]
fn no_shape_of_json_panics() {
    let user = User::default();
    let odd = [
        Value::Null,
        json!([]),
        json!("x"),
        json!(1),
        json!({ "metadata": [], "spec": 1, "status": "x", "data": [1], "rules": {}, "subjects": 3 }),
        json!({ "metadata": { "labels": 1, "finalizers": [1], "ownerReferences": [null, 1] } }),
        json!({ "spec": {
            "containers": [1, null, { "ports": [1], "env": [[]], "resources": { "limits": 5 } }],
            "volumes": [1, { "projected": { "sources": [1, { "secret": 1 }] } }],
            "template": { "metadata": 1, "spec": [] }, "ports": [1], "selector": [],
            "strategy": "x", "replicas": "x", "tolerations": [1], "affinity": 1,
        } }),
    ];
    for resource in Resource::all() {
        let def = resource.def();
        let context = context(&user, def.group, def.version);
        for old in &odd {
            for new in &odd {
                let mut new = new.clone();
                default(resource, &context, &mut new);
                let mut created = new.clone();
                prepare_create(resource, &context, &mut created);
                assert!(validate_create(resource, &context, &created).is_err(), "no name");
                prepare_update(resource, &context, &mut new, old);
                let _ = validate_update(resource, &context, &new, old);
                for subresource in ["status", "approval", "finalize"] {
                    prepare_subresource(resource, subresource, &context, &mut new, old);
                    let _ = validate_subresource(resource, subresource, &context, &new, old);
                }
                let _ = warnings(resource, &context, &new, Some(old));
            }
        }
    }
}

#[test]
fn the_manifest_of_the_first_issue() {
    let sent = json!({
        "apiVersion": "apps/v1beta1", "kind": "Deployment",
        "metadata": { "name": "test-service-deploy" },
        "spec": { "replicas": 2, "template": {
            "metadata": { "labels": { "app": "test-service" } },
            "spec": { "containers": [{
                "name": "test-ser", "image": "docker.io/jagadesh1982/testing-service",
                "ports": [{ "containerPort": 9876 }], "env": [{ "name": "VERSION", "value": "0.5" }],
            }] },
        } },
    });
    let got = created(Resource::DEPLOYMENTS, "apps", "v1beta1", &sent).unwrap();
    let want = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "test-service-deploy", "namespace": "default", "generation": 1,
            "labels": { "app": "test-service" },
        },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "test-service" } },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } },
            "revisionHistoryLimit": 2, "progressDeadlineSeconds": 600,
            "template": {
                "metadata": { "labels": { "app": "test-service" } },
                "spec": {
                    "containers": [{
                        "name": "test-ser", "image": "docker.io/jagadesh1982/testing-service",
                        "ports": [{ "containerPort": 9876, "protocol": "TCP" }],
                        "env": [{ "name": "VERSION", "value": "0.5" }], "resources": {},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File", "imagePullPolicy": "Always",
                    }],
                    "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
                    "dnsPolicy": "ClusterFirst", "securityContext": {},
                    "schedulerName": "default-scheduler",
                },
            },
        },
        "status": {},
    });
    assert_eq!(got, want);
}
