//! Names that become path components, checked once where they come in.

use std::fmt;

use crate::limits::{CONTAINER_NAME_BYTES_MAX, POD_UID_BYTES_MAX};

/// One life of one pod, as in `metadata.uid`. It names directories, cgroups and a socket.
///
/// Invariant: 1..=63 bytes of `[A-Za-z0-9-]`. [`PodUid::parse`] is the only way to make one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(Box<str>);

/// One try to run one container of a pod. The attempt rises with each restart; the same pair is started once (R5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    name: Box<str>,
    attempt: u32,
}

/// A text that cannot be a pod uid or a container name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` cannot name a {what}: use 1 to {max} of {allowed}")]
pub struct BadId {
    /// What it was to name.
    pub what: &'static str,
    /// The beginning of what was given.
    pub given: String,
    /// Longest length, in bytes.
    pub max: usize,
    /// The characters that are allowed.
    pub allowed: &'static str,
}

impl PodUid {
    /// Checks `raw`. Fails on an empty or too long text and on other bytes than `[A-Za-z0-9-]`.
    pub fn parse(raw: &str) -> Result<Self, BadId> {
        let fits = (1..=POD_UID_BYTES_MAX).contains(&raw.len());
        if fits && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            Ok(Self(raw.into()))
        } else {
            let given = raw.chars().take(64).collect();
            Err(BadId {
                what: "pod",
                given,
                max: POD_UID_BYTES_MAX,
                allowed: "letters, digits and `-`",
            })
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ContainerId {
    /// Checks `name`: a DNS label, 1..=63 bytes of `[a-z0-9-]`. `attempt` counts from 0.
    pub fn parse(name: &str, attempt: u32) -> Result<Self, BadId> {
        let fits = (1..=CONTAINER_NAME_BYTES_MAX).contains(&name.len());
        let byte_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if fits && name.bytes().all(byte_ok) {
            Ok(Self { name: name.into(), attempt })
        } else {
            let given = name.chars().take(64).collect();
            Err(BadId {
                what: "container",
                given,
                max: CONTAINER_NAME_BYTES_MAX,
                allowed: "`a`-`z`, digits and `-`",
            })
        }
    }

    /// Reads back what [`fmt::Display`] wrote: `name.attempt`.
    pub fn from_dir_name(raw: &str) -> Option<Self> {
        let (name, attempt) = raw.split_once('.')?;
        Self::parse(name, attempt.parse().ok()?).ok()
    }

    /// Name of the container in its pod.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which try this is, from 0.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// `name.attempt`: also the name of its directory and of its cgroup. A DNS label has no dot, so it is unique.
impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_path_components_are_ids() {
        fn check(input: &str, pod: bool, container: bool) {
            assert_eq!(PodUid::parse(input).is_ok(), pod, "pod {input:?}");
            assert_eq!(ContainerId::parse(input, 0).is_ok(), container, "container {input:?}");
        }
        check("web", true, true);
        check("Web", true, false);
        check("0b1f8a3e-5a51-4c9c-8a52-6f8f6c1de4c2", true, true);
        check("", false, false);
        check("..", false, false);
        check("a/b", false, false);
        check("a.1", false, false);
        check(&"a".repeat(63), true, true);
        check(&"a".repeat(64), false, false);
    }

    #[test]
    fn a_container_id_reads_back() {
        let id = ContainerId::parse("web", 3).unwrap();
        assert_eq!(ContainerId::from_dir_name(&id.to_string()), Some(id));
        assert_eq!(ContainerId::from_dir_name("web"), None);
        assert_eq!(ContainerId::from_dir_name("web.x"), None);
    }
}
