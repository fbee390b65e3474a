//! Cells as a real API server gave them, and by table what was not recorded.

use alloc::vec::Vec;

use coracle_api::Resource;
use serde_json::{Value, json};

use super::cells;
use crate::Millis;

#[test]
fn cells_are_as_recorded() {
    let mut count = 0;
    for line in include_str!("recorded.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let resource = Resource::all()
            .find(|resource| resource.def().kind == row["kind"].as_str().unwrap())
            .unwrap();
        let now = Millis(row["now_s"].as_u64().unwrap() * 1000);
        assert_eq!(Value::from(cells(now, resource, &row["object"])), row["cells"]);
        count += 1;
    }
    assert!(count >= 7, "{count} rows");
}

/// Cells at 01:00:00 on the first day of 1970, of an object made then.
fn cells_of(resource: Resource, mut object: Value) -> Vec<Value> {
    object["metadata"]["name"] = "x".into();
    object["metadata"]["creationTimestamp"] = "1970-01-01T00:59:55Z".into();
    cells(Millis(3_600_000), resource, &object)
}

#[test]
fn pods_say_what_they_are_at() {
    let check = |pod: Value, want: [&str; 3]| {
        let got = cells_of(Resource::PODS, pod.clone());
        assert_eq!(got[1..4], want.map(Value::from), "{pod}");
    };
    let one = json!([{"name": "a"}]);
    let status = |status: Value| json!({"spec": {"containers": one}, "status": status});
    let at = |state: Value| {
        status(json!({"phase": "Running", "containerStatuses": [{"name": "a", "state": state}]}))
    };
    check(status(json!({"phase": "Pending"})), ["0/1", "Pending", "0"]);
    check(status(json!({"phase": "Failed", "reason": "Evicted"})), ["0/1", "Evicted", "0"]);
    check(
        at(json!({"waiting": {"reason": "ContainerCreating"}})),
        ["0/1", "ContainerCreating", "0"],
    );
    check(at(json!({"terminated": {"reason": "Completed"}})), ["0/1", "Completed", "0"]);
    check(at(json!({"terminated": {"exitCode": 3}})), ["0/1", "ExitCode:3", "0"]);
    check(at(json!({"terminated": {"signal": 9}})), ["0/1", "Signal:9", "0"]);
    let crashing = json!([{"name": "a", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "1970-01-01T00:59:50Z"}}}]);
    check(
        status(json!({"phase": "Running", "containerStatuses": crashing})),
        ["0/1", "CrashLoopBackOff", "2 (10s ago)"],
    );
    let mut leaving = at(json!({"running": {}}));
    leaving["metadata"] = json!({"deletionTimestamp": "1970-01-01T01:00:00Z"});
    check(leaving, ["0/1", "Terminating", "0"]);
    check(
        status(json!({"phase": "Pending", "conditions":
            [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]})),
        ["0/1", "SchedulingGated", "0"],
    );
    let starting = |state: Value| {
        json!({"spec": {"containers": one, "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "restartCount": 1, "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": state}]}})
    };
    check(starting(json!({"running": {}})), ["0/1", "Init:1/2", "1"]);
    check(
        starting(json!({"waiting": {"reason": "ErrImagePull"}})),
        ["0/1", "Init:ErrImagePull", "1"],
    );
    check(
        starting(json!({"terminated": {"exitCode": 1, "reason": "Error"}})),
        ["0/1", "Init:Error", "1"],
    );
    let sidecar = json!({"spec": {"containers": one, "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
        "status": {"phase": "Running",
            "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "state": {"running": {}}}],
            "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]}});
    check(sidecar, ["2/2", "Running", "0"]);
}

#[test]
fn other_kinds() {
    let check = |resource, object: Value, want: Value| {
        assert_eq!(Value::from(cells_of(resource, object)), want);
    };
    check(
        Resource::NODES,
        json!({"metadata": {"labels": {"node-role.kubernetes.io/b": "", "node-role.kubernetes.io/a": ""}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        json!([
            "x",
            "NotReady,SchedulingDisabled",
            "a,b",
            "5s",
            "",
            "<none>",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>"
        ]),
    );
    check(
        Resource::SERVICES,
        json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports":
            [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
        json!([
            "x",
            "LoadBalancer",
            "10.0.0.1",
            "<pending>",
            "80:30080/TCP,53/UDP",
            "5s",
            "<none>"
        ]),
    );
    check(
        Resource::EVENTS,
        json!({"involvedObject": {"kind": "Pod", "name": "p"}, "type": "Normal", "reason": "Started",
            "message": "m\n", "source": {"component": "kubelet", "host": "pi"},
            "firstTimestamp": "1970-01-01T00:59:00Z", "lastTimestamp": "1970-01-01T00:59:59Z", "count": 3}),
        json!(["1s", "Normal", "Started", "pod/p", "", "kubelet, pi", "m", "60s", 3, "x"]),
    );
    check(
        Resource::EVENTS,
        json!({"involvedObject": {"kind": "Pod", "name": "p"}, "eventTime": "1970-01-01T00:59:00.000000Z",
            "reportingComponent": "c"}),
        json!(["60s", "", "", "pod/p", "", "c", "", "60s", 1, "x"]),
    );
    check(
        Resource::ENDPOINT_SLICES,
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3", "4", "5"]}]}),
        json!(["x", "IPv4", "<unset>", "1,2,3 + 2 more...", "5s"]),
    );
    check(
        Resource::ROLE_BINDINGS,
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        json!(["x", "Role/r", "5s", "u", "", "n/s"]),
    );
    check(
        Resource::CERTIFICATE_SIGNING_REQUESTS,
        json!({"spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
            "status": {"certificate": "YQ==", "conditions": [{"type": "Approved", "status": "True"}]}}),
        json!(["x", "5s", "s", "u", "60m", "Approved,Issued"]),
    );
    check(Resource::ROLES, json!({}), json!(["x", "1970-01-01T00:59:55Z"]));
    check(
        Resource::CONFIG_MAPS,
        json!({"data": {"a": ""}, "binaryData": {"b": ""}}),
        json!(["x", 2, "5s"]),
    );
    check(Resource::SECRETS, json!({"type": "Opaque"}), json!(["x", "Opaque", 0, "5s"]));
}

/// A row has a cell for each column, for every kind.
#[test]
fn cells_fit_the_columns() {
    for resource in Resource::all() {
        let def = resource.def();
        let columns = super::column_definitions(resource, def.group, def.version);
        let cells = cells_of(resource, json!({}));
        assert_eq!(columns.len(), cells.len(), "{}", def.plural);
    }
}
