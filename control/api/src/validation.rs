//! The shared rules for names, labels and annotations, with Kubernetes' messages. Each returns what is wrong; empty: fine.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use crate::status::FieldErrors;

/// Longest label value and DNS label, in bytes.
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest DNS subdomain, in bytes.
pub const SUBDOMAIN_BYTES_MAX: usize = 253;
/// All annotations of one object together, keys and values, in bytes.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const CONFIG_MAP_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn lower_or_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.iter().all(|end| end.is_some_and(lower_or_digit))
        && text.bytes().all(|b| lower_or_digit(b) || b == b'-')
}

fn is_word(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// DNS-1123 label: namespaces, containers, ports, volumes.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        wrong.push(too_long(LABEL_BYTES_MAX));
    }
    if !is_label(text) {
        wrong.push(LABEL_1123.into());
    }
    wrong
}

/// DNS-1123 subdomain: most object names.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        wrong.push(too_long(SUBDOMAIN_BYTES_MAX));
    }
    if !text.split('.').all(is_label) {
        wrong.push(SUBDOMAIN_1123.into());
    }
    wrong
}

/// DNS-1035 label: services.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        wrong.push(too_long(LABEL_BYTES_MAX));
    }
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        wrong.push(LABEL_1035.into());
    }
    wrong
}

/// A path segment: names of RBAC objects, which may hold `:`.
pub fn path_segment(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for whole in [".", ".."] {
        if text == whole {
            wrong.push(format!("may not be '{whole}'"));
        }
    }
    for part in ["/", "%"] {
        if text.contains(part) {
            wrong.push(format!("may not contain '{part}'"));
        }
    }
    wrong
}

/// `[prefix/]name`: label keys, annotation keys (in lower case), resource names, conditions.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) if !name.contains('/') => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".into());
            } else {
                wrong.extend(
                    dns1123_subdomain(prefix).iter().map(|why| format!("prefix part {why}")),
                );
            }
            name
        }
        Some(_) => {
            wrong.push(format!(
                "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return wrong;
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".into());
    } else if name.len() > LABEL_BYTES_MAX {
        wrong.push(format!("name part {}", too_long(LABEL_BYTES_MAX)));
    }
    if !is_word(name) {
        wrong.push(format!("name part {QUALIFIED}"));
    }
    wrong
}

/// A label's value.
pub fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        wrong.push(too_long(LABEL_BYTES_MAX));
    }
    if !text.is_empty() && !is_word(text) {
        wrong.push(LABEL_VALUE.into());
    }
    wrong
}

/// Name of an environment variable, in the relaxed form of Kubernetes 1.30 on: printable ASCII but `=`.
pub fn env_var_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    alloc::vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .into()
    ]
}

/// A C identifier.
pub fn c_identifier(text: &str) -> Vec<String> {
    let start = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if start && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Vec::new();
    }
    alloc::vec![C_IDENTIFIER.into()]
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        wrong.push(too_long(SUBDOMAIN_BYTES_MAX));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        wrong.push(CONFIG_MAP_KEY.into());
    }
    if text == "." {
        wrong.push("must not be '.'".into());
    } else if text == ".." {
        wrong.push("must not be '..'".into());
    } else if text.starts_with("..") {
        wrong.push("must not start with '..'".into());
    }
    wrong
}

/// A port's name (IANA_SVC_NAME): at most 15 bytes, a letter among them, no two hyphens in a row.
pub fn port_name(text: &str) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    if text.len() > 15 {
        wrong.push("must be no more than 15 characters".into());
    }
    if !text.bytes().all(|b| lower_or_digit(b) || b == b'-') || text.is_empty() {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".into());
    }
    wrong
}

/// Checks `metadata.labels` (or any label map at `path`).
pub fn labels(errors: &mut FieldErrors, path: &str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        for why in qualified_name(key) {
            errors.invalid(path, key, why);
        }
        for why in label_value(value) {
            errors.invalid(path, value, why);
        }
    }
}

/// Checks `metadata.annotations` at `path`: keys, and the size of all together.
pub fn annotations(errors: &mut FieldErrors, path: &str, annotations: &BTreeMap<String, String>) {
    let mut bytes = 0;
    for (key, value) in annotations {
        for why in qualified_name(&key.to_lowercase()) {
            errors.invalid(path, key, why);
        }
        bytes += key.len() + value.len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn names() {
        let check = |rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]| {
            for text in good {
                assert_eq!(rule(text), Vec::<String>::new(), "{text}");
            }
            for text in bad {
                assert!(!rule(text).is_empty(), "{text}");
            }
        };
        check(dns1123_label, &["a", "0-a"], &["", "-a", "a-", "A", "a.b", "é", &"a".repeat(64)]);
        check(dns1123_subdomain, &["a.b", "0"], &["", ".a", "a..b", "a_b", &"a".repeat(254)]);
        check(dns1035_label, &["a-0"], &["0a", ""]);
        check(qualified_name, &["A.b_c", "x.io/a"], &["", "/a", "a/", "a/b/c", "X.io/a", "-a"]);
        check(label_value, &["", "A_b.c"], &["-a", "a b", &"a".repeat(64)]);
        check(config_map_key, &["a.B_c-0", ".a"], &["", "a/b", ".", "..a"]);
        check(port_name, &["http", "a-0"], &["", "0", "a--b", "a-", "sixteen-chars-xx"]);
        check(path_segment, &["system:node"], &[".", "a/b", "a%b"]);
    }
}
