//! Answers: objects, lists and watch events in the version and form that the client takes, and errors as Status.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::{Object, Status};
use serde_json::{Value, json};

use super::{
    Reply,
    accept::{Form, content_type, negotiate},
    api_version,
    delete::{removed_status, returns_object},
    list::Page,
};
use crate::{
    cache::{encode::bytes_of, watch::Render},
    call::{Authorized, Call, HttpRequest, Options, ResourceTarget},
    kinds::{self, access::set},
    plane::{Response, ResponseBody},
};

/// Lists up to here are answered in one piece.
const ONE_PIECE_BYTES: usize = 32 * 1024;

/// How one caller wants its answers.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    form: Form,
    group: String,
    version: String,
    options: Options,
}

impl Style {
    /// Reads it from a call. The error is a 406.
    pub(crate) fn of(call: &Call<Authorized>, target: &ResourceTarget) -> Result<Self, Status> {
        let form = match negotiate(call.http.header("accept"))? {
            // Until there are Tables: clients that ask for one take the object too.
            Form::Table(_) => Form::Whole,
            form @ (Form::Whole | Form::Metadata(_)) => form,
        };
        Ok(Self {
            form,
            group: target.group.clone(),
            version: target.version.clone(),
            options: call.options().clone(),
        })
    }

    fn shares_bytes(&self, object: &Object) -> bool {
        let def = object.resource.def();
        self.form == Form::Whole && self.group == def.group && self.version == def.version
    }

    fn value(&self, object: &Object, bytes: &[u8]) -> Value {
        let def = object.resource.def();
        let value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
        if self.group == def.group && self.version == def.version {
            value
        } else {
            kinds::from_hub(&self.group, &self.version, value)
        }
    }

    /// One object (not a Table) in this style; `bytes` are its own or those under another revision.
    fn object_bytes(&self, object: &Object, bytes: &[u8]) -> Arc<[u8]> {
        let value = self.value(object, bytes);
        let value = match self.form {
            Form::Whole | Form::Table(_) => value,
            Form::Metadata(version) => metadata_only(value, version),
        };
        bytes_of(&value).into()
    }

    /// One object as an answer.
    pub(crate) fn object(&self, code: u16, object: &Object) -> Response {
        let pretty = self.options.pretty && self.form == Form::Whole;
        let body: Arc<[u8]> = if pretty {
            let value = self.value(object, &object.bytes);
            serde_json::to_vec_pretty(&value).unwrap_or_default().into()
        } else if self.shares_bytes(object) && object.revision != 0 {
            object.bytes.clone()
        } else if object.revision == 0 {
            // A dry run's object has no revision.
            let mut value: Value =
                serde_json::from_slice(&self.object_bytes(object, &object.bytes))
                    .unwrap_or_default();
            kinds::access::remove(kinds::access::child(&mut value, "metadata"), "resourceVersion");
            bytes_of(&value).into()
        } else {
            self.object_bytes(object, &object.bytes)
        };
        json_bytes(code, content_type(self.form, false), body)
    }

    /// A list as an answer, encoded as it is pulled.
    pub(crate) fn list(&self, kind: &str, page: Page) -> Response {
        let (list_kind, list_version) = match self.form {
            Form::Metadata(version) => {
                ("PartialObjectMetadataList".to_string(), format!("meta.k8s.io/{version}"))
            }
            Form::Whole | Form::Table(_) => {
                (format!("{kind}List"), api_version(&self.group, &self.version))
            }
        };
        let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
        if !page.next.is_empty() {
            set(&mut metadata, "continue", page.next);
            if let Some(left) = page.remaining {
                set(&mut metadata, "remainingItemCount", left);
            }
        }
        let head = format!(
            "{{\"kind\":\"{list_kind}\",\"apiVersion\":\"{list_version}\",\"metadata\":{metadata},\"items\":["
        );
        let size: usize = page.objects.iter().map(|object| object.bytes.len() + 1).sum();
        let style = self.clone();
        let comma: Arc<[u8]> = b",".as_slice().into();
        let mut first = true;
        let items = page.objects.into_iter().flat_map(move |object| {
            let bytes = if style.shares_bytes(&object) {
                object.bytes.clone()
            } else {
                style.object_bytes(&object, &object.bytes)
            };
            let comma = (!core::mem::take(&mut first)).then(|| comma.clone());
            comma.into_iter().chain(core::iter::once(bytes))
        });
        let head: Arc<[u8]> = head.into_bytes().into();
        let tail: Arc<[u8]> = b"]}\n".as_slice().into();
        let parts = core::iter::once(head).chain(items).chain(core::iter::once(tail));
        let body = if size <= ONE_PIECE_BYTES {
            ResponseBody::Bytes(joined(parts))
        } else {
            ResponseBody::Parts(Box::new(parts))
        };
        Response { status: 200, headers: headers(content_type(self.form, true)), body }
    }

