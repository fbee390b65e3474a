//! Method and path to verb and target, as Kubernetes' RequestInfo reads them.

use alloc::{format, string::String, vec::Vec};

use coracle_api::Status;

use super::{
    ResourceTarget, Target, Verb,
    query::{self, first, flag},
    routes,
};

/// What method, path and query say together.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The verb.
    pub verb: Verb,
    /// The target.
    pub target: Target,
    /// Of a list or watch: the one name that its field selector (or a legacy watch path) picks; else empty.
    pub selected_name: String,
}

/// Reads them. 405: no method of ours; 400: a segment that is no name.
pub fn parse(method: &str, path: &str, pairs: &[(String, String)]) -> Result<Parsed, Status> {
    let verb = match method {
        "GET" | "HEAD" => Verb::Get,
        "POST" => Verb::Create,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" => Verb::Delete,
        _ => return Err(Status::method_not_allowed()),
    };
    let segments: Vec<String> =
        path.trim_matches('/').split('/').map(segment).collect::<Result<_, _>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let plain = |path: &str| Parsed {
        verb,
        target: Target::Path(path.into()),
        selected_name: String::new(),
    };
    let (group, version, rest) = match segments.as_slice() {
        // An empty segment in the middle is no name: such a path leads nowhere.
        parts if parts.len() > 1 && parts.contains(&"") => return Ok(plain(path)),
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        parts => return Ok(plain(&format!("/{}", parts.join("/")))),
    };
    let (watch_path, rest) = match rest {
        ["watch"] => return Ok(plain(path)),
        ["watch", rest @ ..] if verb == Verb::Get => (true, rest),
        rest => (false, rest),
    };
    // `/namespaces/x` and its own subresources are about the namespace, all else below it lies in it.
    let (namespace, rest) = match rest {
        ["namespaces", _, "status" | "finalize", ..] => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", String::new()),
        [plural, name] => (*plural, *name, String::new()),
        [plural, name, below @ ..] => (*plural, *name, below.join("/")),
        [] => return Ok(plain(path)),
    };
    let mut target = ResourceTarget {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        hub: routes::hub(group, version, plural),
        namespace: namespace.into(),
        name: name.into(),
        subresource,
    };
    let mut selected_name = String::new();
    let verb = match verb {
        Verb::Get if watch_path => {
            selected_name = core::mem::take(&mut target.name);
            Verb::Watch
        }
        Verb::Get if target.name.is_empty() => {
            if flag(pairs, "watch") {
                Verb::Watch
            } else {
                Verb::List
            }
        }
        Verb::Delete if target.name.is_empty() => Verb::DeleteCollection,
        Verb::Get
        | Verb::List
        | Verb::Watch
        | Verb::Create
        | Verb::Update
        | Verb::Patch
        | Verb::Delete
        | Verb::DeleteCollection => verb,
    };
    if matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection) && selected_name.is_empty()
    {
        selected_name = first(pairs, "fieldSelector").and_then(one_name).unwrap_or_default();
    }
    Ok(Parsed { verb, target: Target::Resource(target), selected_name })
}

fn segment(raw: &str) -> Result<String, Status> {
    let decoded = query::unescape(raw, false);
    match decoded {
        Some(name) if name != "." && name != ".." && !name.contains(['/', '%']) => Ok(name),
        _ => Err(Status::bad_request(format!("invalid path segment {raw:?}"))),
    }
}

/// The name that a field selector demands by `metadata.name=NAME` (also `==`), alone or among other terms.
fn one_name(selector: &str) -> Option<String> {
    selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name")?;
        let value = value.strip_prefix("==").or_else(|| value.strip_prefix('='))?;
        (!value.is_empty() && !value.contains(['\\', '/', '%'])).then(|| value.into())
    })
}
