//! Filling mailboxes and reading a large one, over IMAP.

use super::load::{self, milliseconds};
use super::rows::Row;
use super::subject::Subject;
use super::{Results, Scale, Wanted};
use crate::Failure;
use mox_testkit::peers::ImapClient;
use std::io;
use std::time::{Duration, Instant};

/// The large mailbox.
const LARGE: &str = "large";
/// Messages in a MULTIAPPEND while filling it.
const BATCH: usize = 100;

/// Messages appended per second to a mailbox, one APPEND each.
pub(super) fn append(subject: &Subject, mailbox: &str, connections: usize, messages: usize) -> Result<f64, Failure> {
    let work = || -> io::Result<f64> {
        subject.imap()?.ok(&format!("CREATE {mailbox}"))?;
        let each = messages / connections;
        let clients: io::Result<Vec<ImapClient>> = (0..connections).map(|_| subject.imap()).collect();
        let start = Instant::now();
        let done: Vec<io::Result<()>> = std::thread::scope(|scope| {
            let handles: Vec<_> = clients?
                .into_iter()
                .enumerate()
                .map(|(connection, mut client)| {
                    scope.spawn(move || (0..each).try_for_each(|n| client.append(mailbox, "", &load::message(connection * each + n))))
                })
                .collect();
            Ok::<_, io::Error>(handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))).collect())
        })?;
        let took = start.elapsed();
        done.into_iter().collect::<io::Result<()>>()?;
        expect(&mut subject.imap()?, mailbox, each * connections)?;
        Ok(load::rate(each * connections, took))
    };
    work().map_err(|e| e.to_string())
}

/// Checks how many messages a mailbox has.
fn expect(client: &mut ImapClient, mailbox: &str, messages: usize) -> io::Result<()> {
    let found = count(client, mailbox)?;
    if found == messages { Ok(()) } else { Err(io::Error::other(format!("{found} messages in {mailbox}, not {messages}"))) }
}

/// How many messages a mailbox has.
pub(super) fn count(client: &mut ImapClient, mailbox: &str) -> io::Result<usize> {
    let answer = client.ok(&format!("STATUS {mailbox} (MESSAGES)"))?;
    let text = answer.untagged.iter().map(|u| String::from_utf8_lossy(u)).find(|u| u.contains("MESSAGES"));
    let number = text.and_then(|t| t.rsplit(['(', ' ', ')']).find_map(|word| word.parse().ok()));
    number.ok_or_else(|| io::Error::other("STATUS says nothing"))
}

/// All rows that read the large mailbox.
pub(super) fn reading(subject: &Subject, scale: Scale, wanted: &Wanted, results: &mut Results) {
    let rows = [Row::Select, Row::Status, Row::FetchFlags, Row::FetchEnvelope, Row::FetchBodystructure, Row::FetchHeaders];
    let more = [Row::FetchBody, Row::SearchUnseen, Row::SearchFrom, Row::SearchSubject, Row::SearchText, Row::Store];
    if !rows.iter().chain(&more).any(|row| wanted.row(*row)) {
        return;
    }
    let start = Instant::now();
    if let Err(error) = fill(subject, scale.mailbox) {
        results.failures.push(format!("{}, filling the large mailbox: {error}", subject.name));
        return;
    }
    println!("{:<18} filled with {} messages in {:.1} s", subject.name, scale.mailbox, start.elapsed().as_secs_f64());
    let client = subject.imap().and_then(|mut c| c.ok(&format!("SELECT {LARGE}")).map(|_| c));
    let mut client = match client {
        Ok(client) => client,
        Err(error) => {
            results.failures.push(format!("{}, selecting the large mailbox: {error}", subject.name));
            return;
        }
    };
    // Caches are warm, and a server that indexes in the background has done so.
    settle(&mut client);
    let n = scale.mailbox;
    let all = |items: &str| format!("FETCH 1:* {items}");
    let common = "BODY.PEEK[HEADER.FIELDS (DATE FROM TO CC SUBJECT MESSAGE-ID REFERENCES CONTENT-TYPE)]";
    let some = n.min(2000);
    let repeats = scale.repeats.min(5);
    let mut fetch = |row, command: String, expected| {
        results.measure(subject.name, row, wanted, || timed(repeats, || fetched(&mut client, &command, expected)));
    };
    fetch(Row::FetchFlags, all("(UID FLAGS)"), n);
    fetch(Row::FetchEnvelope, all("(ENVELOPE INTERNALDATE RFC822.SIZE)"), n);
    fetch(Row::FetchBodystructure, all("BODYSTRUCTURE"), n);
    fetch(Row::FetchHeaders, all(common), n);
    fetch(Row::FetchBody, format!("FETCH 1:{some} BODY.PEEK[]"), some);
    let mut search = |row, command: &str, expected| {
        results.measure(subject.name, row, wanted, || timed(repeats, || searched(&mut client, command, expected)));
    };
    search(Row::SearchUnseen, "SEARCH UNSEEN", n / BATCH / 2 * BATCH);
    search(Row::SearchFrom, "SEARCH FROM sender77@", (0..n).filter(|n| n % 500 == 77).count());
    search(Row::SearchSubject, "SEARCH SUBJECT \"number 1234\"", (0..n).filter(|n| n.to_string().starts_with("1234")).count());
    search(Row::SearchText, &format!("SEARCH TEXT {}", load::RARE), (0..n).filter(|n| n % 1000 == 7).count());
    results.measure(subject.name, Row::Store, wanted, || {
        let mut adding = false;
        timed(scale.repeats | 1, || {
            adding = !adding;
            let sign = if adding { '+' } else { '-' };
            let changed = client.drain(&format!("STORE 1:{} {sign}FLAGS (\\Flagged)", n.min(1000)))?;
            if changed < n.min(1000) { Err(io::Error::other(format!("{changed} changes"))) } else { Ok(()) }
        })
    });
    results
        .measure(subject.name, Row::Select, wanted, || timed(scale.repeats * 10, || client.drain(&format!("EXAMINE {LARGE}")).map(drop)));
    results.measure(subject.name, Row::Status, wanted, || {
        let mut other = subject.imap().map_err(|e| e.to_string())?;
        timed(scale.repeats * 50, || other.drain(&format!("STATUS {LARGE} (MESSAGES UNSEEN UIDNEXT UIDVALIDITY)")).map(drop))
    });
}

