//! Published test suites, and other programs as peers.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod arc_suite;
mod dkim_verify;
mod dkimpy;
mod opendkim;
mod parsers;
mod spf_suite;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// The result of a future that never waits, as none does on a zone in memory.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("waits"),
    }
}
