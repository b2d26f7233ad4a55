//! A private Postfix: receives on a loopback port and hands everything to one next hop.
//!
//! Retries are quick and everything from loopback is relayed; durability is Postfix's own, so that it can also be
//! compared with.

use super::folder::Folder;
use super::network::SYSTEM_PATH;
use super::warden::{self, Ward};
use super::{Network, PATIENCE, Resolving, Running, find_program, free_port, is_root, skip, user_ids, wait_for_port, wait_until};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where Postfix sends all its mail.
#[derive(Clone, Copy, Debug)]
pub enum NextHop {
    /// SMTP to this loopback port.
    Smtp(u16),
    /// LMTP to this loopback port.
    Lmtp(u16),
    /// Nowhere: delivered and gone.
    Discard,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp(port) => write!(f, "smtp:[127.0.0.1]:{port}"),
            Self::Lmtp(port) => write!(f, "lmtp:inet:127.0.0.1:{port}"),
            Self::Discard => write!(f, "discard:"),
        }
    }
}

/// What a Postfix in a network is to be.
#[derive(Clone, Copy, Debug)]
pub struct PostfixHost<'a> {
    /// Further lines of `main.cf`, `myhostname` and `default_transport` among them.
    pub main_cf: &'a str,
    /// Where it takes mail, each with options as in `master.cf`.
    pub smtpd: &'a [(Ipv4Addr, String)],
}

/// A running Postfix; ends when dropped.
#[derive(Debug)]
pub struct Postfix {
    port: u16,
    // In this order: it ends before its folder is removed.
    script: Running,
    folder: Folder,
}

impl Postfix {
    /// Starts one, or returns none after printing that a test is skipped.
    ///
    /// # Panics
    /// With `CI=true`, if it isn't installed or doesn't start.
    #[must_use]
    pub fn require(next_hop: NextHop) -> Option<Self> {
        match Self::start(next_hop) {
            Ok(postfix) => Some(postfix),
            Err(error) => {
                skip(&format!("no Postfix: {error}"));
                None
            }
        }
    }

    /// Starts one in a new temporary folder.
    ///
    /// # Errors
    /// If Postfix isn't installed, this isn't root (its processes change user), or it doesn't start.
    pub fn start(next_hop: NextHop) -> io::Result<Self> {
        let program = find_program("postfix").ok_or_else(|| io::Error::other("it isn't installed"))?;
        if !is_root() {
            return Err(io::Error::other("only root can start it"));
        }
        let port = free_port();
        let extra = format!(
            "inet_interfaces = 127.0.0.1\nmyhostname = postfix.test\nsmtp_dns_support_level = disabled\ndefault_transport = {next_hop}\n"
        );
        let smtpd = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
        let postfix = Self::launch(port, &program, &extra, &smtpd, |program| Ok(Command::new(program)))?;
        if wait_for_port(port, PATIENCE) {
            return Ok(postfix);
        }
        Err(io::Error::other(format!("it doesn't start: {}", postfix.log())))
    }

    /// Starts one in a network. It resolves with the trusted resolver, and takes and sends mail with DNSSEC.
    ///
    /// # Errors
    /// If Postfix isn't installed or doesn't start.
    pub fn start_in(network: &Network, host: &PostfixHost<'_>) -> io::Result<Self> {
        let program = find_program("postfix").ok_or_else(|| io::Error::other("it isn't installed"))?;
        let extra = format!("inet_interfaces = all\nsmtp_dns_support_level = dnssec\nsmtp_host_lookup = dns\n{}\n", host.main_cf);
        let smtpd: String = host.smtpd.iter().map(|(ip, options)| format!("{ip}:25 inet n - n - - smtpd {options}\n")).collect();
        let command = |program: &Path| network.command(&Resolving::Trusted.resolv_conf(), program);
        let postfix = Self::launch(25, &program, &extra, &smtpd, command)?;
        for (ip, _) in host.smtpd {
            if !network.wait_for((*ip, 25).into(), PATIENCE) {
                return Err(io::Error::other(format!("it doesn't start: {}", postfix.log())));
            }
        }
        Ok(postfix)
    }

