//! Connecting to one of several addresses of a host: one after the other, but none has to fail before the next is tried.
//!
//! RFC 8305 §5, with its longest delay: who waits is a queue, and a connection that loses the race is a nuisance to its host. What is given first
//! wins where all is well, so that a host sees the same address of ours and is seen by the same one.

use crate::dial::{Dial, DialError, DialFuture};
use crate::stream::Stream;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

/// How long an address has before the next is tried, too. RFC 8305 §5: at most 2 seconds.
const DELAY: Duration = Duration::from_secs(2);

/// Where to connect to, and from which of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The other end.
    pub to: SocketAddr,
    /// Our end; none leaves it to the system.
    pub from: Option<IpAddr>,
}

/// What came of a race.
#[derive(Debug)]
pub struct Raced {
    /// The first connection, and the place of its target; none if all failed.
    pub won: Option<(usize, Stream)>,
    /// Which failed, in that order.
    pub failed: Vec<(usize, DialError)>,
}

/// Connects to the first target that answers. Those still being tried then are given up.
///
/// It takes as long as the slowest dial; whoever wants less bounds it. Dropping it gives up all.
pub async fn race(dial: &dyn Dial, targets: &[Target]) -> Raced {
    let mut running: Vec<(usize, DialFuture<'_>)> = Vec::new();
    let mut failed = Vec::new();
    let mut waiting = targets.iter().enumerate();
    loop {
        match waiting.next() {
            Some((place, target)) => running.push((place, dial.dial(target.to, target.from))),
            None if running.is_empty() => return Raced { won: None, failed },
            None => {}
        }
        let more = waiting.len() > 0;
        let ended = tokio::select! {
            biased;
            ended = first(&mut running) => ended,
            () = tokio::time::sleep(DELAY), if more => continue,
        };
        match ended {
            (place, Ok(stream)) => return Raced { won: Some((place, stream)), failed },
            // The next one needn't wait.
            (place, Err(e)) => failed.push((place, e)),
        }
    }
}

/// The first that ends, taken out.
async fn first(running: &mut Vec<(usize, DialFuture<'_>)>) -> (usize, Result<Stream, DialError>) {
    std::future::poll_fn(|context| {
        let ended = running.iter_mut().enumerate().find_map(|(n, (_, dialing))| match dialing.as_mut().poll(context) {
            Poll::Ready(result) => Some((n, result)),
            Poll::Pending => None,
        });
        match ended {
            Some((n, result)) => Poll::Ready((running.remove(n).0, result)),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::World;

    fn targets(addresses: &[&str]) -> Vec<Target> {
        addresses.iter().map(|to| Target { to: to.parse().unwrap(), from: None }).collect()
    }

    /// The place of the winner, the places that failed, and how long it took.
    async fn run(world: &World, addresses: &[&str]) -> (Option<usize>, Vec<usize>, u64) {
        let begin = tokio::time::Instant::now();
        let raced = tokio::time::timeout(Duration::from_secs(30), race(world, &targets(addresses))).await;
        let seconds = begin.elapsed().as_secs();
        raced.map_or((None, vec![], seconds), |r| (r.won.map(|(place, _)| place), r.failed.into_iter().map(|f| f.0).collect(), seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_has_to_fail_before_the_next_is_tried() {
        let world = World::new();
        let _listeners = [world.listen("192.0.2.1:25".parse().unwrap()), world.listen("[2001:db8::1]:25".parse().unwrap())];
        world.silent("192.0.2.66:25".parse().unwrap());
        world.silent("192.0.2.67:25".parse().unwrap());
        for (addresses, want) in [
            // The first, if it is there.
            (&["192.0.2.1:25", "[2001:db8::1]:25"][..], (Some(0), vec![], 0)),
            (&["192.0.2.9:25", "192.0.2.1:25"], (Some(1), vec![0], 0)),
            (&["192.0.2.66:25", "192.0.2.1:25"], (Some(1), vec![], 2)),
            (&["192.0.2.66:25", "192.0.2.9:25", "192.0.2.67:25", "192.0.2.1:25"], (Some(3), vec![1], 4)),
            (&["192.0.2.8:25", "192.0.2.9:25"], (None, vec![0, 1], 0)),
            (&[], (None, vec![], 0)),
            (&["192.0.2.66:25", "192.0.2.67:25"], (None, vec![], 30)),
        ] {
            assert_eq!(run(&world, addresses).await, want, "{addresses:?}");
        }
    }
}
