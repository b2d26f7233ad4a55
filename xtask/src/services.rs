//! What the tests need beside Rust: Debian packages, and a PostgreSQL of their own.
//!
//! Peers such as Postfix and Dovecot are started by the tests that use them, with private configurations; only their
//! programs have to be there. PostgreSQL is started once, here, and found by the tests through `MOX_TEST_POSTGRES`.

use crate::{Failure, run};
use mox_testkit::peers::{self, Postgres};
use std::process::Command;

/// A Debian package and a program that shows that it is installed.
const PACKAGES: &[(&str, &str)] = &[
    ("postgresql", "postgres"),
    ("swaks", "swaks"),
    ("libnet-ssleay-perl", ""), // swaks --tls
    ("libnet-dns-perl", ""),    // swaks, looking up its own name
    ("isync", "mbsync"),
    ("mutt", "mutt"),
    ("postfix", "postfix"),
    ("dovecot-core", "dovecot"),
    ("dovecot-imapd", "imap"),
    ("dovecot-lmtpd", "lmtp"),
    ("curl", "curl"),
    ("python3", "python3"),
    ("python3-dkim", "module:dkim"),
    ("python3-nacl", "module:nacl"),
    ("python3-authres", "module:authres"),
    ("opendkim", ""), // its libraries
    ("opendkim-tools", "opendkim-testmsg"),
    ("nsd", "nsd"),
    ("unbound", "unbound"),
    ("ldnsutils", "ldns-signzone"),
    ("iproute2", "ip"),
    ("pebble", "pebble"),
    ("openssl", "openssl"),
    ("microsocks", "microsocks"),
];

/// Where Debian's Python finds modules; not every package of one has a program.
const PYTHON_MODULES: &str = "/usr/lib/python3/dist-packages";

/// Installs the packages whose programs are missing; asks apt for nothing when all are there.
pub(crate) fn install() -> Result<(), Failure> {
    let missing = |(_, program): &&(&str, &str)| !program.is_empty() && missing_program(program);
    let missing: Vec<&str> = PACKAGES.iter().filter(missing).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        println!("all packages are installed");
        return Ok(());
    }
    println!("missing: {}", missing.join(" "));
    let mut wanted = missing.clone();
    if missing.contains(&"swaks") {
        wanted.extend(PACKAGES.iter().filter(|(_, program)| program.is_empty()).map(|(package, _)| *package));
    }
    run::run(apt().args(["update", "--quiet"]))?;
    run::run(apt().args(["install", "--quiet", "--yes", "--no-install-recommends"]).args(&wanted))?;
    let still: Vec<&&str> = missing.iter().filter(|m| PACKAGES.iter().any(|p| p.0 == **m && missing_program(p.1))).collect();
    if still.is_empty() { Ok(()) } else { Err(format!("installed, but their programs aren't found: {still:?}")) }
}

fn missing_program(program: &str) -> bool {
    match program.strip_prefix("module:") {
        Some(module) => !std::path::Path::new(PYTHON_MODULES).join(module).exists(),
        None => peers::find_program(program).is_none(),
    }
}

fn apt() -> Command {
    let mut command = run::command("apt-get");
    // RUNLEVEL keeps the packages from starting their own services: the tests start private ones.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command
}

/// Services that run until this is dropped, and the environment in which tests find them.
pub(crate) struct Services {
    postgres: Postgres,
}

impl Services {
    /// Starts them.
    pub(crate) fn start() -> Result<Self, Failure> {
        let postgres = Postgres::start().map_err(|e| format!("starting PostgreSQL: {e}"))?;
        println!("PostgreSQL: {}", postgres.url());
        Ok(Self { postgres })
    }

    /// Tells a program where they are.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.env("MOX_TEST_POSTGRES", self.postgres.url());
        let data = run::top().join("../shared/data");
        if std::env::var_os("MOX_TEST_DATA").is_none() {
            if data.is_dir() {
                command.env("MOX_TEST_DATA", data);
            } else {
                println!("note: no test data beside the work tree: tests on other projects' messages check nothing");
            }
        }
    }
}

/// Runs a command, from the folder the user is in, with the services started.
pub(crate) fn run_with_services(words: &[&str]) -> Result<(), Failure> {
    let services = Services::start()?;
    let Some((program, args)) = words.split_first() else {
        return Ok(());
    };
    let mut command = Command::new(program);
    services.tell(command.args(args));
    run::run(&mut command)
}
