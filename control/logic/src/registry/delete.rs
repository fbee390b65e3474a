//! Delete: preconditions, grace, finalizers of the propagation policy, and what is left to whoever holds the object.

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::{Object, Resource, Status, schema, time};
use serde_json::{Value, json};

use super::{
    Ask, Decision, Payload, Registry, Reply,
    admit::{has_finalizer, metadata},
    body::optional,
    list::filter_of,
};
use crate::{
    Millis,
    call::{Propagation, Verb},
    kinds::{
        self,
        access::{at, child, int, items, set, text},
    },
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Grace of a pod that does not say (upstream's default of `terminationGracePeriodSeconds`).
const GRACE_SECONDS_DEFAULT: i64 = 30;

/// How something is to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Reads `meta/v1 DeleteOptions`.
    pub(crate) fn read(value: &Value) -> Result<Self, Status> {
        let given = |path: &[&str]| Some(text(value, path)).filter(|text| !text.is_empty());
        let propagation = match (given(&["propagationPolicy"]), at(value, &["orphanDependents"])) {
            (Some(_), Some(_)) => {
                return Err(Status::bad_request(
                    "orphanDependents and propagationPolicy cannot be both set",
                ));
            }
            (Some(policy), None) => Some(propagation(policy)?),
            (None, Some(orphan)) => Some(orphaning(orphan.as_bool().unwrap_or(false))),
            (None, None) => None,
        };
        let dry_run = items(value, &["dryRun"]);
        if dry_run.iter().any(|stage| stage != "All") {
            return Err(Status::bad_request(
                "dryRun: Unsupported value: supported values: \"All\"",
            ));
        }
        Ok(Self {
            uid: given(&["preconditions", "uid"]).map(ToString::to_string),
            resource_version: given(&["preconditions", "resourceVersion"]).map(ToString::to_string),
            propagation,
            grace_seconds: int(value, &["gracePeriodSeconds"]),
            dry_run: !dry_run.is_empty(),
        })
    }
}

fn propagation(policy: &str) -> Result<Propagation, Status> {
    match policy {
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        "Orphan" => Ok(Propagation::Orphan),
        other => Err(Status::bad_request(format!(
            "propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
        ))),
    }
}

fn orphaning(orphan: bool) -> Propagation {
    if orphan { Propagation::Orphan } else { Propagation::Background }
}

impl Registry<'_> {
    /// DELETE of one object.
    pub(crate) fn delete(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let options = delete_options(ask)?;
        let old = self.stored(ask)?;
        let (was, mut nothing) = (old.value(), Value::Null);
        self.mutate(ask, Verb::Delete, Some(&was), &mut nothing)?;
        self.validate(ask, Verb::Delete, Some(&was), &nothing)?;
        self.delete_object(ask, &old, &options, Reply::Removed)
    }

    /// DELETE of a collection: each of these, one by one.
    pub(crate) fn delete_collection(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let options = delete_options(ask)?;
        let filter = filter_of(ask.call, ask.target, ask.resource)?;
        let namespace = Some(ask.target.namespace.as_str()).filter(|name| !name.is_empty());
        let all = self.cache.list(ask.resource, namespace);
        let all = all.filter(|object| filter.selects(object)).cloned().collect();
        Ok(Decision::Each(all, options))
    }

    /// Deletes an object, or marks it for whoever must first do something.
    pub(crate) fn delete_object(
        &mut self,
        ask: &Ask<'_>,
        old: &Arc<Object>,
        options: &DeleteOptions,
        reply: Reply,
    ) -> Result<Decision, Status> {
        preconditions(ask, old, options)?;
        let was = old.value();
        let deleting = old.meta.deletion_timestamp.is_some();
        let graceful = kinds::facts(old.resource).graceful_deletion;
        let grace = if graceful { grace_seconds(&was, options) } else { 0 };

        let mut new = was.clone();
        self.propagate(ask, options, &mut new);
        let held = !items(&new, &["metadata", "finalizers"]).is_empty()
            || (old.resource == Resource::NAMESPACES
                && !items(&new, &["spec", "finalizers"]).is_empty());
        let admitted = if grace == 0 && !held {
            Some(self.admit_removal(old))
        } else {
            self.mark(old, deleting, graceful, grace, &mut new);
            self.admit_as_is(old, &was, new)
        };
        // Where it stays for now, the answer is the object with its mark.
        let stays = admitted.as_ref().is_none_or(|admitted| !admitted.removes());
        let reply = match reply {
            Reply::Removed if stays => Reply::Written(200),
            Reply::Written(_) | Reply::Removed | Reply::Success(..) | Reply::Scale => reply,
        };
        match admitted {
            None => Ok(Decision::Same(old.clone(), reply)),
            Some(admitted) if options.dry_run || ask.call.options().dry_run => {
                drop(admitted);
                Ok(Decision::Same(old.clone(), reply))
            }
            Some(admitted) => Ok(Decision::Write(admitted, reply)),
        }
    }

    /// Writes when the object is to be gone. A second delete can only shorten the time.
    fn mark(&self, old: &Object, deleting: bool, graceful: bool, grace: i64, new: &mut Value) {
        let end = Millis(self.now.0.saturating_add_signed(grace.saturating_mul(1000)));
        if deleting {
            let granted = old.meta.deletion_grace_period_seconds.unwrap_or(0);
            if !graceful || grace >= granted {
                return;
            }
        } else if let Some(generation) = int(new, &["metadata", "generation"]).filter(|g| *g > 0) {
            metadata(new).insert("generation".into(), generation.saturating_add(1).into());
        }
        let fields = metadata(new);
        fields.insert("deletionTimestamp".into(), time::rfc3339(end.0).into());
        if old.resource == Resource::NAMESPACES {
            set(child(new, "status"), "phase", "Terminating");
        } else {
            fields.insert("deletionGracePeriodSeconds".into(), grace.into());
        }
    }

    /// Puts in the finalizer that the propagation policy asks for, and takes out the other one.
    fn propagate(&self, ask: &Ask<'_>, options: &DeleteOptions, new: &mut Value) {
        let policy = options.propagation.unwrap_or_else(|| {
            if has_finalizer(new, ORPHAN) {
                Propagation::Orphan
            } else if has_finalizer(new, FOREGROUND) {
                Propagation::Foreground
            } else {
                match kinds::default_propagation(&ask.target.group, &ask.target.version) {
                    kinds::Propagation::Background => Propagation::Background,
                    kinds::Propagation::Orphan => Propagation::Orphan,
                }
            }
        });
        let want = match policy {
            Propagation::Background => None,
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Orphan => Some(ORPHAN),
        };
        let have = items(new, &["metadata", "finalizers"]);
        let mut list: Vec<Value> = have
            .iter()
            .filter(|name| {
                !matches!(name.as_str(), Some(FOREGROUND | ORPHAN)) || name.as_str() == want
            })
            .cloned()
            .collect();
        if let Some(want) = want
            && !list.iter().any(|name| name == want)
        {
            list.push(want.into());
        }
        let fields = metadata(new);
        if list.is_empty() {
            fields.remove("finalizers");
        } else {
            fields.insert("finalizers".into(), list.into());
        }
    }
}

