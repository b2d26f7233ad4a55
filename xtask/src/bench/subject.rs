//! What is measured: a server with its ports, its users and its processes.

use super::load;
use super::tls;
use crate::Failure;
use mox_testkit::peers::{Dovecot, ImapClient, Mox, NextHop, Postfix, Service, SmtpClient};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many accounts mail is delivered to.
pub(super) const ACCOUNTS: usize = 16;

/// Where mail enters.
#[derive(Clone, Copy)]
enum Entry {
    Smtp(u16),
    Lmtp(u16),
}

enum Kept {
    Mox(Box<Mox>),
    Dovecot(Box<Dovecot>),
    // In this order: Postfix ends before the server it delivers to.
    Postfix(Box<Postfix>, Box<Dovecot>),
}

/// A running server.
pub(super) struct Subject {
    pub(super) name: &'static str,
    entry: Entry,
    imap: u16,
    kept: Kept,
}

impl Subject {
    pub(super) fn mox(binary: &Path) -> Result<Self, Failure> {
        let mox = Mox::start_with(binary, add_accounts).map_err(|e| format!("mox: {e}"))?;
        // Mailboxes of the added accounts are opened to count what arrived.
        for number in 0..ACCOUNTS {
            let output = mox.command_with_input(&["setaccountpassword", &format!("bench{number}")], b"moxmoxmox\nmoxmoxmox\n");
            let output = output.map_err(|e| format!("setaccountpassword: {e}"))?;
            if !output.status.success() {
                return Err(format!("setaccountpassword: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        let (entry, imap) = (Entry::Smtp(mox.port(Service::Smtp)), mox.port(Service::Imap));
        Ok(Self { name: "mox", entry, imap, kept: Kept::Mox(Box::new(mox)) })
    }

    pub(super) fn dovecot() -> Result<Self, Failure> {
        let dovecot = Dovecot::start().map_err(|e| format!("Dovecot: {e}"))?;
        let (entry, imap) = (Entry::Lmtp(dovecot.lmtp_port()), dovecot.imap_port());
        Ok(Self { name: "Dovecot", entry, imap, kept: Kept::Dovecot(Box::new(dovecot)) })
    }

    pub(super) fn postfix() -> Result<Self, Failure> {
        let dovecot = Dovecot::start().map_err(|e| format!("Dovecot: {e}"))?;
        let postfix = Postfix::start(NextHop::Lmtp(dovecot.lmtp_port())).map_err(|e| format!("Postfix: {e}"))?;
        let (entry, imap) = (Entry::Smtp(postfix.port()), dovecot.imap_port());
        Ok(Self { name: "Postfix+Dovecot", entry, imap, kept: Kept::Postfix(Box::new(postfix), Box::new(dovecot)) })
    }

    /// A connection on which mail can be handed over.
    pub(super) fn deliverer(&self) -> io::Result<SmtpClient> {
        match self.entry {
            Entry::Smtp(port) => SmtpClient::smtp(port),
            Entry::Lmtp(port) => SmtpClient::lmtp(port),
        }
    }

    /// A logged-in submission connection, where there is such a thing.
    pub(super) fn submitter(&self) -> io::Result<SmtpClient> {
        let Kept::Mox(mox) = &self.kept else {
            return Err(io::Error::other("no submission here"));
        };
        let mut client = SmtpClient::smtp(mox.port(Service::Submission))?;
        client.login(Mox::USER, Mox::PASSWORD)?;
        Ok(client)
    }

    /// The same over TLS.
    pub(super) fn tls_submitter(&self) -> io::Result<SmtpClient> {
        let Kept::Mox(mox) = &self.kept else {
            return Err(io::Error::other("no submission here"));
        };
        let mut client = SmtpClient::over(tls::connect(Ipv4Addr::LOCALHOST, mox.port(Service::Submissions))?)?;
        client.login(Mox::USER, Mox::PASSWORD)?;
        Ok(client)
    }

    /// The port of the webapi, where there is such a thing.
    pub(super) fn http_port(&self) -> Option<u16> {
        match &self.kept {
            Kept::Mox(mox) => Some(mox.port(Service::Http)),
            Kept::Dovecot(_) | Kept::Postfix(..) => None,
        }
    }

    /// The address of an account for deliveries.
    pub(super) fn account(&self, number: usize) -> String {
        format!("bench{number}@localhost")
    }

    /// A connection logged in as one of the accounts for deliveries.
    pub(super) fn imap_account(&self, number: usize) -> io::Result<ImapClient> {
        ImapClient::login(self.imap, &self.account(number), Mox::PASSWORD)
    }

    /// A connection logged in as the main user.
    pub(super) fn imap(&self) -> io::Result<ImapClient> {
        self.imap_from(Ipv4Addr::LOCALHOST)
    }

    /// The same from an address of choice.
    pub(super) fn imap_from(&self, source: Ipv4Addr) -> io::Result<ImapClient> {
        let mut client = ImapClient::connect_from(source, self.imap)?;
        client.ok(&format!("LOGIN \"{}\" \"{}\"", Mox::USER, Mox::PASSWORD))?;
        Ok(client)
    }

    /// The same over TLS, where there is such a thing.
    pub(super) fn imap_tls_from(&self, source: Ipv4Addr) -> io::Result<ImapClient> {
        let Kept::Mox(mox) = &self.kept else {
            return Err(io::Error::other("no TLS here"));
        };
        let mut client = ImapClient::over(tls::connect(source, mox.port(Service::Imaps))?)?;
        client.ok(&format!("LOGIN \"{}\" \"{}\"", Mox::USER, Mox::PASSWORD))?;
        Ok(client)
    }

    /// Whether a connection costs a process, so that thousands of them would need another machine.
    pub(super) fn process_per_connection(&self) -> bool {
        !matches!(self.kept, Kept::Mox(_))
    }

    /// Milliseconds from starting the process to all ports accepting, the median of some starts.
    pub(super) fn start_time(&mut self, repeats: usize) -> Result<f64, Failure> {
        let Kept::Mox(mox) = &mut self.kept else {
            return Err("only for mox".to_owned());
        };
        let times: Result<Vec<f64>, Failure> = (0..repeats).map(|_| restart(mox, Duration::from_secs(10))).collect();
        Ok(load::median(&mut times?))
    }

    /// Memory of all its processes in MiB, shared pages counted once.
    pub(super) fn memory(&self) -> Result<f64, Failure> {
        let roots = match &self.kept {
            Kept::Mox(mox) => vec![mox.id()],
            Kept::Dovecot(dovecot) => vec![dovecot.id()],
            Kept::Postfix(postfix, dovecot) => vec![postfix.id(), dovecot.id()],
        };
        memory_of(roots.into_iter().flatten())
    }
}

/// Memory of processes and their descendants in MiB, shared pages counted once.
pub(super) fn memory_of(roots: impl IntoIterator<Item = u32>) -> Result<f64, Failure> {
    let kibibytes: u64 = roots.into_iter().flat_map(tree).map(proportional).sum();
    if kibibytes == 0 {
        return Err("it doesn't run".to_owned());
    }
    Ok(load::float(kibibytes) / 1024.0)
}

/// Seconds of processor time that a process has taken so far.
pub(super) fn processor_time(process: Option<u32>) -> Result<f64, Failure> {
    let process = process.ok_or("it doesn't run")?;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).map_err(|e| e.to_string())?;
    // After the name in parentheses: user and system time are the 12th and 13th, in hundredths of seconds.
    let fields: Vec<u64> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).map_while(|f| f.parse().ok()).collect();
    match fields.as_slice() {
        [user, system, ..] => Ok(load::float(user + system) / 100.0),
        _ => Err(format!("/proc/{process}/stat has no times")),
    }
}

/// Milliseconds from starting the process again to all ports accepting.
pub(super) fn restart(mox: &mut Mox, patience: Duration) -> Result<f64, Failure> {
    mox.stop("TERM", patience).ok_or("it doesn't stop")?;
    let start = Instant::now();
    mox.resume().map_err(|e| e.to_string())?;
    Ok(load::milliseconds(start.elapsed()))
}

/// What replaces the line that begins the main account: limits that a benchmark doesn't reach.
pub(super) const LIMITS: &str = "\tmox:\n\t\tMaxOutgoingMessagesPerDay: 10000000\n\t\tMaxFirstTimeRecipientsPerDay: 10000000\n";

/// Gives `localserve` accounts for deliveries, beside its own.
fn add_accounts(folder: &Path) -> io::Result<()> {
    let path = folder.join("domains.conf");
    let text = fs::read_to_string(&path)?;
    let mut accounts = String::from("Accounts:\n");
    for number in 0..ACCOUNTS {
        accounts.push_str(&format!(
            "\tbench{number}:\n\t\tDomain: localhost\n\t\tDestinations:\n\t\t\tbench{number}@localhost: nil\n\t\tNoFirstTimeSenderDelay: true\n"
        ));
    }
    let edited = text.replacen("Accounts:\n", &accounts, 1);
    if edited == text {
        return Err(io::Error::other("domains.conf has no accounts"));
    }
    fs::write(path, edited.replacen("\tmox:\n", LIMITS, 1))
}

/// A process and its descendants.
fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name in parentheses may hold anything; state and parent follow it.
        let parent = stat.rsplit(')').next().and_then(|s| s.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(id) = found.get(next).copied() {
        found.extend(children.remove(&id).unwrap_or_default());
        next += 1;
    }
    found
}

/// A process's memory in KiB, pages shared between processes divided among them.
fn proportional(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Lets this process and those it starts open many connections, as far as that is allowed.
pub(super) fn raise_open_files(connections: usize) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let hard = limits.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().nth(1)?.parse().ok());
    let wanted = (connections * 2 + 2000).min(hard.unwrap_or(usize::MAX));
    let id = std::process::id().to_string();
    let raised = std::process::Command::new("prlimit").args(["--pid", &id, &format!("--nofile={wanted}:")]).status();
    if !raised.is_ok_and(|s| s.success()) || wanted < connections + 500 {
        println!("note: {wanted} open files are too few for {connections} connections");
    }
}
