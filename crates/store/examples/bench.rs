//! How fast the store is by itself, without protocols: `cargo run --release -p mox-store --example bench [MESSAGES]`.

use mox_base::{Clock, Random, Timestamp, Uid};
use mox_store::{Account, Append, Columns, Error, FlagChange, FlagOp, Flags, Message, Settings, Store, UidSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
struct Now(Instant);

impl Clock for Now {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "a program of its own has the real clock")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.after(now)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Only names of files and UIDVALIDITYs come from it.
#[derive(Debug)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            let n = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).to_le_bytes();
            chunk.iter_mut().zip(n).for_each(|(b, n)| *b = n);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of its own has the real clock")]
fn start() -> Start {
    Start { at: Instant::now(), cpu: cpu() }
}

/// When something was started.
#[derive(Clone, Copy)]
struct Start {
    at: Instant,
    cpu: u64,
}

/// Processor time of this process so far, in milliseconds: what stays the same on a busy machine.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>() * 10
}

#[expect(clippy::print_stdout, reason = "the result is for people")]
fn tell(what: &str, from: Start, n: u64) {
    let t = from.at.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "for show")]
    let rate = n as f64 / t.as_secs_f64();
    println!("{what:<50} {:>10.2} ms {rate:>12.0}/s {:>8} ms CPU", t.as_secs_f64() * 1000.0, cpu() - from.cpu);
}

fn mail(n: u64) -> Vec<u8> {
    let mut m = format!(
        "From: Sender {n} <sender{n}@remote.example>\r\nTo: Ann <ann@mox.example>\r\nSubject: Message number {n} about things\r\n\
         Date: Fri, 2 Jan 2026 03:04:05 +0100\r\nMessage-ID: <{n}.abcdef@remote.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=\"b-{n}\"\r\n\r\n--b-{n}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    );
    let mut x = n.wrapping_mul(77_777).wrapping_add(1);
    while m.len() < 3700 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Words rather than noise, as mail is.
        _ = write!(m, "word{} and {} then ", (x >> 40) % 500, (x >> 50) % 90);
        if m.len() % 5 == 0 {
            m.push_str("\r\n");
        }
    }
    _ = write!(m, "\r\n--b-{n}\r\nContent-Type: text/html\r\n\r\n<p>hello</p>\r\n--b-{n}--\r\n");
    m.into_bytes()
}

