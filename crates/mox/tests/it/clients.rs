//! Reading, flagging, moving, searching and deleting with the clients people use.
//!
//! Each client's script also runs against Dovecot, so that a failure here is ours and not the script's.

use crate::server;
use mox_testkit::peers::{Dovecot, ImapClient, Mox, Service, require_program};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An IMAP server with an account.
struct Target {
    imap: u16,
    user: &'static str,
    password: &'static str,
    /// With this certificate, for STARTTLS on the same port.
    certificate: Option<PathBuf>,
}

impl Target {
    fn mox(mox: &Mox) -> Self {
        let certificate = Some(mox.dir().join("localhost.crt"));
        Self { imap: mox.port(Service::Imap), user: Mox::USER, password: Mox::PASSWORD, certificate }
    }

    fn dovecot(dovecot: &Dovecot) -> Self {
        Self { imap: dovecot.imap_port(), user: "mox@localhost", password: Dovecot::PASSWORD, certificate: None }
    }

    fn client(&self) -> ImapClient {
        ImapClient::login(self.imap, self.user, self.password).unwrap()
    }

    /// Subjects of a mailbox's messages, in order.
    fn subjects(&self, mailbox: &str) -> Vec<String> {
        let mut client = self.client();
        if server::exists(&mut client, mailbox) == 0 {
            return Vec::new();
        }
        let headers = client.ok("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]").unwrap().literals();
        let text = |h: &Vec<u8>| String::from_utf8_lossy(h).trim().trim_start_matches("Subject: ").to_owned();
        headers.iter().map(text).collect()
    }

    /// UIDs that a search in a mailbox finds.
    fn search(&self, mailbox: &str, key: &str) -> String {
        let mut client = self.client();
        client.ok(&format!("SELECT {mailbox}")).unwrap();
        let answer = client.ok(&format!("UID SEARCH {key}")).unwrap();
        let line = answer.untagged.iter().find_map(|u| u.strip_prefix(b"* SEARCH")).unwrap_or_default().to_vec();
        String::from_utf8(line).unwrap().trim().to_owned()
    }

