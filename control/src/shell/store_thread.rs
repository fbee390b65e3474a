//! The store's thread: commits what it is given, waiting batches together with one sync, and opens the store again
//! after a failure (the outcome is unknown then; what was loaded anew is the truth).

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use coracle_store::{Loaded, Outcome, Revision, Store, StoreError, Txn};
use smol::channel;

use crate::{
    last_good::LastGood,
    limits::{BATCHES_MERGED_MAX, REOPEN_AFTER},
    log::{self, Chain},
};

/// Opens the store; called again after each failure.
pub(crate) type Open = Box<dyn FnMut() -> Result<Box<dyn Store>, StoreError> + Send>;

/// What the thread is told.
enum Order {
    /// Commit; of which life of the control plane it came.
    Commit { epoch: u64, batch: Vec<Txn>, reserve: Revision },
    /// Answer with everything there is.
    Load(channel::Sender<Result<Loaded, String>>),
    /// Close the store and end.
    Stop,
}

/// What it tells.
#[derive(Debug)]
pub(crate) enum News {
    /// The oldest batch not yet told of is durable.
    Committed(Vec<Outcome>),
    /// The store failed. No batch given so far will be told of.
    Failed(String),
    /// It was opened again: this is what it holds, for the next life.
    Reloaded { epoch: u64, loaded: Loaded },
}

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct StoreThread {
    orders: mpsc::Sender<Order>,
    thread: Option<thread::JoinHandle<()>>,
}

impl StoreThread {
    /// Opens and loads the store, then starts the thread, which writes backups where they belong.
    pub(crate) fn start(
        mut open: Open,
        last_good: Option<LastGood>,
    ) -> Result<(Self, Loaded, channel::Receiver<News>), StoreError> {
        let mut store = open()?;
        let loaded = store.load()?;
        let (orders, waiting) = mpsc::channel();
        let (news, told) = channel::unbounded();
        let mut work = Work { open, news, waiting, epoch: 0, last_good };
        let thread = thread::Builder::new()
            .name("store".into())
            .stack_size(512 * 1024)
            .spawn(move || work.run(store))
            .map_err(|e| StoreError::new("starting the store's thread", e))?;
        Ok((Self { orders, thread: Some(thread) }, loaded, told))
    }

    /// Hands a batch over.
    pub(crate) fn commit(&self, epoch: u64, batch: Vec<Txn>, reserve: Revision) {
        // The thread ends only when told to stop; nobody waits for answers then.
        let _stopped = self.orders.send(Order::Commit { epoch, batch, reserve });
    }

    /// Asks for everything that is stored, read between two batches.
    pub(crate) fn load_order(&self) -> Result<channel::Receiver<Result<Loaded, String>>, String> {
        let (sender, receiver) = channel::bounded(1);
        match self.orders.send(Order::Load(sender)) {
            Ok(()) => Ok(receiver),
            Err(_) => Err("the store is closed".into()),
        }
    }

    /// Closes the store; waits for it up to this long.
    pub(crate) fn stop(&mut self, limit: Duration) {
        let _stopped = self.orders.send(Order::Stop);
        let deadline = Instant::now() + limit;
        while let Some(thread) = &self.thread {
            if thread.is_finished() {
                break;
            }
            if Instant::now() >= deadline {
                log::warning!("the store does not close; leaving it (its next start repairs it)");
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}

/// The failure with its causes, and the fix where the cause has one.
fn told(error: &StoreError) -> String {
    let text = Chain(error).to_string();
    // The backends hide the error's kind; the kernel's number is in its words. 28: ENOSPC, 122: EDQUOT.
    match ["(os error 28)", "(os error 122)"].iter().any(|full| text.contains(full)) {
        true => format!("{text}; free space on that disk"),
        false => text,
    }
}

struct Work {
    open: Open,
    news: channel::Sender<News>,
    waiting: mpsc::Receiver<Order>,
    epoch: u64,
    last_good: Option<LastGood>,
}

impl Work {
    fn run(&mut self, mut store: Box<dyn Store>) {
        let mut next = None;
        loop {
            let Some(order) = next.take().or_else(|| self.waiting.recv().ok()) else { return };
            match order {
                Order::Stop => return,
                Order::Load(answer) => {
                    let loaded = store.load().map_err(|e| Chain(&e).to_string());
                    let _gone = answer.try_send(loaded);
                }
                Order::Commit { epoch, .. } if epoch != self.epoch => {}
                Order::Commit { mut batch, mut reserve, .. } => {
                    let mut sizes = vec![batch.len()];
                    while sizes.len() < BATCHES_MERGED_MAX {
                        match self.waiting.try_recv() {
                            Ok(Order::Commit { epoch, batch: more, reserve: higher })
                                if epoch == self.epoch =>
                            {
                                sizes.push(more.len());
                                batch.extend(more);
                                reserve = reserve.max(higher);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    match store.commit(&batch, reserve) {
                        Ok(outcomes) => {
                            self.tell(&sizes, outcomes);
                            if let Some(last_good) = &mut self.last_good {
                                last_good.look(Instant::now(), &mut *store);
                            }
                        }
                        Err(error) => {
                            let text = told(&error);
                            log::error!("the store failed: {text}; opening it again");
                            drop(store);
                            self.say(News::Failed(text));
                            match self.reopen(&mut next) {
                                Some(opened) => store = opened,
                                None => return,
                            }
                        }
                    }
                }
            }
        }
    }

    fn say(&self, news: News) {
        // Nobody listens any more only when the process ends.
        let _ended = self.news.try_send(news);
    }

    fn tell(&self, sizes: &[usize], mut outcomes: Vec<Outcome>) {
        for size in sizes {
            let rest = outcomes.split_off((*size).min(outcomes.len()));
            self.say(News::Committed(std::mem::replace(&mut outcomes, rest)));
        }
    }

    /// Tries until it works or the process is to end. Batches of the old life are thrown away.
    fn reopen(&mut self, next: &mut Option<Order>) -> Option<Box<dyn Store>> {
        let (mut pause, longest) = REOPEN_AFTER;
        self.epoch += 1;
        loop {
            let opened = (self.open)().and_then(|mut store| Ok((store.load()?, store)));
            match opened {
                Ok((loaded, store)) => {
                    log::info!("the store is open again with {} objects", loaded.entries.len());
                    self.say(News::Reloaded { epoch: self.epoch, loaded });
                    return Some(store);
                }
                Err(error) => log::error!("the store cannot be opened: {}", Chain(&error)),
            }
            let order = match next.take() {
                Some(order) => Ok(order),
                None => self.waiting.recv_timeout(pause),
            };
            match order {
                Ok(Order::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Ok(Order::Load(answer)) => {
                    let _gone = answer.try_send(Err("the store has failed".into()));
                }
                Ok(Order::Commit { .. }) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => pause = (pause * 2).min(longest),
            }
        }
    }
}