    /// How a watch writes its objects; `None`: as they are stored.
    pub(crate) fn render(&self, resource: coracle_api::Resource) -> Option<Render> {
        let def = resource.def();
        if self.form == Form::Whole && self.group == def.group && self.version == def.version {
            return None;
        }
        let style = self.clone();
        Some(Box::new(move |object: &Object, bytes: &[u8]| style.object_bytes(object, bytes)))
    }

    /// `apiVersion` and `kind` of this style's objects, as bookmarks carry them.
    pub(crate) fn type_meta(&self, kind: &str) -> (String, String) {
        match self.form {
            Form::Metadata(version) => {
                (format!("meta.k8s.io/{version}"), "PartialObjectMetadata".into())
            }
            Form::Table(version) => (format!("meta.k8s.io/{version}"), "Table".into()),
            Form::Whole => (api_version(&self.group, &self.version), kind.into()),
        }
    }

    /// Content type of a watch.
    pub(crate) fn watch_content_type(&self) -> String {
        content_type(self.form, false)
    }

    /// The answer to a write that is done, or was not needed.
    pub(crate) fn reply(&self, reply: &Reply, object: &Object) -> Response {
        match reply {
            Reply::Written(code) => self.object(*code, object),
            Reply::Removed if returns_object(object.resource) => self.object(200, object),
            Reply::Removed => json_value(200, &removed_status(object)),
            Reply::Success(code, message) => success(*code, message),
            Reply::Scale => {
                let scale = kinds::scale::get(&self.group, &self.version, &object.value());
                json_value(200, &scale)
            }
        }
    }
}

fn metadata_only(value: Value, version: &str) -> Value {
    let metadata = value.get("metadata").cloned().unwrap_or_default();
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
    })
}

fn joined(parts: impl Iterator<Item = Arc<[u8]>>) -> Arc<[u8]> {
    let mut all = Vec::new();
    parts.for_each(|part| all.extend_from_slice(&part));
    all.into()
}

/// A Status of success.
fn success(code: u16, message: &str) -> Response {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code,
    });
    if !message.is_empty() {
        set(&mut status, "message", message);
    }
    json_value(code, &status)
}

fn headers(content_type: String) -> Vec<(&'static str, String)> {
    [("content-type", content_type), ("cache-control", "no-cache, private".into())].into()
}

/// Bytes of this type as an answer.
pub(crate) fn json_bytes(code: u16, content_type: String, body: Arc<[u8]>) -> Response {
    Response { status: code, headers: headers(content_type), body: ResponseBody::Bytes(body) }
}

/// A JSON value as an answer.
pub(crate) fn json_value(code: u16, value: &Value) -> Response {
    let mut body = bytes_of(value);
    body.push(b'\n');
    json_bytes(code, "application/json".into(), body.into())
}

/// Plain text as an answer.
pub(crate) fn plain(code: u16, text: &str) -> Response {
    let mut response = json_bytes(code, "text/plain; charset=utf-8".into(), text.as_bytes().into());
    response.headers.push(("x-content-type-options", "nosniff".into()));
    response
}

/// A failure as an answer.
pub(crate) fn failure(status: &Status) -> Response {
    let mut body = status.to_json();
    body.push(b'\n');
    let mut response = json_bytes(status.code, "application/json".into(), body.into());
    let seconds = status.details.as_ref().and_then(|details| details.retry_after_seconds);
    if let Some(seconds) = seconds {
        response.headers.push(("retry-after", seconds.to_string()));
    }
    response
}

/// Adds Warning headers, each text once.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    let mut said: Vec<&String> = Vec::new();
    for warning in warnings {
        if !said.contains(&warning) {
            said.push(warning);
            let quoted =
                warning.replace('\\', "\\\\").replace('"', "\\\"").replace(['\r', '\n'], " ");
            response.headers.push(("warning", format!("299 - \"{quoted}\"")));
        }
    }
}

/// A HEAD has the headers of its GET and no body.
pub(crate) fn behead(http: &HttpRequest, mut response: Response) -> Response {
    if http.method == "HEAD" {
        response.body = ResponseBody::Bytes(Arc::from([].as_slice()));
    }
    response
}
