//! Many connections: logging in again and again, idling by the thousand, and hearing of new mail.

use super::load::{self, milliseconds};
use super::mailbox::count;
use super::rows::Row;
use super::subject::Subject;
use super::{Results, Scale, Wanted};
use crate::Failure;
use std::io;
use std::time::{Duration, Instant};

/// Connections that are opened where each costs a process, and a watch of which the kernel gives a user 128.
const FEW: usize = 100;
/// Threads that open connections.
const THREADS: usize = 4;

/// Connections per second that log in with a password used before, and leave.
pub(super) fn login_again(subject: &Subject, logins: usize) -> Result<f64, Failure> {
    let work = || -> io::Result<f64> {
        subject.imap()?;
        let logins = if subject.process_per_connection() { logins.min(1000) } else { logins };
        let start = Instant::now();
        in_threads(logins, |number| subject.imap_from(load::source(number)).and_then(|mut c| c.command("LOGOUT")).map(drop))?;
        Ok(load::rate(logins, start.elapsed()))
    };
    work().map_err(|e| e.to_string())
}

/// Memory of idle connections, and how quickly one of them hears of a message while all of them are open.
pub(super) fn idle(subject: &Subject, scale: Scale, wanted: &Wanted, results: &mut Results) {
    if !subject.process_per_connection() {
        results.measure(subject.name, Row::IdleTlsMemory, wanted, || idle_tls(subject, scale.idle_tls));
    }
    if ![Row::IdleMemory, Row::PushLatency, Row::PushLatencyCrowd].into_iter().any(|row| wanted.row(row)) {
        return;
    }
    let connections = if subject.process_per_connection() { scale.idle.min(FEW) } else { scale.idle };
    let before = subject.memory();
    let open = in_threads(connections, |number| {
        let mut client = subject.imap_from(load::source(number / 25))?;
        client.ok("SELECT INBOX")?;
        client.start("IDLE")?;
        client.response()?;
        Ok(client)
    });
    let open = match open {
        Ok(open) => open,
        Err(error) => {
            results.failures.push(format!("{}, opening {connections} connections: {error}", subject.name));
            return;
        }
    };
    std::thread::sleep(Duration::from_secs(2));
    results.measure(subject.name, Row::IdleMemory, wanted, || Ok((subject.memory()? - before?) * 1024.0 / load::float(connections as u64)));
    // Where a notice takes half a second, fewer will do.
    let pushes = if subject.process_per_connection() { scale.repeats * 2 } else { scale.repeats * 10 };
    results.measure(subject.name, Row::PushLatency, wanted, || push(subject, "push", pushes).map_err(|e| e.to_string()));
    if !subject.process_per_connection() {
        // Each of them is told of each message here; nobody reads that, and the sockets' buffers take it.
        results
            .measure(subject.name, Row::PushLatencyCrowd, wanted, || push(subject, "INBOX", scale.repeats * 5).map_err(|e| e.to_string()));
    }
    drop(open);
}

/// Memory of idle connections with TLS.
fn idle_tls(subject: &Subject, connections: usize) -> Result<f64, Failure> {
    let before = subject.memory()?;
    let open = in_threads(connections, |number| {
        let mut client = subject.imap_tls_from(load::source(number / 25))?;
        client.ok("SELECT INBOX")?;
        client.start("IDLE")?;
        client.response()?;
        Ok(client)
    });
    let open = open.map_err(|e| format!("opening {connections} connections: {e}"))?;
    std::thread::sleep(Duration::from_secs(2));
    let after = subject.memory()?;
    drop(open);
    Ok((after - before) * 1024.0 / load::float(connections as u64))
}

/// Milliseconds from the answer to an APPEND to the notice in another connection; 99 of 100 take less.
fn push(subject: &Subject, mailbox: &str, repeats: usize) -> io::Result<f64> {
    let (mut writer, mut listener) = (subject.imap()?, subject.imap()?);
    // It may be there.
    writer.command(&format!("CREATE {mailbox}"))?;
    let there = count(&mut writer, mailbox)?;
    listener.ok(&format!("SELECT {mailbox}"))?;
    listener.start("IDLE")?;
    listener.response()?;
    let (told, tell) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut expected = there + 1;
            while let Ok(response) = listener.response() {
                if response == format!("* {expected} EXISTS").into_bytes() {
                    expected += 1;
                    if told.send(Instant::now()).is_err() || expected > there + repeats {
                        return;
                    }
                }
            }
        });
        let mut times = Vec::new();
        for number in 0..repeats {
            writer.append(mailbox, "", &load::message(number))?;
            let answered = Instant::now();
            let heard = tell.recv_timeout(Duration::from_secs(10)).map_err(|e| io::Error::other(format!("no notice: {e}")))?;
            times.push(milliseconds(heard.saturating_duration_since(answered)));
        }
        Ok(load::percentile(&mut times, 99))
    })
}

/// Does something so many times, in some threads, each time with its number.
fn in_threads<T: Send>(times: usize, work: impl Fn(usize) -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    let outcomes: Vec<io::Result<Vec<T>>> = std::thread::scope(|scope| {
        let work = &work;
        let some = |thread: usize| scope.spawn(move || (thread..times).step_by(THREADS).map(work).collect());
        let handles: Vec<_> = (0..THREADS).map(some).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))).collect()
    });
    let mut all = Vec::new();
    for outcome in outcomes {
        all.extend(outcome?);
    }
    Ok(all)
}
