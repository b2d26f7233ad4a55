//! Python's imaplib as a client, over TCP.

use crate::server::Server;
use mox_testkit::peers::require_program;
use std::process::Command;

const SCRIPT: &str = r#"
import imaplib, sys, time

def ok(answer):
    kind, data = answer
    assert kind == 'OK', answer
    return data

c = imaplib.IMAP4('127.0.0.1', int(sys.argv[1]), timeout=20)
assert 'IMAP4REV1' in c.capabilities, c.capabilities
ok(c.login('mjl@mox.example', 'testtest1234'))
names = [line.decode() for line in ok(c.list())]
assert any(name.endswith('Inbox') for name in names), names
ok(c.create('"with space"'))
ok(c.subscribe('"with space"'))
message = b'From: a@x.example\r\nSubject: hi\r\n\r\nhello\r\n'
date = imaplib.Time2Internaldate(time.time())
for _ in range(3):
    ok(c.append('INBOX', r'(\Flagged kw)', date, message))
assert ok(c.select('INBOX')) == [b'3']
assert ok(c.search(None, 'FLAGGED')) == [b'1 2 3']
data = ok(c.fetch('1:3', '(UID RFC822.SIZE BODY.PEEK[])'))
assert [part[1] for part in data if isinstance(part, tuple)] == [message] * 3, data
ok(c.store('1', '+FLAGS', r'(\Deleted)'))
ok(c.copy('2', '"with space"'))
assert ok(c.expunge()) == [b'1']
assert ok(c.uid('search', None, 'ALL')) == [b'2 3']
assert ok(c.status('"with space"', '(MESSAGES UNSEEN)')) == [b'"with space" (MESSAGES 1 UNSEEN 1)']
ok(c.namespace())
ok(c.noop())
ok(c.close())
ok(c.enable('UTF8=ACCEPT'))
ok(c.create('"d\u00e9p\u00f4t"'))
kind, _ = c.select('nowhere')
assert kind == 'NO', kind
kind, _ = c.logout()
assert kind == 'BYE', kind
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imaplib_does_its_work() {
    let Some(python) = require_program("python3") else { return };
    let server = Server::start().await;
    let port = server.listen();
    let run = move || Command::new(python).args(["-c", SCRIPT, &port.to_string()]).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.stop().await;
}
