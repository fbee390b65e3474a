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

/// Where local tasks run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Local(Rc<LocalExecutor<'static>>);

impl Local {
    /// Starts a task that runs until it ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task).detach();
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

/// Gives what the future gives, or nothing after this time.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        smol::Timer::after(limit).await;
        None
    };
    smol::future::or(async { Some(future.await) }, late).await
}

/// A futures-io stream for hyper.
#[derive(Debug)]
pub(crate) struct Io<T>(pub(crate) T);

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
