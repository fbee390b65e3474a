//! A request as the control plane sees it, and its stages as types: what the registry takes only admission can make.

use alloc::{string::String, sync::Arc, vec::Vec};

use coracle_api::Resource;

/// What the shell read off the wire. TLS and size limits are behind it; nothing here is trusted yet.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path without query, percent-encoded as sent.
    pub path: String,
    /// Query without `?`, as sent.
    pub query: String,
    /// Header names in lower case with their values; only those that the logic reads need be here: `accept`,
    /// `authorization`, `content-type`, `if-none-match`, `user-agent`, `impersonate-*`.
    pub headers: Vec<(String, String)>,
    /// Body, at most `OBJECT_BYTES_MAX` (the shell answers 413 beyond).
    pub body: Body,
    /// Subject of the client certificate, if one was presented and verified against our CA.
    pub peer: Option<Peer>,
}

/// A request body. YAML is decoded by the shell (its parser needs std) and comes as JSON text with what was doubled.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// The bytes: as sent, or JSON where `content-type` was YAML.
    pub bytes: Vec<u8>,
    /// The bytes were YAML when they came.
    pub was_yaml: bool,
    /// Paths of keys that the YAML held twice (last one won), for strict or warning answers.
    pub doubled: Vec<String>,
}

/// A verified client certificate's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// CN: the user.
    pub common_name: String,
    /// O: the groups.
    pub organizations: Vec<String>,
}

/// Who is calling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `system:node:pi1`, `system:serviceaccount:ns:name`, `kubernetes-admin`, …
    pub name: String,
    /// uid where the user is an object.
    pub uid: String,
    /// Groups, `system:authenticated` or `system:unauthenticated` among them.
    pub groups: Vec<String>,
    /// Extra facts (pod name and uid bound into a service account token, …).
    pub extra: Vec<(String, Vec<String>)>,
}

/// API verbs, as RBAC names them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

/// How a patch body is to be read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// What is called: an object, a collection, or a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Something under `/api` or `/apis` that has a group, version and resource.
    Resource(ResourceTarget),
    /// `/healthz`, `/version`, `/openapi/v3`, `/apis`, …
    Path(String),
}

/// An object or collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceTarget {
    /// Group as asked (`extensions` stays `extensions`: RBAC goes by it).
    pub group: String,
    /// Version as asked.
    pub version: String,
    /// Plural as asked.
    pub plural: String,
    /// The stored resource behind it; `None` for things that are not stored (access reviews) or not served.
    pub hub: Option<Resource>,
    /// Empty: all namespaces, or cluster-scoped.
    pub namespace: String,
    /// Empty: the collection.
    pub name: String,
    /// `status`, `scale`, `log`, `binding`, …; empty: the object itself.
    pub subresource: String,
}

/// Stage: parsed, nothing checked.
#[derive(Clone, Debug)]
pub struct Received(pub(crate) ());
/// Stage: we know who calls.
#[derive(Clone, Debug)]
pub struct Authenticated {
    pub(crate) user: Arc<User>,
}
/// Stage: the caller may do this.
#[derive(Clone, Debug)]
pub struct Authorized {
    pub(crate) user: Arc<User>,
}

/// One call on its way; `Stage` is how far it has come.
#[derive(Clone, Debug)]
pub struct Call<Stage> {
    /// What the shell read.
    pub http: Arc<HttpRequest>,
    /// The verb.
    pub verb: Verb,
    /// The target.
    pub target: Target,
    /// How far it has come.
    pub stage: Stage,
}
