//! A process that ends with its owner, and with the process of its owner.

use super::wait_until;
use super::warden::{self, Ward};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running program, killed when dropped, and with all of its process group when this process ends in any other way.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts a program without standard input, in a process group of its own.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let running = Self { child: command.stdin(Stdio::null()).process_group(0).spawn()? };
        warden::guard(Ward::Group(running.id()))?;
        Ok(running)
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
        // Before its id can be another's.
        warden::release(Ward::Group(self.id()));
        // It may have ended already.
        drop(self.child.kill());
        self.child.wait().map(drop)
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// If the system can't say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            warden::release(Ward::Group(self.id()));
        }
        Ok(status)
    }

    /// Waits for its end; none if that takes too long.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut status = None;
        let ended = wait_until(patience, || {
            status = self.ended().ok().flatten();
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

#[cfg(test)]
mod tests {
    use super::super::PATIENCE;
    use super::*;
    use crate::peers::folder::Folder;
    use std::io::{BufRead as _, BufReader};
    use std::path::Path;

    /// Set for the process that is killed.
    const VARIABLE: &str = "MOX_TESTKIT_TO_BE_KILLED";

    /// Whether a process runs; one that has ended and that nobody has asked for yet doesn't.
    fn runs(id: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    }

    #[test]
    fn what_a_killed_process_started_ends_too() {
        if std::env::var_os(VARIABLE).is_some() {
            // A program with a child of its own, and one that has its id in a file as Postfix does.
            let folder = Folder::new("mox-testkit-").unwrap();
            println!("folder {}", folder.path().display());
            let file = folder.path().join("pid");
            let script = "sleep 1000 & echo id $$; echo id $!; wait";
            let group = Running::start(Command::new("sh").args(["-c", script])).unwrap();
            let apart = format!("setsid sh -c 'echo $$ > {}; echo id $$; exec sleep 1000' & wait", file.display());
            warden::guard(Ward::File(&file.display().to_string())).unwrap();
            let other = Running::start(Command::new("sh").args(["-c", &apart])).unwrap();
            println!("id {}", other.id());
            let ended = Running::start(&mut Command::new("true")).unwrap().wait(PATIENCE);
            assert!(ended.unwrap().success());
            assert!(wait_until(PATIENCE, || file.exists()));
            loop {
                std::thread::park();
                assert!(runs(&group.id().to_string()));
            }
        }
        for signal in ["KILL", "TERM", "INT"] {
            let mut killed = Command::new(std::env::current_exe().unwrap());
            killed.args(["--exact", "peers::process::tests::what_a_killed_process_started_ends_too", "--nocapture"]);
            let mut killed = killed.env(VARIABLE, "1").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(killed.stdout.take().unwrap()).lines().map(Result::unwrap);
            let mut told = lines.filter_map(|line| line.split_once(' ').map(|(kind, what)| (kind.to_owned(), what.to_owned())));
            let folder = told.find(|(kind, _)| kind == "folder").unwrap().1;
            let ids: Vec<String> = told.filter(|(kind, _)| kind == "id").map(|(_, id)| id).take(4).collect();
            assert!(ids.len() == 4 && ids.iter().all(|id| runs(id)), "{ids:?}");
            assert!(Command::new("kill").arg(format!("-{signal}")).arg(killed.id().to_string()).status().unwrap().success());
            killed.wait().unwrap();
            assert!(wait_until(PATIENCE, || !ids.iter().any(|id| runs(id))), "{signal}: {ids:?}");
            assert!(wait_until(PATIENCE, || !Path::new(&folder).exists()), "{signal}: {folder}");
        }
    }
}
