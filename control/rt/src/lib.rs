//! What hyper wants of a runtime, on smol: streams, timers (one of smol's for all), and a place for tasks. For the shells
//! of the control plane and of the agent; each runs on one thread.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    sync::OnceLock,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hyper::rt::{Executor, ReadBufCursor, Sleep, Timer};
use smol::{
    LocalExecutor,
    io::{AsyncRead, AsyncWrite},
};

/// Signs of life and time-outs of connections may come that much late, so that they come together.
pub const TIMERS_LATE_MAX: Duration = Duration::from_secs(10);

/// The one thread's tasks.
#[derive(Clone, Debug, Default)]
pub struct Local(Rc<LocalExecutor<'static>>);

impl Local {
    /// Starts a task that runs until it ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task).detach();
    }

    /// Starts a task that ends when what is given back is dropped.
    pub fn held(&self, task: impl Future<Output = ()> + 'static) -> smol::Task<()> {
        self.0.spawn(task)
    }

    /// Runs tasks until this one ends.
    pub async fn run<T>(&self, main: impl Future<Output = T>) -> T {
        self.0.run(smol::future::or(main, keep_alarms())).await
    }
}

impl<F> Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task).detach();
    }
}

/// Everything on this thread that waits for a time. One timer of smol's serves them all: each of smol's own wakes the
/// thread that waits for the sockets when it is set, and a request sets several that never ring.
#[derive(Default)]
struct Alarms {
    waiting: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    /// For when the one timer is set; it may ring for nobody.
    armed: Option<Instant>,
    keeper: Option<Waker>,
}

thread_local! {
    static ALARMS: RefCell<Alarms> = RefCell::default();
}

/// Sets the one timer for the first that waits, and wakes all whose time has come. Never ends.
async fn keep_alarms<T>() -> T {
    let mut timer = smol::Timer::never();
    ALARMS.with_borrow_mut(|alarms| alarms.armed = None);
    poll_fn(|cx| {
        loop {
            let now = Instant::now();
            // Wakers are woken and dropped outside: a task that ends with one may hold alarms itself.
            let (due, first, _replaced) = ALARMS.with_borrow_mut(|alarms| {
                let later = alarms.waiting.split_off(&(now, u64::MAX));
                let due = std::mem::replace(&mut alarms.waiting, later);
                let first = alarms.waiting.first_key_value().map(|((at, _), _)| *at);
                if let Some(first) = first
                    && alarms.armed.is_none_or(|armed| first < armed)
                {
                    alarms.armed = Some(first);
                    timer.set_at(first);
                }
                (due, first, alarms.keeper.replace(cx.waker().clone()))
            });
            due.into_values().for_each(Waker::wake);
            if first.is_none() || Pin::new(&mut timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            ALARMS.with_borrow_mut(|alarms| alarms.armed = None);
        }
    })
    .await
}

/// Timers for hyper, which run on the one of this thread. They ring up to [`TIMERS_LATE_MAX`] late, at times that all have
/// in common: signs of life of many connections are one wake-up.
#[derive(Copy, Clone, Debug)]
pub struct Timers;

impl Timers {
    fn rounded(deadline: Instant) -> Instant {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        let begin = *BEGIN.get_or_init(Instant::now);
        let step = TIMERS_LATE_MAX.as_nanos();
        let steps = deadline.saturating_duration_since(begin).as_nanos().div_ceil(step);
        let rounded = u64::try_from(steps * step).map(Duration::from_nanos);
        rounded.ok().and_then(|after| begin.checked_add(after)).unwrap_or(deadline)
    }
}

/// Waits for a time, on a thread that is in [`Local::run`].
struct Sleeping {
    at: Instant,
    /// Its place among those that wait, once it does.
    place: Option<u64>,
}

impl Sleeping {
    fn until(at: Instant) -> Self {
        Self { at, place: None }
    }

    fn after(time: Duration) -> Self {
        Self::until(Instant::now() + time)
    }
}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= Instant::now() {
            return Poll::Ready(());
        }
        let (keeper, _replaced) = ALARMS.with_borrow_mut(|alarms| {
            let place = *self.place.get_or_insert_with(|| {
                alarms.next += 1;
                alarms.next
            });
            let before = alarms.waiting.insert((self.at, place), cx.waker().clone());
            let is_first = alarms.armed.is_none_or(|armed| self.at < armed);
            (alarms.keeper.take_if(|_| is_first), before)
        });
        keeper.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            // A thread that ends has no alarms any more.
            let _waker =
                ALARMS.try_with(|alarms| alarms.borrow_mut().waiting.remove(&(self.at, place)));
        }
    }
}

