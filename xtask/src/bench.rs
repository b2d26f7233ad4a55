//! The benchmark: the same load, over sockets, against this server, Dovecot and Postfix, in one run on one machine.
//!
//! `cargo xtask bench` builds the server in release mode, measures one subject after the other, prints the table and
//! writes `docs/benchmarks.md`. `--quick` measures little of everything, to see that it works, and writes nothing.
//! `--only mox|peers` leaves the others out, `--binary FILE` measures a server built before, `--rows a,b` some rows only;
//! `--mailbox N` and `--queue N` make the large mailbox and the long queue of another size; `--write` writes the page all the same.
//!
//! The peers run with Debian's default storage settings, which are durable. The load generator is this program, so it
//! takes its share of the same processors, equally for all subjects.

mod deliver;
mod idle;
mod load;
mod mailbox;
mod queue;
mod report;
mod rows;
mod subject;
mod tls;
mod webapi;

use crate::{Failure, run};
use rows::Row;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use subject::Subject;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Messages appended or delivered per measurement.
    messages: usize,
    /// Messages in the large mailbox.
    mailbox: usize,
    /// Idle connections to open, where a connection is cheap.
    idle: usize,
    /// Idle connections with TLS: each costs the load generator more than the server.
    idle_tls: usize,
    /// Entries in a queue that is only to be long, and in one for a domain that nobody receives for.
    queue: usize,
    dead: usize,
    /// How long the latter is watched.
    watch: Duration,
    /// How often a quick thing is repeated.
    repeats: usize,
}

const FULL: Scale = Scale {
    messages: 8000,
    mailbox: 100_000,
    idle: 10_000,
    idle_tls: 2000,
    queue: 1_000_000,
    dead: 100_000,
    watch: Duration::from_secs(60),
    repeats: 21,
};
const QUICK: Scale =
    Scale { messages: 400, mailbox: 2000, idle: 200, idle_tls: 50, queue: 5000, dead: 1000, watch: Duration::from_secs(5), repeats: 3 };

/// What was measured: by row, then by subject.
#[derive(Default)]
struct Results {
    values: BTreeMap<(Row, &'static str), f64>,
    failures: Vec<String>,
}

impl Results {
    fn measure(&mut self, subject: &'static str, row: Row, wanted: &Wanted, work: impl FnOnce() -> Result<f64, Failure>) {
        if !wanted.row(row) {
            return;
        }
        match work() {
            Ok(value) => {
                println!("{subject:<18} {:<52} {}", row.work(), report::figure(value, row.unit()));
                self.values.insert((row, subject), value);
            }
            Err(failure) => {
                println!("{subject:<18} {:<52} failed: {failure}", row.work());
                self.failures.push(format!("{subject}, {}: {failure}", row.work()));
            }
        }
    }
}

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    quick: bool,
    write: bool,
    mailbox: Option<usize>,
    queue: Option<usize>,
    only: Option<String>,
    binary: Option<PathBuf>,
    rows: Option<Vec<String>>,
}

impl Wanted {
    fn parse(args: &[&str]) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().map(|v| (*v).to_owned()).ok_or_else(|| format!("{arg} needs a value"));
            match *arg {
                "--quick" => wanted.quick = true,
                "--write" => wanted.write = true,
                "--queue" => wanted.queue = Some(value()?.parse().map_err(|e| format!("--queue: {e}"))?),
                "--only" => wanted.only = Some(value()?),
                "--mailbox" => wanted.mailbox = Some(value()?.parse().map_err(|e| format!("--mailbox: {e}"))?),
                "--binary" => wanted.binary = Some(value()?.into()),
                "--rows" => wanted.rows = Some(value()?.split(',').map(str::to_owned).collect()),
                other => return Err(format!("bench: what is {other}?")),
            }
        }
        Ok(wanted)
    }

    fn mox(&self) -> bool {
        self.only.as_deref().is_none_or(|o| o == "mox")
    }

    fn peers(&self) -> bool {
        self.only.as_deref().is_none_or(|o| o == "peers")
    }

    fn row(&self, row: Row) -> bool {
        let id = format!("{row:?}").to_lowercase();
        self.rows.as_ref().is_none_or(|rows| rows.iter().any(|r| id.starts_with(&r.to_lowercase())))
    }
}

