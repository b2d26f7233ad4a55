//! The server's session against transcripts.

use crate::{escape, transcripts, unescape};
use mox_base::{ByteSize, Random, Secret, Timestamp};
use mox_sasl::Bindings;
use mox_sasl::scram::Keys;
use mox_sasl::server::Wrong;
use mox_smtp::Reply;
use mox_smtp::reply::ReplyParser;
use mox_smtp::server::{Action, Answer, Event, Kind, Limits, Question, Session, Settings, Tls};
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

/// What the client sends together, and all that must follow before it sends more.
#[derive(Default, Debug)]
struct Block {
    sent: Vec<u8>,
    replies: VecDeque<String>,
    questions: VecDeque<(String, String)>,
    events: VecDeque<String>,
    tls: bool,
    close: bool,
}

struct Script {
    settings: Settings,
    tls: Option<Tls>,
    certificate: bool,
    blocks: VecDeque<Block>,
}

fn bindings() -> Bindings {
    Bindings { exporter: Some(vec![7; 32]), server_end_point: None }
}

fn parse(text: &str) -> Script {
    let mut script = Script {
        settings: Settings {
            hostname: "mox.example".parse().unwrap(),
            kind: Kind::Incoming,
            strict: false,
            max_size: ByteSize(100 << 20),
            starttls: true,
            auth_without_tls: false,
            requiretls: true,
            dsn: false,
            limits: Limits::default(),
        },
        tls: None,
        certificate: false,
        blocks: VecDeque::from([Block::default()]),
    };
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (kind, rest) = (line.get(..2).unwrap(), line.get(2..).unwrap());
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        if kind == "!:" {
            setting(&mut script, rest);
            continue;
        }
        let open = script
            .blocks
            .back()
            .is_some_and(|b| b.replies.is_empty() && b.questions.is_empty() && b.events.is_empty() && !b.tls && !b.close);
        if matches!(kind, "C:" | "C|") && !open {
            script.blocks.push_back(Block::default());
        }
        let block = script.blocks.back_mut().unwrap();
        match kind {
            "C:" => {
                block.sent.extend(unescape(rest));
                block.sent.extend(b"\r\n");
            }
            "C|" => block.sent.extend(unescape(rest)),
            "S:" => block.replies.push_back(rest.to_owned()),
            "?:" => {
                let (question, answer) = rest.rsplit_once(" -> ").expect("question -> answer");
                block.questions.push_back((question.to_owned(), answer.to_owned()));
            }
            "E:" => block.events.push_back(rest.to_owned()),
            "T:" => block.tls = true,
            "X:" => block.close = true,
            _ => panic!("unknown line {line}"),
        }
    }
    script
}

fn setting(script: &mut Script, text: &str) {
    let settings = &mut script.settings;
    for word in text.split(' ') {
        match word.split_once('=').unwrap_or((word, "")) {
            ("submission", _) => settings.kind = Kind::Submission,
            ("strict", _) => settings.strict = true,
            ("dsn", _) => settings.dsn = true,
            ("plain-auth", _) => settings.auth_without_tls = true,
            ("no-starttls", _) => settings.starttls = false,
            ("no-requiretls", _) => settings.requiretls = false,
            ("tls", _) => script.tls = Some(Tls { bindings: bindings(), certificate: false }),
            ("certificate", _) => script.certificate = true,
            ("max-size", n) => settings.max_size = ByteSize(n.parse().unwrap()),
            ("drain", n) => settings.limits.drain = n.parse().unwrap(),
            ("recipients", n) => settings.limits.recipients = n.parse().unwrap(),
            ("bad-commands", n) => settings.limits.bad_commands = n.parse().unwrap(),
            ("chatter", n) => settings.limits.chatter = n.parse().unwrap(),
            ("bad-messages", n) => settings.limits.bad_messages = n.parse().unwrap(),
            (other, _) => panic!("unknown setting {other}"),
        }
    }
}

