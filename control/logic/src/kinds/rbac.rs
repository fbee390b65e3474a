//! Roles, ClusterRoles and their bindings.

use alloc::string::String;

use coracle_api::validation;
use serde_json::Value;

use super::{
    Context, Facts, Strategy,
    access::{at, child, each, items, or_set_text, remove_zero, same, text},
    field::{FieldErrors, Path},
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles (`namespaced`) and ClusterRoles.
pub(crate) struct Roles {
    pub(crate) namespaced: bool,
}

/// RoleBindings (`namespaced`) and ClusterRoleBindings.
pub(crate) struct Bindings {
    pub(crate) namespaced: bool,
}

impl Strategy for Roles {
    fn facts(&self) -> Facts {
        Facts { create_on_update: true, ..Facts::default() }
    }

    fn validate_create(&self, _context: &Context<'_>, role: &Value, errors: &mut FieldErrors) {
        rules(role, self.namespaced, errors);
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        _old: &Value,
        errors: &mut FieldErrors,
    ) {
        rules(new, self.namespaced, errors);
    }
}

impl Strategy for Bindings {
    fn facts(&self) -> Facts {
        Facts { create_on_update: true, ..Facts::default() }
    }

    fn default(&self, _context: &Context<'_>, binding: &mut Value) {
        or_set_text(child(binding, "roleRef"), "apiGroup", GROUP);
        each(binding, "subjects", |subject| {
            let group = match text(subject, &["kind"]) {
                "User" | "Group" => GROUP,
                _ => return remove_zero(subject, &["apiGroup"]),
            };
            or_set_text(subject, "apiGroup", group);
        });
    }

    fn validate_create(&self, _context: &Context<'_>, binding: &Value, errors: &mut FieldErrors) {
        role_ref(binding, self.namespaced, errors);
        subjects(binding, self.namespaced, errors);
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        role_ref(new, self.namespaced, errors);
        subjects(new, self.namespaced, errors);
        if !same(new.get("roleRef"), old.get("roleRef")) {
            let now = new.get("roleRef").unwrap_or(&Value::Null);
            errors.invalid(&Path::new("roleRef"), now, "cannot change roleRef");
        }
    }
}

fn rules(role: &Value, namespaced: bool, errors: &mut FieldErrors) {
    for (index, rule) in items(role, &["rules"]).iter().enumerate() {
        let path = Path::new("rules").index(index);
        if items(rule, &["verbs"]).is_empty() {
            errors.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        let urls = items(rule, &["nonResourceURLs"]);
        let of = |key| !items(rule, &[key]).is_empty();
        if !urls.is_empty() {
            let urls = Value::from(urls);
            let path = path.child("nonResourceURLs");
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.invalid(&path, &urls, why);
            }
            if of("apiGroups") || of("resources") || of("resourceNames") {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&path, &urls, why);
            }
            continue;
        }
        if !of("apiGroups") {
            let why = "resource rules must supply at least one api group";
            errors.required(&path.child("apiGroups"), why);
        }
        if !of("resources") {
            let why = "resource rules must supply at least one resource";
            errors.required(&path.child("resources"), why);
        }
    }
    if !namespaced {
        let selectors = items(role, &["aggregationRule", "clusterRoleSelectors"]);
        let path = Path::new("aggregationRule").child("clusterRoleSelectors");
        if at(role, &["aggregationRule"]).is_some() && selectors.is_empty() {
            errors.required(
                &path,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (index, selector) in selectors.iter().enumerate() {
            super::meta::label_selector(selector, &path.index(index), errors);
        }
    }
}

fn role_ref(binding: &Value, namespaced: bool, errors: &mut FieldErrors) {
    let path = Path::new("roleRef");
    let group = text(binding, &["roleRef", "apiGroup"]);
    if group != GROUP {
        errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
    }
    let kind = text(binding, &["roleRef", "kind"]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&kind) {
        errors.not_supported(&path.child("kind"), kind, kinds);
    }
    let name = text(binding, &["roleRef", "name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        for why in validation::path_segment(name) {
            errors.invalid(&path.child("name"), name, why);
        }
    }
}

fn subjects(binding: &Value, namespaced: bool, errors: &mut FieldErrors) {
    for (index, subject) in items(binding, &["subjects"]).iter().enumerate() {
        let path = Path::new("subjects").index(index);
        let name = text(subject, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        let group = text(subject, &["apiGroup"]);
        let kind: String = text(subject, &["kind"]).into();
        let want = match kind.as_str() {
            "ServiceAccount" => {
                if !name.is_empty() {
                    for why in validation::dns1123_subdomain(name) {
                        errors.invalid(&path.child("name"), name, why);
                    }
                }
                if !namespaced && text(subject, &["namespace"]).is_empty() {
                    errors.required(&path.child("namespace"), "");
                }
                ""
            }
            "User" | "Group" => GROUP,
            other => {
                let known = ["ServiceAccount", "User", "Group"];
                errors.not_supported(&path.child("kind"), other, &known);
                continue;
            }
        };
        if group != want {
            errors.not_supported(&path.child("apiGroup"), group, &[want]);
        }
    }
}
