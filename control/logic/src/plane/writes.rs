//! Writes on their way: decided from the cache, one at a time for each key, answered when they are published.

use alloc::{collections::VecDeque, string::String, sync::Arc, vec::Vec};

use coracle_api::{Object, Resource, Status};

use super::{Action, ControlPlane, RequestId, Response};
use crate::{
    Millis,
    call::{Authorized, Call, Target, Verb},
    controllers::ControllerCall,
    limits::{REQUESTS_WAITING_MAX, RETRY_AFTER_S, WRITE_TRIES_MAX, WRITES_PER_KEY_MAX},
    plane::ResponseBody,
    registry::{
        Ask, Decision, Payload, Registry, Reply,
        answer::{self, Style},
        delete::DeleteOptions,
        list::Page,
        sequencer::{Ended, Key},
    },
};

/// Who is to be told how a write ended.
#[derive(Debug)]
pub(super) enum Origin {
    /// A client.
    Http(RequestId),
    /// The controller at this place.
    Controller(usize, ControllerCall),
    /// The deletion of a collection.
    Bulk(u64),
    /// The start of the cluster.
    Bootstrap,
}

/// One write that was asked for, until it is answered.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) call: Call<Authorized>,
    pub(super) payload: Payload,
    pub(super) origin: Origin,
    pub(super) tries: u32,
}

impl Work {
    pub(super) fn request(&self) -> Option<RequestId> {
        match self.origin {
            Origin::Http(id) => Some(id),
            Origin::Controller(..) | Origin::Bulk(_) | Origin::Bootstrap => None,
        }
    }

    /// The key that its URL names, if it names one.
    fn key(&self) -> Option<Key> {
        let Target::Resource(target) = &self.call.target else { return None };
        let named = !target.name.is_empty();
        named.then_some(Key::new(target.hub?, &target.namespace, &target.name))
    }
}

/// A write that the sequencer has.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) work: Work,
    reply: Reply,
    warnings: Vec<String>,
}

/// The deletion of a collection: answered when the last of it ended.
#[derive(Debug)]
pub(super) struct Bulk {
    pub(super) request: RequestId,
    call: Call<Authorized>,
    resource: Resource,
    left: usize,
    deleted: Vec<Arc<Object>>,
    failed: Option<Status>,
}

impl ControlPlane {
    /// Whether one more client may wait.
    pub(super) fn is_full(&self) -> bool {
        self.flights.len() + self.busy.values().map(VecDeque::len).sum::<usize>()
            >= REQUESTS_WAITING_MAX
    }

    /// Decides a write, or lets it wait for its key.
    pub(super) fn evaluate(&mut self, now: Millis, mut work: Work) {
        if let Some(key) = work.key()
            && self.busy.contains_key(&key)
        {
            return self.park(now, &key, work);
        }
        work.tries += 1;
        let mut registry = Registry {
            cache: &self.cache,
            authorizer: &self.authorizer,
            now,
            rng: &mut self.rng,
            canary: self.config.canary,
            warnings: Vec::new(),
        };
        let decision = match Ask::of(&work.call, &work.payload) {
            Some(ask) => registry.decide(&ask),
            None => Err(Status::not_served()),
        };
        let warnings = registry.warnings;
        match decision {
            Err(status) => self.finish(now, work, &Reply::Removed, &warnings, Err(&status)),
            Ok(Decision::Same(object, reply)) => {
                self.finish(now, work, &reply, &warnings, Ok(&object));
            }
            Ok(Decision::Empty) => {
                if let Some(id) = work.request() {
                    self.respond(id, answer::plain(200, ""));
                }
            }
            Ok(Decision::Node(node, path_and_query)) => self.ask_node(&work, node, path_and_query),
            Ok(Decision::Each(objects, options)) => self.begin_bulk(now, &work, objects, &options),
            Ok(Decision::Write(admitted, reply)) => {
                let key = admitted.key().clone();
                if self.busy.contains_key(&key) {
                    return self.park(now, &key, work);
                }
                self.next_ticket += 1;
                self.busy.insert(key, VecDeque::new());
                self.flights.insert(self.next_ticket, Flight { work, reply, warnings });
                self.sequencer.submit(admitted, self.next_ticket);
            }
        }
    }

    fn park(&mut self, now: Millis, key: &Key, work: Work) {
        let Some(queue) = self.busy.get_mut(key) else { return };
        if queue.len() < WRITES_PER_KEY_MAX {
            queue.push_back(work);
            return;
        }
        let status = Status::too_many_requests(
            "too many writes of this object wait already, please try again later",
            RETRY_AFTER_S,
        );
        self.finish(now, work, &Reply::Removed, &[], Err(&status));
    }

