//! Names of images and digests of content, as the distribution project's reference grammar has them.

use core::fmt;

use crate::ImageError;

/// `sha256:` and 64 hex digits.
///
/// Invariant: the text is exactly that form, in lower case. [`Digest::parse`] is the only way to make one from text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Box<str>);

impl Digest {
    /// Reads `sha256:<64 lower-case hex digits>`; nothing else is a digest to us.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let hex_ok = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (hex.len() == 64 && hex.bytes().all(hex_ok)).then(|| Self(text.into()))
    }

    /// From the 32 bytes of the hash.
    pub fn of_sha256(hash: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in hash {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        Self(text.into())
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A full image name: registry, repository, and a tag or digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `docker.io`, `ghcr.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    /// `latest` if neither tag nor digest was given; `None` with a digest alone.
    pub tag: Option<String>,
    /// Set where the name is pinned to content.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as people write it: `nginx`, `ghcr.io/a/b:v1`, `a/b@sha256:…`. Fills in `docker.io`, `library/`
    /// and `:latest` as Docker does.
    pub fn parse(given: &str) -> Result<Self, ImageError> {
        let bad = |why| ImageError::InvalidName { given: given.chars().take(256).collect(), why };
        let (rest, digest) = match given.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(
                    Digest::parse(digest)
                        .ok_or_else(|| bad("the digest is not sha256:<64 hex digits>"))?,
                ),
            ),
            None => (given, None),
        };
        // A colon after the last slash starts a tag; before it, a port.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest.get(slash..).and_then(|last| last.split_once(':')) {
            Some((last, tag)) => (rest.get(..slash + last.len()).unwrap_or(rest), Some(tag)),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            let first_ok =
                tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            let body_ok =
                tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
            if !first_ok || !body_ok || 128 < tag.len() {
                return Err(bad(
                    "the tag is not 1 to 128 of [A-Za-z0-9_.-], not starting with . or -",
                ));
            }
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, path)
            }
            _ => ("docker.io", name),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let host_ok =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
        let first_ok = registry.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
        if !first_ok || !registry.bytes().all(host_ok) {
            return Err(bad("the registry is not HOST or HOST:PORT"));
        }
        if path.is_empty() {
            return Err(bad("the repository is empty"));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("repository name must be lowercase"));
        }
        if 255 < name.len() || !path.split('/').all(component_ok) {
            return Err(bad(
                "the repository is not lower-case words of [a-z0-9._-] between slashes",
            ));
        }
        let repository = if registry == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// What to ask a registry's `/manifests/` for: the digest where there is one, else the tag.
    pub fn manifest_key(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

/// `alpha-numeric [separator alpha-numeric]*`, separators `.`, `_`, `__` or any number of `-`.
fn component_ok(word: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_ok = word.bytes().next().is_some_and(alnum) && word.bytes().last().is_some_and(alnum);
    let body_ok = word.bytes().all(|b| alnum(b) || matches!(b, b'.' | b'_' | b'-'));
    ends_ok && body_ok && !word.contains("..") && !word.contains("___")
}

impl fmt::Display for Reference {
    /// The full form, as `docker.io/library/nginx:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, want: &str) {
        let got = match Reference::parse(given) {
            Ok(reference) => reference.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(got.contains(want), "{given}: {got}");
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        check("nginx", "docker.io/library/nginx:latest");
        check(
            "docker.io/jagadesh1982/testing-service",
            "docker.io/jagadesh1982/testing-service:latest",
        );
        check("index.docker.io/a/b:1", "docker.io/a/b:1");
        check("localhost/x", "localhost/x:latest");
        check("127.0.0.1:5000/a/b_c:v1.2", "127.0.0.1:5000/a/b_c:v1.2");
        check("host:5000/x", "host:5000/x:latest");
        let digest = "a".repeat(64);
        check(&format!("a/b@sha256:{digest}"), &format!("docker.io/a/b@sha256:{digest}"));
        check(&format!("a/b:t@sha256:{digest}"), &format!("docker.io/a/b:t@sha256:{digest}"));
    }

    #[test]
    fn wrong_names_say_what_is_wrong() {
        check("", "the repository is empty");
        check("Nginx", "must be lowercase");
        check("a//b", "between slashes");
        check("a:b:c", "the tag is not");
        check("a:", "the tag is not");
        check("a@sha256:12", "the digest is not");
        check("../etc", "is not valid");
        check("a/../b", "between slashes");
        check("a b", "between slashes");
    }
}
