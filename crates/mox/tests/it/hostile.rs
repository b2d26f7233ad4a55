//! Input meant to hurt: a clear error, flat memory, and others unaffected.

use crate::queue::{await_queue, is_empty, send, serving_in};
use crate::server::{BINARY, PATIENCE, await_messages, bodies, exists, imap, message, smtp, start, submission};
use mox_testkit::peers::{ImapClient, Mox, Reaction, Service, Sink, SmtpClient, Turn, wait_until};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Memory of the server in MiB.
fn memory(mox: &Mox) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mox.id().unwrap())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() / 1024
}

/// Checks that somebody else is served, soon, and that memory stayed within bounds.
#[track_caller]
fn others_are_fine(mox: &Mox, before: usize, growth: usize) {
    let begin = Instant::now();
    let mut client = imap(mox);
    client.ok("STATUS INBOX (MESSAGES)").unwrap();
    let reply = smtp(mox).send(Mox::USER, &["other@localhost"], &message("fine")).unwrap();
    assert!(reply.is_ok(), "{reply:?}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let after = memory(mox);
    assert!(after <= before + growth, "memory grew from {before} to {after} MiB");
}

#[test]
fn ten_thousand_levels_of_nesting() {
    let mox = start();
    let before = memory(&mox);
    let mut text = "From: <mox@localhost>\r\nMessage-ID: <deep@localhost>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n".to_owned();
    for level in 0..10_000 {
        text.push_str(&format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"));
    }
    text.push_str("Content-Type: text/plain\r\n\r\nhello\r\n");
    let begin = Instant::now();
    // Refusing it is as good as taking it.
    let reply = smtp(&mox).send(Mox::USER, &[Mox::USER], text.as_bytes()).unwrap();
    assert!(reply.is_ok() || reply.code / 100 == 5, "{reply:?}");
    let mut client = imap(&mox);
    client.append("Archive", "", text.as_bytes()).unwrap();
    client.ok("SELECT Archive").unwrap();
    client.ok("FETCH 1 (ENVELOPE BODYSTRUCTURE)").unwrap();
    assert!(client.ok("FETCH 1 BODY.PEEK[]").unwrap().literals()[0] == text.as_bytes());
    let section = vec!["1"; 5000].join(".");
    client.command(&format!("FETCH 1 BODY.PEEK[{section}]")).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    others_are_fine(&mox, before, 100);
}

#[test]
fn a_hundred_thousand_addresses() {
    let mox = start();
    let before = memory(&mox);
    let mut text = String::from("From: <mox@localhost>\r\nMessage-ID: <many@localhost>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nTo: ");
    for number in 0..100_000 {
        text.push_str(&format!("Someone <a{number}@example.org>,\r\n "));
    }
    text.push_str("<last@example.org>\r\nSubject: many\r\n\r\nhello\r\n");
    let begin = Instant::now();
    let mut client = imap(&mox);
    client.append("Archive", "", text.as_bytes()).unwrap();
    client.ok("SELECT Archive").unwrap();
    client.ok("FETCH 1 ENVELOPE").unwrap();
    client.ok("SEARCH TO last@example.org").unwrap();
    assert!(client.ok("FETCH 1 BODY.PEEK[]").unwrap().literals()[0] == text.as_bytes());
    let reply = smtp(&mox).send(Mox::USER, &[Mox::USER], text.as_bytes()).unwrap();
    assert!(reply.is_ok() || reply.code / 100 == 5, "{reply:?}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    others_are_fine(&mox, before, 150);
}

#[test]
fn literal_bombs_before_login() {
    let mox = start();
    let before = memory(&mox);
    for bomb in
        ["LOGIN {4000000000}", "LOGIN {4000000000+}", "LOGIN {18446744073709551616}", "AUTHENTICATE PLAIN {9999999}", "ID ({200000}"]
    {
        let mut client = ImapClient::connect(mox.port(Service::Imap)).unwrap();
        client.start(bomb).unwrap();
        // No `+`: a refusal or a goodbye.
        let response = client.response().unwrap_or_default();
        assert!(!response.starts_with(b"+"), "{bomb}: {}", String::from_utf8_lossy(&response));
    }
    // A line without an end.
    let mut client = ImapClient::connect(mox.port(Service::Imap)).unwrap();
    let flood = vec![b'x'; 1 << 16];
    let mut written = 0;
    while written < 64 << 20 && client.write(&flood).is_ok() {
        written += flood.len();
    }
    assert!(written < 64 << 20, "64 MiB of a command line were read");
    others_are_fine(&mox, before, 50);
}

#[test]
fn literal_bombs_after_login() {
    let mox = start();
    let before = memory(&mox);
    for bomb in ["SELECT {4000000000}", "SELECT {102401}", "SEARCH SUBJECT {4000000000+}", "STATUS {99999999999999999999}"] {
        let mut client = imap(&mox);
        client.start(bomb).unwrap();
        let response = client.response().unwrap_or_default();
        assert!(!response.starts_with(b"+"), "{bomb}: {}", String::from_utf8_lossy(&response));
    }
    // Many small ones: at most 1000 in a command.
    let mut client = imap(&mox);
    let many = "SUBJECT {1+}\r\na ".repeat(1200);
    let ended = client.write(format!("x SEARCH {many}\r\n").as_bytes()).is_err() || {
        let response = client.response().unwrap_or_default();
        response.is_empty() || response.starts_with(b"x BAD") || response.starts_with(b"* BYE") || response.starts_with(b"x NO")
    };
    assert!(ended);
    // A deep search key.
    let mut client = imap(&mox);
    client.ok("SELECT INBOX").unwrap();
    let deep = format!("SEARCH {}ALL{}", "(".repeat(5000), ")".repeat(5000));
    assert!(client.command(&deep).is_ok_and(|a| !a.is_ok()) || imap(&mox).ok("NOOP").is_ok());
    // A large message that is announced and never comes costs nothing.
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut client = imap(&mox);
        client.start("APPEND INBOX {90000000}").unwrap();
        assert!(client.response().unwrap().starts_with(b"+"));
        client.write(b"From: ").unwrap();
        waiting.push(client);
    }
    others_are_fine(&mox, before, 50);
}

#[test]
fn smtp_floods_are_refused() {
    let mox = start();
    let before = memory(&mox);
    let mut client = SmtpClient::raw(Ipv4Addr::LOCALHOST, mox.port(Service::Smtp)).unwrap();
    client.reply().unwrap();
    let flood = vec![b'x'; 1 << 16];
    let mut written = 0;
    while written < 64 << 20 && client.write(&flood).is_ok() {
        written += flood.len();
    }
    assert!(written < 64 << 20, "64 MiB of a command line were read");
    // More than is allowed, announced and not announced.
    let mut client = smtp(&mox);
    let reply = client.command("MAIL FROM:<mox@localhost> SIZE=999999999").unwrap();
    assert_eq!(reply.code, 552, "{reply:?}");
    // Recipients without end.
    assert!(client.command("MAIL FROM:<mox@localhost>").unwrap().is_ok());
    let refused = (0..1500).find(|n| !client.command(&format!("RCPT TO:<a{n}@localhost>")).is_ok_and(|r| r.is_ok()));
    assert!(refused.is_some(), "1500 recipients in one transaction");
    others_are_fine(&mox, before, 50);
}

#[test]
fn smuggled_ends_of_data_don_t_end_it() {
    let mox = start();
    for end in ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r"] {
        let mut client = smtp(&mox);
        let before = exists(&mut imap(&mox), "INBOX");
        assert!(client.command("MAIL FROM:<mox@localhost>").unwrap().is_ok());
        assert!(client.command("RCPT TO:<mox@localhost>").unwrap().is_ok());
        assert_eq!(client.command("DATA").unwrap().code, 354);
        let first = String::from_utf8(message("first")).unwrap();
        let second = "MAIL FROM:<mox@localhost>\r\nRCPT TO:<mox@localhost>\r\nDATA\r\n";
        client.write(format!("{}{end}{second}{}\r\n.\r\n", first.trim_end(), first.replace("first", "second")).as_bytes()).unwrap();
        // One reply: everything was one message, taken or refused as a whole.
        let _reply = client.reply();
        let answered = client.command("NOOP");
        if let Ok(reply) = answered {
            assert_eq!(reply.code, 250, "{end:?} started another transaction: {reply:?}");
        }
        assert!(exists(&mut imap(&mox), "INBOX") <= before + 1, "{end:?} was taken for the end");
    }
}

#[test]
fn five_hundred_slow_connections() {
    let mox = start();
    let before = memory(&mox);
    let mut slow = Vec::new();
    for number in 0..500_u16 {
        let [_, byte] = (number % 32 * 8).to_be_bytes();
        let [_, network] = (10 + number / 32).to_be_bytes();
        // Each network of its own, as a network may only have so many.
        let source = Ipv4Addr::new(127, network, byte, 1);
        let service = match number % 3 {
            0 => Service::Smtp,
            1 => Service::Imap,
            _ => Service::Http,
        };
        let port = mox.port(service);
        let mut client = SmtpClient::raw(source, port).unwrap();
        client.write(b"N").unwrap();
        slow.push(client);
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        for client in &mut slow {
            // Closed by the server is fine.
            drop(client.write(b"x"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    others_are_fine(&mox, before, 60);
}

#[test]
fn too_many_connections_from_one_address() {
    // Only where strangers are: localserve has no such limits.
    let mox = Mox::serve_with(Path::new(BINARY), |_| Ok(())).unwrap();
    let source = Ipv4Addr::new(127, 9, 0, 1);
    let open: Vec<_> = (0..60).filter_map(|_| ImapClient::connect_from(source, mox.port(Service::Imap)).ok()).collect();
    assert!(open.len() <= 30, "{} connections from one address", open.len());
    assert!(open.len() >= 20, "only {} connections from one address", open.len());
    imap(&mox).ok("NOOP").unwrap();
}

/// A small file system, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, megabytes: usize) -> Option<Self> {
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).status();
        if mounted.is_ok_and(|s| s.success()) {
            return Some(Self(folder.to_owned()));
        }
        mox_testkit::peers::skip("no small file system can be mounted");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_refuses_for_now_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path(), 48) else {
        return;
    };
    let mox = Mox::start_in(Path::new(BINARY), folder.path(), |_| Ok(())).unwrap();
    // Half a megabyte that doesn't compress.
    let text = |number: usize| {
        let mut state = number as u64 + 1;
        let mut text = message(&format!("number {number}"));
        for _ in 0..7000 {
            for _ in 0..72 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let [high, ..] = state.to_be_bytes();
                text.push(b'!' + (high >> 2));
            }
            text.extend_from_slice(b"\r\n");
        }
        text
    };
    let mut client = smtp(&mox);
    let mut kept = Vec::new();
    let mut refused = None;
    for number in 0..200 {
        let sent = text(number);
        let reply = client.send(Mox::USER, &[Mox::USER], &sent).unwrap();
        if !reply.is_ok() {
            refused = Some(reply);
            break;
        }
        kept.push(sent);
    }
    let refused = refused.expect("48 MB took 100 MB");
    assert_eq!(refused.code / 100, 4, "{refused:?}");
    assert!(kept.len() > 10, "{} kept", kept.len());
    // Reading goes on, and everything acknowledged is there.
    let mut reader = imap(&mox);
    await_messages(&mut reader, "INBOX", kept.len());
    for (body, sent) in bodies(&mut reader).iter().zip(&kept) {
        assert!(body.ends_with(sent));
    }
    reader.command("CREATE Another").unwrap();
    // What SMTP needs for a while may still be there for APPEND, but not for long.
    let refused = (1000..1100).find_map(|n| reader.append("INBOX", "", &text(n)).err());
    let refused = refused.expect("48 MB took 50 MB more").to_string();
    assert!(refused.contains("NO [UNAVAILABLE] "), "{refused}");
    // Room again.
    drop(reader);
    let mut reader = imap(&mox);
    exists(&mut reader, "INBOX");
    reader.ok("STORE 1:10 +FLAGS.SILENT (\\Deleted)").unwrap();
    reader.ok("EXPUNGE").unwrap();
    let accepted = wait_until(PATIENCE, || smtp(&mox).send(Mox::USER, &[Mox::USER], &message("again")).is_ok_and(|r| r.is_ok()));
    assert!(accepted);
    drop(mox);
}

/// Writes to a file until there is no room at all.
fn fill(file: &Path) {
    let mut filler = std::fs::File::create(file).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while filler.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

#[test]
fn a_full_disk_pauses_the_queue() {
    static AWAY: AtomicBool = AtomicBool::new(true);
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path(), 48) else {
        return;
    };
    let sink = Sink::start(|turn| match turn {
        Turn::Connect(_) if AWAY.load(Ordering::SeqCst) => Reaction::Reply("421 4.3.2 away".to_owned()),
        _ => Reaction::Normal,
    });
    let sink = sink.unwrap();
    let mox = serving_in(folder.path(), &[("sink.test", sink.port())], &[]);
    for number in 0..10 {
        send(&mox, &["ann@sink.test"], &format!("number {number}"));
    }
    await_queue(&mox, |list| list.matches("4.3.2 away").count() == 10);
    // No room: sooner or later, nothing is taken any more, and what was taken is kept.
    let filler = folder.path().join("filler");
    fill(&filler);
    let mut accepted = 10;
    let refused = (0..2000).find_map(|_| {
        let reply = submission(&mox).send(Mox::USER, &["ann@sink.test"], &message(&format!("number {accepted}"))).unwrap();
        accepted += usize::from(reply.is_ok());
        (!reply.is_ok()).then_some(reply)
    });
    let refused = refused.expect("2000 messages on a full disk");
    assert!(refused.code == 451 || refused.code == 452, "{refused:?}");
    // The next hop is back, but nothing can be noted: neither that an attempt is made nor what came of it.
    AWAY.store(false, Ordering::SeqCst);
    drop(mox.command(&["queue", "schedule", "-now", "0s"]));
    std::thread::sleep(Duration::from_secs(3));
    assert!(imap(&mox).ok("NOOP").is_ok(), "reading goes on");
    // Room again: everything goes on by itself, and arrives once.
    std::fs::remove_file(&filler).unwrap();
    assert!(wait_until(PATIENCE, || mox.command(&["queue", "schedule", "-now", "0s"]).is_ok_and(|output| output.status.success())));
    send(&mox, &["ann@sink.test"], &format!("number {accepted}"));
    await_queue(&mox, is_empty);
    let mut subjects: Vec<usize> = sink
        .received()
        .iter()
        .filter_map(|message| {
            let text = String::from_utf8_lossy(&message.data).into_owned();
            text.lines().find_map(|line| line.strip_prefix("Subject: number ")).and_then(|n| n.trim().parse().ok())
        })
        .collect();
    subjects.sort_unstable();
    assert_eq!(subjects, (0..=accepted).collect::<Vec<_>>());
}
