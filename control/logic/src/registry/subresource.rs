//! POSTs below an object (binding, eviction, rollback) and its Scale.

use alloc::{
    format,
    string::{String, ToString},
};

use coracle_api::Status;
use serde_json::Value;

use super::{
    Ask, Decision, Registry, Reply, body::type_of, change::check_seen, delete::DeleteOptions,
};
use crate::{
    call::{PatchType, Verb},
    canary::Canary,
    kinds::{
        self,
        access::{child, remove, text},
        binding, scale,
    },
};

impl Registry<'_> {
    /// POST of a Binding: the pod gets its node.
    pub(crate) fn bind(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let mut sent = self.body(ask, "", "v1", "Binding")?;
        let old = self.stored(ask)?;
        let was = old.value();
        self.mutate(ask, Verb::Create, Some(&was), &mut sent)?;
        let mut seen = was.clone();
        if self.canary.sings(Canary::BindsTwice) {
            remove(child(&mut seen, "spec"), "nodeName");
        }
        let new = binding::bind(&self.context(ask), &seen, &sent)?;
        self.validate(ask, Verb::Create, Some(&was), &sent)?;
        let reply = Reply::Success(201, String::new());
        match self.admit_as_is(&old, &was, new) {
            Some(admitted) => self.write_or_preview(ask, admitted, reply),
            None => Ok(Decision::Same(old, reply)),
        }
    }

    /// POST of an Eviction: a delete that says why it may be refused.
    pub(crate) fn evict(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let mut version = "v1";
        if matches!(ask.payload, super::Payload::Http) {
            let body = super::body::optional(ask)?;
            if text(&body, &["apiVersion"]) == "policy/v1beta1" {
                version = "v1beta1";
            }
        }
        let mut sent = self.eviction(ask, version)?;
        let old = self.stored(ask)?;
        let was = old.value();
        self.mutate(ask, Verb::Create, Some(&was), &mut sent)?;
        let options = DeleteOptions::read(&binding::evict(&was, &sent)?)?;
        self.validate(ask, Verb::Create, Some(&was), &sent)?;
        self.delete_object(ask, &old, &options, Reply::Success(201, String::new()))
    }

    /// The two versions of Eviction have the same fields.
    fn eviction(&mut self, ask: &Ask<'_>, version: &str) -> Result<Value, Status> {
        if version == "v1" {
            return self.body(ask, "policy", "v1", "Eviction");
        }
        let mut sent = super::body::optional(ask)?;
        let ty = type_of("policy", "v1", "Eviction")?;
        self.check(ask, ty, &mut sent, &[])?;
        Ok(sent)
    }

    /// POST of a DeploymentRollback: an annotation that the controller obeys.
    pub(crate) fn rollback(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let target = ask.target;
        let sent = self.body(ask, &target.group, &target.version, "DeploymentRollback")?;
        let old = self.stored(ask)?;
        let new = kinds::rollback(&old.value(), &sent)?;
        let message = format!("rollback request for deployment {:?} succeeded", target.name);
        self.change_hub(ask, &old, new, false, Reply::Success(200, message))
    }

    /// PUT of a Scale.
    pub(crate) fn update_scale(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let (group, version) = scale_version(ask);
        let sent = self.body(ask, &group, &version, "Scale")?;
        let old = self.stored(ask)?;
        self.put_scale(ask, &old, &sent)
    }

    /// PATCH of a Scale.
    pub(crate) fn patch_scale(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let (group, version) = scale_version(ask);
        let ty = type_of(&group, &version, "Scale")?;
        let (kind, patch, doubled) = self.patch_body(ask)?;
        let old = self.stored(ask)?;
        let base = scale::get(&ask.target.group, &ask.target.version, &old.value());
        let sent = if kind == PatchType::Apply {
            // A Scale has no list: laid over as a merge it is the same, but for the conflicts of field managers.
            self.patched(ask, ty, (PatchType::Merge, &patch, &doubled), &base)?
        } else {
            self.patched(ask, ty, (kind, &patch, &doubled), &base)?
        };
        self.put_scale(ask, &old, &sent)
    }

    fn put_scale(
        &mut self,
        ask: &Ask<'_>,
        old: &alloc::sync::Arc<coracle_api::Object>,
        sent: &Value,
    ) -> Result<Decision, Status> {
        check_seen(ask, sent, old)?;
        let new = scale::put(ask.resource, sent, &old.value())?;
        self.change_hub(ask, old, new, false, Reply::Scale)
    }
}

/// Group and version of the Scale that belongs to the version asked for.
fn scale_version(ask: &Ask<'_>) -> (String, String) {
    let target = ask.target;
    if ask.is_hub() {
        ("autoscaling".to_string(), "v1".to_string())
    } else {
        (target.group.clone(), target.version.clone())
    }
}
