//! PEM (RFC 7468): base64 between two lines.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::KeyError;

/// Encodes with lines of 64 characters.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// All blocks with this label, in order. Text around them is skipped, as other readers do.
pub fn decode_all(label: &str, text: &str) -> Result<Vec<Vec<u8>>, KeyError> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(begin.as_str()) {
        let (body, after) = after.split_once(end.as_str()).ok_or_else(|| {
            KeyError(format!("PEM block `{label}` has no END line; was it cut short?"))
        })?;
        let clean: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        out.push(
            STANDARD
                .decode(clean)
                .map_err(|e| KeyError(format!("PEM block `{label}` is not base64: {e}")))?,
        );
        rest = after;
    }
    Ok(out)
}

/// The first block with this label.
pub fn decode(label: &str, text: &str) -> Result<Vec<u8>, KeyError> {
    let missing = || KeyError(format!("no PEM block `{label}` in it"));
    decode_all(label, text)?.into_iter().next().ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let der: Vec<u8> = (0..200).collect();
        let text = format!("note\n{}{}", encode("X", &der), encode("Y", &[1]));
        assert_eq!(decode("X", &text).unwrap(), der);
        assert_eq!(decode_all("Y", &text).unwrap(), [vec![1]]);
        assert!(decode("Z", &text).is_err());
        assert!(decode("X", "-----BEGIN X-----\nAAAA").is_err());
        assert!(decode("X", "-----BEGIN X-----\n!\n-----END X-----").is_err());
    }
}
