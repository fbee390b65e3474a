//! Typed views of the parts of objects that controllers, the scheduler and the agent read and write.
//!
//! A view names what its readers need and skips the rest, so it is not for writing a whole object back: patch the part
//! that changed, or change the [`serde_json::Value`]. Absent is `Default`; what is `Default` is not written, but for
//! the fields that Kubernetes always writes. Field names and meanings are those of the Kubernetes API reference.
#![expect(
    missing_docs,
    reason = "the names are Kubernetes' own; its API reference says what they mean"
)]

mod cluster;
mod node;
mod pod;
mod workload;

pub use cluster::*;
pub use node::*;
pub use pod::*;
pub use workload::*;

/// A view of a value. It is read from the value's text: were views read from values as well, the code that reads them
/// would be there twice (0.4 MB of a 5 MB program).
pub fn read<T: serde::de::DeserializeOwned>(
    value: &serde_json::Value,
) -> Result<T, serde_json::Error> {
    serde_json::from_slice(&serde_json::to_vec(value)?)
}

/// For serde: an absent field and a default one are the same thing.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Structs in camelCase whose default fields are not written; those after `+` always are.
macro_rules! views {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* } $(+ { $($(#[$always_meta:meta])* $always:ident: $always_type:ty,)* })?)*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name {
                $($(#[$field_meta])* #[serde(skip_serializing_if = "crate::views::is_default", deserialize_with = "crate::views::null_is_default")] pub $field: $type,)*
                $($($(#[$always_meta])* #[serde(deserialize_with = "crate::views::null_is_default")] pub $always: $always_type,)*)?
            }
        )*
    };
}
pub(crate) use views;

/// For serde: `null` reads as absent, as Go has it.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    use serde::Deserialize;
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
