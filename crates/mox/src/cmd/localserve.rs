//! `mox localserve`: a whole mail server on one machine, for developing software that sends or receives mail.
//!
//! On first use it writes a configuration, keys and an account below one folder; afterwards it serves what is there. It runs
//! with the user's own rights, and talks to nobody but itself and the webhooks that were configured.

mod accounts;
mod files;
mod temporary;

use crate::cli::{Command, Failure, Flag, Globals, Invocation, Outcome};
use crate::log::{Format, Log};
use crate::wire::{self, LoadError, Mode, Service, Started, Startup};
use accounts::Accounts;
use mox_config::LogLevel;
use mox_net::OfflineDns;
use mox_store::queue::parse_duration;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use temporary::TemporaryDir;

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "localserve",
    params: &[""],
    listed: true,
    help: "Run a mail server for testing, from which no mail leaves the machine.\n\n\
        Everything is served on the usual ports plus 1000, on loopback addresses only. At the first start, the directory of -dir is made, with configuration, keys, a self-signed certificate, and an account with address mox@localhost and password moxmoxmox.\n\n\
        Mail for an address that isn't configured goes to that account, whatever its domain. What is submitted passes through the queue, which delivers to this server instead of looking up the recipient's.\n\n\
        A recipient can ask for a failure with the end of its localpart:\n\n\
        - temperror: code 451\n\
        - permerror: code 550\n\
        - three digits from 400 to 599: that code\n\
        - any of these and an enhanced code, as in permerror-5.7.1\n\
        - timeout: no answer for an hour\n\
        - -drop: the connection is closed without an answer\n\
        - -greylist, -greylist3: code 451 for the first attempt, or the first three, of each sender\n\
        - -delay5: success after 5 seconds; up to 99\n\
        - -bounce, -bounce-5.2.2: the message is accepted, and its sender gets a bounce\n\n\
        The failure comes after the data, or earlier or later with a beginning of \"mailfrom\" (at MAIL FROM, for the sender's address), \"rcptto\" (at RCPT TO) or \"queue\" (submission is accepted, delivery from the queue fails).",
    flags: &[
        Flag::text("dir", "string", "configuration and data directory (default \"$userconfigdir/mox-localserve\")"),
        Flag::text(
            "ip",
            "string",
            "serve on this ip instead of default 127.0.0.1 and ::1. only used when writing configuration, at first launch.",
        ),
        Flag::bool("initonly", "write configuration files and exit"),
        Flag::bool("temp", "keep everything in a new directory, in memory where possible, that is removed at the end"),
        Flag::text(
            "accounts",
            "addresses",
            "comma-separated addresses, for each of which there is an account of its own, beside mox@localhost and with the same password. \
            only used when writing configuration, at first launch.",
        ),
        Flag::text(
            "dns",
            "string",
            "what is asked for the checks of incoming mail. With \"none\", the default, all domains can receive mail and publish no policies, \
            except those below invalid, which don't exist. With \"system\", the name servers of the system. Otherwise the name of a zone file, \
            which has all there is to know of the domains in it.",
        ),
        Flag::text(
            "retry",
            "durations",
            "comma-separated times after which a failed delivery, or a failed call of a webhook, is tried again, such as 1s,2s,5s: one for each \
            attempt but the last. instead of those in the configuration, which are hours in all.",
        ),
        Flag::text(
            "portbase",
            "int",
            "number added to regular ports, when writing configuration at first launch (default 1000). \
            With 0, now and at later launches, free ports are used and printed as lines \"port <service> <address>\".",
        ),
    ],
    args: 0..=0,
    run: localserve,
}];

/// The account that is made.
const ACCOUNT: &str = "mox";
const ADDRESS: &str = "mox@localhost";
const PASSWORD: &str = "moxmoxmox";
const ADMIN_PASSWORD: &str = "moxadmin";