impl Sleep for Sleeping {}

impl Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping::until(Self::rounded(deadline)))
    }
}

/// Waits so long, on a thread that is in [`Local::run`].
pub async fn sleep(time: Duration) {
    Sleeping::after(time).await;
}

/// Gives what the future gives, or nothing after this time.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        sleep(limit).await;
        None
    };
    smol::future::or(async { Some(future.await) }, late).await
}

/// A futures-io stream for hyper.
#[derive(Debug)]
pub struct Io<T>(pub T);

/// Read at one time: what a TLS record holds at most is read in two turns.
const READ_BYTES: usize = 8 * 1024;

impl<T: AsyncRead + Unpin> hyper::rt::Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // hyper's buffer is not initialised; one copy is the price of having no unsafe code here.
        let mut buffer = [0; READ_BYTES];
        let want = into.remaining().min(READ_BYTES);
        let Some(room) = buffer.get_mut(..want) else { return Poll::Ready(Ok(())) };
        match Pin::new(&mut self.0).poll_read(cx, room) {
            Poll::Ready(Ok(count)) => {
                into.put_slice(room.get(..count).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncWrite + Unpin> hyper::rt::Write for Io<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_that_wait_are_woken_in_their_order_by_one_timer() {
        let local = Local::default();
        let told = Rc::new(RefCell::new(Vec::new()));
        smol::future::block_on(local.run(async {
            let begun = Instant::now();
            for ms in [30_u64, 10, 20] {
                let told = told.clone();
                local.spawn(async move {
                    Sleeping::after(Duration::from_millis(ms)).await;
                    told.borrow_mut().push(ms);
                });
            }
            // One that is given up for each that rings.
            let never = within(Duration::from_millis(5), Sleeping::after(Duration::from_secs(60)));
            assert!(never.await.is_none());
            Sleeping::after(Duration::from_millis(40)).await;
            assert!(Duration::from_millis(40) <= begun.elapsed());
        }));
        assert_eq!(*told.borrow(), [10, 20, 30]);
        ALARMS.with_borrow(|alarms| assert!(alarms.waiting.is_empty()));
    }

    #[test]
    fn timers_of_connections_ring_together_and_not_early() {
        let now = Instant::now();
        let of = |ms: u64| Timers::rounded(now + Duration::from_millis(ms));
        let mut times = std::collections::BTreeSet::new();
        for ms in 0..10_000 {
            assert!(now + Duration::from_millis(ms) <= of(ms));
            assert!(of(ms) <= now + Duration::from_millis(ms) + TIMERS_LATE_MAX);
            times.insert(of(ms));
        }
        assert!(times.len() <= 2, "{}", times.len());
    }

    #[test]
    fn a_task_that_ends_with_its_alarm_takes_others_along() {
        let local = Local::default();
        smol::future::block_on(local.run(async {
            let held = local.0.spawn(async {
                smol::future::zip(
                    Sleeping::after(Duration::from_secs(60)),
                    Sleeping::after(Duration::from_secs(90)),
                )
                .await
            });
            within(Duration::from_millis(5), smol::future::pending::<()>()).await;
            drop(held);
        }));
        // What is left of the task goes with its executor.
        drop(local);
        ALARMS.with_borrow(|alarms| assert!(alarms.waiting.is_empty()));
    }
}
