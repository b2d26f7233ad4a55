//! Writing, at the pace a client deserves. A client in slow mode gets one byte a second; what is left shortly before the
//! time limit comes at once, so that a reply takes about 25 seconds at most.

use mox_net::Stream;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a write may take. RFC 5321 §4.5.3.2 has no value for servers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);
/// The same in slow mode, where we are the slow ones.
const SLOW_TIMEOUT: Duration = Duration::from_secs(30);
/// When so little of that is left, the rest is written.
const SLOW_REST: Duration = Duration::from_secs(5);

/// The pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Normal,
    Slow,
}

/// Waits, unless we are shutting down.
pub(crate) async fn pause(duration: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = sleep(duration) => {}
        () = stop.cancelled() => {}
    }
}

/// Writes and flushes.
pub(crate) async fn write(stream: &mut Stream, bytes: &[u8], pace: Pace, stop: &CancellationToken) -> io::Result<()> {
    let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "client doesn't read");
    let (slow, rest) = match pace {
        Pace::Normal => bytes.split_at(0),
        Pace::Slow => {
            let bytes_at_most = usize::try_from((SLOW_TIMEOUT - SLOW_REST).as_secs()).unwrap_or(usize::MAX);
            bytes.split_at(bytes.len().min(bytes_at_most))
        }
    };
    let deadline = Instant::now() + if pace == Pace::Slow { SLOW_TIMEOUT } else { WRITE_TIMEOUT };
    for byte in slow {
        timeout_at(deadline, stream.write_all(&[*byte])).await.map_err(timed_out)??;
        timeout_at(deadline, stream.flush()).await.map_err(timed_out)??;
        pause(Duration::from_secs(1), stop).await;
    }
    timeout_at(deadline, stream.write_all(rest)).await.map_err(timed_out)??;
    timeout_at(deadline, stream.flush()).await.map_err(timed_out)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test(start_paused = true)]
    async fn slow_replies_take_25_seconds_at_most() {
        let (mut client, mut server) = Stream::pair("127.0.0.1:1".parse().unwrap(), "127.0.0.1:25".parse().unwrap());
        let stop = CancellationToken::new();
        for (length, seconds) in [(3, 3), (200, 25)] {
            let start = Instant::now();
            write(&mut server, &vec![b'x'; length], Pace::Slow, &stop).await.unwrap();
            assert_eq!(start.elapsed().as_secs(), seconds);
            client.read_exact(&mut vec![0; length]).await.unwrap();
        }
        stop.cancel();
        let start = Instant::now();
        write(&mut server, b"421 bye\r\n", Pace::Slow, &stop).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 0);
    }
}
