//! The stage before the sequencer: what is admitted, and the order in which it becomes so.
//!
//! Create: defaults, hub version, mutating plugins, the kind's preparation, name and uid, validation, validating
//! plugins. Change: the same with the version before beside it.

use alloc::{format, string::String, sync::Arc, vec::Vec};

use coracle_api::{Object, Resource, Status, managed, time};
use serde_json::Value;

use super::{Ask, Registry, body::type_of, sequencer::Key};
use crate::{
    admission::{self, Attributes, Scene},
    call::Verb,
    kinds::{
        self,
        access::{at, child, items, keep, object, remove, text},
    },
};

/// A change that admission let through. Only this module makes one, and the sequencer takes nothing else.
#[derive(Debug)]
pub(crate) struct Admitted {
    key: Key,
    old: Option<Arc<Object>>,
    new: Option<Value>,
    durable: bool,
}

impl Admitted {
    /// What it is about.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether it goes to the store.
    pub(crate) fn durable(&self) -> bool {
        self.durable
    }

    /// Key, version before, value after (`None`: delete).
    pub(crate) fn into_parts(self) -> (Key, Option<Arc<Object>>, Option<Value>) {
        (self.key, self.old, self.new)
    }

    /// Whether the object is gone after it.
    pub(crate) fn removes(&self) -> bool {
        self.new.is_none()
    }
}