/// Seconds that a pod is granted; 0: it goes at once.
fn grace_seconds(pod: &Value, options: &DeleteOptions) -> i64 {
    let own = int(pod, &["spec", "terminationGracePeriodSeconds"]);
    let deleting = int(pod, &["metadata", "deletionGracePeriodSeconds"]);
    let asked = options.grace_seconds.or(deleting).or(own).unwrap_or(GRACE_SECONDS_DEFAULT);
    // Nobody runs it: it was never bound, or has ended.
    let idle = text(pod, &["spec", "nodeName"]).is_empty()
        || matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    match asked {
        _ if idle => 0,
        // As upstream: less than nothing is the shortest there is.
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn preconditions(ask: &Ask<'_>, old: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let have = [
        ("UID", &options.uid, old.meta.uid.clone()),
        ("ResourceVersion", &options.resource_version, old.resource_version()),
    ];
    for (label, want, have) in have {
        if let Some(want) = want.as_ref().filter(|want| **want != have) {
            let target = ask.target;
            return Err(Status::conflict(
                &target.group,
                &target.plural,
                &old.meta.name,
                &format!(
                    "Precondition failed: {label} in precondition: {want}, {label} in object meta: {have}"
                ),
            ));
        }
    }
    Ok(())
}

/// The options in the body where there is one, else those of the query.
fn delete_options(ask: &Ask<'_>) -> Result<DeleteOptions, Status> {
    if let Payload::Delete(options) = ask.payload {
        return Ok(options.clone());
    }
    let given = ask.call.options();
    let mut options = DeleteOptions {
        propagation: given.propagation_policy.or(given.orphan_dependents.map(orphaning)),
        grace_seconds: given.grace_period_seconds,
        dry_run: given.dry_run,
        ..DeleteOptions::default()
    };
    let mut body = optional(ask)?;
    if body.as_object().is_some_and(|body| !body.is_empty()) {
        if let Some(ty) = schema::type_by_name("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")
        {
            coracle_api::fields::prune(ty, &mut body).map_err(Status::bad_request)?;
        }
        let dry_run = options.dry_run;
        options = DeleteOptions::read(&body)?;
        options.dry_run |= dry_run;
    }
    Ok(options)
}

/// Kinds whose last version is the answer to their deletion; all others get a Status.
pub(crate) fn returns_object(resource: Resource) -> bool {
    matches!(resource, Resource::PODS | Resource::SERVICES | Resource::SERVICE_ACCOUNTS)
}

/// A Status of success that names what is gone.
pub(crate) fn removed_status(object: &Object) -> Value {
    let def = object.resource.def();
    let mut details =
        json!({ "name": object.meta.name, "kind": def.plural, "uid": object.meta.uid });
    if !def.group.is_empty() {
        set(&mut details, "group", def.group);
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}