/// Bounds of intervals of `-retry`.
const MIN_RETRY: Duration = Duration::from_millis(10);
const MAX_RETRY: Duration = Duration::from_secs(7 * 24 * 3600);

fn localserve(invocation: &Invocation) -> Outcome {
    let flags = &invocation.flags;
    let temporary = if flags.bool("temp") { Some(TemporaryDir::new()?) } else { None };
    let dir = match (&temporary, flags.text("dir")) {
        (Some(_), Some(_)) => return Err(Failure::Error("-temp and -dir can't be used together".into())),
        (Some(temporary), None) => temporary.path().to_owned(),
        (None, Some(dir)) => PathBuf::from(dir),
        (None, None) => default_dir(),
    };
    let port_base = match flags.text("portbase").map(str::parse::<u16>).transpose() {
        Ok(base) => base,
        Err(e) => return Err(Failure::new("parsing -portbase", e)),
    };
    let Ok(ip) = flags.text("ip").filter(|ip| !ip.is_empty()).map(str::parse::<IpAddr>).transpose() else {
        return Err(Failure::Error("invalid -ip".into()));
    };
    let accounts = Accounts::parse(flags.text("accounts").unwrap_or_default())?;
    let checks_ask = checks_ask(flags.text("dns").unwrap_or("none"))?;
    let init_only = flags.bool("initonly");
    let retry = retry_intervals(flags.text("retry").unwrap_or_default())?;
    let used = |dir: &Path| dir.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let exists = temporary.is_none() && used(&dir);
    let log = Log::start(Format::Logfmt, LogLevel::Info);
    for (flag, given) in [("ip", ip.is_some()), ("accounts", !accounts.is_empty())] {
        if exists && given && !init_only {
            let text = format!("specifying -{flag} is only allowed when writing configuration, at first launch");
            return Err(Failure::Error(text));
        }
    }
    if exists && init_only {
        tracing::warn!(dir = %dir.display(), "configuration directory already exists, overwriting");
    }
    if !exists || init_only {
        write(&dir, ip, port_base.filter(|base| *base != 0).unwrap_or(1000), &accounts, exists)?;
        println_dir(&dir);
    }
    if init_only {
        return Ok(());
    }
    let globals = Globals { config: dir.join("mox.conf"), ..invocation.globals.clone() };
    let hint = |error: LoadError| {
        let hint = match error {
            LoadError::Configuration(_) => "to start with a new configuration, -dir must not exist yet",
            LoadError::Socket(_) => "perhaps it is running already; with -portbase 0, free ports are used",
        };
        Failure::Error(format!("{error}\nhint: {hint}"))
    };
    let mut startup = Startup::load(&globals, Mode::Localserve { any_ports: port_base == Some(0) }, log).map_err(hint)?;
    (startup.checks_ask, startup.retry) = (checks_ask, retry);
    let status = wire::run(startup, |started| banner(&dir, exists, started)).map_err(Failure::Error)?;
    if status == 0 { Ok(()) } else { Err(Failure::Exit(status)) }
}

/// The intervals in the value of `-retry`; none if it is empty.
fn retry_intervals(text: &str) -> Result<Option<Vec<Duration>>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let interval = |word: &str| {
        let micros = parse_duration(word.trim()).and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros);
        let interval = micros.filter(|interval| (MIN_RETRY..=MAX_RETRY).contains(interval));
        interval.ok_or_else(|| Failure::Error(format!("parsing -retry: {word:?} is no duration from 10ms to 168h")))
    };
    text.split(',').map(interval).collect::<Result<_, _>>().map(Some)
}