impl Registry<'_> {
    /// Runs the mutating plugins.
    pub(crate) fn mutate(
        &mut self,
        ask: &Ask<'_>,
        verb: Verb,
        old: Option<&Value>,
        new: &mut Value,
    ) -> Result<(), Status> {
        let name: String = text(new, &["metadata", "name"]).into();
        self.with_scene(|scene| {
            admission::admit_mutating(&attributes(ask, verb, &name), old, new, scene)
        })
    }

    /// Runs the validating plugins.
    pub(crate) fn validate(
        &mut self,
        ask: &Ask<'_>,
        verb: Verb,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<(), Status> {
        let name: String = text(new, &["metadata", "name"]).into();
        self.with_scene(|scene| {
            admission::admit_validating(&attributes(ask, verb, &name), old, new, scene)
        })
    }

    /// What plugins look at; their warnings are the call's.
    fn with_scene<T>(&mut self, run: impl FnOnce(&mut Scene<'_>) -> T) -> T {
        let mut warnings = core::mem::take(&mut self.warnings);
        let result = run(&mut Scene {
            cache: self.cache,
            authorizer: self.authorizer,
            now: self.now,
            rng: self.rng,
            warnings: &mut warnings,
        });
        self.warnings = warnings;
        result
    }

    /// Admits a new object; `new` is in the hub version, defaulted.
    pub(crate) fn admit_new(
        &mut self,
        ask: &Ask<'_>,
        mut new: Value,
        managed_already: bool,
    ) -> Result<Admitted, Status> {
        let (resource, context) = (ask.resource, self.context(ask));
        if ask.call.verb != Verb::Create {
            // The call was let through as an update or patch, and turns out to be a create.
            let asked = attributes(ask, Verb::Create, "");
            admission::may_create(&asked, self.authorizer, self.cache)?;
        }
        self.mutate(ask, Verb::Create, None, &mut new)?;
        kinds::prepare_create(resource, &context, &mut new);
        self.stamp(ask, &mut new)?;
        self.service_ip(ask, None, &mut new)?;
        if !managed_already {
            self.manage(ask, None, &mut new)?;
        }
        kinds::validate_create(resource, &context, &new)?;
        self.validate(ask, Verb::Create, None, &new)?;
        self.warnings.extend(kinds::warnings(resource, &context, &new, None));
        let key = Key::new(
            resource,
            text(&new, &["metadata", "namespace"]),
            text(&new, &["metadata", "name"]),
        );
        if self.cache.get(resource, &key.namespace, &key.name).is_some() {
            let target = ask.target;
            return Err(Status::already_exists(&target.group, &target.plural, &key.name));
        }
        let durable = !resource.def().volatile;
        Ok(Admitted { key, old: None, new: Some(new), durable })
    }

    /// Admits a changed object; `new` is in the hub version, defaulted. `None`: nothing changes.
    pub(crate) fn admit_changed(
        &mut self,
        ask: &Ask<'_>,
        old: &Arc<Object>,
        mut new: Value,
        managed_already: bool,
    ) -> Result<Option<Admitted>, Status> {
        let (resource, context) = (ask.resource, self.context(ask));
        let was = old.value();
        // A POST below the object (rollback) changes it too.
        let verb = if ask.call.verb == Verb::Patch { Verb::Patch } else { Verb::Update };
        self.mutate(ask, verb, Some(&was), &mut new)?;
        let subresource = ask.target.subresource.as_str();
        let through_object = matches!(subresource, "" | "scale" | "rollback");
        if through_object {
            kinds::prepare_update(resource, &context, &mut new, &was);
        } else {
            kinds::prepare_subresource(resource, subresource, &context, &mut new, &was);
        }
        keep_identity(&mut new, &was);
        self.service_ip(ask, Some(&was), &mut new)?;
        if !managed_already {
            self.manage(ask, Some(&was), &mut new)?;
        }
        if through_object {
            kinds::validate_update(resource, &context, &new, &was)?;
        } else {
            kinds::validate_subresource(resource, subresource, &context, &new, &was)?;
        }
        self.validate(ask, verb, Some(&was), &new)?;
        if through_object {
            self.warnings.extend(kinds::warnings(resource, &context, &new, Some(&was)));
        }
        Ok(self.admit_as_is(old, &was, new))
    }

    /// Admits what has been through all that already, or was made here (marks of deletion, bindings).
    pub(crate) fn admit_as_is(
        &self,
        old: &Arc<Object>,
        was: &Value,
        mut new: Value,
    ) -> Option<Admitted> {
        // The revision of a version is its entry's, not part of its value.
        keep(
            child(&mut new, "metadata"),
            was.get("metadata").unwrap_or(&Value::Null),
            "resourceVersion",
        );
        if same_but_managed_times(was, &new) {
            return None;
        }
        let key = Key::of(old);
        if may_go(old.resource, &new) {
            return Some(self.admit_removal(old));
        }
        let durable = !is_volatile(old.resource, was, &new);
        Some(Admitted { key, old: Some(old.clone()), new: Some(new), durable })
    }

    /// Admits that an object goes now.
    #[expect(clippy::unused_self, reason = "only a scene of a decision may admit")]
    pub(crate) fn admit_removal(&self, old: &Arc<Object>) -> Admitted {
        let durable = !old.resource.def().volatile;
        Admitted { key: Key::of(old), old: Some(old.clone()), new: None, durable }
    }

    /// Notes in managedFields, by the client's version, who set what.
    fn manage(&self, ask: &Ask<'_>, was: Option<&Value>, new: &mut Value) -> Result<(), Status> {
        let target = ask.target;
        let ty = type_of(&target.group, &target.version, ask.resource.def().kind)?;
        let options = ask.call.options();
        let (api_version, time) = (ask.api_version(), time::rfc3339(self.now.0));
        let name = if options.field_manager.is_empty() {
            ask.call.user().name.rsplit(':').next().unwrap_or_default()
        } else {
            options.field_manager.as_str()
        };
        let subresource = target.subresource.as_str();
        let writer = managed::Writer { name, api_version: &api_version, subresource, time: &time };
        if ask.is_hub() {
            managed::update(ty, was, new, &writer);
            return Ok(());
        }
        let (group, version) = (target.group.as_str(), target.version.as_str());
        let was = was.map(|was| kinds::from_hub(group, version, was.clone()));
        let mut seen = kinds::from_hub(group, version, new.clone());
        managed::update(ty, was.as_ref(), &mut seen, &writer);
        keep(child(new, "metadata"), seen.get("metadata").unwrap_or(&Value::Null), "managedFields");
        Ok(())
    }

    fn service_ip(
        &self,
        ask: &Ask<'_>,
        was: Option<&Value>,
        new: &mut Value,
    ) -> Result<(), Status> {
        use kinds::service_ip::{Allocation, allocation, first_free, is_free, set_ip, used};
        if ask.resource != Resource::SERVICES || !ask.target.subresource.is_empty() {
            return Ok(());
        }
        let wanted = allocation(new, was);
        if wanted == Allocation::Nothing {
            return Ok(());
        }
        let services: Vec<Value> =
            self.cache.list(Resource::SERVICES, None).map(|service| service.value()).collect();
        let used = used(services.iter());
        match wanted {
            Allocation::Nothing => {}
            Allocation::Any => match first_free(&used) {
                Some(ip) => set_ip(new, ip),
                None => {
                    return Err(Status::internal("failed to allocate a serviceIP: range is full"));
                }
            },
            Allocation::This(ip) if is_free(ip, &used) => set_ip(new, ip),
            Allocation::This(ip) => {
                let mut errors = coracle_api::FieldErrors::new();
                let shown = format!("{ip}");
                errors.invalid(
                    "spec.clusterIPs",
                    shown.as_str(),
                    "failed to allocate IP: provided IP is already allocated or not in the range of Services",
                );
                return errors.into_result("", "Service", text(new, &["metadata", "name"]));
            }
        }
        Ok(())
    }
}

fn attributes<'a>(ask: &Ask<'a>, verb: Verb, name: &'a str) -> Attributes<'a> {
    let target = ask.target;
    Attributes {
        user: ask.call.user(),
        verb,
        resource: ask.resource,
        subresource: &target.subresource,
        namespace: &target.namespace,
        name: if target.name.is_empty() { name } else { &target.name },
        dry_run: ask.call.options().dry_run,
    }
}

/// What no update may change, whatever the kind.
fn keep_identity(new: &mut Value, was: &Value) {
    let was = was.get("metadata").unwrap_or(&Value::Null);
    let metadata = child(new, "metadata");
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generateName",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        keep(metadata, was, key);
    }
    remove(metadata, "selfLink");
}

