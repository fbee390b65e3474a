//! Answers: objects, lists and watch events in the version and form that the client takes, and errors as Status.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::{Object, Resource, Status};
use serde_json::{Value, json};

use super::{
    Reply,
    accept::{Form, content_type, negotiate},
    api_version,
    delete::{removed_status, returns_object},
    list::Page,
};
use crate::{
    Millis,
    cache::{encode::bytes_of, watch::Render},
    call::{Authorized, Call, HttpRequest, Options, ResourceTarget},
    kinds::{self, access::set},
    plane::{Response, ResponseBody},
    views::table,
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
    /// When it was asked: ages in Tables are told from here.
    now: Millis,
}

impl Style {
    /// Reads it from a call. The error is a 406.
    pub(crate) fn of(
        call: &Call<Authorized>,
        target: &ResourceTarget,
        now: Millis,
    ) -> Result<Self, Status> {
        Ok(Self {
            form: negotiate(call.http.header("accept"))?,
            now,
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

    /// One object in this style; `bytes` are its own or those under another revision.
    fn object_bytes(&self, object: &Object, bytes: &[u8]) -> Arc<[u8]> {
        match self.form {
            Form::Whole => bytes_of(&self.value(object, bytes)).into(),
            Form::Metadata(version) => {
                bytes_of(&metadata_only(self.value(object, bytes), version)).into()
            }
            Form::Table(version) => self.one_row(version, self.now, true, object, bytes),
        }
    }

    /// A Table of one object.
    fn one_row(
        &self,
        table_version: &str,
        now: Millis,
        columns: bool,
        object: &Object,
        bytes: &[u8],
    ) -> Arc<[u8]> {
        let stored: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
        let metadata = table::metadata_of(object, &stored);
        let (group, version) = (self.group.as_str(), self.version.as_str());
        let mut out =
            table::head(object.resource, group, version, table_version, &metadata, columns);
        out.push_str(&self.row(table_version, now, object, bytes).to_string());
        // Within a watch event no line may end early.
        out.push_str(table::TAIL.trim_end());
        out.into_bytes().into()
    }

    fn row(&self, table_version: &str, now: Millis, object: &Object, bytes: &[u8]) -> Value {
        let stored: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
        let shown = self.value(object, bytes);
        table::row(now, object.resource, &stored, shown, self.options.include_object, table_version)
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
    pub(crate) fn list(&self, resource: Resource, page: Page) -> Response {
        let kind = resource.def().kind;
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
        let head = if let Form::Table(version) = self.form {
            table::head(resource, &self.group, &self.version, version, &metadata, true)
        } else {
            format!(
                "{{\"kind\":\"{list_kind}\",\"apiVersion\":\"{list_version}\",\"metadata\":{metadata},\"items\":["
            )
        };
        let size: usize = page.objects.iter().map(|object| object.bytes.len() + 1).sum();
        let style = self.clone();
        let comma: Arc<[u8]> = b",".as_slice().into();
        let mut first = true;
        let items = page.objects.into_iter().flat_map(move |object| {
            let bytes = if style.shares_bytes(&object) {
                object.bytes.clone()
            } else if let Form::Table(version) = style.form {
                bytes_of(&style.row(version, style.now, &object, &object.bytes)).into()
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
    pub(crate) fn render(&self, resource: Resource) -> Option<Render> {
        let def = resource.def();
        if self.form == Form::Whole && self.group == def.group && self.version == def.version {
            return None;
        }
        let style = self.clone();
        let mut first = true;
        Some(Box::new(move |at: Option<Millis>, object: &Object, bytes: &[u8]| {
            if let Form::Table(version) = style.form {
                let now = at.unwrap_or(style.now);
                style.one_row(version, now, core::mem::take(&mut first), object, bytes)
            } else {
                style.object_bytes(object, bytes)
            }
        }))
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
