//! Limits on what a client may send, how long it may take, and how often it may fail.

use crate::server::{Server, TestClient};
use crate::transcript::Pace;
use mox_imapd::{CommandResult, Limits, Metrics};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

/// Connects and reads the greeting.
async fn greeted(server: &Server) -> TestClient {
    let mut client = server.connect(Pace::Lines);
    assert!(client.line("greeting").await.starts_with("* OK "));
    client
}

async fn logged_in(server: &Server) -> TestClient {
    let mut client = server.logged_in(Pace::Lines);
    assert!(client.line("greeting").await.starts_with("* PREAUTH "));
    client
}

/// Seconds until the server says goodbye to a client that says nothing, and closes.
async fn seconds_until_bye(client: &mut TestClient) -> u64 {
    let before = Instant::now();
    assert_eq!(client.next_line().await.as_deref(), Some("* BYE inactive"));
    assert_eq!(client.next_line().await, None);
    before.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn silent_clients_are_told_to_go() {
    let server = Server::start().await;
    assert_eq!(seconds_until_bye(&mut greeted(&server).await).await, 30, "before login");
    let mut client = greeted(&server).await;
    client.send("a login {15}", "").await;
    assert_eq!(client.line("literal").await, "+ go ahead");
    assert_eq!(seconds_until_bye(&mut client).await, 30, "within a literal");
    let mut client = greeted(&server).await;
    client.send("a authenticate plain", "").await;
    assert!(client.line("challenge").await.starts_with('+'));
    assert_eq!(seconds_until_bye(&mut client).await, 30, "while authenticating");
    assert_eq!(seconds_until_bye(&mut logged_in(&server).await).await, 30 * 60, "after login");
    let mut client = logged_in(&server).await;
    client.send("a idle", "").await;
    assert_eq!(client.line("idle").await, "+ idling");
    assert_eq!(seconds_until_bye(&mut client).await, 30 * 60, "in IDLE");
    let mut client = logged_in(&server).await;
    client.send("a select {5}", "").await;
    assert_eq!(client.line("literal").await, "+ go ahead");
    assert_eq!(seconds_until_bye(&mut client).await, 30, "within a literal after login");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_left() {
    let server = Server::start().await;
    let mut client = logged_in(&server).await;
    let size = 300_000;
    client.send_bytes(format!("a append inbox {{{size}+}}\r\n{}\r\n", "x".repeat(size)).as_bytes()).await;
    client.until("a ").await;
    client.send("b select inbox", "").await;
    client.until("b ").await;
    client.send("c fetch 1 body.peek[]", "").await;
    sleep(Duration::from_secs(31)).await;
    let mut got = Vec::new();
    client.stream.read_to_end(&mut got).await.unwrap();
    assert!(got.len() < size, "{} bytes came, so the server waited", got.len());
    server.stop().await;
}

#[tokio::test]
async fn lines_and_literals_of_a_command_have_a_sum() {
    let server = Server::start().await;
    // A command's lines, each within its limit.
    let mut client = logged_in(&server).await;
    let line = format!("subject \"{}\" subject {{1+}}\r\nx ", "y".repeat(16_000));
    client.send_bytes(format!("a search {}all\r\n", line.repeat(17)).as_bytes()).await;
    assert_eq!(client.line("lines").await, "* BYE [ALERT] literal too big");
    assert!(client.line("lines").await.starts_with("a BAD [TOOBIG] "));
    assert_eq!(client.next_line().await, None);
    // Before login, ten literals.
    let mut client = greeted(&server).await;
    client.send_bytes(format!("a id ({})\r\n", "{1+}\r\nx nil ".repeat(11)).as_bytes()).await;
    assert_eq!(client.line("literals").await, "* BYE [ALERT] literal too big");
    assert!(client.line("literals").await.starts_with("a BAD [TOOBIG] "));
    assert_eq!(client.next_line().await, None);
    // A line that is too long leaves no place from which to go on.
    for mut client in [greeted(&server).await, logged_in(&server).await] {
        client.send(&format!("a noop {}", "x".repeat(16_384)), "").await;
        assert_eq!(client.next_line().await, None);
    }
    server.stop().await;
}

#[tokio::test]
async fn wrong_commands_come_to_an_end() {
    let server = Server::start().await;
    for (mut client, limit) in [(greeted(&server).await, 10), (logged_in(&server).await, 100)] {
        client.send("a noop", "").await;
        assert_eq!(client.line("noop").await, "a OK noop done");
        for _ in 0..limit {
            client.send("b frob", "").await;
            assert_eq!(client.line("frob").await, "b BAD frob: unknown command");
        }
        // A right one makes up for all wrong ones before it.
        client.send("a noop", "").await;
        assert_eq!(client.line("noop").await, "a OK noop done");
        for _ in 0..=limit {
            client.send("b frob", "").await;
            assert_eq!(client.line("frob").await, "b BAD frob: unknown command");
        }
        assert_eq!(client.line("frob").await, "* BYE too many wrong commands");
        assert_eq!(client.next_line().await, None);
    }
    server.stop().await;
}

#[tokio::test]
async fn messages_of_one_append_have_a_number_and_a_size() {
    let server = Server::start_with(Limits { append_messages: 3, append_waiting: 1000, ..Limits::default() }).await;
    let mut client = logged_in(&server).await;
    for (message, times, ok) in [("x", 3, true), ("x", 4, false), (&"y".repeat(500), 2, true), (&"y".repeat(400), 3, false)] {
        let messages = format!(" {{{}+}}\r\n{message}", message.len()).repeat(times);
        client.send(&format!("a append inbox{messages}"), "").await;
        let line = client.line("append").await;
        let wanted = if ok { "a OK [APPENDUID " } else { "a NO [LIMIT] " };
        assert!(line.starts_with(wanted), "{times} times {} bytes: {line}", message.len());
    }
    // All of a command or none.
    client.send("b status inbox (messages)", "").await;
    assert_eq!(client.line("status").await, "* STATUS Inbox (MESSAGES 5)");
    drop(client);
    server.stop().await;
}

async fn fail(client: &mut TestClient) {
    client.send("a login mjl@mox.example wrong", "").await;
    // However long that takes.
    let line = client.next_line().await;
    assert!(line.as_deref().is_some_and(|line| line.starts_with("a NO [AUTHENTICATIONFAILED]")), "{line:?}");
}

#[tokio::test]
async fn failed_logins_shut_out_their_address() {
    let server = Server::start().await;
    for _ in 0..2 {
        let mut client = greeted(&server).await;
        for _ in 0..5 {
            fail(&mut client).await;
        }
    }
    let mut refused = server.connect(Pace::Lines);
    assert_eq!(refused.line("refusal").await, "* BYE too many failed logins from your address or network");
    assert_eq!(refused.next_line().await, None);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn guessing_gets_slow() {
    let server = Server::start_with(Limits::default()).await;
    let mut client = greeted(&server).await;
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let before = Instant::now();
        fail(&mut client).await;
        seconds.push(before.elapsed().as_secs());
    }
    // A byte a second from the third on, then a second before reading, and after the third failure another for each.
    assert!(seconds[..2] == [0, 0] && seconds[2] >= 20 && seconds[3] > seconds[2] && seconds[4] > seconds[3], "{seconds:?}");
    client.send("b login mjl@mox.example testtest1234", "").await;
    assert!(client.next_line().await.is_some_and(|line| line.starts_with("b OK ")));
    let before = Instant::now();
    client.send("c noop", "").await;
    assert_eq!(client.next_line().await.as_deref(), Some("c OK noop done"));
    assert_eq!(before.elapsed().as_secs(), 0, "whoever knows the password is served as before");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn connections_have_a_number_and_a_rate() {
    let server = Server::start().await;
    let mut open = Vec::new();
    for _ in 0..30 {
        open.push(greeted(&server).await);
    }
    let mut refused = server.connect(Pace::Lines);
    assert_eq!(refused.line("refusal").await, "* BYE too many open connections from your address or network");
    // Whom TLS would have to be spoken to first isn't worth it.
    assert_eq!(server.connect_at(crate::tls::listener(true)).next_line().await, None);
    drop(open);
    for _ in 32..300 {
        let mut client = server.connect(Pace::Lines);
        let _greeting = client.line("greeting").await;
    }
    let mut refused = server.connect(Pace::Lines);
    assert_eq!(refused.line("refusal").await, "* BYE too many new connections from your address or network");
    server.stop().await;
}

/// What became of searches.
#[derive(Debug, Default)]
struct Searches(Mutex<Vec<CommandResult>>);

impl Metrics for Searches {
    fn connection(&self, _: &'static str) {}

    fn command(&self, command: &'static str, result: CommandResult, _: Duration) {
        if command == "search" {
            self.0.lock().unwrap().push(result);
        }
    }

    fn panic(&self) {}
}

/// Nobody searches on for a client that has gone, or keeps others from reading meanwhile.
#[tokio::test]
async fn searches_wait_for_their_turn_and_end_with_their_client() {
    let mut server = Server::start().await;
    let searches = Arc::new(Searches::default());
    Arc::get_mut(&mut server.service).unwrap().metrics = Arc::clone(&searches) as Arc<dyn Metrics>;
    let mut client = logged_in(&server).await;
    for _ in 0..3 {
        client.send_bytes(b"a append inbox {17+}\r\nSubject: x\r\n\r\nabc\r\n").await;
        client.until("a ").await;
    }
    client.send("b select inbox", "").await;
    client.until("b ").await;
    client.send("c search body abc", "").await;
    assert_eq!(client.line("search").await, "* SEARCH 1 2 3");
    assert_eq!(client.line("search").await, "c OK search done");
    // Somebody else's turn: others that want less go on.
    let account = server.service.store.account("mjl").await.unwrap();
    let turn = account.scan().await.unwrap();
    let mut gone = logged_in(&server).await;
    gone.send("b select inbox", "").await;
    gone.until("b ").await;
    gone.send("c search body abc", "").await;
    drop(gone);
    // One that only sends nothing more is there.
    let mut there = logged_in(&server).await;
    there.send("b select inbox", "").await;
    there.until("b ").await;
    there.send("c search body abc", "").await;
    there.stream.shutdown().await.unwrap();
    client.send("d fetch 1:* (flags rfc822.size)", "").await;
    client.until("d ").await;
    drop(turn);
    let heard = String::from_utf8(there.until("c ").await).unwrap();
    assert_eq!(heard, "* OK still at work\r\n* SEARCH 1 2 3\r\nc OK search done\r\n");
    drop((there, client));
    server.stop().await;
    let mut results = searches.0.lock().unwrap().clone();
    results.sort_by_key(|result| result.label());
    assert_eq!(results, [CommandResult::IoError, CommandResult::Ok, CommandResult::Ok]);
}

/// A turn isn't for waiting until a client reads.
#[tokio::test]
async fn who_does_not_read_keeps_no_turn() {
    const BUFFER: usize = 64 * 1024;
    let server = Server::start().await;
    let mut stuck = logged_in(&server).await;
    let mut size = 60_000;
    // What is fetched the second time leaves no room for anything else.
    for n in 1..=2 {
        let message = format!("Subject: x\r\n\r\n{}\r\n", "a".repeat(size));
        stuck.send_bytes(format!("a append inbox {{{}+}}\r\n{message}\r\n", message.len()).as_bytes()).await;
        stuck.until("a ").await;
        if n == 1 {
            stuck.send("b select inbox", "").await;
            stuck.until("b ").await;
            stuck.send("c fetch 1 body.peek[]", "").await;
            size += BUFFER - stuck.until("c ").await.len();
        }
    }
    let mut other = logged_in(&server).await;
    other.send("b select inbox", "").await;
    other.until("b ").await;
    let turn = server.service.store.account("mjl").await.unwrap();
    let turn = turn.scan().await.unwrap();
    stuck.send_bytes(b"c fetch 2 body.peek[]\r\nd search body aaa\r\n").await;
    stuck.stream.shutdown().await.unwrap();
    other.send("c fetch 1:* flags", "").await;
    other.until("c ").await;
    drop(turn);
    for _ in 0..3 {
        other.send("d search body aaa", "").await;
        other.until("d ").await;
    }
    drop((stuck, other));
    server.stop().await;
}