/// Whether an object that is being deleted has nothing left that holds it.
fn may_go(resource: Resource, new: &Value) -> bool {
    at(new, &["metadata", "deletionTimestamp"]).is_some()
        && items(new, &["metadata", "finalizers"]).is_empty()
        && kinds::access::int(new, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
        && (resource != Resource::NAMESPACES || items(new, &["spec", "finalizers"]).is_empty())
}

/// Equal but for the times in managedFields: such a write is not made.
fn same_but_managed_times(was: &Value, new: &Value) -> bool {
    let untimed = |value: &Value| {
        let mut value = value.clone();
        if let Some(list) =
            value.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut)
        {
            for entry in list {
                remove(entry, "time");
            }
        }
        value
    };
    kinds::access::same(Some(&untimed(was)), Some(&untimed(new)))
}

/// Whether a change is one of the three that are not durable: Events, a Lease's `renewTime`, a Node's heartbeats.
pub(crate) fn is_volatile(resource: Resource, was: &Value, new: &Value) -> bool {
    let calm = |value: &Value| {
        let mut value = value.clone();
        remove(child(&mut value, "metadata"), "managedFields");
        if resource == Resource::LEASES {
            remove(child(&mut value, "spec"), "renewTime");
        } else if let Some(conditions) =
            value.pointer_mut("/status/conditions").and_then(Value::as_array_mut)
        {
            for condition in conditions {
                remove(condition, "lastHeartbeatTime");
            }
        }
        value
    };
    resource.def().volatile
        || (matches!(resource, Resource::LEASES | Resource::NODES)
            && kinds::access::same(Some(&calm(was)), Some(&calm(new))))
}

/// Whether the metadata has this finalizer.
pub(crate) fn has_finalizer(value: &Value, name: &str) -> bool {
    items(value, &["metadata", "finalizers"]).iter().any(|have| have == name)
}

/// `metadata` as a map to write into.
pub(crate) fn metadata(value: &mut Value) -> &mut serde_json::Map<String, Value> {
    object(child(value, "metadata"))
}
