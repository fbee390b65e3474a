//! What was done, what was checked, and the first promise that was broken; shared by all threads.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Lines that are kept, to be shown if a promise is broken.
const LINES_MAX: usize = 80;

#[derive(Default)]
struct Pages {
    lines: VecDeque<String>,
    done: BTreeMap<&'static str, u64>,
    checked: BTreeMap<&'static str, u64>,
    broken: Option<String>,
}

/// See the module.
pub(crate) struct Journal {
    begun: Instant,
    is_loud: bool,
    pages: Mutex<Pages>,
    is_over: AtomicBool,
    /// The highest revision that anybody was told of. A read that begins later must not show an older state.
    newest: AtomicU64,
}

/// Ends everything when it is dropped, also by a panic: a scope waits for its threads.
pub(crate) struct EndsAll<'a>(pub(crate) &'a Journal);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Journal {
    /// Empty; a loud one prints each line when it is written.
    pub(crate) fn new(is_loud: bool) -> Self {
        Self {
            begun: Instant::now(),
            is_loud,
            pages: Mutex::default(),
            is_over: AtomicBool::new(false),
            newest: AtomicU64::new(0),
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line down.
    pub(crate) fn say(&self, line: &str) {
        let ms = self.begun.elapsed().as_millis();
        let line = format!("{:>4}.{:03} {line}", ms / 1000, ms % 1000);
        if self.is_loud {
            println!("{line}");
        }
        let mut pages = self.pages();
        if LINES_MAX <= pages.lines.len() {
            pages.lines.pop_front();
        }
        pages.lines.push_back(line);
    }

    /// Counts what was done to the cluster.
    pub(crate) fn done(&self, what: &'static str) {
        *self.pages().done.entry(what).or_default() += 1;
    }

    /// Counts what was held against a promise.
    pub(crate) fn checked(&self, what: &'static str, times: u64) {
        *self.pages().checked.entry(what).or_default() += times;
    }

    /// Notes a broken promise, the first only: its name, a colon, what happened. All threads end soon after.
    pub(crate) fn broken(&self, why: &str) {
        self.say(&format!("BROKEN {why}"));
        self.pages().broken.get_or_insert_with(|| why.to_owned());
        self.end();
    }

    /// The broken promise.
    pub(crate) fn verdict(&self) -> Option<String> {
        self.pages().broken.clone()
    }

    /// All threads are to end.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether all threads are to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Somebody was told of this revision.
    pub(crate) fn told(&self, revision: u64) {
        self.newest.fetch_max(revision, Ordering::SeqCst);
    }

    /// The highest revision that anybody was told of.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    /// The kept lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.pages().lines.iter().cloned().collect()
    }

    /// `name=count` words of what was done, and of what was checked.
    pub(crate) fn counts(&self) -> (String, String) {
        let words = |counts: &BTreeMap<&'static str, u64>| {
            let words: Vec<String> =
                counts.iter().map(|(name, count)| format!("{name}={count}")).collect();
            words.join(" ")
        };
        let pages = self.pages();
        (words(&pages.done), words(&pages.checked))
    }
}
