//! What Coracle serves: resources and subresources as discovery, RBAC and Tables name them (`schema/served.json`).

include!(concat!(env!("OUT_DIR"), "/served.rs"));

/// One served resource or subresource.
#[derive(Debug, PartialEq, Eq)]
pub struct Served {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// `deployments` or `deployments/scale`.
    pub name: &'static str,
    /// `deployment`; empty for subresources.
    pub singular: &'static str,
    /// Kind of its bodies.
    pub kind: &'static str,
    /// Group of that kind (`autoscaling` for `deployments/scale`).
    pub kind_group: &'static str,
    /// Version of that kind.
    pub kind_version: &'static str,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// The version is its group's preferred one.
    pub preferred: bool,
    /// As RBAC names them, sorted.
    pub verbs: &'static [&'static str],
    /// `deploy`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Columns of its Tables; none: name and age.
    pub columns: &'static [Column],
}

/// One column of a Table.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading (`Up-to-date`).
    pub name: &'static str,
    /// `string`, `integer`, …
    pub kind: &'static str,
    /// `name` for the name's column, else empty.
    pub format: &'static str,
    /// 0: always shown; more: with `-o wide`.
    pub priority: i32,
}

/// All of it, groups and versions together.
pub fn all() -> &'static [Served] {
    &SERVED
}

/// A resource, or with `subresource` not empty one of its subresources.
pub fn find(
    group: &str,
    version: &str,
    plural: &str,
    subresource: &str,
) -> Option<&'static Served> {
    all().iter().find(|row| {
        let (name, sub) = row.name.split_once('/').unwrap_or((row.name, ""));
        row.group == group && row.version == version && name == plural && sub == subresource
    })
}

impl Served {
    /// `deployments` of `deployments/scale`.
    pub fn plural(&self) -> &'static str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// `scale` of `deployments/scale`; empty for the resource itself.
    pub fn subresource(&self) -> &'static str {
        self.name.split_once('/').map(|(_, sub)| sub).unwrap_or_default()
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> alloc::string::String {
        if self.group.is_empty() {
            self.version.into()
        } else {
            alloc::format!("{}/{}", self.group, self.version)
        }
    }

    /// The type of its bodies.
    pub fn type_ref(&self) -> Option<crate::schema::TypeRef> {
        crate::schema::type_by_gvk(self.kind_group, self.kind_version, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::{all, find};
    use crate::Resource;

    #[test]
    fn every_stored_resource_is_served_and_every_kind_has_a_type() {
        for resource in Resource::all() {
            let def = resource.def();
            let served = find(def.group, def.version, def.plural, "").unwrap();
            assert_eq!(served.kind, def.kind);
            assert_eq!(served.namespaced, def.namespaced);
            assert!(!served.columns.is_empty() || def.kind == "Secret", "{}", def.plural);
        }
        for served in all() {
            assert!(served.type_ref().is_some(), "{served:?}");
        }
        let scale = find("apps", "v1", "deployments", "scale").unwrap();
        assert_eq!((scale.kind_group, scale.kind), ("autoscaling", "Scale"));
        let legacy = find("apps", "v1beta1", "deployments", "scale").unwrap();
        assert_eq!((legacy.kind_group, legacy.kind_version), ("apps", "v1beta1"));
    }
}
