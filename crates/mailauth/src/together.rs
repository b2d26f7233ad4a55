//! Waiting for several answers of DNS at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// The results of all, in order, when all have one.
pub(crate) async fn together<'a, T>(futures: Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>) -> Vec<T>
where
    T: Unpin,
{
    let mut waiting: Vec<Result<T, _>> = futures.into_iter().map(Err).collect();
    poll_fn(|context| {
        for slot in &mut waiting {
            if let Err(future) = slot
                && let Poll::Ready(value) = Future::poll(Pin::as_mut(future), context)
            {
                *slot = Ok(value);
            }
        }
        if waiting.iter().all(Result::is_ok) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(Result::ok).collect()
}
