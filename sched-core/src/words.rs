//! What Kubernetes' words about nodes mean, for callers that intern their names: label operators and tolerations.

/// `operator` of a node selector requirement (core/v1 `NodeSelectorOperator`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The value is one of those listed.
    In,
    /// The label is not there, or its value is none of those listed.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The value is an integer above the one listed.
    Gt,
    /// The value is an integer below the one listed.
    Lt,
}

impl Operator {
    /// By its name in a manifest.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "In" => Self::In,
            "NotIn" => Self::NotIn,
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            "Gt" => Self::Gt,
            "Lt" => Self::Lt,
            _ => return None,
        })
    }

    /// Whether a node whose label has `value` (`None`: it has no such label) meets the requirement with these `values`.
    pub fn is_met<'a>(
        self,
        value: Option<&str>,
        values: impl IntoIterator<Item = &'a str>,
    ) -> bool {
        let mut values = values.into_iter();
        match self {
            Self::In => value.is_some_and(|value| values.any(|one| one == value)),
            Self::NotIn => !value.is_some_and(|value| values.any(|one| one == value)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::Gt => compare(value, values.next()).is_some_and(|(has, bound)| bound < has),
            Self::Lt => compare(value, values.next()).is_some_and(|(has, bound)| has < bound),
        }
    }
}

fn compare(value: Option<&str>, bound: Option<&str>) -> Option<(i64, i64)> {
    Some((value?.parse().ok()?, bound?.parse().ok()?))
}

/// A taint's words (core/v1 `Taint`).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Taint<'a> {
    /// The key.
    pub key: &'a str,
    /// The value; empty for none.
    pub value: &'a str,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: &'a str,
}

/// A toleration's words (core/v1 `Toleration`).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Toleration<'a> {
    /// Empty with `Exists`: every key.
    pub key: &'a str,
    /// `Exists`; `Equal` or empty: the values are compared. Any other tolerates nothing.
    pub operator: &'a str,
    /// The value.
    pub value: &'a str,
    /// Empty: every effect.
    pub effect: &'a str,
}

impl Toleration<'_> {
    /// Whether it covers the taint.
    pub fn covers(&self, taint: &Taint<'_>) -> bool {
        let effect = self.effect.is_empty() || self.effect == taint.effect;
        let key = self.key.is_empty() || self.key == taint.key;
        let value = match self.operator {
            "" | "Equal" => !self.key.is_empty() && self.value == taint.value,
            "Exists" => true,
            _ => false,
        };
        effect && key && value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_mean_what_kubernetes_says() {
        let met = |operator: &str, value: Option<&str>, values: &[&str]| {
            Operator::parse(operator).unwrap().is_met(value, values.iter().copied())
        };
        assert!(met("In", Some("a"), &["b", "a"]) && !met("In", None, &["a"]));
        assert!(met("NotIn", None, &["a"]) && !met("NotIn", Some("a"), &["a"]));
        assert!(met("Exists", Some(""), &[]) && met("DoesNotExist", None, &[]));
        assert!(met("Gt", Some("5"), &["4"]) && !met("Gt", Some("4"), &["4"]));
        assert!(met("Lt", Some("-5"), &["4"]) && !met("Lt", Some("x"), &["4"]));
        assert!(!met("Gt", Some("5"), &[]));
        assert_eq!(Operator::parse("in"), None);
    }

    #[test]
    fn tolerations_cover_by_key_value_and_effect() {
        let taint = Taint { key: "gpu", value: "yes", effect: "NoSchedule" };
        let covers = |key, operator, value, effect| {
            Toleration { key, operator, value, effect }.covers(&taint)
        };
        assert!(covers("gpu", "Equal", "yes", "NoSchedule") && covers("gpu", "", "yes", ""));
        assert!(covers("", "Exists", "", "") && covers("gpu", "Exists", "", ""));
        assert!(!covers("gpu", "Equal", "no", "") && !covers("gpu", "", "yes", "NoExecute"));
        // An empty key needs `Exists`.
        assert!(!covers("", "Equal", "yes", "") && !covers("gpu", "Gt", "yes", ""));
    }
}
