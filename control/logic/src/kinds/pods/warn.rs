//! What is allowed in a pod spec but likely not meant.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

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
    let mut ports = Vec::new();
    for (index, port) in items(container, &["ports"]).iter().enumerate() {
        let number = int(port, &["containerPort"]).unwrap_or(0);
        let key = (number, text(port, &["protocol"]));
        if let Some((first, _)) = ports.iter().find(|(_, seen)| *seen == key) {
            let (this, first): (Path, usize) = (path.child("ports").index(index), *first);
            let first = path.child("ports").index(first);
            out.push(format!("{}: duplicate port definition with {}", &*this, &*first));
        } else {
            ports.push((index, key));
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
