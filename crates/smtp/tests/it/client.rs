//! The client's session against transcripts.

use crate::{transcripts, unescape};
use mox_base::{Random, Secret};
use mox_sasl::client::Credentials;
use mox_sasl::{Bindings, Mechanism};
use mox_smtp::client::{Action, Auth, Error, Session, Settings, Timeouts, TlsMode, Transaction};
use mox_smtp::grammar::{Dialect, Mail, Rcpt, RcptParameters};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
struct Counting;

impl Random for Counting {
    fn fill(&self, buf: &mut [u8]) {
        for (b, n) in buf.iter_mut().zip(1..) {
            *b = n;
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// The server says.
    Says(Vec<u8>),
    /// The client must say.
    Hears(String),
    Order(String),
    Result(String),
    Failed(String),
    Tls,
    Lost,
    Close,
}

fn parse(text: &str) -> (Settings, VecDeque<Step>) {
    let mut settings = Settings {
        ehlo: mox_base::Host::Domain("us.example".parse().unwrap()),
        tls: TlsMode::Skip,
        auth: None,
        chunking: true,
        timeouts: Timeouts::default(),
    };
    let mut steps = VecDeque::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (kind, rest) = (line.get(..2).unwrap(), line.get(2..).unwrap());
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let step = match kind {
            "!:" => {
                for word in rest.split(' ') {
                    match word.split_once('=').unwrap_or((word, "")) {
                        ("required", _) => settings.tls = TlsMode::Required,
                        ("opportunistic", _) => settings.tls = TlsMode::Opportunistic,
                        ("immediate", _) => settings.tls = TlsMode::Immediate,
                        ("no-chunking", _) => settings.chunking = false,
                        ("auth", names) => {
                            settings.auth = Some(Auth {
                                credentials: Credentials { user: "ann".to_owned(), password: Secret::new("pw".to_owned()) },
                                mechanisms: names.split(',').map(|n| Mechanism::from_name(n).unwrap()).collect(),
                            });
                        }
                        (other, _) => panic!("unknown setting {other}"),
                    }
                }
                continue;
            }
            "S:" => Step::Says([&unescape(rest)[..], b"\r\n"].concat()),
            "C:" => Step::Hears(String::from_utf8(unescape(rest)).unwrap()),
            ">:" => Step::Order(rest.to_owned()),
            "=:" => Step::Result(rest.to_owned()),
            "F:" => Step::Failed(rest.to_owned()),
            "T:" => Step::Tls,
            "L:" => Step::Lost,
            "X:" => Step::Close,
            _ => panic!("unknown line {line}"),
        };
        steps.push_back(step);
    }
    (settings, steps)
}

fn transaction(order: &str) -> Transaction {
    let mut words = order.split(' ');
    let path = |text: &str| -> Option<mox_base::Path> { (text != "<>").then(|| text.parse::<mox_base::Address>().unwrap().into()) };
    let from = path(words.next().unwrap());
    let recipients = words.next().unwrap().split(',').map(|to| Rcpt { to: path(to), parameters: RcptParameters::default() }).collect();
    let mut t = Transaction { from, recipients, ..Transaction::default() };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("size", n) => t.size = n.parse().unwrap(),
            ("8bit", _) => t.eight_bit = true,
            ("need-8bit", _) => (t.eight_bit, t.require_eight_bit_mime) = (true, true),
            ("smtputf8", _) => t.smtputf8 = true,
            ("requiretls", _) => t.requiretls = true,
            ("priority" | "by", _) => {
                let word = word.replace("priority=", "mt-priority=");
                let dialect = Dialect { priority: true, ..Dialect::default() };
                let parameters = Mail::parse(format!(" FROM:<> {word}").as_bytes(), &dialect).unwrap().parameters;
                (t.priority, t.by) = (t.priority.or(parameters.priority), t.by.or(parameters.by));
            }
            (other, _) => panic!("unknown word {other}"),
        }
    }
    t
}

fn describe(error: &Error) -> String {
    let kind = format!("{:?}", error.kind).to_lowercase();
    let code = error.code().map(|c| format!(" {c}")).unwrap_or_default();
    format!("{} {kind} {}{code}", if error.permanent { "permanent" } else { "temporary" }, error.stage.name())
}

