//! Update and patch, guarded by the revision that the client saw (S3).

use alloc::{format, sync::Arc};

use coracle_api::{FieldErrors, Object, Status};
use serde_json::Value;

use super::{
    Admitted, Ask, Decision, Registry, Reply,
    body::{place, type_of},
};
use crate::{
    cache::encode,
    call::PatchType,
    canary::Canary,
    kinds::{
        self,
        access::{child, set, text},
    },
};

/// Upstream's words for a stale resourceVersion.
const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl Registry<'_> {
    /// PUT of an object, or of its `status`, `approval` or `finalize`.
    pub(crate) fn update(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let (target, facts) = (ask.target, kinds::facts(ask.resource));
        let mut sent = self.body(ask, &target.group, &target.version, ask.resource.def().kind)?;
        place(ask, &mut sent)?;
        let old = match self.stored(ask) {
            Ok(old) => old,
            Err(_) if facts.create_on_update && target.subresource.is_empty() => {
                return self.create_sent(ask, sent, false);
            }
            Err(status) => return Err(status),
        };
        let seen = text(&sent, &["metadata", "resourceVersion"]);
        if (seen.is_empty() || seen == "0") && !facts.unconditional_update {
            let mut errors = FieldErrors::new();
            errors.invalid("metadata.resourceVersion", 0, "must be specified for an update");
            let def = ask.resource.def();
            errors.into_result(def.group, def.kind, &target.name)?;
        }
        if self.canary.sings(Canary::TakesStale) {
            set(child(&mut sent, "metadata"), "resourceVersion", old.resource_version());
        }
        check_seen(ask, &sent, &old)?;
        self.change_sent(ask, &old, sent, false, Reply::Written(200))
    }

    /// PATCH of an object, or of its `status`, `approval` or `finalize`.
    pub(crate) fn patch(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let target = ask.target;
        let ty = type_of(&target.group, &target.version, ask.resource.def().kind)?;
        let (kind, patch, doubled) = self.patch_body(ask)?;
        let old = match self.stored(ask) {
            Ok(old) => old,
            Err(_) if kind == PatchType::Apply && target.subresource.is_empty() => {
                let sent = self.applied(ask, ty, (patch, &doubled), None)?;
                return self.create_sent(ask, sent, true);
            }
            Err(status) => return Err(status),
        };
        let base = self.seen_by(ask, &old);
        if kind == PatchType::Apply {
            check_seen(ask, &patch, &old)?;
            let sent = self.applied(ask, ty, (patch, &doubled), Some(&base))?;
            return self.change_sent(ask, &old, sent, true, Reply::Written(200));
        }
        let mut sent = self.patched(ask, ty, (kind, &patch, &doubled), &base)?;
        check_seen(ask, &sent, &old)?;
        if text(&sent, &["metadata", "name"]) != target.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                text(&sent, &["metadata", "name"]),
                target.name
            )));
        }
        for key in ["apiVersion", "kind"] {
            if sent.get(key) != base.get(key) {
                set(&mut sent, key, base.get(key).cloned().unwrap_or_default());
            }
        }
        self.change_sent(ask, &old, sent, false, Reply::Written(200))
    }

    /// The stored object in the version that was asked for.
    pub(crate) fn seen_by(&self, ask: &Ask<'_>, old: &Object) -> Value {
        let value = old.value();
        if ask.is_hub() {
            value
        } else {
            kinds::from_hub(&ask.target.group, &ask.target.version, value)
        }
    }

    fn change_sent(
        &mut self,
        ask: &Ask<'_>,
        old: &Arc<Object>,
        mut sent: Value,
        managed_already: bool,
        reply: Reply,
    ) -> Result<Decision, Status> {
        let target = ask.target;
        kinds::default(ask.resource, &self.context(ask), &mut sent);
        let new = kinds::to_hub(&target.group, &target.version, sent)?;
        self.change_hub(ask, old, new, managed_already, reply)
    }

    /// Changes the object to this value in the hub version.
    pub(crate) fn change_hub(
        &mut self,
        ask: &Ask<'_>,
        old: &Arc<Object>,
        new: Value,
        managed_already: bool,
        reply: Reply,
    ) -> Result<Decision, Status> {
        match self.admit_changed(ask, old, new, managed_already)? {
            Some(admitted) => self.write_or_preview(ask, admitted, reply),
            None => Ok(Decision::Same(old.clone(), reply)),
        }
    }

    /// A dry run ends here, with the object as it would be.
    #[expect(clippy::unused_self, reason = "only a scene of a decision may decide")]
    pub(crate) fn write_or_preview(
        &self,
        ask: &Ask<'_>,
        admitted: Admitted,
        reply: Reply,
    ) -> Result<Decision, Status> {
        if !ask.call.options().dry_run {
            return Ok(Decision::Write(admitted, reply));
        }
        let (key, old, new) = admitted.into_parts();
        let object = match (new, old) {
            (None, Some(old)) => old,
            (None, None) => return Err(ask.not_found()),
            (Some(value), old) => {
                let revision = old.map_or(0, |old| old.revision);
                Arc::new(encode::written(key.resource, value, revision)?)
            }
        };
        Ok(Decision::Same(object, reply))
    }
}

/// 409 where the client saw another version or another life of the name than is stored.
pub(crate) fn check_seen(ask: &Ask<'_>, sent: &Value, old: &Object) -> Result<(), Status> {
    let target = ask.target;
    let conflict =
        |why: &str| Err(Status::conflict(&target.group, &target.plural, &old.meta.name, why));
    let uid = text(sent, &["metadata", "uid"]);
    if !uid.is_empty() && uid != old.meta.uid {
        return conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old.meta.uid
        ));
    }
    match text(sent, &["metadata", "resourceVersion"]) {
        "" | "0" => Ok(()),
        seen if seen == old.resource_version() => Ok(()),
        seen if seen.bytes().all(|byte| byte.is_ascii_digit()) => conflict(MODIFIED),
        seen => Err(Status::bad_request(format!("resourceVersion: invalid value {seen:?}"))),
    }
}
