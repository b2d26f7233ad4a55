//! A long queue: how quickly a server starts with it, what it takes in memory, and what mail costs that nobody takes.
//!
//! These run on `serve`, whose queue is real. All mail goes to a port where nobody listens; what is to wait is held for a day by
//! FUTURERELEASE, RFC 4865.

use super::load;
use super::rows::Row;
use super::subject;
use super::{Results, Scale, Wanted};
use crate::Failure;
use mox_testkit::peers::{Mox, Service, SmtpClient, free_port};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 8;
/// Recipients of a message, the most that the server takes.
const RECIPIENTS: usize = 1000;
/// From the first attempt to the second.
const FIRST_RETRY: Duration = Duration::from_secs(450);
/// How often it is looked whether the server is quiet.
const SAMPLE: Duration = Duration::from_secs(5);
/// Domains among which recipients are spread.
const DOMAINS: usize = 1000;

/// All rows about long queues.
pub(super) fn long(binary: &Path, scale: Scale, wanted: &Wanted, results: &mut Results) {
    if wanted.row(Row::DeadDomain) {
        results.measure("mox", Row::DeadDomain, wanted, || dead_domain(binary, scale.dead, scale.watch));
    }
    if !wanted.row(Row::QueueStart) && !wanted.row(Row::QueueMemory) {
        return;
    }
    match filled(binary, scale.queue) {
        Ok(mut mox) => {
            results.measure("mox", Row::QueueStart, wanted, || subject::restart(&mut mox, Duration::from_secs(60)));
            results.measure("mox", Row::QueueMemory, wanted, || subject::memory_of(mox.id()));
        }
        Err(failure) => results.failures.push(format!("mox, filling the queue: {failure}")),
    }
}

/// A server with so many entries in its queue.
fn filled(binary: &Path, entries: usize) -> Result<Mox, Failure> {
    let mox = start(binary)?;
    let begin = Instant::now();
    submit(&mox, " HOLDFOR=86400", entries, |n| format!("r{n}@d{}.test", n % DOMAINS)).map_err(|e| e.to_string())?;
    println!("{:<18} queued {entries} entries in {:.1} s", "mox", begin.elapsed().as_secs_f64());
    Ok(mox)
}

/// Percent of a processor that a server takes with so much mail for one domain that nobody receives for: what it uses from when the
/// last of it was accepted until it has tried everything and is quiet, over the time to the next attempts, which are never closer
/// together.
fn dead_domain(binary: &Path, entries: usize, watch: Duration) -> Result<f64, Failure> {
    let mox = start(binary)?;
    submit(&mox, "", entries, |n| format!("r{n}@dead.test")).map_err(|e| e.to_string())?;
    let before = subject::processor_time(mox.id())?;
    let begin = Instant::now();
    let (mut used, mut quiet) = (0.0, false);
    // At least this long, and then to the end.
    while begin.elapsed() < watch || !quiet && begin.elapsed() < FIRST_RETRY {
        std::thread::sleep(SAMPLE);
        let now = subject::processor_time(mox.id())? - before;
        quiet = now - used < SAMPLE.as_secs_f64() * 0.01;
        used = now;
    }
    Ok(used / begin.elapsed().max(FIRST_RETRY).as_secs_f64() * 100.0)
}

fn start(binary: &Path) -> Result<Mox, Failure> {
    Mox::serve_with(binary, configure).map_err(|e| format!("mox serve: {e}"))
}

/// Limits that let so much mail in, and a way out that leads nowhere.
fn configure(folder: &Path) -> io::Result<()> {
    let (fixed, dynamic) = (folder.join("mox.conf"), folder.join("domains.conf"));
    let nowhere = format!("Transports:\n\tnowhere:\n\t\tSMTP:\n\t\t\tHost: localhost\n\t\t\tPort: {}\n", free_port());
    fs::write(&fixed, fs::read_to_string(&fixed)? + &nowhere)?;
    let text = fs::read_to_string(&dynamic)?.replacen("\tmox:\n", subject::LIMITS, 1);
    fs::write(&dynamic, text + "Routes:\n\t-\n\t\tTransport: nowhere\n")
}

/// Submits messages until there are so many entries; each has as many recipients as may be.
fn submit(mox: &Mox, parameters: &str, entries: usize, recipient: impl Fn(usize) -> String + Sync) -> io::Result<()> {
    let messages = entries.div_ceil(RECIPIENTS);
    let outcomes: Vec<io::Result<()>> = std::thread::scope(|scope| {
        let recipient = &recipient;
        let handles: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                scope.spawn(move || {
                    let mut client = SmtpClient::smtp(mox.port(Service::Submission))?;
                    client.login(Mox::USER, Mox::PASSWORD)?;
                    for number in (connection..messages).step_by(CONNECTIONS) {
                        let first = number * RECIPIENTS;
                        let to: Vec<String> = (first..entries.min(first + RECIPIENTS)).map(recipient).collect();
                        let to: Vec<&str> = to.iter().map(String::as_str).collect();
                        let reply = client.send_with(Mox::USER, parameters, &to, &load::message_from(Mox::USER, number))?;
                        if !reply.is_ok() {
                            return Err(io::Error::other(format!("message {number}: {} {}", reply.code, reply.text)));
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))).collect()
    });
    outcomes.into_iter().collect()
}
