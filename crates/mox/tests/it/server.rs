//! Starting the server, and looking into its mailboxes.

use mox_testkit::peers::{ImapClient, Mox, Service, SmtpClient, wait_until};
use std::path::Path;

pub(crate) use mox_testkit::peers::PATIENCE;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_mox");

pub(crate) fn start() -> Mox {
    Mox::start(Path::new(BINARY)).unwrap()
}

pub(crate) fn imap(mox: &Mox) -> ImapClient {
    ImapClient::login(mox.port(Service::Imap), Mox::USER, Mox::PASSWORD).unwrap()
}

/// Mail from the world.
pub(crate) fn smtp(mox: &Mox) -> SmtpClient {
    SmtpClient::smtp(mox.port(Service::Smtp)).unwrap()
}

/// Mail from the user.
pub(crate) fn submission(mox: &Mox) -> SmtpClient {
    let mut client = SmtpClient::smtp(mox.port(Service::Submission)).unwrap();
    client.login(Mox::USER, Mox::PASSWORD).unwrap();
    client
}

/// The number in `* n EXISTS` of a newly selected mailbox; 0 of one that isn't there yet: the first message for it makes it.
pub(crate) fn exists(client: &mut ImapClient, mailbox: &str) -> usize {
    let answer = client.command(&format!("SELECT {mailbox}")).unwrap();
    if answer.status.contains("[NONEXISTENT]") {
        return 0;
    }
    let line = answer.untagged.iter().find(|u| u.ends_with(b" EXISTS")).unwrap();
    let text = std::str::from_utf8(line).unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Waits until a mailbox has so many messages, and selects it.
pub(crate) fn await_messages(client: &mut ImapClient, mailbox: &str, count: usize) {
    let mut found = 0;
    let arrived = wait_until(PATIENCE, || {
        found = exists(client, mailbox);
        found >= count
    });
    assert!(arrived && found == count, "{found} messages in {mailbox}, expected {count}");
}

/// The bytes of all messages of the selected mailbox, in order.
pub(crate) fn bodies(client: &mut ImapClient) -> Vec<Vec<u8>> {
    client.ok("FETCH 1:* BODY.PEEK[]").unwrap().literals()
}

/// A small complete message.
pub(crate) fn message(subject: &str) -> Vec<u8> {
    format!(
        "From: <mox@localhost>\r\nTo: <mox@localhost>\r\nSubject: {subject}\r\nMessage-ID: <{}@localhost>\r\n\
         Date: Mon, 02 Nov 2026 10:00:00 +0000\r\n\r\nThe body of {subject}.\r\n.A line with a dot.\r\n",
        subject.replace(' ', "-")
    )
    .into_bytes()
}
