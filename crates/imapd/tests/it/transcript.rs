//! Transcripts: files of what clients send and servers answer, replayed against a server with a store of its own.
//!
//! `C:` is sent with CRLF, `S:` is the next line that the server must send. A number picks the connection (`2C:`), which is opened
//! when first used. `$name` in an `S:` line matches a word and binds it, `$name` later means the bound word; `…` matches
//! anything to the end of the line. `@ login` (or `@2 login`) opens a connection that is logged in; `@ close` closes, `@ end` waits
//! for the server to close. Lines that start with `#` are comments.

use crate::server::{Server, TestClient};
use std::collections::BTreeMap;

/// How a transcript is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Line by line.
    Lines,
    /// One byte at a time.
    Bytes,
}

pub(crate) async fn replay(name: &str, text: &str, pace: Pace) {
    let server = Server::start().await;
    let mut clients: BTreeMap<u32, TestClient> = BTreeMap::new();
    let mut bound: BTreeMap<String, String> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{} ({pace:?}): {line}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(directive) = line.strip_prefix('@') {
            let (connection, what) = directive.split_once(' ').expect(&place);
            let connection = if connection.is_empty() { 1 } else { connection.parse().expect(&place) };
            match what {
                "login" => {
                    let mut client = server.logged_in(pace);
                    let greeting = client.line(&place).await;
                    assert!(greeting.starts_with("* PREAUTH [CAPABILITY "), "{place}: {greeting}");
                    clients.insert(connection, client);
                }
                "connect" => {
                    clients.insert(connection, server.connect(pace));
                }
                "close" => drop(clients.remove(&connection)),
                "end" => {
                    let client = clients.get_mut(&connection).expect(&place);
                    assert_eq!(client.next_line().await, None, "{place}: should have closed");
                }
                _ => panic!("{place}: unknown directive"),
            }
            continue;
        }
        let (head, rest) = line.split_once(':').expect(&place);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let (connection, side) = head.split_at(head.len() - 1);
        let connection = if connection.is_empty() { 1 } else { connection.parse().expect(&place) };
        let client = clients.get_mut(&connection).expect(&place);
        match side {
            "C" => client.send(&substituted(rest, &bound), &place).await,
            "S" => {
                let got = client.line(&place).await;
                assert!(matches(rest, &got, &mut bound), "{place}\n got: {got}");
            }
            _ => panic!("{place}: neither C nor S"),
        }
    }
    drop(clients);
    server.stop().await;
}

fn substituted(line: &str, bound: &BTreeMap<String, String>) -> String {
    let mut line = line.replace("\\r\\n", "\r\n").replace("\\n", "\n").replace("\\0", "\0");
    for (name, value) in bound.iter().rev() {
        line = line.replace(&format!("${name}"), value);
    }
    line
}

/// Whether a line is as wanted; binds names.
fn matches(want: &str, got: &str, bound: &mut BTreeMap<String, String>) -> bool {
    let (mut want, mut got) = (want, got);
    loop {
        match want.chars().next() {
            None => return got.is_empty(),
            Some('…') => return true,
            Some('$') if want[1..].starts_with(|c: char| c.is_ascii_lowercase()) => {
                let end = want[1..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(want.len(), |i| i + 1);
                let name = &want[1..end];
                let length = got.find([' ', ')', ']', ',']).unwrap_or(got.len());
                let word = &got[..length];
                let known = bound.entry(name.to_owned()).or_insert_with(|| word.to_owned());
                if known != word || word.is_empty() {
                    return false;
                }
                (want, got) = (&want[end..], &got[length..]);
            }
            Some(c) => match got.strip_prefix(c) {
                Some(rest) => (want, got) = (&want[c.len_utf8()..], rest),
                None => return false,
            },
        }
    }
}
