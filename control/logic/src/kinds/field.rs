//! Paths of fields, as errors name them.

use alloc::{format, string::String};
use core::ops::Deref;

pub(crate) use coracle_api::FieldErrors;

/// Path of a field (`spec.containers[0].name`, `metadata.labels[a/b]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    /// A field of the object itself.
    pub(crate) fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// A field of this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.into()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An item of this list.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of this map.
    pub(crate) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl Deref for Path {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}
