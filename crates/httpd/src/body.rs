//! Bodies of responses: whole, or in pieces that come while they are sent.

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Bytes, Frame, SizeHint};
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// The body of a response.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
    Gzip(Box<Gzip>),
}

/// Pieces, compressed one by one.
#[derive(Debug)]
struct Gzip {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    /// None once the end is written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    /// Pieces as they come, until the sender is dropped. A sender that can't go on sends an error: the client then sees that
    /// something is missing.
    pub const fn pieces(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self(Kind::Pieces(pieces))
    }

    /// This, compressed; and the size before, if it was known.
    pub(crate) fn gzip(self) -> (Self, Option<usize>) {
        match self.0 {
            Kind::Whole(bytes) => {
                let bytes = bytes.unwrap_or_default();
                let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
                // Writing to memory doesn't fail.
                let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish()).map_or_else(|_| bytes.clone(), Bytes::from);
                (Self(Kind::Whole(Some(compressed))), Some(bytes.len()))
            }
            Kind::Pieces(pieces) => {
                let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
                (Self(Kind::Gzip(Box::new(Gzip { pieces, encoder }))), None)
            }
            Kind::Gzip(_) => (self, None),
        }
    }
}

impl Gzip {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Some(encoder) = &mut self.encoder else { return Poll::Ready(None) };
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(piece)) => {
                    // Flushed each time, so that what is there arrives.
                    drop(encoder.write_all(&piece).and_then(|()| encoder.flush()));
                    let out = std::mem::take(encoder.get_mut());
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(out.into())));
                    }
                }
                None => {
                    let end = self.encoder.take().and_then(|encoder| encoder.finish().ok());
                    return Poll::Ready(end.map(|end| Ok(Bytes::from(end))));
                }
            }
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self(Kind::Whole(Some(bytes.into()).filter(|b| !b.is_empty())))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.0 {
            Kind::Whole(bytes) => bytes.take().map(Ok),
            Kind::Pieces(pieces) => ready!(pieces.poll_recv(cx)),
            Kind::Gzip(gzip) => ready!(gzip.next(cx)),
        };
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| u64::try_from(b.len()).unwrap_or(u64::MAX))),
            Kind::Pieces(_) | Kind::Gzip(_) => SizeHint::default(),
        }
    }
}