fn question(question: &Question, message: &mut Vec<u8>) -> String {
    match question {
        Question::Helo(name) => format!("helo {name}"),
        Question::AuthStart(mechanism) => format!("auth {mechanism}"),
        Question::Sasl(mox_sasl::Ask::Verify { user, password }) => format!("verify {user} {}", password.expose()),
        Question::Sasl(mox_sasl::Ask::VerifyCramMd5 { user, .. }) => format!("cram-md5 {user}"),
        Question::Sasl(mox_sasl::Ask::ScramKeys { user, .. }) => format!("keys {user}"),
        Question::Sasl(mox_sasl::Ask::External { user }) => format!("external {}", user.as_deref().unwrap_or("-")),
        Question::Login { user, mechanism } => format!("login {} {mechanism}", user.as_deref().unwrap_or("-")),
        Question::Mail(mail) => mail.to_string().replacen("MAIL FROM:", "mail ", 1),
        Question::Rcpt { rcpt, accepted_before } => {
            format!("{} {accepted_before}", rcpt.to_string().replacen("RCPT TO:", "rcpt ", 1))
        }
        Question::Message(envelope) => {
            let taken = std::mem::take(message);
            let f = envelope.facts;
            assert_eq!(f.size, taken.len() as u64);
            format!("message {} {}", envelope.recipients.len(), escape(&taken))
        }
    }
}

fn answer(text: &str) -> Answer {
    let reply = |text: &str| -> Reply {
        let line = [&unescape(text)[..], b"\r\n"].concat();
        ReplyParser::default().take(&line, true).unwrap().0.unwrap()
    };
    match text {
        "ok" => Answer::Ok,
        "right" => Answer::Sasl(mox_sasl::Answer::Right),
        "wrong user" => Answer::Sasl(mox_sasl::Answer::Wrong(Wrong::User)),
        "wrong password" => Answer::Sasl(mox_sasl::Answer::Wrong(Wrong::Password)),
        "wrong credentials" => Answer::Sasl(mox_sasl::Answer::Wrong(Wrong::Credentials)),
        "unavailable" => Answer::Sasl(mox_sasl::Answer::Unavailable),
        "fake keys" | "no keys" => {
            let (secret, why) = (Secret::new(vec![1; 32]), if text == "no keys" { Wrong::NoKeys } else { Wrong::User });
            Answer::Sasl(mox_sasl::Answer::FakeKeys(Keys::fake(mox_sasl::scram::Hash::Sha256, &secret, "x"), why))
        }
        _ => match text.strip_prefix("close ") {
            Some(text) => Answer::Close(reply(text)),
            None => Answer::Refuse(reply(text)),
        },
    }
}

/// `piece`: how many bytes the session gets at a time.
fn replay(name: &str, text: &str, piece: usize) {
    let Script { settings, tls, certificate, mut blocks } = parse(text);
    let peer = "192.0.2.7".parse().unwrap();
    let mut session = Session::new(Arc::new(settings), Arc::new(Counting), "id".to_owned(), peer, tls);
    let mut block = blocks.pop_front().unwrap();
    let mut unsent: VecDeque<u8> = block.sent.iter().copied().collect();
    let mut message = Vec::new();
    let now = Timestamp::from_secs(1_800_000_000);
    let at = |block: &Block| format!("{name}, pieces of {piece}, after {:?}", escape(&block.sent));
    loop {
        match session.next(now) {
            Action::Send(bytes) => {
                for line in String::from_utf8(bytes.to_vec()).unwrap().split_inclusive("\r\n") {
                    let line = line.strip_suffix("\r\n").unwrap();
                    let want = block.replies.pop_front().unwrap_or_default();
                    assert_eq!(line, want, "{}", at(&block));
                }
            }
            Action::Ask(asked) => {
                let asked = question(&asked, &mut message);
                let (want, reply) = block.questions.pop_front().unwrap_or_default();
                assert_eq!(asked, want, "{}", at(&block));
                session.answer(answer(&reply));
            }
            Action::Tell(Event::AuthFailed { user, mechanism, failure }) => {
                let event = format!("auth-failed {} {mechanism} {}", user.as_deref().unwrap_or("-"), failure.result());
                assert_eq!(Some(event), block.events.pop_front(), "{}", at(&block));
            }
            Action::Tell(Event::Reset) => message.clear(),
            Action::Tell(Event::Replied { .. } | Event::Line { .. }) => {}
            Action::Chunk(bytes) => message.extend_from_slice(&bytes),
            Action::StartTls => {
                assert!(std::mem::take(&mut block.tls), "{}", at(&block));
                unsent.clear();
                session.tls_started(Tls { bindings: bindings(), certificate });
            }
            Action::Read(_) => {
                while unsent.is_empty() {
                    assert!(block.replies.is_empty(), "still wanted {:?}: {}", block.replies, at(&block));
                    assert!(block.questions.is_empty() && block.events.is_empty() && !block.tls && !block.close, "{}", at(&block));
                    match blocks.pop_front() {
                        Some(next) => block = next,
                        None => return,
                    }
                    unsent = block.sent.iter().copied().collect();
                }
                let next: Vec<u8> = unsent.drain(..piece.min(unsent.len())).collect();
                session.receive(&next);
            }
            Action::Close => {
                assert!(block.close && block.replies.is_empty() && blocks.is_empty(), "closed: {}", at(&block));
                return;
            }
        }
    }
}

