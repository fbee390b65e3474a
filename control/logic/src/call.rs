//! A request as the control plane sees it, and its stages as types: what the registry takes only admission can make.

pub mod options;
pub mod path;
pub mod query;
pub mod routes;

use alloc::{string::String, sync::Arc, vec::Vec};

use coracle_api::{Resource, Status};

use crate::limits;
pub use options::{FieldValidation, IncludeObject, LogOptions, Options, Propagation, VersionMatch};

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
    /// Body; the shell bounds it (413 beyond).
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
/// Stage: the caller may do this, and the options are good.
#[derive(Clone, Debug)]
pub struct Authorized {
    pub(crate) user: Arc<User>,
    pub(crate) options: Options,
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
    /// The name that authorization goes by: the target's, or the one name that a list or watch selects.
    pub(crate) authz_name: String,
    /// Bad options are answered only to callers who may call at all.
    pub(crate) options: Result<Options, Status>,
    /// How far it has come.
    pub stage: Stage,
}

impl Call<Received> {
    /// Reads method, path, query and headers. Refuses what is too long (414, 431), no path (400) or no method of ours
    /// (405); everything else that may be wrong with it is answered after authorization.
    pub fn parse(http: Arc<HttpRequest>) -> Result<Self, Status> {
        check_bounds(&http)?;
        let pairs = query::decode(&http.query)?;
        let parsed = path::parse(&http.method, &http.path, &pairs)?;
        let options = options::parse(&http, &parsed, &pairs);
        let authz_name = match &parsed.target {
            Target::Resource(target) if !target.name.is_empty() => target.name.clone(),
            Target::Resource(_) => parsed.selected_name.clone(),
            Target::Path(_) => String::new(),
        };
        let path::Parsed { verb, target, .. } = parsed;
        Ok(Self { http, verb, target, authz_name, options, stage: Received(()) })
    }
}

impl Call<Authenticated> {
    /// A call that our own controllers make as `user`. It is authorized and admitted like everyone's.
    pub fn of_controller(
        user: Arc<User>,
        verb: Verb,
        target: ResourceTarget,
        options: Options,
    ) -> Self {
        Self {
            http: Arc::new(HttpRequest::default()),
            verb,
            authz_name: target.name.clone(),
            target: Target::Resource(target),
            options: Ok(options),
            stage: Authenticated { user },
        }
    }

    /// Who calls.
    pub fn user(&self) -> &Arc<User> {
        &self.stage.user
    }
}

impl Call<Authorized> {
    /// Who calls.
    pub fn user(&self) -> &Arc<User> {
        &self.stage.user
    }

    /// What the query (or the controller) asks for besides.
    pub fn options(&self) -> &Options {
        &self.stage.options
    }
}

impl HttpRequest {
    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl ResourceTarget {
    /// A stored resource in its hub version, as controllers name it.
    pub fn hub(resource: Resource, namespace: &str, name: &str, subresource: &str) -> Self {
        let def = resource.def();
        Self {
            group: def.group.into(),
            version: def.version.into(),
            plural: def.plural.into(),
            hub: Some(resource),
            namespace: namespace.into(),
            name: name.into(),
            subresource: subresource.into(),
        }
    }
}

impl Verb {
    /// As RBAC rules have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Only reads.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

fn check_bounds(http: &HttpRequest) -> Result<(), Status> {
    if http.path.len() > limits::PATH_BYTES_MAX || http.query.len() > limits::QUERY_BYTES_MAX {
        return Err(Status::new(
            414,
            "RequestURITooLong",
            alloc::format!(
                "the request's path has {} bytes (at most {}), its query {} (at most {})",
                http.path.len(),
                limits::PATH_BYTES_MAX,
                http.query.len(),
                limits::QUERY_BYTES_MAX
            ),
        ));
    }
    let headers: usize = http.headers.iter().map(|(key, value)| key.len() + value.len()).sum();
    if headers > limits::HEADER_BYTES_MAX {
        return Err(Status::new(
            431,
            "RequestHeaderFieldsTooLarge",
            alloc::format!(
                "the request's headers have {headers} bytes, at most {} are read",
                limits::HEADER_BYTES_MAX
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
