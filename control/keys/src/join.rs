//! The join token: what one board needs to trust and be trusted by a control plane.
//!
//! `K10<sha256 of the root certificate's DER, hex>::<id>.<secret>`: the hash pins the CA before anything is
//! sent, the rest is a Kubernetes bootstrap token (6 and 16 characters of `[a-z0-9]`).

use crate::KeyError;

/// A join token, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the DER of the cluster's root certificate.
    pub ca_sha256: [u8; 32],
    /// `token-id` of the bootstrap token, not secret.
    pub id: String,
    /// `token-secret` of it.
    pub secret: String,
}

/// The secret is not for logs.
impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({}.…)", self.id)
    }
}

/// Length of a bootstrap token's id and secret, in characters.
pub const TOKEN_ID_LEN: usize = 6;
/// See [`TOKEN_ID_LEN`].
pub const TOKEN_SECRET_LEN: usize = 16;

/// Splits `id.secret` and checks both parts' shape.
pub fn parse_bootstrap(text: &str) -> Result<(String, String), KeyError> {
    let bad = || {
        KeyError("a bootstrap token reads `id.secret`, 6 and 16 characters of a-z and 0-9".into())
    };
    let (id, secret) = text.split_once('.').ok_or_else(bad)?;
    let chars_ok = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let ok = id.len() == TOKEN_ID_LEN
        && secret.len() == TOKEN_SECRET_LEN
        && chars_ok(id)
        && chars_ok(secret);
    if ok { Ok((id.into(), secret.into())) } else { Err(bad()) }
}

/// Characters of `[a-z0-9]` from random bytes (bytes that would make some characters likelier are skipped).
/// Gives fewer than `length` when the bytes run out: ask with at least twice as many.
pub fn token_chars(random: impl IntoIterator<Item = u8>, length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    random
        .into_iter()
        .filter(|b| *b < 252)
        .filter_map(|b| ALPHABET.get(usize::from(b % 36)).map(|c| char::from(*c)))
        .take(length)
        .collect()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl JoinToken {
    /// Reads the text form, white space around it allowed.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bad = |what: &str| {
            KeyError(format!(
                "the join token {what}; it reads K10<64 hex digits>::<id>.<secret>: copy the whole line from \
                 the control plane's join-token file"
            ))
        };
        let rest = text.trim().strip_prefix("K10").ok_or_else(|| bad("does not start with K10"))?;
        let (hash, token) = rest.split_once("::").ok_or_else(|| bad("has no `::`"))?;
        let ca_sha256 = unhex(hash).ok_or_else(|| bad("has no SHA-256 in hex before `::`"))?;
        let (id, secret) = parse_bootstrap(token).map_err(|e| bad(&format!("is off: {}", e.0)))?;
        Ok(Self { ca_sha256, id, secret })
    }

    /// The text form.
    pub fn format(&self) -> String {
        format!("K10{}::{}", hex(&self.ca_sha256), self.bearer())
    }

    /// What goes into `Authorization: Bearer`.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let bytes: Vec<u8> = digits?
        .chunks(2)
        .filter_map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect();
    bytes.try_into().ok().filter(|_| text.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let token = JoinToken {
            ca_sha256: std::array::from_fn(|i| u8::try_from(i).unwrap() * 7),
            id: "abcdef".into(),
            secret: "0123456789abcdef".into(),
        };
        assert_eq!(JoinToken::parse(&format!(" {}\n", token.format())).unwrap(), token);
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn refusals() {
        let hash = "ab".repeat(32);
        for bad in [
            String::new(),
            "abcdef.0123456789abcdef".into(),
            format!("K10{hash}:abcdef.0123456789abcdef"),
            format!("K10{}::abcdef.0123456789abcdef", "ab".repeat(31)),
            format!("K10{}::abcdef.0123456789abcdef", "xy".repeat(32)),
            format!("K10{hash}::ABCDEF.0123456789abcdef"),
            format!("K10{hash}::abcdef.0123456789abcde"),
            format!("K10{hash}::abcdef0123456789abcdef"),
        ] {
            assert!(JoinToken::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn characters_are_even() {
        assert_eq!(token_chars([0, 255, 252, 36, 25, 26, 251], 6), "aaz09");
    }
}
