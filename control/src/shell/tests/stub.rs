//! A control plane of a few paths, and what it saw.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use coracle_control_logic::{
    Millis,
    call::HttpRequest,
    plane::{Action, Event, RequestId, Response, ResponseBody, WatchId, WatchPoll},
};
use coracle_store::{Loaded, Op, Outcome, Revision, Txn};

use crate::shell::drive::Plane;

/// Parts of `/list`: 64 MB.
pub(super) const LIST_PARTS: usize = 64 * 1024;
pub(super) const LIST_PART_BYTES: usize = 1024;

#[derive(Default)]
struct Numbers {
    pulled: AtomicUsize,
    watches: AtomicUsize,
    tunnels: AtomicUsize,
    opened: AtomicUsize,
}

/// What the stub saw; shared with the test.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Numbers>);

impl Seen {
    pub(super) fn pulled(&self) -> usize {
        self.0.pulled.load(Ordering::SeqCst)
    }

    pub(super) fn reset_pulled(&self) {
        self.0.pulled.store(0, Ordering::SeqCst);
    }

    pub(super) fn open_watches(&self) -> usize {
        self.0.watches.load(Ordering::SeqCst)
    }

    pub(super) fn tunnels(&self) -> usize {
        self.0.tunnels.load(Ordering::SeqCst)
    }

    pub(super) fn tunnels_opened(&self) -> usize {
        self.0.opened.load(Ordering::SeqCst)
    }
}

pub(super) struct Stub {
    seen: Seen,
    objects: usize,
    revision: u64,
    writing: VecDeque<RequestId>,
    watches: BTreeMap<WatchId, VecDeque<Arc<[u8]>>>,
}

impl Stub {
    pub(super) fn new(loaded: &Loaded, seen: Seen) -> Self {
        seen.0.watches.store(0, Ordering::SeqCst);
        Self {
            seen,
            objects: loaded.entries.len(),
            revision: loaded.revision_reserved.0,
            writing: VecDeque::new(),
            watches: BTreeMap::new(),
        }
    }

    fn request(&mut self, id: RequestId, request: HttpRequest, out: &mut Vec<Action>) {
        let body = match request.path.as_str() {
            "/who" => {
                let who = request.peer.map_or("nobody".to_owned(), |peer| {
                    format!("{} {}", peer.common_name, peer.organizations.join(","))
                });
                ResponseBody::Bytes(who.into_bytes().into())
            }
            "/echo" => ResponseBody::Bytes(request.body.bytes.into()),
            "/big" => ResponseBody::Bytes(vec![b'b'; 1 << 20].into()),
            "/objects" => ResponseBody::Bytes(self.objects.to_string().into_bytes().into()),
            "/list" => {
                let seen = self.seen.clone();
                ResponseBody::Parts(Box::new((0..LIST_PARTS).map(move |_| {
                    seen.0.pulled.fetch_add(1, Ordering::SeqCst);
                    vec![b'l'; LIST_PART_BYTES].into()
                })))
            }
            "/watch" => {
                let watch = WatchId(id.0);
                let first: Arc<[u8]> = b"first\n"[..].into();
                self.watches.insert(watch, VecDeque::from([first]));
                self.seen.0.watches.fetch_add(1, Ordering::SeqCst);
                ResponseBody::Watch(watch)
            }
            "/poke" => {
                let event: Arc<[u8]> = request.body.bytes.into();
                for (id, queue) in &mut self.watches {
                    queue.push_back(event.clone());
                    out.push(Action::WatchReady(*id));
                }
                ResponseBody::Bytes(b"ok"[..].into())
            }
            "/logs" => ResponseBody::Node {
                node: "pi1".into(),
                path_and_query: "/containerLogs/a/b/c?follow=true".into(),
            },
            "/put" => {
                self.revision += 1;
                let key = String::from_utf8(request.body.bytes).unwrap();
                let batch = vec![Txn {
                    guards: vec![],
                    op: Op::Put(format!("/registry/{key}").into(), [1].into()),
                    revision: Revision(self.revision),
                }];
                self.writing.push_back(id);
                out.push(Action::Commit { batch, reserve: Revision(self.revision + 10) });
                return;
            }
            _ => ResponseBody::Bytes(b""[..].into()),
        };
        out.push(respond(id, body));
    }
}

fn respond(id: RequestId, body: ResponseBody) -> Action {
    let headers = vec![("content-type", "text/plain".to_owned())];
    Action::Respond(id, Response { status: 200, headers, body })
}

impl Plane for Stub {
    fn step(&mut self, _now: Millis, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request(id, request) => self.request(id, request, out),
            Event::Gone(id) => {
                if self.watches.remove(&WatchId(id.0)).is_some() {
                    self.seen.0.watches.fetch_sub(1, Ordering::SeqCst);
                }
            }
            Event::Committed(outcomes) => {
                assert_eq!(outcomes, [Outcome::Done]);
                self.objects += 1;
                let id = self.writing.pop_front().expect("answers come in the order of batches");
                let text = self.objects.to_string().into_bytes();
                out.push(respond(id, ResponseBody::Bytes(text.into())));
            }
            Event::NodeTunnel(_, true) => {
                self.seen.0.tunnels.fetch_add(1, Ordering::SeqCst);
                self.seen.0.opened.fetch_add(1, Ordering::SeqCst);
            }
            Event::NodeTunnel(_, false) => {
                self.seen.0.tunnels.fetch_sub(1, Ordering::SeqCst);
            }
            Event::StoreFailed(_) | Event::Tick => {}
        }
    }

    fn knows(&self, _now: Millis, head: &HttpRequest) -> bool {
        head.peer.is_some()
    }

    fn watch_next(&mut self, id: WatchId, out: &mut Vec<Arc<[u8]>>) -> WatchPoll {
        match self.watches.get_mut(&id) {
            None => WatchPoll::Closed,
            Some(queue) => {
                out.extend(queue.drain(..));
                WatchPoll::Wait
            }
        }
    }
}
