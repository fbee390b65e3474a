//! What is served behind a path: the table that discovery shows, asked for verbs and for what is stored.

use coracle_api::{
    Resource, Status,
    served::{self, Served},
};

use super::{ResourceTarget, Verb};

/// The stored resource behind a group, version and plural, where one is served. Old groups lead to where their things
/// are kept now.
pub fn hub(group: &str, version: &str, plural: &str) -> Option<Resource> {
    served::find(group, version, plural, "")?;
    let group = match group {
        "extensions" => "apps",
        "events.k8s.io" => "",
        group => group,
    };
    Resource::find(group, plural)
}

/// The list of CustomResourceDefinitions: not in discovery, since there are none and none can be made, but kubectl asks
/// for it before it says that it does not know a kind, and blames the server where it is not found.
pub fn is_always_empty(verb: Verb, target: &ResourceTarget) -> bool {
    verb == Verb::List
        && (&*target.group, &*target.version) == ("apiextensions.k8s.io", "v1")
        && (&*target.plural, &*target.subresource) == ("customresourcedefinitions", "")
        && target.namespace.is_empty()
}

/// 404 for what is not served, 405 for a verb that it has not. Asked after authorization, as Kubernetes does.
pub fn check(verb: Verb, target: &ResourceTarget) -> Result<&'static Served, Status> {
    let ResourceTarget { group, version, plural, subresource, namespace, name, .. } = target;
    let row = served::find(group, version, plural, subresource).ok_or_else(Status::not_served)?;
    if row.namespaced == namespace.is_empty() {
        // Across all namespaces a namespaced resource can be listed and watched, nothing else.
        return match verb {
            Verb::List | Verb::Watch if row.namespaced && row.verbs.contains(&verb.as_str()) => {
                Ok(row)
            }
            Verb::List | Verb::Watch | Verb::Create | Verb::DeleteCollection
                if row.namespaced && name.is_empty() =>
            {
                Err(Status::method_not_allowed())
            }
            Verb::Get
            | Verb::List
            | Verb::Watch
            | Verb::Create
            | Verb::Update
            | Verb::Patch
            | Verb::Delete
            | Verb::DeleteCollection => Err(Status::not_served()),
        };
    }
    let names_one = !matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection)
        && (verb != Verb::Create || !subresource.is_empty());
    if !row.verbs.contains(&verb.as_str()) || names_one == name.is_empty() {
        return Err(Status::method_not_allowed());
    }
    Ok(row)
}
