//! Changing the configuration of a running server.

use crate::server::start;
use mox_testkit::peers::{ImapClient, Mox, Service, SmtpClient};

fn run(mox: &Mox, line: &str) -> (i32, String, String) {
    let args: Vec<&str> = line.split_whitespace().collect();
    let output = mox.command(&args).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_is_needed_cannot_be_removed() {
    let mox = start();
    let refused = |line: &str, part: &str| {
        let (status, stdout, stderr) = run(&mox, line);
        assert!(status == 1 && stdout.is_empty() && stderr.contains(part), "{line}: {status} {stdout} {stderr}");
    };
    refused("config account rm mox", "mox");
    assert_eq!(run(&mox, "config account add eve eve@localhost").0, 0);
    // Held messages would be nobody's without their sender's address.
    assert_eq!(run(&mox, "queue holdrules add -senderdom localhost").0, 0);
    assert_eq!(mox.command_with_input(&["setaccountpassword", "eve"], b"evesecret\n").unwrap().status.code(), Some(0));
    let mut client = SmtpClient::smtp(mox.port(Service::Submission)).unwrap();
    client.login("eve@localhost", "evesecret").unwrap();
    client.send("eve@localhost", &[Mox::USER], b"From: <eve@localhost>\r\nSubject: held\r\n\r\nThe body.\r\n").unwrap();
    refused("config address rm eve@localhost", "messages from this address are in the queue");
    // With the account, its messages go; so does its password.
    assert_eq!(run(&mox, "config account rm eve"), (0, "account removed\n".to_owned(), String::new()));
    assert_eq!(run(&mox, "queue list").1.lines().filter(|l| l.contains("eve@localhost")).count(), 0);
    assert_eq!(run(&mox, "config account add eve eve@localhost").0, 0);
    let mut client = SmtpClient::smtp(mox.port(Service::Submission)).unwrap();
    assert!(client.login("eve@localhost", "evesecret").is_err());
}

/// A session of an account that was removed sees nothing of one of that name that was made later.
#[test]
fn sessions_end_with_their_account() {
    let mox = start();
    let log_in = |password: &str| {
        let input = format!("{password}\n");
        assert_eq!(mox.command_with_input(&["setaccountpassword", "eve"], input.as_bytes()).unwrap().status.code(), Some(0));
        ImapClient::login(mox.port(Service::Imap), "eve@localhost", password).unwrap()
    };
    assert_eq!(run(&mox, "config account add eve eve@localhost").0, 0);
    let mut old = log_in("firstsecret");
    old.append("Inbox", "", b"Subject: first\r\n\r\nx\r\n").unwrap();
    old.ok("SELECT Inbox").unwrap();
    assert_eq!(run(&mox, "config account rm eve").0, 0);
    assert_eq!(run(&mox, "config account add eve eve@localhost").0, 0);
    log_in("secondsecret").append("Inbox", "", b"Subject: second\r\n\r\nx\r\n").unwrap();
    assert!(old.start("FETCH 1 BODY[]").is_ok());
    assert_eq!(old.response().unwrap(), b"* BYE account was closed");
    assert!(old.response().is_err());
}

#[test]
fn changes_are_in_the_file_when_the_command_ends() {
    let mox = start();
    for (line, status, stdout, stderr) in [
        (
            "config domain add new.example bob bob",
            0,
            "domain added, see the DNS records it needs with \"mox config dnsrecords new.example\"\n",
            "",
        ),
        ("config account add eve eve@new.example", 0, "account added, set a password with \"mox setaccountpassword eve\"\n", ""),
        ("config address add @new.example eve", 0, "address added\n", ""),
        ("config account disable eve away", 0, "account disabled\n", ""),
        ("config account list", 0, "bob\neve\t(disabled)\nmox\n", ""),
        ("config account enable eve", 0, "account enabled\n", ""),
        ("config alias add team@new.example bob@new.example", 0, "", ""),
        ("config alias addaddr team@new.example eve@new.example", 0, "", ""),
        ("config alias update -listmembers true team@new.example", 0, "", ""),
        ("config alias update -listmembers maybe team@new.example", 1, "", "-listmembers \"maybe\": expected true or false\n"),
        (
            "config alias print team@new.example",
            0,
            "# postpublic true\n# listmembers true\n# allowmsgfrom false\n# members:\nbob@new.example\neve@new.example\n",
            "",
        ),
        ("config alias rmaddr team@new.example bob@new.example eve@new.example", 1, "", "alias team@new.example would have no members\n"),
        ("config alias rm team@new.example", 0, "", ""),
        ("config alias list new.example", 0, "", ""),
        ("config domain disable new.example", 0, "domain disabled\n", ""),
        ("config address account bob@new.example", 1, "", "looking up address: domain is disabled\n"),
        ("config domain enable new.example", 0, "domain enabled\n", ""),
        ("config address account any@new.example", 0, "eve\n", ""),
        ("config account add eve x@new.example", 1, "", "account directory for \"eve\" already exists\n"),
        ("config domain rm other.example", 1, "", "domain other.example doesn't exist\n"),
        ("config address rm @new.example", 0, "address removed\n", ""),
        ("config address rm @new.example", 1, "", "address @new.example doesn't exist\n"),
        ("config account rm eve", 0, "account removed\n", ""),
        ("config account list", 0, "bob\nmox\n", ""),
        ("config account rm eve", 1, "", "account \"eve\" doesn't exist\n"),
        ("config account add eve eve@new.example", 0, "account added, set a password with \"mox setaccountpassword eve\"\n", ""),
        ("config account rm eve", 0, "account removed\n", ""),
        ("config address rm bob@new.example", 0, "address removed\n", ""),
        ("config domain rm new.example", 0, "domain removed, remember to remove its DNS records\n", ""),
        ("config account rm bob", 0, "account removed\n", ""),
        ("config test", 0, "config OK\n", ""),
    ] {
        assert_eq!(run(&mox, line), (status, stdout.to_owned(), stderr.to_owned()), "{line}");
    }
}