/// Fills the large mailbox: batches seen and unseen in turn.
fn fill(subject: &Subject, messages: usize) -> io::Result<()> {
    let mut client = subject.imap()?;
    client.ok(&format!("CREATE {LARGE}"))?;
    for (batch, start) in (0..messages).step_by(BATCH).enumerate() {
        let batch_messages: Vec<Vec<u8>> = (start..messages.min(start + BATCH)).map(load::message).collect();
        let slices: Vec<&[u8]> = batch_messages.iter().map(Vec::as_slice).collect();
        let flags = if batch % 2 == 0 { "\\Seen" } else { "" };
        let answer = client.append_all(LARGE, flags, &slices)?;
        if !answer.is_ok() {
            return Err(io::Error::other(answer.status));
        }
    }
    expect(&mut client, LARGE, messages)
}

/// Asks once for what will be measured, so that caches are warm, and waits until a search isn't faster than the one before: a server
/// that indexes in the background has done so then.
fn settle(client: &mut ImapClient) {
    let mut last = Duration::MAX;
    for _ in 0..30 {
        let start = Instant::now();
        let asked = client.drain("SEARCH SUBJECT \"number 77\"");
        let took = start.elapsed();
        if asked.is_err() || took.as_secs_f64() > last.as_secs_f64() * 0.9 {
            break;
        }
        last = took;
        std::thread::sleep(Duration::from_millis(500));
    }
    // Whatever fails here fails again where it is measured.
    drop(client.drain("FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE)"));
}

fn fetched(client: &mut ImapClient, command: &str, expected: usize) -> io::Result<()> {
    let found = client.drain(command)?;
    if found == expected { Ok(()) } else { Err(io::Error::other(format!("{found} responses, not {expected}"))) }
}

fn searched(client: &mut ImapClient, command: &str, expected: usize) -> io::Result<()> {
    let answer = client.ok(command)?;
    let found: usize = answer
        .untagged
        .iter()
        .filter_map(|u| u.strip_prefix(b"* SEARCH"))
        .map(|u| u.split(|b| *b == b' ').filter(|w| w.first().is_some_and(u8::is_ascii_digit)).count())
        .sum();
    if found == expected { Ok(()) } else { Err(io::Error::other(format!("{found} found, not {expected}"))) }
}

/// Longer than this nothing is repeated.
const ENOUGH: Duration = Duration::from_secs(15);

/// Milliseconds, the median of some repetitions.
fn timed(repeats: usize, mut work: impl FnMut() -> io::Result<()>) -> Result<f64, Failure> {
    let mut times = Vec::new();
    let begin = Instant::now();
    for _ in 0..repeats {
        let start = Instant::now();
        work().map_err(|e| e.to_string())?;
        times.push(milliseconds(start.elapsed()));
        if begin.elapsed() > ENOUGH {
            break;
        }
    }
    Ok(load::median(&mut times))
}
