//! Node requirements: what node selectors and required node affinity come down to, interned to bits.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::views::NodeSelectorRequirement;
use sched_core::{REQUIREMENTS_MAX, Requirements};

/// One condition on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// On the node's name instead of a label.
    field: bool,
    key: String,
    operator: String,
    values: Vec<String>,
}

impl Requirement {
    /// `nodeSelector`'s pair.
    pub(crate) fn label(key: &str, value: &str) -> Self {
        Self {
            field: false,
            key: key.into(),
            operator: "In".into(),
            values: Vec::from([value.to_string()]),
        }
    }

    /// No node meets it.
    pub(crate) fn never() -> Self {
        Self { field: true, key: String::new(), operator: String::new(), values: Vec::new() }
    }

    /// One of `matchExpressions` or (`field`) `matchFields`.
    pub(crate) fn of(view: &NodeSelectorRequirement, field: bool) -> Self {
        Self {
            field,
            key: view.key.clone(),
            operator: view.operator.clone(),
            values: view.values.clone(),
        }
    }

    /// Whether a node meets it. An operator that is not known is met by none.
    pub(crate) fn is_met(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let value = match (self.field, self.key.as_str()) {
            (true, "metadata.name") => Some(name),
            (true, _) => None,
            (false, key) => labels.get(key).map(String::as_str),
        };
        let listed = |value: &str| self.values.iter().any(|one| one == value);
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|one| number(one));
        match self.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => {
                matches!((value.and_then(number), bound()), (Some(has), Some(bound)) if bound < has)
            }
            "Lt" => {
                matches!((value.and_then(number), bound()), (Some(has), Some(bound)) if has < bound)
            }
            _ => false,
        }
    }
}

/// Requirements that have a bit. The one that was not asked for longest gives its bit to a new one.
#[derive(Debug, Default)]
pub(crate) struct Interned {
    known: Vec<(Requirement, u64)>,
    round: u64,
}

impl Interned {
    /// A new pod: what earlier ones asked for may give way.
    pub(crate) fn begin(&mut self) {
        self.round += 1;
    }

    /// The bit, and whether nodes must be looked at for it. `None`: this one pod asks for more than there are bits.
    pub(crate) fn bit(&mut self, requirement: &Requirement) -> Option<(usize, bool)> {
        if let Some(bit) = self.known.iter().position(|(one, _)| one == requirement) {
            if let Some((_, used)) = self.known.get_mut(bit) {
                *used = self.round;
            }
            return Some((bit, false));
        }
        if self.known.len() < REQUIREMENTS_MAX {
            self.known.push((requirement.clone(), self.round));
            return Some((self.known.len() - 1, true));
        }
        let oldest = (0_usize..).zip(&mut self.known).min_by_key(|(_, (_, used))| *used);
        let (bit, slot) = oldest.filter(|(_, (_, used))| *used != self.round)?;
        *slot = (requirement.clone(), self.round);
        Some((bit, true))
    }

    /// All that a node meets.
    pub(crate) fn met_by(&self, name: &str, labels: &BTreeMap<String, String>) -> Requirements {
        let mut meets = Requirements::EMPTY;
        for (bit, (requirement, _)) in self.known.iter().enumerate() {
            // Below REQUIREMENTS_MAX by `bit`, so it fits.
            let fits = !requirement.is_met(name, labels) || meets.insert(bit);
            debug_assert!(fits);
        }
        meets
    }
}
