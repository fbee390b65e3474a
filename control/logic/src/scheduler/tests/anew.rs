//! A mirror that lived through a history says the same as one made anew of what there is: no number is mixed up when
//! words come and go.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::views::{NodeView, PodView};
use sched_core::Profile;
use serde_json::{Value, json};

use super::super::mirror::Mirror;
use crate::Rng;

#[derive(Default)]
struct World {
    nodes: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    teams: BTreeMap<String, String>,
}

fn below(rng: &mut Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

fn node(rng: &mut Rng, name: &str) -> Value {
    let mut labels = json!({"disk": format!("d{}", below(rng, 3))});
    for key in 0..9 {
        if below(rng, 4) != 0 {
            labels[format!("k{key}")] = format!("v{}", below(rng, 3)).into();
        }
    }
    let taints: Vec<Value> = (0..below(rng, 2))
        .map(|_| json!({"key": format!("t{}", below(rng, 200)), "effect": "NoSchedule"}))
        .collect();
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": below(rng, 8) == 0},
        "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "8", format!("e/{}", below(rng, 4)): "2"}},
    })
}

fn term(rng: &mut Rng, keys: u64) -> Value {
    let mut term = json!({
        "labelSelector": {"matchLabels": {"app": format!("a{}", below(rng, 3))}},
        "topologyKey": match below(rng, keys) { 0 => "kubernetes.io/hostname".to_string(), key => format!("k{key}") },
    });
    if below(rng, 3) == 0 {
        term["namespaceSelector"] = json!({"matchLabels": {"team": format!("t{}", below(rng, 2))}});
    }
    term
}

/// `keys`: its terms are over so many of the keys.
fn pod(rng: &mut Rng, name: &str, keys: u64) -> Value {
    let anti: Vec<Value> = (0..below(rng, 2)).map(|_| term(rng, keys)).collect();
    json!({
        "metadata": {"name": name, "namespace": format!("n{}", below(rng, 3)), "uid": name, "labels": {"app": format!("a{}", below(rng, 3))}},
        "spec": {
            "priority": below(rng, 3),
            "containers": [{"name": "c", "ports": [{"hostPort": below(rng, 4)}], "resources": {"requests": {"cpu": format!("{}m", below(rng, 900)), format!("e/{}", below(rng, 3)): "1"}}}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": anti}},
        },
    })
}

/// A pod without a node that asks about everything.
fn probe(rng: &mut Rng) -> PodView {
    let mut pod = pod(rng, "probe", 9);
    let near: Vec<Value> = (0..below(rng, 2)).map(|_| term(rng, 9)).collect();
    pod["spec"]["affinity"]["podAffinity"] =
        json!({"requiredDuringSchedulingIgnoredDuringExecution": near});
    if below(rng, 2) == 0 {
        pod["spec"]["nodeSelector"] = json!({"disk": format!("d{}", below(rng, 3))});
    }
    if below(rng, 2) == 0 {
        let taint = format!("t{}", below(rng, 200));
        pod["spec"]["tolerations"] = json!([{"key": taint, "operator": "Exists"}]);
    }
    if below(rng, 2) == 0 {
        let one = term(rng, 9);
        pod["spec"]["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
            "topologyKey": one["topologyKey"], "labelSelector": one["labelSelector"],
        }]);
    }
    serde_json::from_value(pod).unwrap()
}

fn read_pod(value: &Value) -> PodView {
    serde_json::from_value(value.clone()).unwrap()
}

fn labels_of(team: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("team".to_string(), team.to_string())])
}

impl World {
    fn change(&mut self, rng: &mut Rng, mirror: &mut Mirror) {
        let name = format!("x{}", below(rng, 12));
        match below(rng, 12) {
            0..=2 => {
                let value = node(rng, &name);
                mirror.node_changed(&serde_json::from_value::<NodeView>(value.clone()).unwrap());
                self.nodes.insert(name, value);
            }
            3 => {
                mirror.node_gone(&name);
                self.nodes.remove(&name);
            }
            4..=7 => {
                let uid = format!("p{}", below(rng, 30));
                if let Entry::Vacant(slot) = self.pods.entry(uid.clone()) {
                    let mut value = pod(rng, &uid, 3);
                    value["spec"]["nodeName"] = name.into();
                    mirror.pod_bound(&read_pod(&value));
                    slot.insert(value);
                }
            }
            8 => {
                let uid = format!("p{}", below(rng, 30));
                mirror.pod_gone(&uid);
                self.pods.remove(&uid);
            }
            9 | 10 => {
                let app = format!("a{}", below(rng, 3));
                if let Some(value) = self.pods.get_mut(&format!("p{}", below(rng, 30))) {
                    value["metadata"]["labels"]["app"] = app.into();
                    if below(rng, 2) == 0 {
                        value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                    }
                    mirror.pod_bound(&read_pod(value));
                }
            }
            _ => {
                let (namespace, team) =
                    (format!("n{}", below(rng, 3)), format!("t{}", below(rng, 2)));
                mirror.namespace_changed(&namespace, Some(&labels_of(&team)));
                self.teams.insert(namespace, team);
            }
        }
    }

    fn anew(&self) -> Mirror {
        let mut mirror = Mirror::new(Profile::PACK);
        for value in self.pods.values() {
            mirror.pod_bound(&read_pod(value));
        }
        for (namespace, team) in &self.teams {
            mirror.namespace_changed(namespace, Some(&labels_of(team)));
        }
        for value in self.nodes.values() {
            mirror.node_changed(&serde_json::from_value::<NodeView>(value.clone()).unwrap());
        }
        mirror
    }
}

/// What a mirror says of a pod, node by node.
fn said(mirror: &mut Mirror, probe: &PodView) -> Result<BTreeMap<String, String>, String> {
    let question = mirror.question(probe)?;
    let mut said = BTreeMap::new();
    let mut all = Vec::new();
    mirror.placement.reasons(&question.ask, |index, reason| all.push((index, reason)));
    for (index, reason) in all {
        let texts = reason.map(|reason| mirror.reason_texts(&question, index, reason));
        let used = *mirror.placement.node(index).unwrap().used();
        let text = format!("{texts:?} {} {}", used.cpu_milli, used.pods);
        said.insert(mirror.name_of(index).to_string(), text);
    }
    Ok(said)
}

#[test]
fn a_mirror_with_a_history_is_like_one_made_anew() {
    for seed in 0..12 {
        let mut rng = Rng(seed);
        let (mut world, mut mirror) = (World::default(), Mirror::new(Profile::PACK));
        for step in 0..120 {
            world.change(&mut rng, &mut mirror);
            let probe = probe(&mut rng);
            let live = said(&mut mirror, &probe);
            if step % 3 == 0 {
                assert_eq!(
                    live,
                    said(&mut world.anew(), &probe),
                    "seed {seed} step {step} {probe:?}"
                );
            }
        }
    }
}
