//! Handing mail over by SMTP or LMTP, until it is in the mailboxes.

use super::load;
use super::mailbox::count;
use super::subject::{ACCOUNTS, Subject};
use crate::Failure;
use mox_testkit::peers::{ImapClient, SmtpClient};
use std::io;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 8;

/// Messages delivered per second, from the first word to the last message in its mailbox.
pub(super) fn delivery(subject: &Subject, messages: usize) -> Result<f64, Failure> {
    let work = || -> io::Result<f64> {
        let accounts: io::Result<Vec<ImapClient>> = (0..ACCOUNTS).map(|n| subject.imap_account(n)).collect();
        let mut accounts = accounts?;
        let before = total(&mut accounts)?;
        let clients: io::Result<Vec<SmtpClient>> = (0..CONNECTIONS).map(|_| subject.deliverer()).collect();
        let start = Instant::now();
        send(clients?, messages, &|n| subject.account(n % ACCOUNTS))?;
        // A server that queues first isn't done when everything is accepted.
        while total(&mut accounts)? < before + messages {
            if start.elapsed() > Duration::from_secs(600) {
                return Err(io::Error::other(format!("{} of {messages} arrived", total(&mut accounts)? - before)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(load::rate(messages, start.elapsed()))
    };
    work().map_err(|e| e.to_string())
}

/// Messages accepted per second on the submission port.
pub(super) fn submission(subject: &Subject, messages: usize) -> Result<f64, Failure> {
    let work = || -> io::Result<f64> {
        let clients: io::Result<Vec<SmtpClient>> = (0..CONNECTIONS).map(|_| subject.submitter()).collect();
        let start = Instant::now();
        send(clients?, messages, &|n| subject.account(n % ACCOUNTS))?;
        Ok(load::rate(messages, start.elapsed()))
    };
    work().map_err(|e| e.to_string())
}

/// The same over TLS, with the handshake and the login of each connection.
pub(super) fn submissions(subject: &Subject, messages: usize) -> Result<f64, Failure> {
    let work = || -> io::Result<f64> {
        let start = Instant::now();
        let clients: io::Result<Vec<SmtpClient>> = (0..CONNECTIONS).map(|_| subject.tls_submitter()).collect();
        send(clients?, messages, &|n| subject.account(n % ACCOUNTS))?;
        Ok(load::rate(messages, start.elapsed()))
    };
    work().map_err(|e| e.to_string())
}

fn send(clients: Vec<SmtpClient>, messages: usize, recipient: &(dyn Fn(usize) -> String + Sync)) -> io::Result<()> {
    let connections = clients.len();
    let outcomes: Vec<io::Result<()>> = std::thread::scope(|scope| {
        let handles: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(connection, client)| scope.spawn(move || send_some(client, (connection..messages).step_by(connections), recipient)))
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))).collect()
    });
    outcomes.into_iter().collect()
}

fn send_some(mut client: SmtpClient, numbers: impl Iterator<Item = usize>, recipient: &(dyn Fn(usize) -> String + Sync)) -> io::Result<()> {
    for number in numbers {
        // The sender is the account that submission belongs to.
        let message = load::message_from("mox@localhost", number);
        let reply = client.send("mox@localhost", &[&recipient(number)], &message)?;
        if !reply.is_ok() {
            return Err(io::Error::other(format!("message {number}: {} {}", reply.code, reply.text)));
        }
    }
    Ok(())
}

fn total(accounts: &mut [ImapClient]) -> io::Result<usize> {
    accounts.iter_mut().map(|client| count(client, "INBOX")).sum()
}
