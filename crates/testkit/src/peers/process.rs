//! A process that ends with its owner.

use super::wait_until;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running program, killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts a program without standard input.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { child: command.stdin(Stdio::null()).spawn()? })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`, by name.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).stderr(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("no such process")) }
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        // It may have ended already.
        drop(self.child.kill());
        self.child.wait().map(drop)
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// If the system can't say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end; none if that takes too long.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut status = None;
        let ended = wait_until(patience, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        if ended { status } else { None }
    }

    /// Asks it to end with a signal, then ends it if it hasn't in time.
    pub(crate) fn end(&mut self, signal: &str, patience: Duration) {
        if self.signal(signal).is_ok() && self.wait(patience).is_some() {
            return;
        }
        drop(self.kill());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.kill());
    }
}
