//! What hyper wants of a runtime, on smol: streams, timers, and a place for tasks.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Executor, ReadBufCursor, Sleep, Timer};
use smol::{
    LocalExecutor,
    io::{AsyncRead, AsyncWrite},
};

/// The one thread's tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Local(Rc<LocalExecutor<'static>>);

impl Local {
    /// Starts a task that runs until it ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task).detach();
    }

    /// Starts a task that ends when what is given back is dropped.
    pub(crate) fn held(&self, task: impl Future<Output = ()> + 'static) -> smol::Task<()> {
        self.0.spawn(task)
    }

    /// Runs tasks until this one ends.
    pub(crate) async fn run<T>(&self, main: impl Future<Output = T>) -> T {
        self.0.run(main).await
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

/// smol's timers for hyper.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Timers;

struct Sleeping(smol::Timer);

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_at| ())
    }
}

impl Sleep for Sleeping {}

impl Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(smol::Timer::after(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(smol::Timer::at(deadline)))
    }
}

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    smol::Timer::after(time).await;
}

/// Gives what the future gives, or nothing after this time.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        sleep(limit).await;
        None
    };
    smol::future::or(async { Some(future.await) }, late).await
}

/// Between half of a time and the whole of it: many nodes that lost one server do not come back in step.
pub(crate) fn jitter(time: Duration) -> Duration {
    let half = time / 2;
    half + half.mul_f64(f64::from(random_u32() % 1000) / 1000.0)
}

/// Between a time and twice that: not before it, and not all together.
pub(crate) fn spread(time: Duration) -> Duration {
    time + time.mul_f64(f64::from(random_u32() % 1000) / 1000.0)
}

/// A random number, for delays and names; 0 if the system gives none.
pub(crate) fn random_u32() -> u32 {
    coracle_keys::ring::random::<4>().map_or(0, u32::from_le_bytes)
}

/// A futures-io stream for hyper.
#[derive(Debug)]
pub(crate) struct Io<T>(pub(crate) T);

/// Read at one time.
const READ_BYTES: usize = 8 * 1024;

impl<T: AsyncRead + Unpin> hyper::rt::Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // hyper's buffer is not initialised; one copy is the price of no unsafe code here.
        let mut buffer = [0; READ_BYTES];
        let want = into.remaining().min(READ_BYTES);
        let Some(room) = buffer.get_mut(..want) else { return Poll::Ready(Ok(())) };
        match Pin::new(&mut self.0).poll_read(cx, room) {
            Poll::Ready(Ok(count)) => {
                into.put_slice(room.get(..count).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
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
}
