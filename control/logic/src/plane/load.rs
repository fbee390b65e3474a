//! Start: from what the store held to a full cache.

use alloc::{format, sync::Arc};

use coracle_api::Resource;
use coracle_store::{Entry, Loaded};
use serde_json::Value;

use super::{ControlPlane, StartError};
use crate::{
    Millis,
    cache::{Change, encode},
};

impl ControlPlane {
    /// Fills the cache; authorizer and controllers see each object once.
    pub(super) fn load(&mut self, now: Millis, loaded: Loaded) -> Result<(), StartError> {
        for entry in loaded.entries {
            let Some(resource) = encode::resource_of_key(&entry.key) else {
                return Err(StartError(format!(
                    "the store has {}, which this version does not serve: start the version that wrote it, or remove it",
                    entry.key
                )));
            };
            let revision = entry.revision.0;
            let value = self.opened(resource, &entry)?;
            let object = encode::object_at(resource, value, revision)
                .map_err(|why| unreadable(&entry, &why))?;
            let object = Arc::new(object);
            self.cache.insert(object.clone());
            let change = Change { revision, resource, old: None, new: Some(object) };
            self.authorizer.changed(&change);
            for driven in &mut self.driven {
                driven.controller.changed(now, &change);
            }
        }
        // Volatile changes may have been given any number of the block: nothing up to its end can be resumed from.
        self.cache.advance(loaded.revision_reserved.0.max(1));
        Ok(())
    }

    fn opened(&self, resource: Resource, entry: &Entry) -> Result<Value, StartError> {
        let read = |bytes: &[u8]| {
            serde_json::from_slice(bytes).map_err(|error| unreadable(entry, &format!("{error}")))
        };
        if resource != Resource::SECRETS {
            return read(&entry.value);
        }
        let plain = self.keys.unseal(entry.key.as_bytes(), &entry.value).map_err(|error| {
            StartError(format!(
                "cannot open the sealed value of {}: {}: the key for secrets does not belong to this store; put back the one it was written with",
                entry.key, error.0
            ))
        })?;
        read(&plain)
    }
}

fn unreadable(entry: &Entry, why: &str) -> StartError {
    StartError(format!(
        "the stored value of {} cannot be read: {why}: restore the store from a backup",
        entry.key
    ))
}
