//! Real programs around the server: finding them, starting private ones, and a scriptable SMTP sink.
//!
//! Tests that talk to real components get them here. A component that isn't installed makes such a test print why it is
//! skipped and return; with `CI=true` it panics instead, because there everything has to be installed and a check that
//! isn't made must not look like one that passed. Every fixture keeps its files in a temporary folder, listens on
//! loopback only, and ends its processes when dropped, or when the test process ends in any other way.
//!
//! ```no_run
//! use mox_testkit::peers;
//! let Some(swaks) = peers::require_program("swaks") else { return };
//! std::process::Command::new(swaks).arg("--version").status().unwrap();
//! ```

#![expect(clippy::disallowed_methods, reason = "other programs run in real time")]

mod dovecot;
mod folder;
mod imap;
mod mox;
mod mox_host;
mod names;
mod network;
mod pebble;
mod postfix;
mod postgres;
mod process;
mod sink;
mod smtp;
mod socks;
mod warden;

pub use dovecot::Dovecot;
pub use imap::{Answer, ImapClient};
pub use mox::{Mox, Service};
pub use mox_host::{HostSetup, MoxHost};
pub use names::{Names, Resolving, Signing, ZoneFile};
pub use network::Network;
pub use pebble::{Pebble, PebbleOptions};
pub use postfix::{NextHop, Postfix, PostfixHost};
pub use postgres::Postgres;
pub use process::Running;
pub use sink::{Reaction, Received, Sink, Turn};
pub use smtp::{Reply, SmtpClient};
pub use socks::Socks;

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Folders beside `PATH` where Debian keeps daemons.
const MORE_FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/dovecot", "/usr/lib/postfix/sbin"];

/// Whether everything has to be there, as in continuous integration.
#[must_use]
pub fn all_required() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true" || v == "1")
}

/// The program's path, or none after printing that a test is skipped.
///
/// # Panics
/// With `CI=true`, if the program isn't installed.
#[must_use]
pub fn require_program(name: &str) -> Option<PathBuf> {
    let found = find_program(name);
    if found.is_none() {
        skip(&format!("the program {name} isn't installed"));
    }
    found
}

/// Says that a test is skipped, and why.
///
/// # Panics
/// With `CI=true`.
pub fn skip(why: &str) {
    assert!(!all_required(), "{why}, but with CI=true no test may be skipped");
    eprintln!("skipped: {why}");
}

/// Looks for a program in `PATH` and in the folders where Debian keeps daemons.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(MORE_FOLDERS.iter().map(PathBuf::from));
    let mut candidates = folders.chain(postgres::folders()).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// A TCP port on loopback that nobody listens on now, another one at each call.
///
/// It is below the range from which the system takes ports for outgoing connections, so that none of those gets it before the
/// program it is for, and processes begin at different places.
///
/// # Panics
/// If all of thousands of ports are taken.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let candidate = |_| {
        let step = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        u16::try_from(FIRST + step % COUNT).ok()
    };
    let found = (0..COUNT).filter_map(candidate).find(is_free);
    assert!(found.is_some(), "no free port");
    found.unwrap_or_default()
}

/// How long anything may take on a busy machine, in tests that wait for processes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something accepts connections there; false if it doesn't in time.
#[must_use]
pub fn wait_for_port(port: u16, patience: Duration) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_until(patience, || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

/// Waits until a condition holds, looking again every 20 ms; false if it doesn't in time.
#[must_use]
pub fn wait_until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder of test data from elsewhere, or none after printing that a test is skipped.
///
/// The data isn't part of the repository, so a plain clone does without, even in continuous integration.
///
/// # Panics
/// If `MOX_TEST_DATA` is set and the folder isn't there.
#[must_use]
pub fn require_data(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("MOX_TEST_DATA");
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = named.as_ref().map_or_else(beside, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(named.is_none(), "MOX_TEST_DATA has no {name}");
    eprintln!("skipped: the test data {name} isn't there; set MOX_TEST_DATA");
    None
}

/// What a client talks over: a socket, or TLS over one.
pub trait Wire: Read + Write + Send + Sync + fmt::Debug {}

impl<T: Read + Write + Send + Sync + fmt::Debug> Wire for T {}

/// Connects to a loopback port from a loopback address of choice, with a patience that ends a stuck test.
///
/// # Errors
/// If the connection fails.
pub fn dial(source: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// The numeric user and group id of a system user, for daemons that refuse to run as root.
pub(crate) fn user_ids(user: &str) -> std::io::Result<(u32, u32)> {
    let id = |flag: &str| -> std::io::Result<u32> {
        let output = std::process::Command::new("id").args([flag, user]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().map_err(|_| std::io::Error::other(format!("no user {user}")))
    };
    Ok((id("-u")?, id("-g")?))
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
