//! The Warning of a deprecated group and version.

use alloc::{format, string::String};

/// The sentence for the Warning header where this group, version and kind is deprecated.
/// Source: the lifecycle tags of the API types (introduced, deprecated, removed).
pub fn deprecation(group: &str, version: &str, kind: &str) -> Option<String> {
    let (since, gone) = match (group, version, kind) {
        ("apps", "v1beta1", _) | ("extensions", "v1beta1", "Deployment" | "ReplicaSet") => {
            ("v1.8+", "v1.16+")
        }
        ("apps", "v1beta2", _) => ("v1.9+", "v1.16+"),
        _ => return None,
    };
    let instead = match kind {
        "Scale" | "DeploymentRollback" => String::new(),
        kind => format!("; use apps/v1 {kind}"),
    };
    Some(format!(
        "{group}/{version} {kind} is deprecated in {since}, unavailable in {gone}{instead}"
    ))
}