#[test]
fn transcripts_replay_whole_and_byte_by_byte() {
    for (name, text) in transcripts("server") {
        for (number, part) in text.split("\n---\n").enumerate() {
            for piece in [usize::MAX, 1, 7] {
                replay(&format!("{name} part {}", number + 1), part, piece);
            }
        }
    }
}

fn session(settings: &str) -> Session {
    let script = parse(&format!("!: {settings}"));
    Session::new(Arc::new(script.settings), Arc::new(Counting), "id".to_owned(), "192.0.2.7".parse().unwrap(), script.tls)
}

fn said(session: &mut Session) -> String {
    let mut text = String::new();
    loop {
        match session.next(Timestamp::EPOCH) {
            Action::Send(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Action::Read(_) => return text,
            Action::Close => return format!("{text}closed"),
            Action::Ask(_) => session.answer(Answer::Ok),
            Action::Tell(_) | Action::Chunk(_) | Action::StartTls => {}
        }
    }
}

#[test]
fn timeouts_and_shutdown_are_told() {
    let mut s = session("strict");
    said(&mut s);
    s.timeout();
    assert_eq!(said(&mut s), "421 4.4.2 timeout, closing connection\r\nclosed");
    let mut s = session("strict");
    said(&mut s);
    s.receive(b"EHLO x.example\r\nMAIL FROM:<a@x.example>\r\n");
    said(&mut s);
    s.shutdown();
    assert_eq!(said(&mut s), "421 4.3.2 shutting down\r\nclosed");
}

#[test]
fn a_refused_connection_hears_no_greeting() {
    let mut s = session("strict");
    s.refuse_connection(Reply::new(421, (4, 7, 0), "too many connections"));
    assert_eq!(said(&mut s), "421 4.7.0 too many connections\r\nclosed");
}

#[test]
fn a_policy_that_does_not_answer_is_a_temporary_error() {
    let mut s = session("strict");
    said(&mut s);
    s.receive(b"EHLO x.example\r\n");
    said(&mut s);
    s.receive(b"MAIL FROM:<a@x.example>\r\n");
    assert!(matches!(s.next(Timestamp::EPOCH), Action::Ask(_)));
    assert_eq!(said(&mut s), "451 4.3.0 error processing (id)\r\n");
}

#[test]
fn pipelined_replies_come_in_one_piece() {
    let mut s = session("strict");
    said(&mut s);
    s.receive(b"EHLO x.example\r\nMAIL FROM:<a@x.example>\r\n");
    said(&mut s);
    s.receive(b"RCPT TO:<b@mox.example>\r\nRCPT TO:<c@mox.example>\r\nRCPT TO:<d@mox.example>\r\nRCPT");
    let mut sends = 0;
    loop {
        match s.next(Timestamp::EPOCH) {
            Action::Send(bytes) => {
                assert_eq!(bytes.iter().filter(|b| **b == b'\n').count(), 3);
                sends += 1;
            }
            Action::Ask(_) => s.answer(Answer::Ok),
            Action::Read(_) => break,
            _ => {}
        }
    }
    assert_eq!(sends, 1);
}

#[test]
fn lines_are_told_when_asked_for() {
    let mut s = session("submission plain-auth");
    s.trace();
    said(&mut s);
    s.receive(b"EHLO x\r\nauth PLAIN\r\nAUTH PLAIN =\r\n");
    let mut lines = Vec::new();
    loop {
        match s.next(Timestamp::EPOCH) {
            Action::Tell(Event::Line { line, secret }) => lines.push((String::from_utf8(line.to_vec()).unwrap(), secret)),
            Action::Ask(_) => s.answer(Answer::Ok),
            Action::Read(_) => break,
            _ => {}
        }
    }
    let want = [("EHLO x", false), ("auth PLAIN", true), ("AUTH PLAIN =", true)];
    let lines: Vec<(&str, bool)> = lines.iter().map(|(line, secret)| (line.as_str(), *secret)).collect();
    assert_eq!(lines[..2], want[..2]);
}

/// What the session replies to these bytes; every message is refused.
fn replies(session: &mut Session, sent: &[u8]) -> String {
    session.receive(sent);
    let mut text = String::new();
    loop {
        match session.next(Timestamp::EPOCH) {
            Action::Send(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Action::Read(_) => return text,
            Action::Close => return format!("{text}closed"),
            Action::Ask(asked) if matches!(*asked, Question::Message(_)) => {
                session.answer(Answer::Refuse(Reply::new(451, (4, 3, 0), "no")))
            }
            Action::Ask(_) => session.answer(Answer::Ok),
            Action::Tell(_) | Action::Chunk(_) | Action::StartTls => {}
        }
    }
}

#[test]
fn clients_may_do_so_much_by_default() {
    // Wrong commands, and right ones that bring no mail.
    for (command, times, reply) in [("FROB\r\n", 50, "500 5.5.1"), ("NOOP\r\n", 999, "250 2.0.0")] {
        let mut s = session("no-starttls");
        said(&mut s);
        replies(&mut s, b"NOOP\r\n");
        let all = replies(&mut s, command.repeat(times).as_bytes());
        assert_eq!(all.matches(reply).count(), times, "{command}");
        let last = replies(&mut s, command.as_bytes());
        assert!(last.starts_with("421 4.7.0 too many") && last.ends_with("closed"), "{command}: {last}");
    }
    // Recipients.
    let mut s = session("no-starttls");
    said(&mut s);
    replies(&mut s, b"EHLO x.example\r\nMAIL FROM:<a@x.example>\r\n");
    let all = replies(&mut s, "RCPT TO:<b@mox.example>\r\n".repeat(1001).as_bytes());
    assert_eq!((all.matches("250 2.1.0").count(), all.matches("452 4.5.3").count()), (1000, 1));
    // Messages that are refused.
    let mut s = session("no-starttls");
    said(&mut s);
    replies(&mut s, b"EHLO x.example\r\n");
    let message = "MAIL FROM:<a@x.example>\r\nRCPT TO:<b@mox.example>\r\nDATA\r\n.\r\n";
    assert_eq!(replies(&mut s, message.repeat(11).as_bytes()).matches("451 4.3.0").count(), 11);
    assert_eq!(replies(&mut s, message.as_bytes()), "550 5.1.0 too many failures\r\nclosed");
}

#[test]
fn so_much_of_a_message_that_is_too_large_is_read() {
    let mut s = session("no-starttls max-size=10");
    said(&mut s);
    let begin = b"EHLO x.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@mox.example>\r\nDATA\r\n";
    replies(&mut s, begin);
    let mebibyte = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        assert_eq!(replies(&mut s, &mebibyte), "");
    }
    assert_eq!(replies(&mut s, b"\r\n.\r\n"), "552 5.3.4 message too large (id)\r\n");
    replies(&mut s, begin);
    for _ in 0..64 {
        assert_eq!(replies(&mut s, &mebibyte), "");
    }
    assert_eq!(replies(&mut s, &mebibyte), "552 5.3.4 message too large\r\nclosed");
}
