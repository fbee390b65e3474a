//! Bodies of answers: whole, in parts as they are pulled, a watch, or a node's own stream. All with back-pressure: the
//! next part is made when the connection can take it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use coracle_control_logic::plane::{WatchId, WatchPoll};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::drive::Asked;
use crate::limits::{TURN_BYTES, WRITE_BYTES};

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Whole(Option<Bytes>),
    /// Encoded as it is pulled.
    Parts {
        /// What follows; `None` when it has ended.
        parts: Option<Box<dyn Iterator<Item = Arc<[u8]>> + Send>>,
        /// Bytes since others last had a turn.
        since_turn: usize,
    },
    /// Until it is over or the client is gone.
    Watch {
        /// Keeps the plane's watch; its drop closes it.
        asked: Asked,
        /// Which.
        id: WatchId,
        /// It is over.
        closed: bool,
    },
    /// What a node sends on its tunnel; its drop resets the stream there.
    Node(Incoming),
}

impl Body {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self::Whole(None)
    }

    /// These bytes, not copied.
    pub(crate) fn whole(bytes: Arc<[u8]>) -> Self {
        Self::Whole((!bytes.is_empty()).then(|| Bytes::from_owner(bytes)))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Self::Watch { asked, id, .. } = self {
            asked.watch_over(*id);
        }
    }
}

/// Several small parts as one write, a large one as it is.
fn gather(first: Arc<[u8]>, more: impl Iterator<Item = Arc<[u8]>>) -> Bytes {
    if first.len() >= WRITE_BYTES {
        return Bytes::from_owner(first);
    }
    let mut all = Vec::with_capacity(WRITE_BYTES);
    all.extend_from_slice(&first);
    for part in more {
        all.extend_from_slice(&part);
        if all.len() >= WRITE_BYTES {
            break;
        }
    }
    all.into()
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|all| Ok(Frame::data(all)))),
            Self::Parts { parts, since_turn } => {
                if *since_turn >= TURN_BYTES {
                    *since_turn = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let Some(rest) = parts else { return Poll::Ready(None) };
                let Some(first) = rest.by_ref().find(|part| !part.is_empty()) else {
                    *parts = None;
                    return Poll::Ready(None);
                };
                let bytes = gather(first, rest);
                *since_turn += bytes.len();
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Watch { asked, id, closed } => {
                if *closed {
                    return Poll::Ready(None);
                }
                let mut events = Vec::new();
                let poll = asked.watch_next(*id, cx.waker(), &mut events);
                *closed = poll == WatchPoll::Closed;
                let mut events = events.into_iter().filter(|event| !event.is_empty());
                match (events.next(), poll) {
                    (Some(first), _) => {
                        let mut all = first.to_vec();
                        events.for_each(|event| all.extend_from_slice(&event));
                        Poll::Ready(Some(Ok(Frame::data(all.into()))))
                    }
                    (None, WatchPoll::Closed) => Poll::Ready(None),
                    (None, WatchPoll::Wait) => Poll::Pending,
                    (None, WatchPoll::More) => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                }
            }
            Self::Node(incoming) => Pin::new(incoming).poll_frame(cx).map_err(io::Error::other),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Parts { parts, .. } => parts.is_none(),
            Self::Watch { closed, .. } => *closed,
            Self::Node(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(None) => SizeHint::with_exact(0),
            Self::Whole(Some(bytes)) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Self::Parts { .. } | Self::Watch { .. } => SizeHint::default(),
            Self::Node(incoming) => incoming.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_are_gathered_large_ones_are_not_copied() {
        let part = |size: usize| -> Arc<[u8]> { vec![b'x'; size].into() };
        let mut rest = vec![part(10); 5000].into_iter();
        let gathered = gather(part(10), rest.by_ref());
        assert!(gathered.len() >= WRITE_BYTES && gathered.len() < WRITE_BYTES + 10);
        assert_eq!(rest.len(), 5000 + 1 - gathered.len() / 10);
        let large = part(WRITE_BYTES);
        let address = large.as_ptr();
        assert_eq!(gather(large, rest).as_ptr(), address);
    }
}
