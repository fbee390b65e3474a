//! What is allowed in a pod spec but likely not meant.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use serde_json::Value;

use crate::kinds::{
    access::{at, entries, int, items, text},
    field::Path,
};

/// Labels of nodes that have newer names.
const OLD_LABELS: [(&str, &str, &str); 4] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
];

/// A Warning where the name of a new object is no DNS label though `use_` is made of it.
pub(crate) fn name(object: &Value, use_: &str, out: &mut Vec<String>) {
    let wrong = coracle_api::validation::dns1123_label(text(object, &["metadata", "name"]));
    if !wrong.is_empty() {
        out.push(format!(
            "metadata.name: this is used in {use_}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
}

/// Warnings about a pod spec at `path`.
pub(crate) fn spec(spec: &Value, path: &Path, out: &mut Vec<String>) {
    for (key, _) in entries(spec, &["nodeSelector"]) {
        if let Some((_, since, instead)) = OLD_LABELS.iter().find(|(old, _, _)| old == key) {
            let path = path.child("nodeSelector").key(key);
            out.push(format!("{}: deprecated since {since}; use {instead:?} instead", &*path));
        }
    }
    if int(spec, &["terminationGracePeriodSeconds"]).is_some_and(|seconds| seconds < 0) {
        let path = path.child("terminationGracePeriodSeconds");
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            &*path
        ));
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            one(container, &path.child(list).index(index), out);
        }
    }
}

fn one(container: &Value, path: &Path, out: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for (index, variable) in items(container, &["env"]).iter().enumerate() {
        let name = text(variable, &["name"]);
        if !names.insert(name) {
            out.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                &*path.child("env").index(index)
            ));
        }
    }
    let mut ports = BTreeMap::new();
    for (index, port) in items(container, &["ports"]).iter().enumerate() {
        let key = (int(port, &["containerPort"]).unwrap_or(0), text(port, &["protocol"]));
        let first = *ports.entry(key).or_insert(index);
        if first != index {
            let (this, first) =
                (path.child("ports").index(index), path.child("ports").index(first));
            out.push(format!("{}: duplicate port definition with {}", &*this, &*first));
        }
    }
    for list in ["limits", "requests"] {
        for name in ["memory", "ephemeral-storage"] {
            let Some(value) = at(container, &["resources", list, name]) else { continue };
            if let Ok(quantity) = coracle_api::quantity::from_json(value)
                && !quantity.is_whole()
            {
                let path = path.child("resources").child(list).key(name);
                let shown = format!("{quantity}");
                out.push(format!(
                    "{}: fractional byte value {shown:?} is invalid, must be an integer",
                    &*path
                ));
            }
        }
    }
}