    fn launch(port: u16, program: &Path, extra: &str, smtpd: &str, command: impl Fn(&Path) -> io::Result<Command>) -> io::Result<Self> {
        let folder = Folder::new("mox-postfix-")?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        for name in ["conf", "spool", "data"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let (user, group) = user_ids("postfix")?;
        chown(folder.path().join("data"), Some(user), Some(group))?;
        std::fs::write(folder.path().join("conf/main.cf"), main_cf(folder.path()) + extra)?;
        std::fs::write(folder.path().join("conf/master.cf"), smtpd.to_owned() + MASTER_CF)?;
        let out = std::fs::File::create(folder.path().join("out"))?;
        let mut command = command(program)?;
        command.arg("-c").arg(folder.path().join("conf")).arg("start-fg").env("PATH", SYSTEM_PATH);
        let script = Running::start(command.stdout(out.try_clone()?).stderr(out))?;
        let postfix = Self { port, script, folder };
        // Its master is in a session of its own.
        warden::guard(Ward::File(&postfix.id_path().display().to_string()))?;
        Ok(postfix)
    }

    /// Port of its SMTP server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many messages are in its queue.
    ///
    /// # Errors
    /// If its queue can't be listed.
    pub fn queued(&self) -> io::Result<usize> {
        let mut postqueue = self.command("postqueue")?;
        let output = postqueue.arg("-j").output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(output.stdout.iter().filter(|b| **b == b'\n').count())
    }

    /// Tries everything in the queue now.
    ///
    /// # Errors
    /// If it can't be told.
    pub fn flush(&self) -> io::Result<()> {
        self.command("postqueue")?.arg("-f").status().map(drop)
    }

    /// Waits until its queue is empty, flushing it now and then; false if it isn't in time.
    #[must_use]
    pub fn drained(&self, patience: Duration) -> bool {
        let mut looks = 0_u32;
        wait_until(patience, || {
            looks += 1;
            if looks.is_multiple_of(50) {
                // A failed flush only means a later retry.
                drop(self.flush());
            }
            self.queued().is_ok_and(|n| n == 0)
        })
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("out") + &read("log")
    }

    /// Process id of its master.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        let pid = std::fs::read_to_string(self.id_path()).ok()?;
        pid.trim().parse().ok()
    }

    fn id_path(&self) -> PathBuf {
        self.folder.path().join("spool/pid/master.pid")
    }

    fn command(&self, program: &str) -> io::Result<Command> {
        let mut command = Command::new(find_program(program).ok_or_else(|| io::Error::other("it isn't installed"))?);
        command.arg("-c").arg(self.folder.path().join("conf")).env("PATH", SYSTEM_PATH);
        Ok(command)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if let Some(id) = self.id() {
            // Ending its master ends all its processes, and then the script that waits for it.
            drop(Command::new("kill").arg(id.to_string()).status());
            self.script.wait(Duration::from_secs(10));
        }
        warden::release(Ward::File(&self.id_path().display().to_string()));
    }
}

fn main_cf(folder: &Path) -> String {
    let folder = folder.display();
    let daemons: PathBuf =
        ["/usr/lib/postfix/sbin", "/usr/libexec/postfix"].iter().map(PathBuf::from).find(|d| d.is_dir()).unwrap_or_default();
    format!(
        "\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {}
meta_directory = /etc/postfix
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
mail_owner = postfix
setgid_group = postdrop
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_protocols = ipv4
mynetworks = 127.0.0.0/8 9.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
message_size_limit = 104857600
smtp_connection_cache_on_demand = yes
minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 2s
",
        daemons.display()
    )
}

/// What Postfix is made of, besides its SMTP servers.
const MASTER_CF: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
lmtp unix - - n - - lmtp
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
showq unix n - n - - showq
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";
