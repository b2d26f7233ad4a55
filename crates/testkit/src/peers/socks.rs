//! A SOCKS5 server for tests: microsocks on a free port.

use super::folder::Folder;
use super::{PATIENCE, Running, find_program, free_port, skip, wait_for_port};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A running SOCKS5 server; ends when dropped.
#[derive(Debug)]
pub struct Socks {
    port: u16,
    log: PathBuf,
    // In this order: the server ends before its folder is removed.
    _server: Running,
    _folder: Folder,
}

impl Socks {
    /// Starts one, or prints that a test is skipped.
    ///
    /// # Panics
    /// With `CI=true`, if it isn't installed; if it doesn't start.
    #[must_use]
    pub fn require() -> Option<Self> {
        Self::require_with(&[])
    }

    /// The same, for clients with this name and password only, RFC 1929.
    ///
    /// # Panics
    /// See [`Self::require`].
    #[must_use]
    pub fn require_login(user: &str, password: &str) -> Option<Self> {
        Self::require_with(&["-u", user, "-P", password])
    }

    fn require_with(options: &[&str]) -> Option<Self> {
        let Some(program) = find_program("microsocks") else {
            skip("the program microsocks isn't installed");
            return None;
        };
        match Self::start(&program, options) {
            Ok(socks) => Some(socks),
            Err(error) => panic!("microsocks: {error}"),
        }
    }

    fn start(program: &std::path::Path, options: &[&str]) -> io::Result<Self> {
        let folder = Folder::new("mox-socks-")?;
        let log = folder.path().join("log");
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]).args(options).stdout(Stdio::null()).stderr(std::fs::File::create(&log)?);
        let server = Running::start(&mut command)?;
        if wait_for_port(port, PATIENCE) {
            return Ok(Self { port, log, _server: server, _folder: folder });
        }
        Err(io::Error::other("it doesn't start"))
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged: a line with each destination.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