async fn deliver(accounts: Vec<Account>, writers: u64, total: u64) -> Result<(), Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for w in 0..writers {
        let next = Arc::clone(&next);
        let account = accounts.get(usize::try_from(w)? % accounts.len()).cloned().ok_or("no account")?;
        tasks.spawn(async move {
            let inbox = account.mailboxes().by_name("Inbox").map(|m| m.id).ok_or(Error::NoMailbox)?;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= total {
                    return Ok::<_, Error>(());
                }
                account.add(inbox, Message::new(mail(n)), Append::default()).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn fill(account: &Account, total: u64) -> Result<(), Failure> {
    let inbox = account.mailboxes().by_name("Inbox").map(|m| m.id).ok_or("no Inbox")?;
    for batch in 0..total.div_ceil(500) {
        let mut some = Vec::new();
        for n in 0..500 {
            some.push(account.prepare(Message::new(mail(batch * 500 + n))).await?);
        }
        account
            .write(move |tx| {
                for (n, message) in some.iter().enumerate() {
                    let flags = if n % 3 == 0 { Flags::SEEN } else { Flags::NONE };
                    tx.add(inbox, message, &Append { flags, ..Append::default() })?;
                }
                Ok::<_, Error>(())
            })
            .await?;
    }
    Ok(())
}

async fn read(account: &Account, total: u32) -> Result<(), Failure> {
    let inbox = account.mailboxes().by_name("Inbox").map(|m| m.id).ok_or("no Inbox")?;
    let t = start();
    let view = account.view(inbox).await?;
    tell("SELECT, cold", t, 1);
    let t = start();
    let again = account.view(inbox).await?;
    tell("SELECT, warm", t, 1);
    let t = start();
    let mut sum = 0u64;
    again.for_each(&again.uids(), |e| sum += u64::from(e.flags.bits()) + u64::from(e.seq));
    tell("FLAGS of all, from the view", t, view.exists().into());
    let t = start();
    tell(&format!("SEARCH UNSEEN: {}", view.exists() - u32::try_from(view.with_flag(Flags::SEEN).len())?), t, 1);
    for (what, columns) in [
        ("state", Columns::STATE),
        ("envelopes", Columns::ENVELOPE),
        ("bodystructures", Columns::BODYSTRUCTURE),
        ("headers", Columns::HEADERS),
        ("envelopes again", Columns::ENVELOPE),
    ] {
        let set = view.uids();
        let t = start();
        let n = account
            .read(move |tx| {
                let mut n = 0usize;
                tx.fetch_rows(inbox, &set, columns, |row| {
                    n += match columns {
                        Columns::ENVELOPE => row.envelope()?.len(),
                        Columns::BODYSTRUCTURE => row.bodystructure()?.len(),
                        Columns::HEADERS => row.headers()?.map_or(0, <[u8]>::len),
                        _ => 1,
                    };
                    Ok::<_, Error>(true)
                })?;
                Ok::<_, Error>(n)
            })
            .await?;
        tell(&format!("fetch_rows of all: {what}, {n} bytes"), t, total.into());
    }
    let t = start();
    account
        .read(move |tx| {
            let mut ids = Vec::new();
            tx.fetch_rows(inbox, &UidSet::from_ranges([(1, 2000)]), Columns::STATE, |row| {
                ids.push(row.id()?);
                Ok::<_, Error>(true)
            })?;
            let mut out = Vec::new();
            for id in ids {
                out.clear();
                tx.message_bytes(id, 0..u64::MAX, &mut out)?;
            }
            Ok::<_, Error>(())
        })
        .await?;
    tell("bodies of 2,000", t, 2000);
    for (what, set) in [
        ("STORE +FLAGS on 1,000 in a row", UidSet::from_ranges([(1001, 2000)])),
        ("STORE +FLAGS on 1,000 here and there", (0..1000).filter_map(|n| Uid::new(n * (total / 1000) + 1)).collect()),
    ] {
        let change = FlagChange { op: FlagOp::Add, flags: Flags::FLAGGED | Flags::ANSWERED, keywords: Vec::new() };
        let t = start();
        account.write(move |tx| tx.store_flags(inbox, &set, &change, None)).await?;
        tell(what, t, 1000);
    }
    Ok(())
}

async fn run(total: u64) -> Result<(), Failure> {
    let folder = std::env::current_dir()?.join("target").join("bench-store");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let settings = match std::env::var("MOX_TEST_POSTGRES") {
        Ok(url) => Settings::postgres(mox_store::db::PgAddress::parse(&url)?, None, folder.join("blobs")),
        Err(_) => Settings::sqlite(&folder),
    };
    let clock = Arc::new(Now(start().at));
    let random = Arc::new(Counting(AtomicU64::new(clock.now().micros().unsigned_abs())));
    let store = Store::open(settings.clone(), clock.clone(), random.clone()).await?;
    let mut accounts = Vec::new();
    for n in 0..16 {
        accounts.push(store.ensure_account(&format!("u{n}"), &[]).await?);
    }
    let all = 10_000;
    let t = start();
    let mut size = 0;
    for n in 0..all {
        size += mail(n).len();
    }
    tell(&format!("making messages, {size} bytes"), t, all);
    let first = accounts.first().ok_or("no account")?.clone();
    let t = start();
    for n in 0..all {
        drop(first.prepare(Message::new(mail(n))).await?);
    }
    tell("making and preparing", t, all);
    let t = start();
    deliver(accounts.clone(), 16, all).await?;
    tell("deliveries, 16 writers, 16 accounts", t, all);
    for writers in [8, 1] {
        let t = start();
        deliver(vec![first.clone()], writers, all / 2).await?;
        tell(&format!("deliveries, {writers} writers, one mailbox"), t, all / 2);
    }
    let full = store.ensure_account("full", &[]).await?;
    let t = start();
    fill(&full, total).await?;
    tell("filling a mailbox, 500 to a commit", t, total);
    drop((accounts, first, full));
    store.close().await;
    let store = Store::open(settings, clock, random).await?;
    let full = store.account("full").await?;
    read(&full, u32::try_from(total)?).await?;
    let t = start();
    let report = full.check().await?;
    tell(&format!("check: {} messages, {:?}", report.messages, report.problems), t, report.messages);
    store.close().await;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let total = std::env::args().nth(1).map_or(Ok(100_000), |n| n.parse())?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(total))
}
