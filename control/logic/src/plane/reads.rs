//! Requests as they come in, and those that only read: get, list, watch.

use alloc::{sync::Arc, vec::Vec};

use coracle_api::{Resource, Status};

use super::{
    ControlPlane, RequestId, Response, ResponseBody,
    writes::{Origin, Work},
};
use crate::{
    Millis, access,
    cache::watch::WatchSpec,
    call::{Authorized, Call, HttpRequest, Received, ResourceTarget, Target, Verb, routes},
    canary::Canary,
    kinds,
    limits::{RETRY_AFTER_S, WATCH_AGE_MS_MIN},
    registry::{
        Payload,
        answer::{self, Style},
        body,
        list::{filter_of, page},
    },
};

impl ControlPlane {
    /// Takes a request through all stages, or as far as it comes.
    pub(super) fn request(&mut self, now: Millis, id: RequestId, http: HttpRequest) {
        let http = Arc::new(http);
        match self.begin(now, id, &http) {
            Ok(None) => {}
            Ok(Some(response)) => {
                if http.method == "HEAD" {
                    // Nobody will pull a watch without a body, so nobody would ever close it.
                    self.watches.gone(id);
                }
                self.respond(id, answer::behead(&http, response));
            }
            Err(status) => {
                self.respond(id, answer::behead(&http, answer::failure(&status)));
            }
        }
    }

    /// `None`: it is answered later.
    fn begin(
        &mut self,
        now: Millis,
        id: RequestId,
        http: &Arc<HttpRequest>,
    ) -> Result<Option<Response>, Status> {
        let call = Call::<Received>::parse(http.clone())?
            .authenticate(&self.cache, &*self.keys, now)?
            .authorize(&self.authorizer, &self.cache)?;
        let target = match &call.target {
            Target::Path(path) => return self.path(http, path).map(Some),
            Target::Resource(target) => target.clone(),
        };
        if routes::is_always_empty(call.verb, &target) {
            let list = serde_json::json!({
                "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
                "metadata": {}, "items": [],
            });
            return Ok(Some(answer::json_value(200, &list)));
        }
        if let Some(why) = &self.failed {
            return Err(Status::unavailable(alloc::format!(
                "the store failed and is being reopened: {why}"
            )));
        }
        if let (Verb::Create, Some(kind)) = (call.verb, access::kind(&target)) {
            return self.review(now, &call, &target, kind).map(Some);
        }
        match (call.verb, target.hub) {
            (Verb::Get, Some(resource)) if target.subresource != "log" => {
                self.get(now, &call, &target, resource).map(Some)
            }
            (Verb::List, Some(resource)) => self.list(now, &call, &target, resource).map(Some),
            (Verb::Watch, Some(resource)) => {
                self.watch(now, id, &call, &target, resource).map(Some)
            }
            (_, Some(_)) => {
                if self.is_full() {
                    return Err(Status::too_many_requests(
                        "too many requests, please try again later",
                        RETRY_AFTER_S,
                    ));
                }
                let (payload, origin) = (Payload::Http, Origin::Http(id));
                // What cannot be answered in a form that is taken must not be written.
                Style::of(&call, &target, now)?;
                self.evaluate(now, Work { call, payload, origin, tries: 0 });
                Ok(None)
            }
            (_, None) => Err(Status::not_served()),
        }
    }

    /// Answers a call that asks and stores nothing.
    fn review(
        &mut self,
        now: Millis,
        call: &Call<Authorized>,
        target: &ResourceTarget,
        kind: (&str, &str, &str),
    ) -> Result<Response, Status> {
        let mut warnings = Vec::new();
        let body = body::body_of(call, &Payload::Http, kind, &mut warnings)?;
        let question = access::Question {
            user: call.user(),
            target,
            cache: &self.cache,
            authorizer: &self.authorizer,
            keys: &*self.keys,
            now,
        };
        let value = access::answer(&question, body, &mut self.rng)?;
        let mut response = answer::json_value(201, &value);
        answer::warn(&mut response, &warnings);
        Ok(response)
    }

    fn get(
        &self,
        now: Millis,
        call: &Call<Authorized>,
        target: &ResourceTarget,
        resource: Resource,
    ) -> Result<Response, Status> {
        let style = Style::of(call, target, now)?;
        let object = self
            .cache
            .get(resource, &target.namespace, &target.name)
            .ok_or_else(|| Status::not_found(&target.group, &target.plural, &target.name))?;
        let mut response = if target.subresource == "scale" {
            let scale = kinds::scale::get(&target.group, &target.version, &object.value());
            answer::json_value(200, &scale)
        } else {
            style.object(200, object)
        };
        warn_deprecated(&mut response, target, resource);
        Ok(response)
    }

    fn list(
        &self,
        now: Millis,
        call: &Call<Authorized>,
        target: &ResourceTarget,
        resource: Resource,
    ) -> Result<Response, Status> {
        let style = Style::of(call, target, now)?;
        let page = page(call, target, resource, &self.cache, &self.ring)?;
        let mut response = style.list(resource, page);
        warn_deprecated(&mut response, target, resource);
        Ok(response)
    }

    fn watch(
        &mut self,
        now: Millis,
        id: RequestId,
        call: &Call<Authorized>,
        target: &ResourceTarget,
        resource: Resource,
    ) -> Result<Response, Status> {
        let style = Style::of(call, target, now)?;
        let options = call.options();
        let filter = filter_of(call, target, resource)?;
        let current = self.cache.revision();
        let asked = options.resource_version.filter(|revision| *revision != 0);
        if let Some(asked) = asked {
            if asked > current {
                return Err(Status::too_large_resource_version(asked, current));
            }
            if options.send_initial_events != Some(true)
                && !self.ring.covers(asked)
                && !self.config.canary.sings(Canary::ResumesOutside)
            {
                return Err(Status::too_old(asked, self.ring.dropped()));
            }
        }
        let with_initial = options.send_initial_events.unwrap_or(asked.is_none());
        let initial: Vec<_> = if with_initial {
            let namespace = filter.namespace.as_deref();
            let all = self.cache.list(resource, namespace);
            all.filter(|object| filter.selects(object)).cloned().collect()
        } else {
            Vec::new()
        };
        let after = match asked {
            Some(asked) if !with_initial => asked,
            _ => current,
        };
        let age = match options.timeout_seconds {
            Some(seconds) => seconds.saturating_mul(1000),
            None => WATCH_AGE_MS_MIN + self.rng.next_u64() % WATCH_AGE_MS_MIN,
        };
        let spec = WatchSpec {
            request: id,
            resource,
            filter,
            type_meta: style.type_meta(resource.def().kind),
            render: style.render(resource),
            initial,
            initial_end: options.send_initial_events == Some(true) && options.allow_watch_bookmarks,
            after,
            bookmarks: options.allow_watch_bookmarks,
            until: Millis(now.0.saturating_add(age)),
        };
        let watch = self.watches.open(now, spec).map_err(|_| {
            Status::too_many_requests("too many watches are open, please try again later", 10)
        })?;
        let mut response =
            answer::json_bytes(200, style.watch_content_type(), Arc::from([].as_slice()));
        response.body = ResponseBody::Watch(watch);
        warn_deprecated(&mut response, target, resource);
        Ok(response)
    }
}

fn warn_deprecated(response: &mut Response, target: &ResourceTarget, resource: Resource) {
    let kind = if target.subresource == "scale" { "Scale" } else { resource.def().kind };
    if let Some(warning) = kinds::deprecation(&target.group, &target.version, kind) {
        answer::warn(response, &[warning]);
    }
}
