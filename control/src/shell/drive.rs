//! Holds the control plane, feeds it events one at a time, and carries out what it asks for.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use coracle_api::{Status, status::Details};
use coracle_control_logic::{
    Millis,
    call::{HttpRequest, Peer},
    plane::{
        Action, ControlPlane, Event, RequestId, Response, ResponseBody, StartError, WatchId,
        WatchPoll,
    },
};
use coracle_rt::Local;
use coracle_store::Loaded;
use smol::channel;

use super::{
    clock::Clock,
    store_thread::{News, StoreThread},
    tunnel::Nodes,
};
use crate::{
    limits::{REQUESTS_MAX, SLEEP_MAX},
    log,
};

/// The control plane as the shell uses it; tests put a small one of their own here.
pub(crate) trait Plane {
    /// Takes one event.
    fn step(&mut self, now: Millis, event: Event, out: &mut Vec<Action>);
    /// Appends the next events of a watch.
    fn watch_next(&mut self, id: WatchId, out: &mut Vec<Arc<[u8]>>) -> WatchPoll;
    /// Whether a request comes from somebody who is known, by its head alone.
    fn knows(&self, now: Millis, head: &HttpRequest) -> bool;
}

impl Plane for ControlPlane {
    fn step(&mut self, now: Millis, event: Event, out: &mut Vec<Action>) {
        ControlPlane::step(self, now, event, out);
    }

    fn watch_next(&mut self, id: WatchId, out: &mut Vec<Arc<[u8]>>) -> WatchPoll {
        ControlPlane::watch_next(self, id, out)
    }

    fn knows(&self, now: Millis, head: &HttpRequest) -> bool {
        ControlPlane::knows(self, now, head)
    }
}

/// Makes a control plane of what was loaded, at a time.
pub(crate) type Make = Box<dyn Fn(Loaded, Millis) -> Result<Box<dyn Plane>, StartError>>;

/// The driven control plane. One thread; shared by all tasks.
pub(crate) struct Drive {
    /// Where tasks of connections run.
    pub(crate) local: Local,
    /// The nodes' tunnels.
    pub(crate) nodes: Nodes,
    /// The clock.
    pub(crate) clock: Clock,
    make: Make,
    store: RefCell<StoreThread>,
    state: RefCell<State>,
    waiting: RefCell<VecDeque<Event>>,
    stepping: Cell<bool>,
    timer: (channel::Sender<()>, channel::Receiver<()>),
}

struct State {
    /// None while the store is being opened again.
    plane: Option<Box<dyn Plane>>,
    /// Which life of the plane this is: the store's failures are counted.
    epoch: u64,
    answers: BTreeMap<RequestId, channel::Sender<Response>>,
    watches: BTreeMap<WatchId, Waker>,
    requests: u64,
    wake_at: Option<Millis>,
}

/// A request that the control plane has; when it is dropped, the plane is told that its connection is gone.
pub(crate) struct Asked {
    drive: Rc<Drive>,
    id: RequestId,
    epoch: u64,
    open: bool,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.open {
            self.drive.state.borrow_mut().answers.remove(&self.id);
            if self.drive.state.borrow().epoch == self.epoch {
                self.drive.step(Event::Gone(self.id));
            }
        }
    }
}

/// A failure as an answer.
pub(crate) fn refusal(status: &Status) -> Response {
    let mut headers = vec![("content-type", "application/json".to_owned())];
    let retry = status.details.as_ref().and_then(|details| details.retry_after_seconds);
    headers.extend(retry.map(|seconds| ("retry-after", seconds.to_string())));
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": status.message, "reason": status.reason, "details": status.details,
        "code": status.code,
    });
    let bytes = body.to_string().into_bytes();
    Response { status: status.code, headers, body: ResponseBody::Bytes(bytes.into()) }
}

/// A refusal that says when to try again.
pub(crate) fn try_again(code: u16, reason: &str, message: impl Into<String>) -> Response {
    let details = Details { retry_after_seconds: Some(1), ..Details::default() };
    let mut status = Status::new(code, reason, message);
    status.details = Some(details);
    refusal(&status)
}

/// 503 with a time to try again.
pub(crate) fn unavailable(message: impl Into<String>) -> Response {
    try_again(503, "ServiceUnavailable", message)
}