fn replay(name: &str, text: &str, piece: usize) {
    let (settings, mut steps) = parse(text);
    let bindings = Bindings { exporter: Some(vec![7; 32]), server_end_point: None };
    let immediate = settings.tls == TlsMode::Immediate;
    let mut session = Session::new(settings, Arc::new(Counting), immediate.then(|| bindings.clone()));
    let mut unread: VecDeque<u8> = VecDeque::new();
    loop {
        let action = session.next();
        let context = format!("{name}, pieces of {piece}: {action:?} before {:?}", steps.front());
        match action {
            Action::Send(bytes) => {
                for line in String::from_utf8(bytes.to_vec()).unwrap().split_inclusive("\r\n") {
                    let Some(Step::Hears(want)) = steps.pop_front() else { panic!("{context}") };
                    assert_eq!(line.strip_suffix("\r\n"), Some(want.as_str()), "{context}");
                }
            }
            Action::Read(_) => {
                if unread.is_empty() {
                    match steps.pop_front() {
                        Some(Step::Says(bytes)) => {
                            unread.extend(bytes);
                            // What the server says in a row comes in a row.
                            while let Some(Step::Says(bytes)) = steps.front().cloned() {
                                unread.extend(bytes);
                                steps.pop_front();
                            }
                        }
                        Some(Step::Lost) => {
                            session.lost("connection reset");
                            continue;
                        }
                        None => return,
                        Some(_) => panic!("{context}"),
                    }
                }
                let next: Vec<u8> = unread.drain(..piece.min(unread.len())).collect();
                session.receive(&next);
            }
            Action::Ready | Action::Body => match steps.pop_front() {
                Some(Step::Order(order)) => match order.split_once(' ').unwrap_or((&order, "")) {
                    ("begin", rest) => session.begin(transaction(rest)),
                    ("body", text) => {
                        let body = unescape(text);
                        let at = piece.min(body.len());
                        session.body(&body[..at]);
                        session.body(&body[at..]);
                        session.body_end();
                    }
                    ("quit", _) => session.quit(),
                    (other, _) => panic!("unknown order {other}"),
                },
                None => return,
                _ => panic!("{context}"),
            },
            Action::Done(results) => {
                let got: Vec<String> = results
                    .iter()
                    .map(|r| match r {
                        Ok(reply) => format!("ok {}", reply.code),
                        Err(e) => describe(e),
                    })
                    .collect();
                let Some(Step::Result(want)) = steps.pop_front() else { panic!("{context}") };
                assert_eq!(got.join("; "), want, "{context}");
            }
            Action::Failed(error) => {
                let Some(Step::Failed(want)) = steps.pop_front() else { panic!("{context}") };
                assert_eq!(describe(&error), want, "{context}");
            }
            Action::StartTls => {
                let Some(Step::Tls) = steps.pop_front() else { panic!("{context}") };
                session.tls_started(bindings.clone());
            }
            Action::Close => {
                let Some(Step::Close) = steps.pop_front() else { panic!("{context}") };
                assert!(steps.is_empty(), "{context}");
                return;
            }
        }
    }
}

#[test]
fn transcripts_replay_whole_and_byte_by_byte() {
    for (name, text) in transcripts("client") {
        for (number, part) in text.split("\n---\n").enumerate() {
            for piece in [usize::MAX, 1, 7] {
                replay(&format!("{name} part {}", number + 1), part, piece);
            }
        }
    }
}