/// What the value of `-dns` stands for; none for the system's name servers.
fn checks_ask(dns: &str) -> Result<Option<OfflineDns>, Failure> {
    match dns {
        "system" => Ok(None),
        "none" => Ok(Some(OfflineDns::default())),
        file => {
            let text = std::fs::read_to_string(file).map_err(|e| Failure::new(format!("reading zone file {file}"), e))?;
            OfflineDns::parse(&text).map(Some).map_err(|e| Failure::new(format!("zone file {file}"), e))
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn println_dir(dir: &Path) {
    println!("config created in {}", dir.display());
}

/// `$XDG_CONFIG_HOME/mox-localserve`, or below `~/.config`.
fn default_dir() -> PathBuf {
    let base = std::env::var_os("XDG_CONFIG_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").filter(|v| !v.is_empty()).map(|home| PathBuf::from(home).join(".config"));
    base.or_else(home).unwrap_or_else(|| PathBuf::from(".")).join("mox-localserve")
}

/// Writes everything; removes a folder it made itself when that fails.
fn write(dir: &Path, ip: Option<IpAddr>, port_base: u16, accounts: &Accounts, existed: bool) -> Outcome {
    let lock = if existed {
        Some(wire::try_lock(dir).and_then(|lock| lock.ok_or_else(|| wire::in_use(dir))).map_err(Failure::Error)?)
    } else {
        None
    };
    let config = dir.join("mox.conf");
    let make = |name: &str| wire::create_account(&config, name, PASSWORD).map_err(|e| Failure::new(format!("creating account {name}"), e));
    let written =
        files::write(dir, ip, port_base, accounts).and_then(|()| make(ACCOUNT)).and_then(|()| accounts.names().try_for_each(make));
    drop(lock);
    if written.is_err() && !existed {
        drop(std::fs::remove_dir_all(dir));
    }
    written
}

/// What someone needs to know to use it, on standard error; ports that were chosen, on standard output.
#[expect(clippy::print_stdout, reason = "the listing that test suites read")]
fn banner(dir: &Path, existed: bool, started: &Started) {
    let mut text = format!(
        "mox {version}, a mail server for testing: no mail leaves this machine

  user   {ADDRESS}  password {PASSWORD}
  admin  password {ADMIN_PASSWORD}
  TLS    self-signed certificate {cert}
  ports  as configured in mox.conf: by default, the well-known ones + 1000

Mail to any address arrives in this user's mailboxes. The end of a localpart makes it fail:
  …temperror  a temporary error (451)        …permerror  a permanent error (550)
  …400 to …599  that code                    …timeout    no answer for an hour
  …-greylist    451 at first, then accepted  …-bounce    accepted, then a bounce
More, with enhanced codes, delays and dropped connections, in `mox help localserve`.
Its beginning says when: mailfrom… and rcptto… at that command, queue… only when the queue delivers
what was submitted, anything else after the data.

",
        version = super::version::VERSION,
        cert = dir.join("localhost.crt").display(),
    );
    for (service, addr) in &started.sockets {
        let login = format!("mox%40localhost:{PASSWORD}@");
        let url = match service {
            Service::Smtp => format!("smtp://{addr}  incoming mail"),
            Service::Submission => format!("smtp://{login}{addr}  submission, plain text or STARTTLS"),
            Service::Submissions => format!("smtps://{login}{addr}  submission, TLS"),
            Service::Imap => format!("imap://{login}{addr}  reading, plain text or STARTTLS"),
            Service::Imaps => format!("imaps://{login}{addr}  reading, TLS"),
            Service::Http => format!("http://{login}{addr}/webapi/v0/  webapi"),
            Service::Https => format!("https://{login}{addr}/webapi/v0/  webapi, TLS"),
            Service::Metrics => format!("http://{addr}/metrics  Prometheus"),
        };
        // Writing to a string doesn't fail.
        let _ok = writeln!(text, "{url}");
        if started.any_ports {
            println!("port {service} {addr}");
        }
    }
    let state = if existed { "existing configuration" } else { "newly created configuration" };
    let _ok = writeln!(text, "\nserving from {state} in {}", dir.display());
    eprint!("{text}");
    if started.any_ports {
        drop(std::io::Write::flush(&mut std::io::stdout()));
    }
}