    fn fill(&self, subjects: &[&str]) {
        let mut client = self.client();
        for subject in subjects {
            client.append("INBOX", "", &server::message(subject)).unwrap();
        }
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn mbsync_synchronises_both_ways() {
    let Some(program) = require_program("mbsync") else {
        return;
    };
    let mox = server::start();
    mbsync(&program, &Target::mox(&mox));
}

#[test]
fn mbsync_script_is_right_about_dovecot() {
    let (Some(program), Some(dovecot)) = (require_program("mbsync"), Dovecot::require()) else {
        return;
    };
    mbsync(&program, &Target::dovecot(&dovecot));
}

fn mbsync(program: &Path, target: &Target) {
    target.fill(&["read me", "move me", "delete me"]);
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    std::fs::create_dir(&mail).unwrap();
    let settings = format!(
        "IMAPStore far\nHost 127.0.0.1\nPort {}\nUser {}\nPass {}\nSSLType None\nAuthMechs PLAIN LOGIN\n\n\
         MaildirStore near\nPath {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSync All\nSyncState *\n",
        target.imap,
        target.user,
        target.password,
        mail = mail.display()
    );
    let rc = folder.path().join("mbsyncrc");
    std::fs::write(&rc, settings).unwrap();
    let sync = || run(Command::new(program).env("HOME", folder.path()).arg("-c").arg(&rc).arg("-a"));
    sync();
    let find = |subject: &str| {
        let files = ["new", "cur"].iter().flat_map(|sub| std::fs::read_dir(mail.join("INBOX").join(sub)).unwrap());
        let mut files = files.map(|f| f.unwrap().path());
        // mbsync keeps lines with LF alone, and may add a header of its own.
        let wanted = String::from_utf8(server::message(subject)).unwrap().replace("\r\n", "\n");
        let (head, text) = wanted.split_once("\n\n").unwrap();
        let is_it = |file: &PathBuf| {
            let kept = std::fs::read_to_string(file).unwrap();
            kept.starts_with(head) && kept.ends_with(&format!("\n\n{text}"))
        };
        files.find(is_it).expect(subject)
    };
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().split(":2,").next().unwrap().to_owned();
    let cur = mail.join("INBOX/cur");
    let read = find("read me");
    std::fs::rename(&read, cur.join(format!("{}:2,FS", name(&read)))).unwrap();
    let deleted = find("delete me");
    std::fs::rename(&deleted, cur.join(format!("{}:2,T", name(&deleted)))).unwrap();
    let moved = find("move me");
    for sub in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(mail.join("Kept").join(sub)).unwrap();
    }
    // A message that moves gets a new name, as mbsync's own `,U=` counts within a folder.
    std::fs::rename(&moved, mail.join("Kept/cur/1.moved.here:2,S")).unwrap();
    sync();
    assert_eq!(target.subjects("INBOX"), ["read me"]);
    assert_eq!(target.subjects("Kept"), ["move me"]);
    assert_eq!(target.search("INBOX", "SEEN FLAGGED"), "1");
    assert_eq!(target.search("Kept", "SEEN UNFLAGGED"), "1");

    // And the other way.
    let mut client = target.client();
    client.ok("SELECT INBOX").unwrap();
    client.ok("STORE 1 -FLAGS (\\Seen)").unwrap();
    client.append("INBOX", "\\Answered", &server::message("new one")).unwrap();
    sync();
    assert!(find("read me").to_string_lossy().ends_with(":2,F"));
    assert!(find("new one").to_string_lossy().ends_with(":2,R"));
    sync();
    assert_eq!(target.subjects("INBOX"), ["read me", "new one"]);
}

#[test]
fn mutt_reads_flags_moves_and_deletes() {
    let (Some(program), Some(python)) = (require_program("mutt"), require_program("python3")) else {
        return;
    };
    let mox = server::start();
    mutt(&program, &python, &Target::mox(&mox));
}

#[test]
fn mutt_script_is_right_about_dovecot() {
    let (Some(program), Some(python), Some(dovecot)) = (require_program("mutt"), require_program("python3"), Dovecot::require()) else {
        return;
    };
    mutt(&program, &python, &Target::dovecot(&dovecot));
}

fn mutt(program: &Path, python: &Path, target: &Target) {
    target.fill(&["keep me", "flag me", "move me", "delete me"]);
    let mut client = target.client();
    client.ok("CREATE Kept").unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Keys are pushed as a person would press them, on a terminal made for it: CI's session has none.
    let keys = "<tag-pattern>~s 'flag me'<enter><tag-prefix><flag-message><untag-pattern>.<enter>\
                <tag-pattern>~s 'move me'<enter><tag-prefix><save-message>=Kept<enter><untag-pattern>~A<enter>\
                <delete-pattern>~s 'delete me'<enter>\
                <limit>~s 'keep me'<enter><display-message><exit><limit>all<enter><sync-mailbox><quit>";
    let settings = format!(
        "set folder='imap://127.0.0.1:{0}/'\nset spoolfile='imap://127.0.0.1:{0}/INBOX'\nset imap_user='{1}'\nset imap_pass='{2}'\n\
         set ssl_starttls=no\nset ssl_force_tls=no\nset confirmappend=no\nset confirmcreate=no\nset delete=yes\nset move=no\n\
         set quit=yes\nset wait_key=no\nset sleep_time=0\nset pager_stop=yes\nset use_threads=no\npush \"{keys}\"\n",
        target.imap, target.user, target.password
    );
    let rc = folder.path().join("muttrc");
    std::fs::write(&rc, settings.replace("set use_threads=no\n", "")).unwrap();
    let terminal = folder.path().join("terminal.py");
    std::fs::write(&terminal, include_str!("terminal.py")).unwrap();
    let mut command = Command::new(python);
    command.arg(&terminal).arg("60").arg(program).arg("-n").arg("-F").arg(&rc);
    command.env("HOME", folder.path()).env("TERM", "xterm").env("LINES", "40").env("COLUMNS", "120");
    run(command.stdin(std::process::Stdio::null()));
    assert_eq!(target.subjects("INBOX"), ["keep me", "flag me"]);
    assert_eq!(target.subjects("Kept"), ["move me"]);
    assert_eq!(target.search("INBOX", "FLAGGED"), "2");
    assert_eq!(target.search("INBOX", "SEEN"), "1");
}

#[test]
fn curl_lists_searches_fetches_and_appends() {
    let Some(program) = require_program("curl") else {
        return;
    };
    let mox = server::start();
    curl(&program, &Target::mox(&mox));
}

#[test]
fn curl_script_is_right_about_dovecot() {
    let (Some(program), Some(dovecot)) = (require_program("curl"), Dovecot::require()) else {
        return;
    };
    curl(&program, &Target::dovecot(&dovecot));
}

fn curl(program: &Path, target: &Target) {
    target.fill(&["first", "second", "third"]);
    let folder = tempfile::tempdir().unwrap();
    let curl = |path: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(["--silent", "--show-error", "--ipv4", "--user", &format!("{}:{}", target.user, target.password)]);
        if let Some(certificate) = &target.certificate {
            command.args(["--ssl-reqd", "--cacert"]).arg(certificate);
        }
        let output = command.args(args).arg(format!("imap://localhost:{}/{path}", target.imap)).output().unwrap();
        assert!(output.status.success(), "{path} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let text = |path: &str, args: &[&str]| String::from_utf8(curl(path, args)).unwrap();
    assert!(text("", &[]).to_uppercase().contains("INBOX"));
    assert_eq!(text("INBOX?SUBJECT%20second", &[]).trim(), "* SEARCH 2");
    assert!(curl("INBOX;UID=3", &[]).ends_with(&server::message("third")));
    assert!(curl("INBOX;UID=1;SECTION=TEXT", &[]).ends_with(b"The body of first.\r\n.A line with a dot.\r\n"));
    let file = folder.path().join("message");
    std::fs::write(&file, server::message("fourth")).unwrap();
    curl("INBOX", &["--upload-file", &file.to_string_lossy()]);
    curl("INBOX", &["--request", "STORE 1 +FLAGS (\\Deleted)"]);
    curl("INBOX", &["--request", "EXPUNGE"]);
    assert_eq!(target.subjects("INBOX"), ["second", "third", "fourth"]);
}

#[test]
fn imaplib_does_everything() {
    let Some(program) = require_program("python3") else {
        return;
    };
    let mox = server::start();
    imaplib(&program, &Target::mox(&mox));
}

#[test]
fn imaplib_script_is_right_about_dovecot() {
    let (Some(program), Some(dovecot)) = (require_program("python3"), Dovecot::require()) else {
        return;
    };
    imaplib(&program, &Target::dovecot(&dovecot));
}

fn imaplib(program: &Path, target: &Target) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("imaplib_test.py");
    std::fs::write(&script, include_str!("imaplib_test.py")).unwrap();
    let mut command = Command::new(program);
    command.arg(&script).arg(target.imap.to_string()).args([target.user, target.password]);
    if let Some(certificate) = &target.certificate {
        command.arg(certificate);
    }
    assert!(run(&mut command).ends_with("done\n"));
}
