//! A private Dovecot: IMAP and LMTP on loopback ports, mdbox storage, one password for everybody.
//!
//! Storage settings are Debian's defaults, so that it is as durable as an installed one: it is also what the benchmarks
//! compare with.

use super::folder::Folder;
use super::{PATIENCE, Running, find_program, free_port, is_root, skip, user_ids, wait_for_port};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A running Dovecot; ends when dropped.
#[derive(Debug)]
pub struct Dovecot {
    program: PathBuf,
    imap: u16,
    lmtp: u16,
    // In this order: the server ends before its folder is removed.
    server: Option<Running>,
    folder: Folder,
}

impl Dovecot {
    /// The password of every user.
    pub const PASSWORD: &str = "moxmoxmox";

    /// Starts one, or returns none after printing that a test is skipped.
    ///
    /// # Panics
    /// With `CI=true`, if it isn't installed or doesn't start.
    #[must_use]
    pub fn require() -> Option<Self> {
        match Self::start() {
            Ok(dovecot) => Some(dovecot),
            Err(error) => {
                skip(&format!("no Dovecot: {error}"));
                None
            }
        }
    }

    /// Starts one in a new temporary folder.
    ///
    /// # Errors
    /// If Dovecot isn't installed, this isn't root (its login processes change user), or it doesn't start.
    pub fn start() -> io::Result<Self> {
        let program = find_program("dovecot").ok_or_else(|| io::Error::other("it isn't installed"))?;
        if !is_root() {
            return Err(io::Error::other("only root can start it"));
        }
        let folder = Folder::new("mox-dovecot-")?;
        // Its processes run as several users and all come through here.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let mail = folder.path().join("mail");
        std::fs::create_dir(&mail)?;
        let (user, group) = user_ids("nobody")?;
        chown(&mail, Some(user), Some(group))?;
        let (imap, lmtp) = (free_port(), free_port());
        std::fs::write(folder.path().join("dovecot.conf"), configuration(folder.path(), imap, lmtp, user, group))?;
        let mut dovecot = Self { program, imap, lmtp, server: None, folder };
        dovecot.resume()?;
        Ok(dovecot)
    }

    /// Port of IMAP, without TLS.
    #[must_use]
    pub fn imap_port(&self) -> u16 {
        self.imap
    }

    /// Port of LMTP.
    #[must_use]
    pub fn lmtp_port(&self) -> u16 {
        self.lmtp
    }

    /// Process id of its master.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.server.as_ref().map(Running::id)
    }

    /// Ends it; mail stays, and `resume` starts it again on the same ports.
    pub fn pause(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.end("TERM", Duration::from_secs(10));
        }
    }

    /// Starts it after `pause`.
    ///
    /// # Errors
    /// If it doesn't accept connections in time.
    pub fn resume(&mut self) -> io::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["-F", "-c"]).arg(self.folder.path().join("dovecot.conf"));
        let log = std::fs::File::create(self.folder.path().join("stderr"))?;
        self.server = Some(Running::start(command.stderr(log))?);
        if wait_for_port(self.imap, PATIENCE) && wait_for_port(self.lmtp, PATIENCE) {
            return Ok(());
        }
        Err(io::Error::other(format!("it doesn't start: {}", self.log())))
    }

    /// Runs `doveadm` with these arguments and returns what it prints.
    ///
    /// # Errors
    /// If it fails, with what it says.
    pub fn doveadm(&self, args: &[&str]) -> io::Result<String> {
        let doveadm = find_program("doveadm").ok_or_else(|| io::Error::other("no doveadm"))?;
        let output = Command::new(doveadm).arg("-c").arg(self.folder.path().join("dovecot.conf")).args(args).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("stderr") + &read("log")
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        self.pause();
    }
}

fn configuration(folder: &Path, imap: u16, lmtp: u16, user: u32, group: u32) -> String {
    let folder = folder.display();
    let password = Dovecot::PASSWORD;
    format!(
        "\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = mdbox:{folder}/mail/%u
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
default_client_limit = 20000
default_process_limit = 20000
mail_max_userip_connections = 20000
postmaster_address = postmaster@dovecot.test
hostname = dovecot.test
lmtp_save_to_detail_mailbox = no
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/mail/%u allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
service stats {{
  client_limit = 60000
}}
service anvil {{
  client_limit = 60000
}}
service auth {{
  client_limit = 60000
}}
"
    )
}
