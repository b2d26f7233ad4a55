//! A world in memory: listeners and dials that meet without sockets, for tests of whole servers.

use crate::dial::{Dial, DialError, DialFuture};
use crate::listen::Listener;
use crate::stream::Stream;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Connections that wait to be accepted; more dials wait.
const BACKLOG: usize = 128;

/// A world whose addresses mean something only within it. Clones are the same world.
#[derive(Clone, Debug, Default)]
pub struct World(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    listeners: BTreeMap<SocketAddr, mpsc::Sender<Stream>>,
    silent: BTreeSet<SocketAddr>,
    last_port: u16,
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens at an address; a later listener at the same one takes over.
    pub fn listen(&self, addr: SocketAddr) -> Listener {
        let (to, from) = mpsc::channel(BACKLOG);
        self.state().listeners.insert(addr, to);
        Listener::memory(addr, from)
    }

    /// Makes an address swallow all that is sent to it: who connects waits for ever.
    pub fn silent(&self, addr: SocketAddr) {
        self.state().silent.insert(addr);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is whole between statements, also when a test panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dial for World {
    fn dial(&self, to: SocketAddr, from: Option<IpAddr>) -> DialFuture<'_> {
        let (listener, silent, port) = {
            let mut state = self.state();
            state.last_port = state.last_port.checked_add(1).unwrap_or(1024).max(1024);
            (state.listeners.get(&to).cloned(), state.silent.contains(&to), state.last_port)
        };
        Box::pin(async move {
            if silent {
                return std::future::pending().await;
            }
            let refused = || DialError::Io(io::ErrorKind::ConnectionRefused.into());
            let ip = from.unwrap_or(if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
            let (ours, theirs) = Stream::pair(SocketAddr::new(ip, port), to);
            listener.ok_or_else(refused)?.send(theirs).await.map_err(|_| refused())?;
            Ok(ours)
        })
    }
}