    /// A write ended: published or refused by the store.
    pub(super) fn end(&mut self, now: Millis, end: Ended) {
        let flight = self.flights.remove(&end.ticket);
        match end.result {
            Ok(change) => {
                let subject = change.subject().cloned();
                self.publish(now, change);
                if let (Some(Flight { work, reply, warnings }), Some(subject)) = (flight, subject) {
                    self.finish(now, work, &reply, &warnings, Ok(&subject));
                }
            }
            Err(status) => {
                if let Some(Flight { work, reply, warnings }) = flight {
                    if status.code == 409 && work.tries < WRITE_TRIES_MAX {
                        // First in line again, before those that came later.
                        if let Some(queue) = self.busy.get_mut(&end.key) {
                            queue.push_front(work);
                        }
                    } else {
                        self.finish(now, work, &reply, &warnings, Err(&status));
                    }
                }
            }
        }
        self.release(now, &end.key);
    }

    /// The key is free: the next write that waits for it is decided anew.
    fn release(&mut self, now: Millis, key: &Key) {
        let Some(mut queue) = self.busy.remove(key) else { return };
        while let Some(work) = queue.pop_front() {
            self.evaluate(now, work);
            if let Some(again) = self.busy.get_mut(key) {
                again.append(&mut queue);
                return;
            }
        }
    }

    /// Tells whoever asked how it ended.
    fn finish(
        &mut self,
        now: Millis,
        work: Work,
        reply: &Reply,
        warnings: &[String],
        result: Result<&Arc<Object>, &Status>,
    ) {
        match work.origin {
            Origin::Http(id) => {
                let mut response = match (result, &work.call.target) {
                    (Err(status), _) => answer::failure(status),
                    (Ok(object), Target::Resource(target)) => {
                        match Style::of(&work.call, target, now) {
                            Ok(style) => style.reply(reply, object),
                            Err(status) => answer::failure(&status),
                        }
                    }
                    (Ok(_), Target::Path(_)) => answer::failure(&Status::not_served()),
                };
                answer::warn(&mut response, warnings);
                self.respond(id, response);
            }
            Origin::Controller(index, call) => self.controller_done(now, index, &call, result),
            Origin::Bulk(id) => self.bulk_done(now, id, result),
            Origin::Bootstrap => self.bootstrap.ended(result),
        }
    }

    pub(super) fn respond(&mut self, id: RequestId, response: Response) {
        self.actions.push(Action::Respond(id, response));
    }

    fn ask_node(&mut self, work: &Work, node: String, path_and_query: String) {
        let Some(id) = work.request() else { return };
        let response = if self.tunnels.contains(&node) {
            Response {
                status: 200,
                headers: [("content-type", "text/plain".into())].into(),
                body: ResponseBody::Node { node, path_and_query },
            }
        } else {
            answer::failure(&Status::unavailable(alloc::format!(
                "node {node:?} is not connected to the control plane: check that coracle-agent runs there"
            )))
        };
        self.respond(id, response);
    }

    fn begin_bulk(
        &mut self,
        now: Millis,
        work: &Work,
        objects: Vec<Arc<Object>>,
        options: &DeleteOptions,
    ) {
        let (Some(request), Target::Resource(target)) = (work.request(), &work.call.target) else {
            return;
        };
        let Some(resource) = target.hub else { return };
        self.next_ticket += 1;
        let id = self.next_ticket;
        let bulk = Bulk {
            request,
            call: work.call.clone(),
            resource,
            left: objects.len() + 1,
            deleted: Vec::new(),
            failed: None,
        };
        self.bulks.insert(id, bulk);
        for object in objects {
            let mut call = work.call.clone();
            call.verb = Verb::Delete;
            if let Target::Resource(target) = &mut call.target {
                target.name.clone_from(&object.meta.name);
                target.namespace.clone_from(&object.meta.namespace);
            }
            // What was made anew under the name since is not of this collection.
            let options = DeleteOptions { uid: Some(object.meta.uid.clone()), ..options.clone() };
            let payload = Payload::Delete(options);
            self.evaluate(now, Work { call, payload, origin: Origin::Bulk(id), tries: 0 });
        }
        self.count_down(now, id);
    }

    fn bulk_done(&mut self, now: Millis, id: u64, result: Result<&Arc<Object>, &Status>) {
        if let Some(bulk) = self.bulks.get_mut(&id) {
            match result {
                Ok(object) => bulk.deleted.push(object.clone()),
                // Someone else deleted it.
                Err(status) if matches!(status.code, 404 | 409) => {}
                Err(status) => bulk.failed = Some(status.clone()),
            }
        }
        self.count_down(now, id);
    }

    fn count_down(&mut self, now: Millis, id: u64) {
        let Some(bulk) = self.bulks.get_mut(&id) else { return };
        bulk.left -= 1;
        if bulk.left > 0 {
            return;
        }
        let Some(bulk) = self.bulks.remove(&id) else { return };
        let response = match (bulk.failed, &bulk.call.target) {
            (Some(status), _) => answer::failure(&status),
            (None, Target::Resource(target)) => match Style::of(&bulk.call, target, now) {
                Err(status) => answer::failure(&status),
                Ok(style) => {
                    let page = Page {
                        objects: bulk.deleted,
                        revision: self.cache.revision(),
                        next: String::new(),
                        remaining: None,
                    };
                    style.list(bulk.resource, page)
                }
            },
            (None, Target::Path(_)) => answer::failure(&Status::not_served()),
        };
        self.respond(bulk.request, response);
    }
}