/// Measures what is asked for and reports.
pub(crate) fn bench(args: &[&str]) -> Result<(), Failure> {
    let wanted = Wanted::parse(args)?;
    let mut scale = if wanted.quick { QUICK } else { FULL };
    scale.mailbox = wanted.mailbox.unwrap_or(scale.mailbox);
    scale.queue = wanted.queue.unwrap_or(scale.queue);
    subject::raise_open_files(scale.idle);
    let mut results = Results::default();
    if wanted.mox() {
        let binary = match &wanted.binary {
            Some(binary) => binary.clone(),
            None => {
                run::run(run::cargo().args(["build", "--release", "--locked", "--package", "mox"]))?;
                run::target_dir().join("release/mox")
            }
        };
        let mut subject = Subject::mox(&binary)?;
        results.measure("mox", Row::Start, &wanted, || subject.start_time(scale.repeats.min(5)));
        results.measure("mox", Row::MemoryAtStart, &wanted, || subject.memory());
        results.measure("mox", Row::BinarySize, &wanted, || {
            std::fs::metadata(&binary).map(|m| load::float(m.len()) / 1_048_576.0).map_err(|e| e.to_string())
        });
        common(&subject, scale, &wanted, &mut results);
        results.measure("mox", Row::Submission, &wanted, || deliver::submission(&subject, scale.messages));
        results.measure("mox", Row::Submissions, &wanted, || deliver::submissions(&subject, scale.messages));
        results.measure("mox", Row::WebapiSend, &wanted, || webapi::send(&subject, scale.messages));
        drop(subject);
        queue::long(&binary, scale, &wanted, &mut results);
        results.measure("mox", Row::Authentication, &wanted, authentication);
    }
    if wanted.peers() {
        let subject = Subject::dovecot()?;
        common(&subject, scale, &wanted, &mut results);
        drop(subject);
        let subject = Subject::postfix()?;
        results.measure(subject.name, Row::Delivery, &wanted, || deliver::delivery(&subject, scale.messages));
    }
    report::print(&results);
    if wanted.write || (!wanted.quick && wanted.only.is_none() && wanted.rows.is_none()) {
        report::write(&results, scale.mailbox, scale.queue)?;
    }
    if results.failures.is_empty() { Ok(()) } else { Err(results.failures.join("\n")) }
}

/// The benchmark of `mox-mailauth`, which measures itself: milliseconds for one message.
fn authentication() -> Result<f64, Failure> {
    let text = run::stdout(run::cargo().args(["bench", "--quiet", "--locked", "--package", "mox-mailauth", "--bench", "authentication"]))?;
    let micros = text.lines().find_map(|line| line.trim().strip_prefix("together")?.split_whitespace().next()?.parse::<f64>().ok());
    micros.map(|micros| micros / 1000.0).ok_or_else(|| format!("no figure in: {text}"))
}

/// The rows that every IMAP server can be measured by.
fn common(subject: &Subject, scale: Scale, wanted: &Wanted, results: &mut Results) {
    let name = subject.name;
    results.measure(name, Row::AppendOne, wanted, || mailbox::append(subject, "one", 1, scale.messages / 4));
    results.measure(name, Row::AppendEight, wanted, || mailbox::append(subject, "eight", 8, scale.messages));
    results.measure(name, Row::Delivery, wanted, || deliver::delivery(subject, scale.messages));
    mailbox::reading(subject, scale, wanted, results);
    if !subject.process_per_connection() {
        results.measure(name, Row::MemoryAfterMailbox, wanted, || subject.memory());
    }
    results.measure(name, Row::LoginAgain, wanted, || idle::login_again(subject, scale.messages));
    idle::idle(subject, scale, wanted, results);
}
