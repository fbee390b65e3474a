//! Lists: selectors, pages of one consistent state, and what a watch is about.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use coracle_api::{
    Object, Resource, Status,
    selector::{FieldSelector, LabelSelector},
};
use serde_json::{Value, json};

use crate::{
    cache::{Cache, ring::Ring, watch::Filter},
    call::{Authorized, Call, ResourceTarget, VersionMatch},
    kinds,
};

/// One page of objects, and the state that it is of.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Arc<Object>>,
    pub(crate) revision: u64,
    /// Brings the next page; empty: this was the last.
    pub(crate) next: String,
    /// How many are left after this page, where that is known (no selector).
    pub(crate) remaining: Option<usize>,
}

/// Which objects a list, watch or deletion is about. The error is a 400.
pub(crate) fn filter_of(
    call: &Call<Authorized>,
    target: &ResourceTarget,
    resource: Resource,
) -> Result<Filter, Status> {
    let options = call.options();
    let labels = LabelSelector::parse(&options.label_selector).map_err(Status::bad_request)?;
    let fields = FieldSelector::parse(&options.field_selector).map_err(Status::bad_request)?;
    for term in fields.terms() {
        kinds::field_label(resource, &term.field)?;
    }
    let namespace = Some(target.namespace.clone()).filter(|namespace| !namespace.is_empty());
    let name = fields.exact("metadata.name").map(ToString::to_string);
    let only_name = fields.terms().iter().all(|term| term.equal && term.field == "metadata.name");
    if labels.is_everything() && only_name && fields.terms().len() <= 1 {
        return Ok(Filter { namespace, name, matches: None });
    }
    let matches = move |object: &Object| {
        labels.matches(&object.meta.labels)
            && fields.matches(|path| kinds::field_value(resource, object, path).unwrap_or_default())
    };
    Ok(Filter { namespace, name, matches: Some(Arc::new(matches)) })
}

/// Reads a page.
pub(crate) fn page(
    call: &Call<Authorized>,
    target: &ResourceTarget,
    resource: Resource,
    cache: &Cache,
    ring: &Ring,
) -> Result<Page, Status> {
    let options = call.options();
    let filter = filter_of(call, target, resource)?;
    let (revision, start) = if options.continue_token.is_empty() {
        (state_asked(call, cache, ring)?, None)
    } else {
        let (revision, start) = read_token(&options.continue_token)?;
        if !ring.covers(revision) || revision > cache.revision() {
            return Err(expired());
        }
        (revision, Some(start))
    };
    let mut all = state(resource, filter.namespace.as_deref(), revision, cache, ring)
        .ok_or_else(|| Status::too_old(revision, ring.dropped()))?;
    all.retain(|object| {
        filter.selects(object)
            && start.as_ref().is_none_or(|(namespace, name)| {
                (object.meta.namespace.as_str(), object.meta.name.as_str())
                    > (namespace.as_str(), name.as_str())
            })
    });
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    if limit == 0 || all.len() <= limit {
        return Ok(Page { objects: all, revision, next: String::new(), remaining: None });
    }
    let left = all.len() - limit;
    all.truncate(limit);
    let next = all.last().map_or(String::new(), |last| token(revision, last));
    let remaining = filter.matches.is_none().then_some(left);
    Ok(Page { objects: all, revision, next, remaining })
}

/// The revision whose state a list without a token is to show.
fn state_asked(call: &Call<Authorized>, cache: &Cache, ring: &Ring) -> Result<u64, Status> {
    let (options, current) = (call.options(), cache.revision());
    let asked = match options.resource_version {
        None | Some(0) => return Ok(current),
        Some(asked) => asked,
    };
    if asked > current {
        return Err(Status::too_large_resource_version(asked, current));
    }
    match options.resource_version_match {
        Some(VersionMatch::Exact) if !ring.covers(asked) => {
            Err(Status::too_old(asked, ring.dropped()))
        }
        Some(VersionMatch::Exact) => Ok(asked),
        _ => Ok(current),
    }
}

/// All objects as they were at a revision, in order; `None`: that is too long ago.
fn state(
    resource: Resource,
    namespace: Option<&str>,
    revision: u64,
    cache: &Cache,
    ring: &Ring,
) -> Option<Vec<Arc<Object>>> {
    let now = cache.list(resource, namespace).cloned();
    if revision >= cache.revision() {
        return Some(now.collect());
    }
    let then = ring.differences_at(resource, revision)?;
    if then.is_empty() {
        return Some(now.collect());
    }
    let mut all: BTreeMap<(String, String), Arc<Object>> = now
        .map(|object| ((object.meta.namespace.clone(), object.meta.name.clone()), object))
        .collect();
    for (key, was) in then {
        if namespace.is_some_and(|namespace| namespace != key.0) {
            continue;
        }
        match was {
            Some(object) => all.insert(key, object),
            None => all.remove(&key),
        };
    }
    Some(all.into_values().collect())
}

fn token(revision: u64, last: &Object) -> String {
    let token = json!({
        "v": "coracle/v1",
        "rv": revision,
        "ns": last.meta.namespace,
        "name": last.meta.name,
    });
    URL_SAFE_NO_PAD.encode(token.to_string())
}

/// Where a page begins: its state and the last object before it.
type Start = (u64, (String, String));

fn read_token(token: &str) -> Result<Start, Status> {
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        (value.get("v")? == "coracle/v1").then_some(())?;
        let text = |key| value.get(key).and_then(Value::as_str).map(ToString::to_string);
        Some((value.get("rv")?.as_u64()?, (text("ns")?, text("name")?)))
    };
    read().ok_or_else(|| Status::bad_request("continue key is not valid: list again without it"))
}

/// 410 of a token whose state is gone.
fn expired() -> Status {
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result: \
         list again without the continue parameter.",
    )
}
