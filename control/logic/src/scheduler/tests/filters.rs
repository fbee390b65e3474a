//! Each constraint through the mirror: manifests in, a node or the refusal out.

use std::string::{String, ToString};

use coracle_api::Resource;
use serde_json::{Value, json};

use super::World;

/// `cluster` has `nodes` and running `pods` (each with `on`, its node), by name. The answer is the node of the pod, or
/// the refusal without what is said of preemption.
#[track_caller]
fn check(cluster: &Value, pod: &Value, want: &str) {
    let mut world = World::new();
    world.put(
        Resource::NAMESPACES,
        json!({"metadata": {"name": "other", "uid": "other", "labels": {"team": "blue"}}}),
    );
    for (name, node) in cluster["nodes"].as_object().unwrap() {
        world.node_of(name, node);
    }
    for (name, pod) in cluster["pods"].as_object().into_iter().flatten() {
        let mut pod = pod.clone();
        pod["spec"]["nodeName"] = pod["on"].take();
        world.pod_of(name, &pod);
    }
    world.pod_of("new", pod);
    let told = world.settle();
    let told = told.strip_prefix("new -> ").or(told.strip_prefix("new: ")).unwrap_or(&told);
    assert_eq!(told.split(" preemption: ").next().unwrap(), want, "{pod}");
}

fn refused(nodes: u32, why: &str) -> String {
    std::format!("0/{nodes} nodes are available: {nodes} {why}.")
}

fn labelled(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

#[test]
fn taints() {
    let cluster = json!({"nodes": {
        "a": {"spec": {"taints": [
            {"key": "first", "value": "1", "effect": "NoSchedule"},
            {"key": "gpu", "value": "yes", "effect": "NoExecute"},
        ]}},
        "b": {"spec": {"unschedulable": true}},
    }});
    let tolerant = |tolerations: Value| json!({"spec": {"tolerations": tolerations}});
    check(
        &cluster,
        &json!({}),
        "0/2 nodes are available: 1 node(s) had untolerated taint {first: 1}, 1 node(s) were unschedulable.",
    );
    check(
        &cluster,
        &tolerant(json!([{"key": "first", "operator": "Exists"}])),
        "0/2 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were unschedulable.",
    );
    check(
        &cluster,
        &tolerant(json!([{"key": "first", "operator": "Exists"}, {"key": "gpu", "value": "yes"}])),
        "a",
    );
    let cordon = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}]);
    check(&cluster, &tolerant(cordon), "b");
}

#[test]
fn node_selector_and_node_affinity() {
    let cluster = json!({"nodes": {
        "a": labelled(json!({"cores": "4", "disk": "ssd"})),
        "b": labelled(json!({"cores": "8"})),
    }});
    let affinity = |terms: Value| json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}});
    let one = |key: &str, operator: &str, values: Value| {
        affinity(
            json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]),
        )
    };
    let mismatch = refused(2, "node(s) didn't match Pod's node affinity/selector");
    check(&cluster, &json!({"spec": {"nodeSelector": {"disk": "ssd"}}}), "a");
    check(&cluster, &json!({"spec": {"nodeSelector": {"disk": "hdd"}}}), &mismatch);
    check(&cluster, &one("cores", "In", json!(["8", "16"])), "b");
    check(&cluster, &one("disk", "NotIn", json!(["ssd"])), "b");
    check(&cluster, &one("disk", "Exists", json!([])), "a");
    check(&cluster, &one("disk", "DoesNotExist", json!([])), "b");
    check(&cluster, &one("cores", "Gt", json!(["4"])), "b");
    check(&cluster, &one("cores", "Lt", json!(["8"])), "a");
    check(&cluster, &affinity(json!([{}])), &mismatch);
    // One of several alternatives is enough; within one, all must hold.
    let or = json!([
        {"matchExpressions": [{"key": "disk", "operator": "Exists"}, {"key": "cores", "operator": "Gt", "values": ["4"]}]},
        {"matchExpressions": [{"key": "cores", "operator": "In", "values": ["8"]}]},
    ]);
    check(&cluster, &affinity(or), "b");
    let by_name = |names: Value| {
        affinity(
            json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": names}]}]),
        )
    };
    check(&cluster, &by_name(json!(["b"])), "b");
    check(&cluster, &by_name(json!(["b", "c"])), "b");
    let unnamed = refused(2, "node(s) didn't satisfy plugin(s) [NodeAffinity]");
    check(&cluster, &by_name(json!(["gone"])), &unnamed);
    let named = json!([{
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}],
        "matchExpressions": [{"key": "disk", "operator": "Exists"}],
    }]);
    check(
        &cluster,
        &affinity(named),
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't satisfy plugin(s) [NodeAffinity].",
    );
}

