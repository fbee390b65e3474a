//! What is refused, and in which words.

use alloc::format;

use serde_json::{Value, json};

use super::{causes, created, deployment, pod, updated};
use crate::kinds::{
    access::{self, set},
    *,
};

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
