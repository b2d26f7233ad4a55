//! Our own server as a host of a [`Network`]: `mox serve` with a real configuration, on the ports of the world.

use super::folder::Folder;
use super::{Names, Network, PATIENCE, Resolving, Running, wait_until};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// What it is to be.
#[derive(Clone, Debug)]
pub struct HostSetup<'a> {
    /// The server.
    pub binary: &'a Path,
    /// Its address, as its configuration has it.
    pub ip: Ipv4Addr,
    /// Whose word it takes for DNSSEC.
    pub resolving: Resolving,
    /// Its `mox.conf`; the data folder is `../data`.
    pub mox_conf: &'a str,
    /// Its `domains.conf`.
    pub domains_conf: &'a str,
    /// Further files in its configuration folder.
    pub files: &'a [(&'a str, &'a str)],
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct MoxHost {
    network: Network,
    binary: PathBuf,
    ip: Ipv4Addr,
    resolv_conf: String,
    anchors: PathBuf,
    // In this order: the server ends before its folder is removed.
    server: Option<Running>,
    folder: Folder,
}

impl MoxHost {
    /// Writes its files and starts it.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn start(network: &Network, names: &Names, setup: &HostSetup<'_>) -> io::Result<Self> {
        let folder = Folder::new("mox-host-")?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        for name in ["config", "data"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let config = folder.path().join("config");
        std::fs::write(config.join("mox.conf"), setup.mox_conf)?;
        std::fs::write(config.join("domains.conf"), setup.domains_conf)?;
        for (name, text) in setup.files {
            std::fs::write(config.join(name), text)?;
        }
        let mut host = Self {
            network: network.clone(),
            binary: setup.binary.to_owned(),
            ip: setup.ip,
            resolv_conf: setup.resolving.resolv_conf(),
            anchors: names.anchors(),
            server: None,
            folder,
        };
        host.resume()?;
        Ok(host)
    }

    /// Where a service of it listens.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }

    /// Starts it again, on what is in its folder.
    ///
    /// # Errors
    /// If it isn't ready in time.
    pub fn resume(&mut self) -> io::Result<()> {
        let ready = |host: &Self| host.log().matches("ready to serve").count();
        let before = ready(self);
        let log = std::fs::File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.inside()?;
        command.arg("serve").current_dir(self.folder.path()).stdout(Stdio::null()).stderr(log);
        let mut server = Running::start(&mut command)?;
        let started = wait_until(PATIENCE, || ready(self) > before || server.ended().is_ok_and(|e| e.is_some()));
        if started && ready(self) > before {
            self.server = Some(server);
            return Ok(());
        }
        Err(io::Error::other(format!("it doesn't start: {}", self.log())))
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

    /// Runs a command of the same binary, in the same network and on the same configuration.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn command(&self, args: &[&str]) -> io::Result<Output> {
        self.inside()?.args(args).stdin(Stdio::null()).output()
    }

    /// The same with standard input.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn command_with_input(&self, args: &[&str], input: &[u8]) -> io::Result<Output> {
        let mut command = self.inside()?;
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that doesn't ask closes its end.
            drop(stdin.write_all(input));
        }
        child.wait_with_output()
    }

    /// Its configuration folder.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// What it has logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn inside(&self) -> io::Result<Command> {
        let mut command = self.network.command(&self.resolv_conf, &self.binary)?;
        command.arg("-config").arg(self.config().join("mox.conf")).env("MOX_DNS_ANCHORS", &self.anchors);
        Ok(command)
    }
}

impl Drop for MoxHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("control command")).collect();
            eprintln!("the end of the log of {}:\n{}", self.ip, lines.get(lines.len().saturating_sub(80)..).unwrap_or_default().join("\n"));
        }
    }
}
