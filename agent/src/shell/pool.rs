//! Threads for what blocks: few, made when there is work, gone a few seconds after it. (smol's own pool keeps its threads
//! for ever and wakes each of them twice a second.)

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use smol::channel;

use super::limits::{BLOCKING_MAX, PULL_THREADS_MAX};

/// Runtime, volumes, network: what takes milliseconds.
pub(crate) static QUICK: Pool = Pool::new("work", BLOCKING_MAX);

/// Images and names: what takes as long as a network does.
pub(crate) static SLOW: Pool = Pool::new("pull", PULL_THREADS_MAX);

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(2);

/// Virtual memory only, until it is used.
const STACK_BYTES: usize = 1024 * 1024;

type Work = Box<dyn FnOnce() + Send>;

/// At most so many threads, and a queue before them.
pub(crate) struct Pool {
    name: &'static str,
    threads_max: usize,
    state: Mutex<State>,
    bell: Condvar,
}

struct State {
    /// As long as there are tasks that wait: each waits for its own.
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
}

impl Pool {
    const fn new(name: &'static str, threads_max: usize) -> Self {
        let state = State { queue: VecDeque::new(), threads: 0, idle: 0 };
        Self { name, threads_max, state: Mutex::new(state), bell: Condvar::new() }
    }

    /// Runs this on a thread of the pool.
    pub(crate) async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (send, receive) = channel::bounded(1);
        self.push(Box::new(move || {
            // Nobody waits any more: the work was done all the same.
            let _ = send.try_send(work());
        }));
        match receive.recv().await {
            Ok(answer) => answer,
            // The work panicked; in release builds the whole process ends with it.
            Err(_) => smol::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&'static self, work: Work) {
        let mut state = self.lock();
        state.queue.push_back(work);
        if state.idle >= state.queue.len() || state.threads >= self.threads_max {
            self.bell.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let thread = thread::Builder::new().name(self.name.into()).stack_size(STACK_BYTES);
        if thread.spawn(|| self.serve()).is_err() {
            let mut state = self.lock();
            state.threads -= 1;
            // Without any thread the work is done here: slow is better than never.
            if state.threads == 0 {
                let work = state.queue.pop_back();
                drop(state);
                if let Some(work) = work {
                    work();
                }
            }
        }
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                work();
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (back, waited) =
                self.bell.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = back;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, time::Instant};

    static SMALL: Pool = Pool::new("test", 2);

    #[test]
    fn work_is_done_by_few_threads_that_go() {
        let running = Arc::new(Mutex::new((0_usize, 0_usize)));
        let tasks: Vec<_> = (0..20_u32)
            .map(|number| {
                let running = Arc::clone(&running);
                smol::spawn(SMALL.run(move || {
                    {
                        let mut running = running.lock().unwrap();
                        running.0 += 1;
                        running.1 = running.1.max(running.0);
                    }
                    thread::yield_now();
                    running.lock().unwrap().0 -= 1;
                    number
                }))
            })
            .collect();
        let sum: u32 = tasks.into_iter().map(smol::block_on).sum();
        assert_eq!(sum, 190);
        assert!((1..=2).contains(&running.lock().unwrap().1));
        let began = Instant::now();
        while SMALL.lock().threads > 0 {
            assert!(began.elapsed() < Duration::from_secs(30), "threads stay");
            thread::yield_now();
        }
    }
}
