//! Tables over the whole of a kind's way in: defaults, conversion, preparation, validation.

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
    let cases: Vec<Value> = serde_json::from_str(include_str!("testdata/created.json")).unwrap();
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
fn a_deployment_is_refused_in_kubernetes_words() {
    let check = |change: &dyn Fn(&mut Value), want: &[&str]| {
        let mut sent = deployment("web");
        sent["spec"]["selector"] = json!({ "matchLabels": { "app": "web" } });
        change(&mut sent);
        assert_eq!(causes(created(Resource::DEPLOYMENTS, "apps", "v1", &sent)), want);
    };
    check(&|_| {}, &[]);
    check(
        &|d| d["spec"]["replicas"] = json!(-1),
        &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    );
    check(
        &|d| d["metadata"]["name"] = json!("A"),
        &[
            "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ],
    );
    check(
        &|d| d["spec"]["selector"] = json!({}),
        &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
    );
    check(
        &|d| d["spec"]["strategy"] = json!({ "type": "Recreate", "rollingUpdate": {} }),
        &[
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ],
    );
    check(
        &|d| {
            d["spec"]["strategy"] =
                json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "0%" } })
        },
        &[
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ],
    );
    check(
        &|d| d["spec"]["strategy"] = json!({ "rollingUpdate": { "maxUnavailable": "101%" } }),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ],
    );
    check(
        &|d| d["spec"]["minReadySeconds"] = json!(600),
        &["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
    );
    check(
        &|d| d["spec"]["template"]["spec"]["restartPolicy"] = json!("Never"),
        &[
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    check(
        &|d| {
            access::remove(&mut d["spec"]["template"]["spec"]["containers"][0], "name");
        },
        &["spec.template.spec.containers[0].name: Required value"],
    );
    check(
        &|d| d["spec"]["template"]["spec"]["containers"] = json!([]),
        &["spec.template.spec.containers: Required value"],
    );
}

#[test]
fn a_pod_is_refused_in_kubernetes_words() {
    let check = |key: &str, value: Value, want: &[&str]| {
        let mut spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
        match key.strip_prefix("c.") {
            Some(key) => set(&mut spec["containers"][0], key, value),
            None => set(&mut spec, key, value),
        }
        assert_eq!(causes(created(Resource::PODS, "", "v1", &pod(spec))), want, "{key}");
    };
    check(
        "c.image",
        json!(" i"),
        &[
            "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
        ],
    );
    check(
        "c.ports",
        json!([{ "containerPort": 70000 }, { "containerPort": 0 }]),
        &[
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].containerPort: Required value",
        ],
    );
    check(
        "c.ports",
        json!([{ "containerPort": 1, "name": "a" }, { "containerPort": 2, "name": "a" }]),
        &["spec.containers[0].ports[1].name: Duplicate value: \"a\""],
    );
    check(
        "c.env",
        json!([{ "name": "a=b" }, { "name": "X", "valueFrom": {} }]),
        &[
            "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            "spec.containers[0].env[1].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ],
    );
    check(
        "c.resources",
        json!({ "requests": { "cpu": "2" }, "limits": { "cpu": "1" } }),
        &[
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ],
    );
    check(
        "c.resources",
        json!({ "limits": { "gpus": "1" } }),
        &[
            "spec.containers[0].resources.limits[gpus]: Invalid value: \"gpus\": must be a standard resource for containers",
            "spec.containers[0].resources.requests[gpus]: Invalid value: \"gpus\": must be a standard resource for containers",
        ],
    );
    check(
        "c.volumeMounts",
        json!([{ "name": "v", "mountPath": "/a" }, { "name": "v", "mountPath": "/a" }]),
        &[
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            "spec.containers[0].volumeMounts[1].name: Not found: \"v\"",
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
        ],
    );
    check(
        "c.livenessProbe",
        json!({ "successThreshold": 2, "httpGet": { "port": 0 } }),
        &[
            "spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ],
    );
    check(
        "c.readinessProbe",
        json!({}),
        &["spec.containers[0].readinessProbe: Required value: must specify a handler type"],
    );
    check(
        "c.imagePullPolicy",
        json!("Sometimes"),
        &[
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ],
    );
    check(
        "initContainers",
        json!([{ "name": "c", "image": "i" }]),
        &["spec.initContainers[0].name: Duplicate value: \"c\""],
    );
    check(
        "volumes",
        json!([{ "name": "v", "hostPath": { "path": "/a/../b" } }, { "name": "v", "configMap": {} }]),
        &[
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            "spec.volumes[1].name: Duplicate value: \"v\"",
            "spec.volumes[1].configMap.name: Required value",
        ],
    );
    check(
        "tolerations",
        json!([{ "operator": "Equal" }, { "key": "a", "operator": "Exists", "tolerationSeconds": 1 }]),
        &[
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            "spec.tolerations[1].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        ],
    );
    check(
        "restartPolicy",
        json!("Maybe"),
        &[
            "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ],
    );
    check(
        "topologySpreadConstraints",
        json!([{ "maxSkew": 0, "whenUnsatisfiable": "DoNotSchedule" }]),
        &[
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
        ],
    );
    check(
        "activeDeadlineSeconds",
        json!(0),
        &[
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ],
    );
    check(
        "dnsPolicy",
        json!("None"),
        &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    );
    check(
        "hostname",
        json!("a.b"),
        &[
            "spec.hostname: Invalid value: \"a.b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
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
fn a_pod_keeps_its_shape() {
    let spec =
        json!({ "containers": [{ "name": "c", "image": "i:1" }], "activeDeadlineSeconds": 10 });
    let old = created(Resource::PODS, "", "v1", &pod(spec)).unwrap();
    let check = |change: &dyn Fn(&mut Value), want: Result<i64, &str>| {
        let mut new = old.clone();
        change(&mut new);
        match (updated(Resource::PODS, "", "v1", &new, &old), want) {
            (Ok(got), Ok(generation)) => assert_eq!(got["metadata"]["generation"], generation),
            (got, Err(want)) => {
                let got = causes(got);
                assert!(got.iter().any(|line| line.starts_with(want)), "{got:?} {want}");
            }
            (got, want) => panic!("{got:?} {want:?}"),
        }
    };
    check(&|_| {}, Ok(1));
    check(&|p| p["metadata"]["labels"] = json!({ "a": "b" }), Ok(1));
    check(&|p| p["spec"]["containers"][0]["image"] = json!("i:2"), Ok(2));
    check(&|p| p["spec"]["activeDeadlineSeconds"] = json!(5), Ok(2));
    check(&|p| p["spec"]["tolerations"] = json!([{ "operator": "Exists" }]), Ok(2));
    check(&|p| p["status"] = json!({ "phase": "Running" }), Ok(1));
    check(
        &|p| p["spec"]["activeDeadlineSeconds"] = json!(50),
        Err(
            "spec.activeDeadlineSeconds: Invalid value: 50: must be less than or equal to previous value",
        ),
    );
    check(
        &|p| p["spec"]["nodeName"] = json!("n"),
        Err("spec: Forbidden: pod updates may not change"),
    );
    check(
        &|p| p["spec"]["containers"][0]["command"] = json!(["x"]),
        Err("spec: Forbidden: pod updates may not change"),
    );
    check(
        &|p| p["spec"]["containers"] = json!([]),
        Err("spec.containers: Forbidden: pod updates may not add or remove containers"),
    );
    check(
        &|p| p["metadata"]["uid"] = json!("other"),
        Err("metadata.uid: Invalid value: \"other\": field is immutable"),
    );
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
fn deletion_waits_where_it_must() {
    let spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
    let mut pod = created(Resource::PODS, "", "v1", &pod(spec)).unwrap();
    let check = |pod: &Value, asked, want| assert_eq!(deletion(Resource::PODS, pod, asked), want);
    check(&pod, None, Deletion::Now);
    pod["spec"]["nodeName"] = json!("pi");
    check(&pod, None, Deletion::Graceful(30));
    check(&pod, Some(1), Deletion::Graceful(1));
    check(&pod, Some(0), Deletion::Now);
    check(&pod, Some(-5), Deletion::Graceful(1));
    pod["status"]["phase"] = json!("Succeeded");
    check(&pod, None, Deletion::Now);

    let sent = json!({ "kind": "Namespace", "metadata": { "name": "n" } });
    let mut namespace = created(Resource::NAMESPACES, "", "v1", &sent).unwrap();
    assert_eq!(deletion(Resource::NAMESPACES, &namespace, None), Deletion::Finalize);
    terminate(Resource::NAMESPACES, &mut namespace);
    assert_eq!(namespace["status"]["phase"], "Terminating");
    set(&mut namespace["metadata"], "deletionTimestamp", "2026-01-01T00:00:00Z");
    assert!(!may_go(Resource::NAMESPACES, &namespace));
    namespace["spec"]["finalizers"] = json!([]);
    assert!(may_go(Resource::NAMESPACES, &namespace));
}

#[test]
fn small_kinds_are_refused_in_kubernetes_words() {
    let check = |resource: Resource, sent: Value, want: &[&str]| {
        let def = resource.def();
        assert_eq!(causes(created(resource, def.group, def.version, &sent)), want);
    };
    let meta = json!({ "name": "x" });
    check(
        Resource::CONFIG_MAPS,
        json!({ "metadata": meta, "data": { "a/b": "" } }),
        &[
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    check(
        Resource::SECRETS,
        json!({ "metadata": meta, "type": "kubernetes.io/tls", "data": { "tls.crt": "" } }),
        &["data[tls.key]: Required value"],
    );
    check(
        Resource::SECRETS,
        json!({ "metadata": meta, "data": { "big": "A".repeat(1_398_104 + 4) } }),
        &["data: Too long: may not be more than 1048576 bytes"],
    );
    check(
        Resource::ROLES,
        json!({ "metadata": { "name": "a:b" }, "rules": [{ "apiGroups": [""], "resources": ["pods"] }, { "verbs": ["get"], "nonResourceURLs": ["/x"] }] }),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
        ],
    );
    check(
        Resource::CLUSTER_ROLE_BINDINGS,
        json!({ "metadata": meta, "roleRef": { "kind": "Role", "name": "r" }, "subjects": [{ "kind": "ServiceAccount", "name": "a" }] }),
        &[
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "subjects[0].namespace: Required value",
        ],
    );
    check(
        Resource::PRIORITY_CLASSES,
        json!({ "metadata": { "name": "system-x" }, "value": 1 }),
        &[
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
        ],
    );
    check(
        Resource::PRIORITY_CLASSES,
        json!({ "metadata": meta, "value": 1_000_000_001 }),
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    check(
        Resource::LEASES,
        json!({ "metadata": meta, "spec": { "leaseDurationSeconds": 0 } }),
        &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
    );
    check(
        Resource::SERVICES,
        json!({ "metadata": meta, "spec": { "ports": [{ "port": 1 }, { "port": 1 }] } }),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].name: Required value",
            "spec.ports[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
        ],
    );
    check(
        Resource::NODES,
        json!({ "metadata": meta, "spec": { "podCIDR": "10.0.0.0/33", "taints": [{ "key": "a" }] } }),
        &[
            "spec.taints[0].effect: Required value",
            "spec.podCIDRs[0]: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ],
    );
    check(Resource::CERTIFICATE_SIGNING_REQUESTS, json!({ "metadata": meta, "spec": { "request": "", "signerName": "x", "usages": ["spying"], "expirationSeconds": 1 } }).clone(), &[
        "spec.request: Invalid value: \"<request>\": PEM block type must be CERTIFICATE REQUEST",
        &format!("spec.usages[0]: Unsupported value: \"spying\": supported values: {}", certificates::USAGES.map(|usage| format!("{usage:?}")).join(", ")),
        "spec.signerName: Invalid value: \"x\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)",
    ]);
    check(
        Resource::EVENTS,
        json!({ "metadata": meta, "involvedObject": { "namespace": "other" } }),
        &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
    );
    check(
        Resource::NAMESPACES,
        json!({ "metadata": { "name": "a", "namespace": "b" } }),
        &["metadata.namespace: Forbidden: not allowed on this type"],
    );
    check(
        Resource::CONFIG_MAPS,
        json!({ "metadata": { "name": "x", "labels": { "a b": "c" }, "finalizers": ["x"], "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p" }] } }),
        &[
            "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
            "metadata.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
}

#[test]
fn what_may_not_change_does_not() {
    let check = |resource: Resource, sent: Value, change: &dyn Fn(&mut Value), want: &[&str]| {
        let def = resource.def();
        let old = created(resource, def.group, def.version, &sent).unwrap();
        let mut new = old.clone();
        change(&mut new);
        assert_eq!(causes(updated(resource, def.group, def.version, &new, &old)), want);
    };
    let meta = json!({ "name": "x" });
    check(
        Resource::SECRETS,
        json!({ "metadata": meta, "stringData": { "a": "b" }, "immutable": true }),
        &|s| {
            s["type"] = json!("other");
            s["data"] = json!({});
            s["immutable"] = json!(false);
        },
        &[
            "type: Invalid value: \"other\": field is immutable",
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ],
    );
    check(
        Resource::PRIORITY_CLASSES,
        json!({ "metadata": meta, "value": 5 }),
        &|c| c["value"] = json!(6),
        &["value: Forbidden: may not be changed in an update."],
    );
    check(
        Resource::ROLE_BINDINGS,
        json!({ "metadata": meta, "roleRef": { "kind": "Role", "name": "r" } }),
        &|b| b["roleRef"]["name"] = json!("s"),
        &[
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"s\"}: cannot change roleRef",
        ],
    );
    check(
        Resource::NODES,
        json!({ "metadata": meta, "spec": { "podCIDR": "10.0.0.0/24", "providerID": "a" } }),
        &|n| {
            n["spec"] = json!({ "podCIDR": "10.0.1.0/24", "providerID": "b" });
        },
        &[
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
            "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
        ],
    );
    check(
        Resource::SERVICES,
        json!({ "metadata": meta, "spec": { "clusterIP": "10.43.0.9", "ports": [{ "port": 1 }] } }),
        &|s| s["spec"] = json!({ "clusterIP": "10.43.0.8", "ports": [{ "port": 1 }] }),
        &["spec.clusterIPs[0]: Invalid value: \"10.43.0.8\": may not change once set"],
    );
    // Left out, it is kept.
    check(
        Resource::SERVICES,
        json!({ "metadata": meta, "spec": { "clusterIP": "10.43.0.9", "ports": [{ "port": 1 }] } }),
        &|s| s["spec"] = json!({ "ports": [{ "port": 2 }] }),
        &[],
    );
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
    let taken = used(vec![first.clone()].iter());
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
