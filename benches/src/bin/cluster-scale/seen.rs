//! What a watch saw of the pods, and when.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use coracle_benches::https::{Admin, WatchEnd};
use serde_json::Value;

/// One pod's life so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// First seen.
    pub(crate) made: Instant,
    /// It has a node.
    pub(crate) bound: Option<Instant>,
    /// It runs and is Ready.
    pub(crate) running: Option<Instant>,
}

#[derive(Default)]
struct State {
    lives: BTreeMap<String, Life>,
    bound: usize,
    running: usize,
    /// Times that the watch fell behind and began anew: what happened meanwhile is seen later than it was.
    restarts: usize,
    /// Why the watch ended.
    wrong: Option<String>,
}

/// Shared by the watching thread and who waits.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<(Mutex<State>, Condvar)>);

impl Seen {
    /// Watches the default namespace's pods from now on.
    pub(crate) fn watch(admin: &Admin) -> Result<Self> {
        let seen = Self::default();
        let (mut client, into) = (admin.dial()?, seen.clone());
        thread::spawn(move || {
            // Without a revision it begins with all there is.
            let path = "/api/v1/namespaces/default/pods?watch=true";
            loop {
                let wrong = match client.watch(path, |line| into.line(line)) {
                    Ok(WatchEnd::Told) => {
                        into.lock().restarts += 1;
                        continue;
                    }
                    Ok(WatchEnd::Closed) => format!("the watch of {path} ended"),
                    Ok(WatchEnd::Refused(code)) => format!("GET {path}: {code}"),
                    Err(error) => format!("{error:#}"),
                };
                into.lock().wrong = Some(wrong);
                into.0.1.notify_all();
                return;
            }
        });
        Ok(seen)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one event. Whether the watch goes on: not when it has fallen behind.
    fn line(&self, line: &[u8]) -> Result<bool> {
        let now = Instant::now();
        let event: Value = serde_json::from_slice(line)?;
        let object = event.get("object").context("an event without object")?;
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        match event.get("type").and_then(Value::as_str) {
            Some("ADDED" | "MODIFIED") => {}
            Some("DELETED") => bail!("pod {} was deleted", text("/metadata/name")),
            Some("ERROR") if object.get("code").and_then(Value::as_u64) == Some(410) => {
                return Ok(false);
            }
            other => bail!("the watch said {other:?}: {object}"),
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        let fresh = Life { made: now, bound: None, running: None };
        let life = state.lives.entry(text("/metadata/name").to_owned()).or_insert(fresh);
        if life.bound.is_none() && !text("/spec/nodeName").is_empty() {
            life.bound = Some(now);
            state.bound += 1;
        }
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let is_ready = conditions.into_iter().flatten().any(|condition| {
            condition.get("type").and_then(Value::as_str) == Some("Ready")
                && condition.get("status").and_then(Value::as_str) == Some("True")
        });
        if life.running.is_none() && text("/status/phase") == "Running" && is_ready {
            life.running = Some(now);
            state.running += 1;
        }
        self.0.1.notify_all();
        Ok(true)
    }

    /// Times that the watch began anew.
    pub(crate) fn restarts(&self) -> usize {
        self.lock().restarts
    }

    /// Waits until this many pods are there, bound and running.
    pub(crate) fn wait(
        &self,
        what: &str,
        there: usize,
        bound: usize,
        running: usize,
    ) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(300);
        let mut state = self.lock();
        loop {
            if let Some(wrong) = &state.wrong {
                bail!("{wrong}");
            }
            if there <= state.lives.len() && bound <= state.bound && running <= state.running {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "waited in vain for {what}: {} pods, {} bound, {} running",
                state.lives.len(),
                state.bound,
                state.running
            );
            state = self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All pods by name.
    pub(crate) fn lives(&self) -> BTreeMap<String, Life> {
        self.lock().lives.clone()
    }
}