#[test]
fn host_ports() {
    let ports = |port: Value| json!({"spec": {"containers": [{"name": "c", "ports": [port]}]}});
    let on = |mut pod: Value| {
        pod["on"] = "a".into();
        json!({"nodes": {"a": {}}, "pods": {"old": pod}})
    };
    let taken = refused(1, "node(s) didn't have free ports for the requested pod ports");
    let any = on(ports(json!({"hostPort": 80, "containerPort": 80})));
    let local = on(ports(json!({"hostPort": 80, "hostIP": "127.0.0.1"})));
    check(&any, &ports(json!({"hostPort": 80})), &taken);
    check(&any, &ports(json!({"hostPort": 80, "hostIP": "127.0.0.1"})), &taken);
    check(&any, &ports(json!({"hostPort": 80, "protocol": "UDP"})), "a");
    check(&any, &ports(json!({"hostPort": 81})), "a");
    check(&any, &ports(json!({"containerPort": 80})), "a");
    check(&local, &ports(json!({"hostPort": 80})), &taken);
    check(&local, &ports(json!({"hostPort": 80, "hostIP": "0.0.0.0"})), &taken);
    check(&local, &ports(json!({"hostPort": 80, "hostIP": "10.0.0.1"})), "a");
}

#[test]
fn resources() {
    let cluster = json!({
        "nodes": {"a": {"status": {"allocatable": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi", "example.com/fpga": "2", "hugepages-2Mi": "8Gi", "pods": "2"}}}},
        "pods": {"old": {"on": "a", "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "example.com/fpga": "1"}}}]}}},
    });
    let asks = |requests: Value| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
    check(&cluster, &asks(json!({"cpu": "900m", "memory": "1Gi"})), "a");
    check(
        &cluster,
        &asks(
            json!({"cpu": "901m", "memory": "1.1Gi", "ephemeral-storage": "2Gi", "example.com/fpga": 2, "example.com/none": 1}),
        ),
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient ephemeral-storage, 1 Insufficient example.com/fpga, 1 Insufficient example.com/none, 1 Insufficient memory.",
    );
    check(&cluster, &asks(json!({"hugepages-2Mi": "8Gi"})), "a");
    check(
        &cluster,
        &asks(json!({"hugepages-2Mi": "8194Mi"})),
        &refused(1, "Insufficient hugepages-2Mi"),
    );
    let start = |inits: Value| json!({"spec": {"initContainers": inits, "overhead": {"cpu": "100m"}, "containers": [{"name": "c", "resources": {"requests": {"cpu": "400m"}}}]}});
    let init = |cpu: &str| json!({"name": "i", "resources": {"requests": {"cpu": cpu}}});
    let side = |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
    let short = refused(1, "Insufficient cpu");
    check(&cluster, &start(json!([init("800m")])), "a");
    check(&cluster, &start(json!([init("801m")])), &short);
    check(&cluster, &start(json!([side("400m")])), "a");
    check(&cluster, &start(json!([side("401m")])), &short);
    check(&cluster, &start(json!([side("300m"), init("501m")])), &short);
    check(&cluster, &start(json!([init("800m"), side("300m")])), "a");
    let whole = json!({"spec": {"resources": {"requests": {"cpu": "1"}}}});
    check(&cluster, &whole, &short);
    let full = json!({"nodes": {"a": {"status": {"allocatable": {"pods": "1"}}}}, "pods": {"old": {"on": "a"}}});
    check(&full, &json!({}), &refused(1, "Too many pods"));
}

#[test]
fn pod_affinity() {
    let zones = |pods: Value| {
        json!({
            "nodes": {
                "a1": labelled(json!({"zone": "a"})), "a2": labelled(json!({"zone": "a"})),
                "b1": labelled(json!({"zone": "b", "kubernetes.io/hostname": "b1"})), "c": {},
            },
            "pods": pods,
        })
    };
    let web = zones(json!({
        "web": {"on": "b1", "metadata": {"labels": {"app": "web", "rev": "1"}}},
        "db": {"on": "a2", "metadata": {"labels": {"app": "db"}}},
        "far": {"on": "a1", "metadata": {"namespace": "other", "labels": {"app": "far"}}},
    }));
    let near = |terms: Value| json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}});
    let app = |name: &str| json!({"matchLabels": {"app": name}});
    let none = refused(4, "node(s) didn't match pod affinity rules");
    check(&web, &near(json!([{"labelSelector": app("web"), "topologyKey": "zone"}])), "b1");
    check(
        &web,
        &near(json!([{"labelSelector": app("db"), "topologyKey": "kubernetes.io/hostname"}])),
        "a2",
    );
    check(&web, &near(json!([{"labelSelector": app("none"), "topologyKey": "zone"}])), &none);
    check(&web, &near(json!([{"topologyKey": "zone"}])), &none);
    let by = |operator: &str| json!({"matchExpressions": [{"key": "app", "operator": operator, "values": ["web", "x"]}]});
    check(&web, &near(json!([{"labelSelector": by("In"), "topologyKey": "zone"}])), "b1");
    check(&web, &near(json!([{"labelSelector": by("NotIn"), "topologyKey": "zone"}])), "a1");
    // Other namespaces: by name, by their labels, and all.
    let far = |more: Value| {
        let mut term = json!({"labelSelector": app("far"), "topologyKey": "zone"});
        super::merge(&mut term, &more);
        near(json!([term]))
    };
    check(&web, &far(json!({})), &none);
    check(&web, &far(json!({"namespaces": ["other"]})), "a1");
    check(&web, &far(json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}})), "a1");
    check(&web, &far(json!({"namespaceSelector": {"matchLabels": {"team": "red"}}})), &none);
    check(&web, &far(json!({"namespaceSelector": {"matchExpressions": []}})), "a1");
    // The first of its kind may go anywhere that has the label.
    let mut first = near(json!([{"labelSelector": app("new"), "topologyKey": "zone"}]));
    first["metadata"] = json!({"labels": {"app": "new"}});
    check(&web, &first, "a1");
    // Only pods of the own revision count.
    let mut own = near(
        json!([{"labelSelector": app("web"), "topologyKey": "zone", "matchLabelKeys": ["rev"]}]),
    );
    own["metadata"] = json!({"labels": {"rev": "2"}});
    check(&web, &own, &none);
    own["metadata"] = json!({"labels": {"rev": "1"}});
    check(&web, &own, "b1");
}