impl Drive {
    /// Makes the control plane and starts its tasks: news of the store, the timer.
    pub(crate) fn start(
        local: &Local,
        make: Make,
        store: StoreThread,
        loaded: Loaded,
        news: channel::Receiver<News>,
    ) -> Result<Rc<Self>, StartError> {
        let clock = Clock::new();
        let plane = make(loaded, clock.now())?;
        let state = State {
            plane: Some(plane),
            epoch: 0,
            answers: BTreeMap::new(),
            watches: BTreeMap::new(),
            requests: 0,
            wake_at: None,
        };
        let drive = Rc::new(Self {
            local: local.clone(),
            nodes: Nodes::default(),
            clock,
            make,
            store: RefCell::new(store),
            state: RefCell::new(state),
            waiting: RefCell::default(),
            stepping: Cell::new(false),
            timer: channel::bounded(1),
        });
        let told = drive.clone();
        local.spawn(async move {
            while let Ok(item) = news.recv().await {
                told.news(item);
            }
        });
        let timed = drive.clone();
        local.spawn(async move { timed.run_timer().await });
        drive.step(Event::Tick);
        Ok(drive)
    }

    /// Takes an event to its actions. If one is being taken already, this one waits for its turn.
    pub(crate) fn step(&self, event: Event) {
        self.waiting.borrow_mut().push_back(event);
        if self.stepping.replace(true) {
            return;
        }
        let mut actions = Vec::new();
        loop {
            let Some(event) = self.waiting.borrow_mut().pop_front() else { break };
            let now = self.clock.now();
            let mut state = self.state.borrow_mut();
            match &mut state.plane {
                Some(plane) => plane.step(now, event, &mut actions),
                None => actions.extend(without_plane(event)),
            }
            drop(state);
            for action in actions.drain(..) {
                self.carry_out(action);
            }
        }
        self.stepping.set(false);
    }

    fn carry_out(&self, action: Action) {
        let mut state = self.state.borrow_mut();
        match action {
            Action::Respond(id, response) => {
                if let Some(answer) = state.answers.remove(&id) {
                    // The receiver is gone: its drop tells the plane.
                    let _gone = answer.try_send(response);
                }
            }
            Action::Commit { batch, reserve } => {
                self.store.borrow().commit(state.epoch, batch, reserve);
            }
            Action::WatchReady(id) => {
                if let Some(waker) = state.watches.remove(&id) {
                    waker.wake();
                }
            }
            Action::WakeAt(at) => {
                if state.wake_at.replace(at) != Some(at) {
                    let _already_told = self.timer.0.try_send(());
                }
            }
        }
    }

    async fn run_timer(&self) {
        loop {
            let due = self.state.borrow().wake_at;
            let Some(due) = due else {
                if self.timer.1.recv().await.is_err() {
                    return;
                }
                continue;
            };
            let now = self.clock.now();
            if due <= now {
                self.state.borrow_mut().wake_at = None;
                self.step(Event::Tick);
                // A plane that is due at once, always, must not shut everyone else out.
                smol::future::yield_now().await;
                continue;
            }
            let sleep = Duration::from_millis(due.0 - now.0).min(SLEEP_MAX);
            coracle_rt::within(sleep, self.timer.1.recv()).await;
        }
    }

    fn news(&self, news: News) {
        match news {
            News::Committed(outcomes) => self.step(Event::Committed(outcomes)),
            News::Failed(why) => {
                self.step(Event::StoreFailed(why.clone()));
                let mut state = self.state.borrow_mut();
                state.plane = None;
                state.epoch += 1;
                state.wake_at = None;
                for (_, answer) in std::mem::take(&mut state.answers) {
                    let status = Status::new(
                        500,
                        "InternalError",
                        format!("the store failed, it is not known whether this was saved: {why}"),
                    );
                    let _gone = answer.try_send(refusal(&status));
                }
                for (_, waker) in std::mem::take(&mut state.watches) {
                    waker.wake();
                }
            }
            News::Reloaded { epoch, loaded } => {
                let made = (self.make)(loaded, self.clock.now());
                match made {
                    Ok(plane) => {
                        let mut state = self.state.borrow_mut();
                        debug_assert_eq!(state.epoch, epoch, "lives are counted on both sides");
                        state.plane = Some(plane);
                    }
                    Err(error) => {
                        log::error!("the store was read again, but cannot be used: {error}");
                        return;
                    }
                }
                self.step(Event::Tick);
                for peer in self.nodes.connected() {
                    self.step(Event::NodeTunnel(peer, true));
                }
            }
        }
    }

