//! Reads and writes of stored objects: every verb, from an authorized call to a decision.
//!
//! Nothing is written here. A decision is an answer, or an [`Admitted`] change that the sequencer takes.

pub(crate) mod accept;
pub(crate) mod admit;
pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod change;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod sequencer;
pub(crate) mod subresource;

use alloc::{string::String, sync::Arc, vec::Vec};

use coracle_api::{Object, Resource, Status};
use serde_json::Value;

pub(crate) use self::admit::Admitted;
use self::delete::DeleteOptions;
use crate::{
    Millis, Rng,
    authz::Authorizer,
    cache::Cache,
    call::{Authorized, Call, PatchType, ResourceTarget, Target, Verb},
    canary::Switch,
    kinds,
};

/// What a write brings: a body to be decoded, or what a controller of ours made.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// The HTTP request's body.
    Http,
    /// An object.
    Object(Value),
    /// A patch.
    Patch(PatchType, Value),
    /// Options of a delete.
    Delete(DeleteOptions),
}

/// One write that was asked for.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) call: &'a Call<Authorized>,
    pub(crate) target: &'a ResourceTarget,
    pub(crate) resource: Resource,
    pub(crate) payload: &'a Payload,
}

impl<'a> Ask<'a> {
    /// `None` for calls of something that is not stored.
    pub(crate) fn of(call: &'a Call<Authorized>, payload: &'a Payload) -> Option<Self> {
        let Target::Resource(target) = &call.target else { return None };
        Some(Self { call, target, resource: target.hub?, payload })
    }

    /// Whether the version asked for is the stored one.
    pub(crate) fn is_hub(&self) -> bool {
        let def = self.resource.def();
        self.target.group == def.group && self.target.version == def.version
    }

    /// `apps/v1beta1`: the version asked for.
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.target.group, &self.target.version)
    }

    /// 404 for what this is about.
    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.target.group, &self.target.plural, &self.target.name)
    }
}

/// `v1` or `apps/v1`.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { alloc::format!("{group}/{version}") }
}

/// How a write is answered once it is published (or was not needed).
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The object as it is now, with this code.
    Written(u16),
    /// A Status of success that names what is gone; for some kinds the object itself.
    Removed,
    /// A Status of success with this code and message.
    Success(u16, String),
    /// The Scale of the object.
    Scale,
}

/// What is to be done about a call.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Write, then reply.
    Write(Admitted, Reply),
    /// Nothing to write; reply with this version (a no-op, or a dry run).
    Same(Arc<Object>, Reply),
    /// Delete each of these, then answer with the list of them.
    Each(Vec<Arc<Object>>, DeleteOptions),
    /// Nothing, as plain text.
    Empty,
    /// The node answers: its name, path and query.
    Node(String, String),
}

/// The scene of one decision.
pub(crate) struct Registry<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) authorizer: &'a Authorizer,
    pub(crate) now: Millis,
    pub(crate) rng: &'a mut Rng,
    pub(crate) canary: Switch,
    /// For Warning headers.
    pub(crate) warnings: Vec<String>,
}

impl Registry<'_> {
    /// Decides about a write (or a log, which only looks like a read).
    pub(crate) fn decide(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        if let Some(warning) =
            kinds::deprecation(&ask.target.group, &ask.target.version, self.kind_of(ask))
        {
            self.warnings.push(warning);
        }
        match (ask.call.verb, ask.target.subresource.as_str()) {
            (Verb::Create, "") => self.create(ask),
            (Verb::Create, "binding") => self.bind(ask),
            (Verb::Create, "eviction") => self.evict(ask),
            (Verb::Create, "rollback") => self.rollback(ask),
            (Verb::Update, "scale") => self.update_scale(ask),
            (Verb::Patch, "scale") => self.patch_scale(ask),
            (Verb::Update, _) => self.update(ask),
            (Verb::Patch, _) => self.patch(ask),
            (Verb::Delete, _) => self.delete(ask),
            (Verb::DeleteCollection, _) => self.delete_collection(ask),
            (Verb::Get, "log") => self.log(ask),
            (Verb::Create | Verb::Get | Verb::List | Verb::Watch, _) => Err(Status::not_served()),
        }
    }

    /// What is stored under the name asked for.
    pub(crate) fn stored(&self, ask: &Ask<'_>) -> Result<Arc<Object>, Status> {
        let target = ask.target;
        self.cache
            .get(ask.resource, &target.namespace, &target.name)
            .cloned()
            .ok_or_else(|| ask.not_found())
    }

    fn kind_of(&self, ask: &Ask<'_>) -> &'static str {
        match ask.target.subresource.as_str() {
            "scale" => "Scale",
            "rollback" => "DeploymentRollback",
            _ => ask.resource.def().kind,
        }
    }

    pub(crate) fn context<'a>(&self, ask: &Ask<'a>) -> kinds::Context<'a> {
        kinds::Context {
            now: self.now,
            user: ask.call.user(),
            group: &ask.target.group,
            version: &ask.target.version,
        }
    }
}