#[test]
fn plain_text_behind_the_reply_to_starttls_is_refused() {
    let (mut settings, _) = parse("");
    settings.tls = TlsMode::Required;
    let mut session = Session::new(settings, Arc::new(Counting), None);
    session.receive(b"220 mx.example\r\n250 mx.example\r\n220 go\r\n250 mx.example\r\n");
    let failed = loop {
        match session.next() {
            Action::Failed(error) => break error,
            Action::Send(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(describe(&failed), "temporary tls starttls");
}

#[test]
fn many_recipients_are_sent_in_windows() {
    let (settings, _) = parse("");
    let mut session = Session::new(settings, Arc::new(Counting), None);
    session.receive(b"220 mx.example\r\n");
    while !matches!(session.next(), Action::Read(_)) {}
    session.receive(b"250-mx.example\r\n250 PIPELINING\r\n");
    assert_eq!(session.next(), Action::Ready);
    let rcpt = |i: usize| format!("u{i}@mx.example");
    session.begin(transaction(&format!("a@us.example {}", (0..250).map(rcpt).collect::<Vec<_>>().join(","))));
    let (mut outstanding, mut replies) = (0, 0);
    loop {
        match session.next() {
            Action::Send(bytes) => outstanding += bytes.iter().filter(|b| **b == b'\n').count(),
            Action::Read(_) => {
                assert!((1..=100).contains(&outstanding));
                outstanding -= 1;
                replies += 1;
                session.receive(if replies == 252 { b"354 go\r\n" } else { b"250 ok\r\n" });
            }
            Action::Body => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((outstanding, replies), (0, 252));
}

/// A session with a server that has these extensions, and a message begun whose recipient is accepted.
fn with_message_begun(extensions: &str) -> Session {
    let (settings, _) = parse("");
    let mut session = Session::new(settings, Arc::new(Counting), None);
    session.receive(b"220 mx.example\r\n");
    while !matches!(session.next(), Action::Read(_)) {}
    session.receive(format!("250-mx.example\r\n{extensions}250 HELP\r\n").as_bytes());
    assert_eq!(session.next(), Action::Ready);
    session.begin(transaction("a@us.example b@mx.example"));
    loop {
        match session.next() {
            Action::Send(_) => {}
            Action::Read(_) => session.receive(b"250 ok\r\n"),
            Action::Body => return session,
            other => panic!("{other:?}"),
        }
    }
}

/// Gives a message of so many pieces of 64 KiB, and answers each chunk but the last as told, by its number. The sizes of the chunks that were sent before
/// the first reply, those sent in all, and the result.
fn in_chunks(mut session: Session, pieces: usize, reply: impl Fn(usize) -> &'static str) -> (usize, Vec<String>, String) {
    let piece = [&[b'.'; 62][..], b"\r\n"].concat().repeat(1024);
    let (mut given, mut sent, mut answered, mut before_reply) = (0, Vec::new(), 0, None);
    let mut whole = Vec::new();
    loop {
        match session.next() {
            Action::Body if given < pieces => {
                given += 1;
                session.body(&piece);
            }
            Action::Body => session.body_end(),
            Action::Send(bytes) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let line = rest.iter().position(|b| *b == b'\n').unwrap() + 1;
                    let command = String::from_utf8(rest[..line].to_vec()).unwrap().trim_end().to_owned();
                    let length: usize = command.split(' ').nth(1).unwrap().parse().unwrap();
                    whole.extend_from_slice(&rest[line..line + length]);
                    rest = &rest[line + length..];
                    sent.push(command);
                }
            }
            Action::Read(_) => {
                before_reply.get_or_insert(sent.len());
                assert!(sent.len() > answered, "nothing to wait for");
                session.receive(format!("{}\r\n", reply(answered)).as_bytes());
                answered += 1;
            }
            Action::Done(results) => {
                if results[0].is_ok() {
                    assert_eq!(whole, piece.repeat(pieces));
                }
                let result = results[0].as_ref().map_or_else(describe, |reply| format!("ok {}", reply.code));
                return (before_reply.unwrap(), sent, format!("{result}{}", if session.is_usable() { "" } else { ", closed" }));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn large_messages_go_in_chunks_of_one_size() {
    let (before_reply, sent, result) = in_chunks(with_message_begun("250-CHUNKING\r\n250-PIPELINING\r\n"), 11, |_| "250 ok");
    assert_eq!(sent, ["BDAT 131072", "BDAT 131072", "BDAT 131072", "BDAT 131072", "BDAT 131072", "BDAT 65536 LAST"]);
    assert_eq!((before_reply, result.as_str()), (1, "ok 250"));
    // One by one.
    let (_, sent, result) = in_chunks(with_message_begun("250-CHUNKING\r\n"), 4, |_| "250 ok");
    assert_eq!((sent.len(), result.as_str()), (2, "ok 250"));
}

#[test]
fn a_refused_chunk_ends_the_message() {
    for (refused, reply, chunks, want) in [
        (0, "552 5.3.4 too large", 1, "permanent status data 552"),
        (0, "451 4.3.0 disk full", 1, "temporary status data 451"),
        (0, "502 5.5.1 what", 1, "temporary chunking data 502, closed"),
        (0, "500 5.5.1 what", 1, "temporary chunking data 500, closed"),
        // Some more are on their way then, but the last isn't among them.
        (1, "552 5.3.4 too large", 5, "permanent status data 552"),
        (2, "502 5.5.1 what", 6, "permanent status data 502"),
        (1, "421 4.3.2 shutting down", 5, "temporary status data 421, closed"),
    ] {
        let session = with_message_begun("250-CHUNKING\r\n250-PIPELINING\r\n");
        let answer = move |n: usize| {
            if n < refused {
                "250 ok"
            } else if n == refused {
                reply
            } else {
                "503 5.5.1 chunk before was refused"
            }
        };
        let (_, sent, result) = in_chunks(session, 40, answer);
        assert_eq!((sent.len(), result.as_str()), (chunks, want), "{reply} to chunk {refused}");
        assert!(!sent.iter().any(|c| c.ends_with("LAST")), "{sent:?}");
    }
    // Also if the server takes the last after all: a part is missing.
    let session = with_message_begun("250-CHUNKING\r\n250-PIPELINING\r\n");
    let (_, sent, result) = in_chunks(session, 5, |n| if n == 1 { "452 4.3.1 full" } else { "250 ok" });
    assert_eq!((sent.last().unwrap().as_str(), result.as_str()), ("BDAT 65536 LAST", "temporary status data 452"));
}
