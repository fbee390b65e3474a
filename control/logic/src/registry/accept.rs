//! What form of answer a client takes: the object, a Table, or only its metadata.

use alloc::string::String;

use coracle_api::Status;

/// The form of an answer. Always JSON.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object or list itself.
    #[default]
    Whole,
    /// `meta.k8s.io` Table of this version (`v1`, `v1beta1`).
    Table(&'static str),
    /// `PartialObjectMetadata` (or its list) of this version.
    Metadata(&'static str),
}

/// Reads an `accept` header; nothing given takes anything.
///
/// # Errors
/// 406 where nothing that we give is accepted.
pub(crate) fn negotiate(accept: Option<&str>) -> Result<Form, Status> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return Ok(Form::Whole);
    };
    accept.split(',').find_map(clause).ok_or_else(|| {
        Status::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
        )
    })
}

/// The form that one clause of the header asks for, if we have it.
fn clause(clause: &str) -> Option<Form> {
    let mut parts = clause.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let (mut what, mut group, mut version) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => what = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    if what.is_empty() {
        return Some(Form::Whole);
    }
    let version = match (group, version) {
        ("meta.k8s.io", "v1") => "v1",
        ("meta.k8s.io", "v1beta1") => "v1beta1",
        _ => return None,
    };
    match what {
        "Table" => Some(Form::Table(version)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Form::Metadata(version)),
        _ => None,
    }
}

/// `application/json`, or with the parameters of the form. Tables go without, as upstream sends them.
pub(crate) fn content_type(form: Form, list: bool) -> String {
    let (what, version) = match form {
        Form::Whole | Form::Table(_) => return "application/json".into(),
        Form::Metadata(version) if list => ("PartialObjectMetadataList", version),
        Form::Metadata(version) => ("PartialObjectMetadata", version),
    };
    alloc::format!("application/json;as={what};v={version};g=meta.k8s.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_first_form_that_we_have() {
        #[track_caller]
        fn check(accept: &str, want: Option<Form>) {
            assert_eq!(negotiate(Some(accept)).ok(), want, "{accept}");
        }
        check("", Some(Form::Whole));
        check("*/*", Some(Form::Whole));
        check("application/json", Some(Form::Whole));
        check("application/vnd.kubernetes.protobuf,application/json", Some(Form::Whole));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Some(Form::Table("v1")),
        );
        check("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Some(Form::Whole));
        check(
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Some(Form::Metadata("v1")),
        );
        check("text/html", None);
        check("application/json;as=Table;v=v9;g=meta.k8s.io", None);
    }
}