#[test]
fn pod_anti_affinity() {
    let anti = |term: Value| json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let app = |name: &str, key: &str| json!({"labelSelector": {"matchLabels": {"app": name}}, "topologyKey": key});
    let cluster = json!({
        "nodes": {"a": labelled(json!({"zone": "a"})), "b": labelled(json!({"zone": "a"})), "c": labelled(json!({"zone": "c"}))},
        "pods": {
            "web": {"on": "a", "metadata": {"labels": {"app": "web"}}},
            "shy": {"on": "b", "metadata": {"labels": {"app": "shy"}}, "spec": anti(app("loud", "zone"))},
        },
    });
    check(&cluster, &json!({"spec": anti(app("web", "kubernetes.io/hostname"))}), "b");
    check(&cluster, &json!({"spec": anti(app("web", "zone"))}), "c");
    check(&cluster, &json!({"metadata": {"labels": {"app": "loud"}}}), "c");
    let mut both =
        json!({"spec": anti(app("web", "zone")), "metadata": {"labels": {"app": "loud"}}});
    both["spec"]["nodeSelector"] = json!({"zone": "a"});
    check(
        &cluster,
        &both,
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 2 node(s) didn't match pod anti-affinity rules.",
    );
    let loud =
        json!({"metadata": {"labels": {"app": "loud"}}, "spec": {"nodeSelector": {"zone": "a"}}});
    check(
        &cluster,
        &loud,
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 2 node(s) didn't satisfy existing pods anti-affinity rules.",
    );
    // Pods of other revisions may stay.
    let mut term = app("web", "zone");
    term["mismatchLabelKeys"] = json!(["rev"]);
    check(
        &json!({"nodes": {"a": labelled(json!({"zone": "a"}))}, "pods": {"web": {"on": "a", "metadata": {"labels": {"app": "web", "rev": "1"}}}}}),
        &json!({"metadata": {"labels": {"rev": "1"}}, "spec": anti(term)}),
        "a",
    );
}