    /// The control plane is there (the store works).
    pub(crate) fn is_up(&self) -> bool {
        self.state.borrow().plane.is_some()
    }

    /// Whether a request comes from somebody who is known, by its head alone. Nobody is while the store is away.
    pub(crate) fn knows(&self, head: &HttpRequest) -> bool {
        let state = self.state.borrow();
        state.plane.as_ref().is_some_and(|plane| plane.knows(self.clock.now(), head))
    }

    /// Hands a request to the control plane and waits for the answer.
    pub(crate) async fn ask(self: &Rc<Self>, request: HttpRequest) -> (Response, Asked) {
        let (sender, receiver) = channel::bounded(1);
        let (id, epoch, is_full) = {
            let mut state = self.state.borrow_mut();
            state.requests += 1;
            let id = RequestId(state.requests);
            let is_full = state.answers.len() >= REQUESTS_MAX;
            if !is_full {
                state.answers.insert(id, sender);
            }
            (id, state.epoch, is_full)
        };
        let mut asked = Asked { drive: self.clone(), id, epoch, open: !is_full };
        if is_full {
            let message = format!("{REQUESTS_MAX} requests are being answered; try again");
            return (try_again(429, "TooManyRequests", message), asked);
        }
        self.step(Event::Request(id, request));
        let response = receiver.recv().await;
        let response = response
            .unwrap_or_else(|_| unavailable("the control plane gave no answer; see its log"));
        // A watch stays the plane's until its body is dropped; anything else is done with.
        asked.open = matches!(response.body, ResponseBody::Watch(_));
        (response, asked)
    }

    /// Asks as the administrator, from inside (first start: what every cluster has through the front door).
    pub(crate) async fn ask_as_admin(self: &Rc<Self>, mut request: HttpRequest) -> Response {
        request.peer = Some(Peer {
            common_name: "kubernetes-admin".into(),
            organizations: vec!["system:masters".into()],
        });
        self.ask(request).await.0
    }

    /// Pulls the next events of a watch; `Wait` has noted the waker.
    pub(crate) fn watch_next(
        &self,
        asked: &Asked,
        id: WatchId,
        waker: &Waker,
        out: &mut Vec<Arc<[u8]>>,
    ) -> WatchPoll {
        let mut state = self.state.borrow_mut();
        if state.epoch != asked.epoch {
            return WatchPoll::Closed;
        }
        let Some(plane) = &mut state.plane else { return WatchPoll::Closed };
        let poll = plane.watch_next(id, out);
        if poll == WatchPoll::Wait {
            state.watches.insert(id, waker.clone());
        }
        poll
    }

    /// Requests that wait for an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.state.borrow().answers.len()
    }

    /// Everything that is stored, for a backup.
    pub(crate) async fn load(&self) -> Result<Loaded, String> {
        // Not held across the wait: the order is handed over at once.
        let loading = self.store.borrow().load_order()?;
        loading.recv().await.map_err(|_| "the store is closed".to_owned())?
    }

    /// Closes the store.
    pub(crate) fn stop_store(&self, limit: Duration) {
        self.store.borrow_mut().stop(limit);
    }
}

/// What becomes of an event while there is no plane.
fn without_plane(event: Event) -> Option<Action> {
    match event {
        Event::Request(id, _) => Some(Action::Respond(
            id,
            unavailable("the store failed and is being opened again; try again soon"),
        )),
        Event::Gone(_)
        | Event::Committed(_)
        | Event::StoreFailed(_)
        | Event::Tick
        | Event::NodeTunnel(..) => None,
    }
}

impl Asked {
    /// See [`Drive::watch_next`].
    pub(crate) fn watch_next(
        &self,
        id: WatchId,
        waker: &Waker,
        out: &mut Vec<Arc<[u8]>>,
    ) -> WatchPoll {
        self.drive.watch_next(self, id, waker, out)
    }

    /// Forgets a watch's waker. A plane that was made anew counts its watches from 1 again: those are not ours.
    pub(crate) fn watch_over(&self, id: WatchId) {
        let mut state = self.drive.state.borrow_mut();
        if state.epoch == self.epoch {
            state.watches.remove(&id);
        }
    }
}
