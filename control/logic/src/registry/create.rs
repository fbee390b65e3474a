//! Create: names, uids and times of new objects.

use alloc::{
    format,
    string::{String, ToString},
};

use coracle_api::{FieldErrors, Status, time};
use serde_json::Value;

use super::{Ask, Decision, Registry, Reply, admit::metadata, body::place};
use crate::{
    Rng,
    kinds::{
        self,
        access::{child, remove, set, text},
    },
};

/// Letters of generated names: no vowels and nothing that looks like another, as upstream.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Longest `generateName` that is used whole: with five letters it makes a label of 63.
const GENERATE_BASE_MAX: usize = 58;
/// Names that are tried before the caller is told to come again (upstream: 8).
const GENERATE_TRIES: usize = 8;

impl Registry<'_> {
    /// POST of an object.
    pub(crate) fn create(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let target = ask.target;
        let mut sent = self.body(ask, &target.group, &target.version, ask.resource.def().kind)?;
        place(ask, &mut sent)?;
        self.create_sent(ask, sent, false)
    }

    /// Creates what is in the client's version and checked already.
    pub(crate) fn create_sent(
        &mut self,
        ask: &Ask<'_>,
        mut sent: Value,
        managed_already: bool,
    ) -> Result<Decision, Status> {
        if !text(&sent, &["metadata", "resourceVersion"]).is_empty() {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let target = ask.target;
        kinds::default(ask.resource, &self.context(ask), &mut sent);
        let new = kinds::to_hub(&target.group, &target.version, sent)?;
        let admitted = self.admit_new(ask, new, managed_already)?;
        self.write_or_preview(ask, admitted, Reply::Written(201))
    }

    /// Gives a new object its name, uid and birth.
    pub(crate) fn stamp(&mut self, ask: &Ask<'_>, new: &mut Value) -> Result<(), Status> {
        let (uid, now) = (uuid(self.rng), time::rfc3339(self.now.0));
        let fields = child(new, "metadata");
        if text(fields, &["name"]).is_empty() {
            let name = self.generated_name(ask, text(fields, &["generateName"]))?;
            set(fields, "name", name);
        }
        for key in
            ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"]
        {
            remove(fields, key);
        }
        let fields = metadata(new);
        fields.insert("uid".into(), uid.into());
        fields.insert("creationTimestamp".into(), now.into());
        Ok(())
    }

    fn generated_name(&mut self, ask: &Ask<'_>, base: &str) -> Result<String, Status> {
        let def = ask.resource.def();
        if base.is_empty() {
            let mut errors = FieldErrors::new();
            errors.required("metadata.name", "name or generateName is required");
            errors.into_result(def.group, def.kind, "")?;
        }
        let mut base = base.to_string();
        while base.len() > GENERATE_BASE_MAX {
            base.pop();
        }
        let mut name = String::new();
        for _ in 0..GENERATE_TRIES {
            name = format!("{base}{}", suffix(self.rng));
            if self.cache.get(ask.resource, &ask.target.namespace, &name).is_none() {
                return Ok(name);
            }
        }
        Err(Status::generate_name_conflict(def.group, def.plural, &name))
    }
}

/// Five letters.
fn suffix(rng: &mut Rng) -> String {
    let count = SUFFIX_LETTERS.len() as u64;
    (0..5)
        .filter_map(|_| {
            let index = usize::try_from(rng.next_u64() % count).ok()?;
            SUFFIX_LETTERS.get(index).map(|letter| char::from(*letter))
        })
        .collect()
}

/// A random uuid (RFC 9562, version 4).
fn uuid(rng: &mut Rng) -> String {
    let high = (rng.next_u64() & !0xf000) | 0x4000;
    let low = (rng.next_u64() & !(0b11 << 62)) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_version_4_and_differ() {
        let mut rng = Rng(7);
        let (one, two) = (uuid(&mut rng), uuid(&mut rng));
        assert_ne!(one, two);
        for uid in [one, two] {
            let parts: alloc::vec::Vec<usize> = uid.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{uid}");
            assert_eq!(uid.as_bytes().get(14), Some(&b'4'), "{uid}");
            assert!(matches!(uid.as_bytes().get(19), Some(b'8' | b'9' | b'a' | b'b')), "{uid}");
        }
    }
}