#[test]
fn topology_spread() {
    let pod = |on: &str| json!({"on": on, "metadata": {"labels": {"app": "web"}}});
    let mut cluster = json!({
        "nodes": {
            "a": labelled(json!({"zone": "a"})), "b": labelled(json!({"zone": "b"})),
            "t": {"metadata": {"labels": {"zone": "t"}}, "spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}},
            "u": {},
        },
        "pods": {"1": pod("a"), "2": pod("a"), "3": pod("b")},
    });
    let spread = |more: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}});
        super::merge(&mut constraint, &more);
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": [constraint]}})
    };
    let lacks = "1 node(s) didn't match pod topology spread constraints (missing required label)";
    let taint = "1 node(s) had untolerated taint {x: }";
    let skew = "node(s) didn't match pod topology spread constraints";
    // The tainted zone counts as empty, unless the constraint says that it does not count.
    check(
        &cluster,
        &spread(json!({})),
        &std::format!("0/4 nodes are available: {lacks}, {taint}, 2 {skew}.").replace(
            &std::format!("{lacks}, {taint}, 2 {skew}"),
            &sorted(&[lacks, taint, &std::format!("2 {skew}")]),
        ),
    );
    check(&cluster, &spread(json!({"nodeTaintsPolicy": "Honor"})), "b");
    check(&cluster, &spread(json!({"maxSkew": 2})), "b");
    check(&cluster, &spread(json!({"maxSkew": 3})), "a");
    // So few domains that the least counts as none.
    check(
        &cluster,
        &spread(json!({"nodeTaintsPolicy": "Honor", "maxSkew": 2, "minDomains": 3})),
        "b",
    );
    check(
        &cluster,
        &spread(json!({"nodeTaintsPolicy": "Honor", "minDomains": 3})),
        &std::format!(
            "0/4 nodes are available: {}.",
            sorted(&[lacks, taint, &std::format!("2 {skew}")])
        ),
    );
    // Nodes that the pod does not select count only if it says so.
    let mut selects = spread(json!({"nodeTaintsPolicy": "Honor"}));
    selects["spec"]["nodeSelector"] = json!({"zone": "a"});
    check(&cluster, &selects, "a");
    selects["spec"]["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = "Ignore".into();
    check(
        &cluster,
        &selects,
        &std::format!(
            "0/4 nodes are available: {}.",
            sorted(&[
                "2 node(s) didn't match Pod's node affinity/selector",
                taint,
                &std::format!("1 {skew}")
            ])
        ),
    );
    // Pods that are being deleted do not count.
    cluster["pods"]["1"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    cluster["pods"]["2"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    check(&cluster, &spread(json!({"nodeTaintsPolicy": "Honor"})), "a");
    // Only the own revision counts.
    check(
        &json!({"nodes": {"a": labelled(json!({"zone": "a"})), "b": labelled(json!({"zone": "b"}))}, "pods": {"1": pod("a")}}),
        &{
            let mut own = spread(json!({"matchLabelKeys": ["rev"]}));
            own["metadata"]["labels"]["rev"] = "2".into();
            own
        },
        "a",
    );
}

fn sorted(reasons: &[&str]) -> String {
    let mut reasons: std::vec::Vec<String> = reasons.iter().map(ToString::to_string).collect();
    reasons.sort();
    reasons.join(", ")
}

#[test]
fn wishes() {
    let cluster = json!({
        "nodes": {
            "a": labelled(json!({"zone": "a"})), "b": labelled(json!({"zone": "b", "disk": "ssd"})),
            "c": {"metadata": {"labels": {"zone": "c"}}, "spec": {"taints": [{"key": "x", "effect": "PreferNoSchedule"}]}},
        },
        "pods": {"1": {"on": "a", "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}}},
    });
    // Nothing wished for: the fullest.
    check(&cluster, &json!({}), "a");
    let prefers = json!([{"weight": 100, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]);
    check(
        &cluster,
        &json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": prefers}}}}),
        "b",
    );
    let away = json!([{"weight": 100, "podAffinityTerm": {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"}}]);
    check(
        &cluster,
        &json!({"spec": {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": away}}}}),
        "b",
    );
    let anyway = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    check(
        &cluster,
        &json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": anyway}}),
        "b",
    );
    let mut unlabelled = cluster.clone();
    unlabelled["nodes"] = json!({"a": labelled(json!({"zone": "a"})), "b": {}});
    check(
        &unlabelled,
        &json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": anyway}}),
        "a",
    );
}
