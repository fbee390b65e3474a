//! What is wrong with an object's fields, in Kubernetes' words: the causes of a 422.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::Value;

use crate::{
    limits,
    status::{Cause, Status},
};

/// What kind of wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum FieldErrorKind {
    Invalid,
    Required,
    Duplicate,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
    Internal,
}

impl FieldErrorKind {
    fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What kind of wrong.
    pub kind: FieldErrorKind,
    /// `spec.template.spec.containers[0].name`.
    pub field: String,
    /// `Invalid value: -1: must be greater than or equal to 0`.
    pub body: String,
}

/// Collects what is wrong, in order: the first [`limits::FIELD_ERRORS_MAX`], and how many more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors {
    errors: Vec<FieldError>,
    more: usize,
}

impl FieldErrors {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Those found.
    pub fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.errors.iter()
    }

    /// Takes over what another found.
    pub fn extend(&mut self, other: Self) {
        self.more += other.more;
        for error in other.errors {
            self.push(error);
        }
    }

    /// The value is malformed. Text is shown quoted, numbers bare, other things as JSON.
    pub fn invalid(&mut self, field: &str, value: impl Shown, why: impl AsRef<str>) {
        self.add(FieldErrorKind::Invalid, field, Some(value.shown()), why.as_ref());
    }

    /// The value is missing; `why` may be empty.
    pub fn required(&mut self, field: &str, why: &str) {
        self.add(FieldErrorKind::Required, field, None, why);
    }

    /// The value is there twice.
    pub fn duplicate(&mut self, field: &str, value: impl Shown) {
        self.add(FieldErrorKind::Duplicate, field, Some(value.shown()), "");
    }

    /// The value is none of the known ones.
    pub fn not_supported(&mut self, field: &str, value: impl Shown, supported: &[&str]) {
        let quoted: Vec<_> = supported.iter().map(|value| go_quote(value)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        self.add(FieldErrorKind::NotSupported, field, Some(value.shown()), &detail);
    }

    /// The field may not be set or changed.
    pub fn forbidden(&mut self, field: &str, why: &str) {
        self.add(FieldErrorKind::Forbidden, field, None, why);
    }

    /// The value is longer than that many bytes.
    pub fn too_long(&mut self, field: &str, bytes_max: usize) {
        let detail = format!("may not be more than {bytes_max} bytes");
        self.add(FieldErrorKind::TooLong, field, None, &detail);
    }

    /// The list is longer than that many items.
    pub fn too_many(&mut self, field: &str, actual: usize, items_max: usize) {
        let detail = format!("must have at most {items_max} items");
        self.add(FieldErrorKind::TooMany, field, Some(actual.to_string()), &detail);
    }

    /// The value names something that is not there.
    pub fn not_found(&mut self, field: &str, value: impl Shown) {
        self.add(FieldErrorKind::NotFound, field, Some(value.shown()), "");
    }

    fn add(&mut self, kind: FieldErrorKind, field: &str, value: Option<String>, detail: &str) {
        let mut body = kind.words().to_string();
        for part in [value.as_deref().unwrap_or_default(), detail] {
            if !part.is_empty() {
                body.push_str(": ");
                body.push_str(part);
            }
        }
        self.push(FieldError { kind, field: field.into(), body });
    }

    fn push(&mut self, error: FieldError) {
        if self.errors.len() < limits::FIELD_ERRORS_MAX {
            self.errors.push(error);
        } else {
            self.more += 1;
        }
    }

    /// One cause for each, as `Status` has them.
    pub fn causes(&self) -> Vec<Cause> {
        let cause = |error: &FieldError| Cause {
            reason: error.kind.reason().into(),
            message: error.body.clone(),
            field: error.field.clone(),
        };
        self.errors.iter().map(cause).collect()
    }

    /// Fine, or a 422 for this object.
    ///
    /// # Errors
    /// [`Status::invalid`] where anything is wrong.
    pub fn into_result(self, group: &str, kind: &str, name: &str) -> Result<(), Status> {
        if self.is_empty() { Ok(()) } else { Err(Status::invalid(group, kind, name, &self)) }
    }
}

impl core::fmt::Display for FieldErrors {
    /// One as it is; several in brackets, each said once.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut seen = BTreeSet::new();
        let mut lines: Vec<String> = Vec::new();
        for error in &self.errors {
            let line = format!("{}: {}", error.field, error.body);
            if seen.insert(line.clone()) {
                lines.push(line);
            }
        }
        if self.more > 0 {
            lines.push(format!("and {} more", self.more));
        }
        match lines.as_slice() {
            [line] => f.write_str(line),
            lines => write!(f, "[{}]", lines.join(", ")),
        }
    }
}

/// A value as error messages show it.
pub trait Shown {
    /// The text.
    fn shown(&self) -> String;
}

impl Shown for &str {
    fn shown(&self) -> String {
        go_quote(self)
    }
}

impl Shown for &String {
    fn shown(&self) -> String {
        go_quote(self)
    }
}

macro_rules! shown_bare {
    ($($type:ty)*) => { $(impl Shown for $type {
        fn shown(&self) -> String {
            self.to_string()
        }
    })* };
}
shown_bare!(i32 i64 u64 usize bool);

impl Shown for &Value {
    fn shown(&self) -> String {
        match self {
            Value::String(text) => go_quote(text),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => self.to_string(),
        }
    }
}

/// Text in double quotes with Go's escapes (`%q`).
pub(crate) fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
                out.push_str(&format!("\\x{:02x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::FieldErrors;
    use crate::status::Status;

    #[test]
    fn messages_are_those_of_kubernetes() {
        let mut errors = FieldErrors::new();
        errors.invalid("spec.replicas", -1, "must be greater than or equal to 0");
        let one = Status::invalid("apps", "Deployment", "x", &errors);
        assert_eq!(
            one.message,
            "Deployment.apps \"x\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
        errors.required("spec.selector", "");
        errors.not_supported("spec.strategy.type", "Foo", &["Recreate", "RollingUpdate"]);
        errors.not_supported("spec.strategy.type", "Foo", &["Recreate", "RollingUpdate"]);
        let many = Status::invalid("", "Pod", "x", &errors);
        assert_eq!(
            many.message,
            "Pod \"x\" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
             spec.selector: Required value, spec.strategy.type: Unsupported value: \"Foo\": supported values: \
             \"Recreate\", \"RollingUpdate\"]"
        );
        assert_eq!(many.details.unwrap().causes.len(), 4);
    }

    #[test]
    fn many_are_named_and_the_rest_counted() {
        let mut errors = FieldErrors::new();
        for index in 0..300 {
            errors.required(&alloc::format!("a[{index}]"), "");
        }
        assert_eq!(errors.causes().len(), 256);
        assert!(alloc::format!("{errors}").ends_with("a[255]: Required value, and 44 more]"));
    }
}
