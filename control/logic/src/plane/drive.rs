//! Controllers and the scheduler: fed with changes, stepped, and their calls taken through the front door.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::{Object, Status};
use coracle_keys::Keys;

use super::{
    Config, ControlPlane,
    writes::{Origin, Work},
};
use crate::{
    Millis,
    authn::AUTHENTICATED,
    call::{Authenticated, Authorized, Call, Options, Propagation, ResourceTarget, User, Verb},
    controllers::{self, CallAction, Controller, ControllerCall},
    kinds::access::{child, set, text},
    limits::CONTROLLER_CALLS_MAX,
    registry::{Payload, delete::DeleteOptions},
    scheduler::Scheduler,
};

/// One controller and what it has under way.
pub(super) struct Driven {
    pub(super) controller: Box<dyn Controller>,
    underway: usize,
}

impl Driven {
    fn new(controller: Box<dyn Controller>) -> Self {
        Self { controller, underway: 0 }
    }
}

/// All controllers, in the order in which they are stepped.
pub(super) fn controllers(config: &Config, keys: Arc<dyn Keys>) -> Vec<Driven> {
    let scheduler: Box<dyn Controller> =
        Box::new(Scheduler::new(config.placement).with_canary(config.canary));
    let Config { pod_cidr, canary, .. } = config.clone();
    let config = controllers::Config { keys, pod_cidr, canary };
    controllers::all(&config).into_iter().chain([scheduler]).map(Driven::new).collect()
}

impl ControlPlane {
    /// The same without controllers: nothing happens but what a test asks for.
    #[cfg(test)]
    pub(crate) fn without_controllers(mut self) -> Self {
        self.driven.clear();
        self
    }

    /// Steps every controller that is due and begins its calls. Whether any was.
    pub(super) fn drive(&mut self, now: Millis) -> bool {
        let mut any = false;
        for index in 0..self.driven.len() {
            let mut calls = Vec::new();
            if let Some(driven) = self.driven.get_mut(index)
                && driven.underway < CONTROLLER_CALLS_MAX
                && driven.controller.next_due().is_some_and(|due| due <= now)
            {
                driven.controller.step(now, &self.cache, &mut self.rng, &mut calls);
                driven.underway += calls.len();
                any = true;
            }
            for call in calls {
                self.begin_call(now, index, call);
            }
        }
        any
    }

    fn begin_call(&mut self, now: Millis, index: usize, call: ControllerCall) {
        match self.authorized(&call) {
            Ok((authorized, payload)) => {
                let origin = Origin::Controller(index, call);
                self.evaluate(now, Work { call: authorized, payload, origin, tries: 0 });
            }
            Err(status) => self.controller_done(now, index, &call, Err(&status)),
        }
    }

    pub(super) fn controller_done(
        &mut self,
        now: Millis,
        index: usize,
        call: &ControllerCall,
        result: Result<&Arc<Object>, &Status>,
    ) {
        if let Some(driven) = self.driven.get_mut(index) {
            driven.underway = driven.underway.saturating_sub(1);
            driven.controller.done(now, call, result);
        }
    }

    fn authorized(&self, call: &ControllerCall) -> Result<(Call<Authorized>, Payload), Status> {
        let (verb, payload) = match &call.action {
            CallAction::Create(value) => {
                let mut value = value.clone();
                if call.subresource.is_empty()
                    && !call.name.is_empty()
                    && text(&value, &["metadata", "name"]).is_empty()
                {
                    set(child(&mut value, "metadata"), "name", call.name.as_str());
                }
                (Verb::Create, Payload::Object(value))
            }
            CallAction::Update(value) => (Verb::Update, Payload::Object(value.clone())),
            CallAction::Patch(kind, value) => (Verb::Patch, Payload::Patch(*kind, value.clone())),
            CallAction::Delete { uid, resource_version, propagation, grace_seconds } => {
                let propagation = match *propagation {
                    Some("Foreground") => Some(Propagation::Foreground),
                    Some("Orphan") => Some(Propagation::Orphan),
                    Some(_) => Some(Propagation::Background),
                    None => None,
                };
                let options = DeleteOptions {
                    uid: uid.clone(),
                    resource_version: resource_version.clone(),
                    propagation,
                    grace_seconds: *grace_seconds,
                    dry_run: false,
                };
                (Verb::Delete, Payload::Delete(options))
            }
        };
        // A POST of an object goes to the collection; its name is in the object.
        let to_collection = verb == Verb::Create && call.subresource.is_empty();
        let name = if to_collection { "" } else { call.name.as_str() };
        let target = ResourceTarget::hub(call.resource, &call.namespace, name, call.subresource);
        let options =
            Options { field_manager: manager_of(call.user), force: true, ..Options::default() };
        let user = Arc::new(user_of(call.user));
        let call = Call::<Authenticated>::of_controller(user, verb, target, options);
        Ok((call.authorize(&self.authorizer, &self.cache)?, payload))
    }
}

/// As upstream: all controllers write as one manager, the scheduler as its own.
fn manager_of(user: &str) -> String {
    if user == "system:kube-scheduler" { "kube-scheduler" } else { "kube-controller-manager" }
        .to_string()
}

/// A controller's user with the groups that authentication would have given it.
fn user_of(name: &str) -> User {
    let mut groups: Vec<String> = Vec::new();
    if let Some((namespace, _)) =
        name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
    {
        groups.push("system:serviceaccounts".into());
        groups.push(alloc::format!("system:serviceaccounts:{namespace}"));
    }
    groups.push(AUTHENTICATED.into());
    User { name: name.into(), groups, ..User::default() }
}
