//! Our own server as a peer sees it: `mox localserve` in a temporary folder, on free ports.

use super::folder::Folder;
use super::{PATIENCE, Running, free_port, wait_for_port, wait_until};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// A service of `localserve`, named by its default port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// From the world, 1025.
    Smtp = 1025,
    /// Submission with STARTTLS, 1587.
    Submission = 1587,
    /// Submission over TLS, 1465.
    Submissions = 1465,
    /// IMAP with STARTTLS, 1143.
    Imap = 1143,
    /// IMAP over TLS, 1993.
    Imaps = 1993,
    /// HTTP, 1080.
    Http = 1080,
    /// HTTPS, 1443.
    Https = 1443,
    /// Metrics over HTTP, 1081.
    Metrics = 1081,
}

const SERVICES: [Service; 8] = [
    Service::Smtp,
    Service::Submission,
    Service::Submissions,
    Service::Imap,
    Service::Imaps,
    Service::Http,
    Service::Https,
    Service::Metrics,
];

/// Which of the server's commands runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Everything stays here.
    Localserve,
    /// With a real queue; it is told where to deliver by its configuration.
    Serve,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Mox {
    binary: PathBuf,
    mode: Mode,
    ports: BTreeMap<Service, u16>,
    // In this order: the server ends before its folder is removed.
    server: Option<Running>,
    folder: Folder,
}

impl Mox {
    /// The address of the account that `localserve` makes.
    pub const USER: &str = "mox@localhost";
    /// Its password.
    pub const PASSWORD: &str = "moxmoxmox";

    /// Writes a configuration and starts `localserve`.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn start(binary: &Path) -> io::Result<Self> {
        Self::start_with(binary, |_| Ok(()))
    }

    /// The same, letting the caller change the files in the configuration folder before the start.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn start_with(binary: &Path, edit: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        Self::start_in(binary, &std::env::temp_dir(), edit)
    }

    /// The same in a folder of choice, such as one on a small disk.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn start_in(binary: &Path, parent: &Path, edit: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        Self::launch(binary, Mode::Localserve, parent, edit)
    }

    /// Starts `serve`, on the configuration that `localserve` writes, changed by the caller.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn serve_with(binary: &Path, edit: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        Self::serve_in(binary, &std::env::temp_dir(), edit)
    }

    /// The same in a folder of choice.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn serve_in(binary: &Path, parent: &Path, edit: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        Self::launch(binary, Mode::Serve, parent, edit)
    }

    fn launch(binary: &Path, mode: Mode, parent: &Path, edit: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        let folder = Folder::new_in("mox-local-", parent)?;
        let ports = SERVICES.iter().map(|s| (*s, free_port())).collect();
        let mut mox = Self { binary: binary.to_owned(), mode, ports, server: None, folder };
        let mut init = Command::new(binary);
        let output = init.args(["localserve", "-initonly", "-ip", "127.0.0.1", "-dir"]).arg(mox.dir()).output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("-initonly: {}", String::from_utf8_lossy(&output.stderr))));
        }
        mox.set_ports()?;
        edit(&mox.dir())?;
        mox.resume()?;
        Ok(mox)
    }

    fn set_ports(&self) -> io::Result<()> {
        let path = self.dir().join("mox.conf");
        let mut text = String::new();
        for line in std::fs::read_to_string(&path)?.lines() {
            let port = SERVICES.iter().find(|s| line.trim() == format!("Port: {}", **s as u16));
            match port {
                Some(service) => text.push_str(&line.replace(&(*service as u16).to_string(), &self.port(*service).to_string())),
                // Its default log has everything that goes over the wire.
                None if line.starts_with("LogLevel:") => text.push_str("LogLevel: info"),
                None => text.push_str(line),
            }
            text.push('\n');
        }
        std::fs::write(path, text)
    }

    /// The configuration and data folder.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("mox")
    }

    /// A service's port.
    #[must_use]
    pub fn port(&self, service: Service) -> u16 {
        self.ports.get(&service).copied().unwrap_or_default()
    }

    /// The process id while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.server.as_ref().map(Running::id)
    }

    /// Whether the server still runs.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(|s| s.ended().is_ok_and(|ended| ended.is_none()))
    }

    /// Ends it as a power failure would.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        self.server.take().map_or(Ok(()), |mut server| server.kill())
    }

    /// Asks it to end with a signal and waits for that; none if it takes too long.
    pub fn stop(&mut self, signal: &str, patience: Duration) -> Option<ExitStatus> {
        let mut server = self.server.take()?;
        server.signal(signal).ok()?;
        server.wait(patience)
    }

    /// Starts it again, on what is in its folder.
    ///
    /// # Errors
    /// If it doesn't accept connections in time.
    pub fn resume(&mut self) -> io::Result<()> {
        let starts = self.starts();
        let log = std::fs::File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(&self.binary);
        match self.mode {
            Mode::Localserve => command.args(["localserve", "-dir"]).arg(self.dir()),
            Mode::Serve => command.arg("-config").arg(self.dir().join("mox.conf")).arg("serve"),
        };
        command.stdout(Stdio::null()).stderr(log);
        self.server = Some(Running::start(&mut command)?);
        for service in [Service::Smtp, Service::Submission, Service::Submissions, Service::Imap, Service::Imaps] {
            if !self.accepts(service) {
                return Err(io::Error::other(format!("{service:?} doesn't start: {}", self.end_of_log())));
            }
        }
        // Ports are open before everything behind them is.
        if !wait_until(PATIENCE, || self.starts() > starts) {
            return Err(io::Error::other(format!("it isn't ready: {}", self.end_of_log())));
        }
        Ok(())
    }

    /// How often it said that it is ready.
    fn starts(&self) -> usize {
        self.log().matches("ready to serve").count()
    }

    fn accepts(&mut self, service: Service) -> bool {
        let port = self.port(service);
        (0..200).any(|_| wait_for_port(port, Duration::from_millis(100)) || !self.is_running()) && self.is_running()
    }

    /// Runs a command of the same binary on this server's configuration.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn command(&self, args: &[&str]) -> io::Result<Output> {
        let mut command = Command::new(&self.binary);
        command.arg("-config").arg(self.dir().join("mox.conf")).args(args);
        command.stdin(Stdio::null()).output()
    }

    /// The same with standard input, for commands that ask.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn command_with_input(&self, args: &[&str], input: &[u8]) -> io::Result<Output> {
        let mut command = Command::new(&self.binary);
        command.arg("-config").arg(self.dir().join("mox.conf")).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that doesn't ask closes its end.
            drop(stdin.write_all(input));
        }
        child.wait_with_output()
    }

    /// What it has logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}
