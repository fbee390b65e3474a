//! Percent-decoding, and a query's pairs.

use alloc::{format, string::String, vec::Vec};

use coracle_api::Status;

use crate::limits;

/// A query's pairs in order, decoded (`+` is a space).
pub type Pairs = Vec<(String, String)>;

/// Splits and decodes a query (without `?`). 400 for bad escapes, text that is not UTF-8, or too many pairs.
pub fn decode(query: &str) -> Result<Pairs, Status> {
    let mut pairs = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        if pairs.len() == limits::QUERY_PAIRS_MAX {
            return Err(Status::bad_request(format!(
                "the query has more than {} parameters",
                limits::QUERY_PAIRS_MAX
            )));
        }
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let bad =
            || Status::bad_request(format!("invalid URL escape or text in query near {key:?}"));
        pairs.push((unescape(key, true).ok_or_else(bad)?, unescape(value, true).ok_or_else(bad)?));
    }
    Ok(pairs)
}

/// The first value of a parameter.
pub fn first<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(have, _)| have == key).map(|(_, value)| value.as_str())
}

/// A parameter as Kubernetes reads booleans: absent is false, `false` and `0` are false, all else is true.
pub fn flag(pairs: &[(String, String)], key: &str) -> bool {
    first(pairs, key).is_some_and(truth)
}

/// What a boolean parameter's value means.
pub fn truth(value: &str) -> bool {
    !(value.eq_ignore_ascii_case("false") || value == "0")
}

/// Undoes percent-encoding; `None`: a bad escape, or not UTF-8, or a NUL.
pub fn unescape(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                high << 4 | low
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    if out.contains(&0) { None } else { String::from_utf8(out).ok() }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
