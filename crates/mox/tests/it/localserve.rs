//! localserve as a test bench: each simulated failure, at each stage, as a program that sends mail meets it.

use crate::server::{BINARY, PATIENCE, await_messages, bodies, imap, message, smtp, start, submission};
use crate::webapi_http::call;
use mox_testkit::peers::{ImapClient, Mox, SmtpClient, wait_until};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

#[track_caller]
fn run(mox: &Mox, args: &[&str]) -> String {
    let output = mox.command(args).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The line about a recipient in what a command lists, once there is one that holds all the parts.
#[track_caller]
fn await_line(mox: &Mox, args: &[&str], recipient: &str, parts: &[&str]) {
    let mut text = String::new();
    let to = format!("to:{recipient} ");
    let seen = wait_until(PATIENCE, || {
        text = run(mox, args);
        text.lines().any(|line| line.contains(&to) && parts.iter().all(|part| line.contains(part)))
    });
    assert!(seen, "{recipient}, {parts:?} in {args:?}:\n{text}");
}

#[track_caller]
fn send(mox: &Mox, to: &[&str]) {
    let to: Vec<String> = to.iter().map(|address| format!(r#"{{"Address":"{address}"}}"#)).collect();
    // The webapi accepts every address: failures wait for the queue.
    let reply = call(mox, "Send", &format!(r#"{{"To":[{}],"Subject":"s","Text":"t"}}"#, to.join(",")));
    assert_eq!(reply.status, 200, "{}", reply.text());
}

const HISTORY: &[&str] = &["queue", "retired", "list"];
const WAITING: &[&str] = &["queue", "list"];

#[test]
fn the_queue_meets_failures_as_at_a_real_receiver() {
    let mox = start();
    let ends: &[(&str, &[&str])] = &[
        ("plain@example.org", &[" success "]),
        ("permerror@example.org", &[" failure ", "550 5.0.0 failure with code 550 due to special localpart"]),
        ("queuepermerror@example.org", &[" failure ", "550 5.0.0"]),
        ("x552@example.org", &[" failure ", "552 5.0.0"]),
        ("x554@example.org", &[" failure ", "554 5.0.0"]),
    ];
    for (to, parts) in ends {
        send(&mox, &[to]);
        await_line(&mox, HISTORY, to, parts);
    }
    let waits: &[(&str, &[&str])] = &[
        ("x451@example.org", &["451 4.0.0"]),
        ("temperror@example.org", &["451 4.0.0"]),
        ("queue452@example.org", &["452 4.0.0"]),
        // RFC 5321 §4.5.3.1.10: at RCPT TO it means too many recipients, which passes.
        ("rcptto552@example.org", &["552 5.0.0"]),
    ];
    for (to, parts) in waits {
        send(&mox, &[to]);
        await_line(&mox, WAITING, to, parts);
    }

    // Only what says that the address is wrong puts it on the list.
    let listed = run(&mox, &["queue", "suppress", "list"]);
    assert!(listed.contains("\"permerror@example.org\"") && !listed.contains("x554@"), "{listed}");
    send(&mox, &["permerror@example.org"]);
    await_line(&mox, HISTORY, "permerror@example.org", &[" failure ", "suppression list"]);
}

#[test]
fn recipients_of_one_transaction_have_their_own_ends() {
    let mox = start();
    // Refused at RCPT TO: only that one.
    send(&mox, &["good@one.example", "rcptto551@one.example"]);
    await_line(&mox, HISTORY, "good@one.example", &[" success "]);
    await_line(&mox, HISTORY, "rcptto551@one.example", &[" failure ", "551 5.0.0"]);
    // Refused after the data, which is accepted or not as a whole.
    send(&mox, &["good@two.example", "x550@two.example"]);
    await_line(&mox, HISTORY, "good@two.example", &[" success "]);
    await_line(&mox, HISTORY, "x550@two.example", &[" success "]);
}

#[test]
fn failures_at_the_commands_of_incoming_mail() {
    let mox = start();
    let mut client = smtp(&mox);
    for (line, code) in [
        ("MAIL FROM:<mailfrom452@localhost>", 452),
        ("MAIL FROM:<mailfrompermerror@localhost>", 550),
        ("MAIL FROM:<mailfromtemperror@localhost>", 451),
        ("MAIL FROM:<mox@localhost>", 250),
        ("RCPT TO:<rcptto400@example.org>", 400),
        ("RCPT TO:<rcptto599@example.org>", 599),
        ("RCPT TO:<rcptto600@example.org>", 250),
        ("RCPT TO:<rcpttotemperror@example.org>", 451),
    ] {
        assert_eq!(client.command(line).unwrap().code, code, "{line}");
    }
    for (to, code) in [
        // Other moments than this one.
        (&["mailfrom550@example.org"][..], 550),
        (&["queuepermerror@example.org"], 550),
        (&["bob2450@example.org"], 450),
        (&["mjl2024@example.org"], 250),
        // Several recipients.
        (&["a450@example.org", "b450@example.org"], 450),
        (&["a450@example.org", "b451@example.org"], 451),
        (&["a450@example.org", "b550@example.org"], 554),
        (&["good@example.org", "b550@example.org"], 250),
    ] {
        let mut client = smtp(&mox);
        let reply = client.send("mox@localhost", to, &message("several")).unwrap();
        assert_eq!(reply.code, code, "{to:?}: {reply:?}");
    }
}

#[test]
fn submission_refuses_what_fails_but_leaves_the_queues_to_the_queue() {
    let mox = start();
    for (to, code) in [
        (&["x452@example.org"][..], 452),
        (&["good@example.org", "temperror@example.org"], 451),
        (&["queue452@example.org"], 250),
        (&["queuetimeoutless@example.org"], 250),
    ] {
        let reply = submission(&mox).send(Mox::USER, to, &message("submitted")).unwrap();
        assert_eq!(reply.code, code, "{to:?}: {reply:?}");
    }
    let mut client = submission(&mox);
    assert_eq!(client.command("MAIL FROM:<mox@localhost>").unwrap().code, 250);
    assert_eq!(client.command("RCPT TO:<rcptto553@example.org>").unwrap().code, 553);
    await_line(&mox, WAITING, "queue452@example.org", &["452 4.0.0"]);
    await_line(&mox, HISTORY, "queuetimeoutless@example.org", &[" success "]);
    // Nothing of a refused submission is queued.
    let all = run(&mox, HISTORY) + &run(&mox, WAITING);
    assert!(!all.contains("good@example.org") && !all.contains("x452@"), "{all}");
}

/// A `localserve` that was told everything on its command line.
struct Bench {
    child: Child,
    ports: BTreeMap<String, u16>,
}

impl Bench {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["localserve", "-temp", "-portbase", "0", "-ip", "127.0.0.1"]).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut ports = BTreeMap::new();
        while ports.len() < 8 {
            let line = lines.next().expect("it ends without telling its ports").unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            if let ["port", service, addr] = words.as_slice() {
                ports.insert((*service).to_owned(), addr.rsplit(':').next().unwrap().parse().unwrap());
            }
        }
        Self { child, ports }
    }

    fn port(&self, service: &str) -> u16 {
        self.ports[service]
    }

    /// Its folder, which is the one in memory with its process's files in it.
    fn dir(&self) -> PathBuf {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let mut targets = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        let file = targets.find(|target| target.to_string_lossy().contains("/mox-localserve-")).unwrap();
        file.ancestors().find(|dir| dir.join("mox.conf").exists()).unwrap().to_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_test_suite_has_its_own_accounts_and_names_and_leaves_nothing_behind() {
    let zones = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        zones.path(),
        "strict.example. MX 10 mx.strict.example.\nmx.strict.example. A 192.0.2.1\nstrict.example. TXT \"v=spf1 -all\"\n",
    )
    .unwrap();
    let mut bench = Bench::start(&["-accounts", "ann@shop.example,bob@localhost", "-dns", zones.path().to_str().unwrap()]);

    // A domain that knows nobody here, one that the file has, and ones that don't exist.
    let mut client = SmtpClient::smtp(bench.port("smtp")).unwrap();
    for (from, code) in [("a@example.org", 250), ("a@strict.example", 250), ("a@sub.strict.example", 550), ("a@x.invalid", 550)] {
        assert_eq!(client.command(&format!("MAIL FROM:<{from}>")).unwrap().code, code, "{from}");
        client.command("RSET").unwrap();
    }
    for (from, to) in [("a@example.org", "ann@shop.example"), ("a@strict.example", "bob@localhost"), ("a@example.org", "x@example.net")] {
        assert_eq!(client.send(from, &[to], &message("one")).unwrap().code, 250, "{from} to {to}");
    }

    for (user, result) in [("ann@shop.example", "spf=none"), ("bob@localhost", "spf=fail"), (Mox::USER, "spf=none")] {
        let mut imap = ImapClient::login(bench.port("imap"), user, Mox::PASSWORD).unwrap();
        await_messages(&mut imap, "Inbox", 1);
        let text = String::from_utf8(bodies(&mut imap).remove(0)).unwrap();
        assert!(text.contains(result), "{user}: {text}");
    }

    // Each may send as its own address.
    let mut submission = SmtpClient::smtp(bench.port("submission")).unwrap();
    submission.login("ann@shop.example", Mox::PASSWORD).unwrap();
    let letter = String::from_utf8(message("two")).unwrap().replace("From: <mox@localhost>", "From: <ann@shop.example>");
    assert_eq!(submission.send("ann@shop.example", &["bob@localhost"], letter.as_bytes()).unwrap().code, 250);
    let mut imap = ImapClient::login(bench.port("imap"), "bob@localhost", Mox::PASSWORD).unwrap();
    await_messages(&mut imap, "Inbox", 2);
    let text = String::from_utf8(bodies(&mut imap).remove(1)).unwrap();
    assert!(text.contains("dkim=pass") && text.contains("header.d=shop.example"), "{text}");

    let dir = bench.dir();
    let pid = nix::unistd::Pid::from_raw(bench.child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(wait_until(PATIENCE, || bench.child.try_wait().unwrap().is_some()));
    assert!(!dir.exists(), "{}", dir.display());
}

#[test]
fn a_bounce_comes_back_and_greylisting_ends() {
    let mox = start();
    send(&mox, &["x-bounce-5.2.2@example.org"]);
    await_line(&mox, HISTORY, "x-bounce-5.2.2@example.org", &[" success "]);
    let mut client = imap(&mox);
    // The message itself, and its bounce.
    await_messages(&mut client, "Inbox", 2);
    let bounce =
        bodies(&mut client).iter().map(|body| String::from_utf8_lossy(body).into_owned()).find(|text| text.contains("Status: 5.2.2"));
    assert!(bounce.is_some_and(|text| text.contains("x-bounce-5.2.2@example.org")));

    send(&mox, &["queue-greylist@example.org"]);
    await_line(&mox, WAITING, "queue-greylist@example.org", &["451 4.7.1"]);
    run(&mox, &["queue", "schedule", "-now", "0s"]);
    await_line(&mox, HISTORY, "queue-greylist@example.org", &[" success "]);
}

#[test]
fn retries_can_be_quick() {
    let bench = Bench::start(&["-retry", "50ms,100ms"]);
    let mut submission = SmtpClient::smtp(bench.port("submission")).unwrap();
    submission.login(Mox::USER, Mox::PASSWORD).unwrap();
    // Accepted at the second attempt.
    assert_eq!(submission.send(Mox::USER, &["queue-greylist@example.org"], &message("late")).unwrap().code, 250);
    let mut imap = ImapClient::login(bench.port("imap"), Mox::USER, Mox::PASSWORD).unwrap();
    await_messages(&mut imap, "Inbox", 1);
    // Never accepted: after the third attempt its sender hears of it.
    assert_eq!(submission.send(Mox::USER, &["queue451@example.org"], &message("never")).unwrap().code, 250);
    await_messages(&mut imap, "Inbox", 2);
    let bounce = String::from_utf8(bodies(&mut imap).remove(1)).unwrap();
    assert!(bounce.contains("\r\nAction: failed\r\n") && bounce.contains("Final-Recipient: rfc822;queue451@example.org"), "{bounce}");
}

#[track_caller]
fn refused(args: &[&str]) -> String {
    let output = Command::new(BINARY).arg("localserve").args(args).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_it_cannot_do_it_says() {
    let mox = start();
    let said = refused(&["-dir", mox.dir().to_str().unwrap()]);
    let lines: Vec<&str> = said.lines().collect();
    let [.., error, hint] = lines.as_slice() else { panic!("{said}") };
    assert!(error.contains("in use") && error.contains("127.0.0.1:"), "{said}");
    assert_eq!(*hint, "hint: perhaps it is running already; with -portbase 0, free ports are used");
    assert!(said.ends_with('\n'));
    let empty = tempfile::tempdir().unwrap();
    std::fs::write(empty.path().join("something"), "").unwrap();
    assert!(
        refused(&["-dir", empty.path().to_str().unwrap()]).ends_with("hint: to start with a new configuration, -dir must not exist yet\n")
    );
    for (retry, word) in [("soon", "\"soon\""), ("1s,", "\"\""), ("1s,1ms", "\"1ms\""), ("-1s", "\"-1s\""), ("200h", "\"200h\"")] {
        let said = refused(&["-temp", "-retry", retry]);
        assert!(said.ends_with(&format!("parsing -retry: {word} is no duration from 10ms to 168h\n")), "{said}");
    }
}

#[test]
fn what_a_killed_server_left_is_removed_by_the_next() {
    let bench = Bench::start(&[]);
    let dir = bench.dir();
    drop(bench);
    let next = Bench::start(&[]);
    assert!(!dir.exists() && next.dir().exists());
}

#[test]
fn what_the_first_launch_decides() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new");
    let dir = dir.to_str().unwrap();
    let init = |args: &[&str]| {
        let output = Command::new(BINARY).args(["localserve", "-initonly", "-dir", dir]).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("config created in {dir}\n"));
        (std::fs::read_to_string(format!("{dir}/mox.conf")).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (config, _) = init(&["-ip", "127.0.0.1", "-portbase", "3000"]);
    for port in [3025, 3587, 3465, 3143, 3993, 3080, 3443, 3081] {
        assert!(config.contains(&format!("Port: {port}\n")), "{port}: {config}");
    }
    assert!(config.contains("- 127.0.0.1\n") && !config.contains("- ::1\n"), "{config}");
    for flag in [["-ip", "127.0.0.1"], ["-accounts", "ann@shop.example"]] {
        let said = refused(&["-dir", dir, flag[0], flag[1]]);
        assert!(said.ends_with(&format!("specifying {} is only allowed when writing configuration, at first launch\n", flag[0])), "{said}");
    }
    let (config, said) = init(&[]);
    assert!(
        config.contains("Port: 1025\n") && config.contains("- ::1\n") && said.contains("already exists, overwriting"),
        "{config}\n{said}"
    );
    let file = format!("{dir}/mox.conf");
    for (args, part) in [
        (["-portbase", "x"], "parsing -portbase: "),
        (["-ip", "localhost"], "invalid -ip"),
        (["-dns", "/nonexistent"], "reading zone file /nonexistent: "),
        (["-dns", file.as_str()], "zone file "),
        (["-temp", "-dir=x"], "-temp and -dir can't be used together"),
    ] {
        let said = refused(&args);
        assert!(said.lines().last().unwrap().starts_with(part), "{said}");
    }
}

#[test]
fn its_certificate_is_good_for_its_name_and_its_addresses() {
    let Some(curl) = mox_testkit::peers::require_program("curl") else { return };
    let mox = start();
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/webapi/v0/", mox.port(mox_testkit::peers::Service::Https));
        let mut command = Command::new(&curl);
        command
            .args(["-s", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(mox.dir().join("localhost.crt"))
            .arg(&url);
        assert_eq!(String::from_utf8_lossy(&command.output().unwrap().stdout), "200", "{url}");
    }
}

/// Two servers on one folder would each believe what they have in memory.
#[test]
fn a_folder_has_one_server() {
    let mut mox = start();
    let dir = mox.dir();
    let refused = |flag: &str| {
        let output = Command::new(BINARY).args(["localserve", flag, "-dir"]).arg(&dir).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && text.contains("another server is running on data directory"), "{output:?}");
    };
    refused("-portbase=0");
    let conf = std::fs::read(dir.join("mox.conf")).unwrap();
    refused("-initonly");
    assert_eq!(std::fs::read(dir.join("mox.conf")).unwrap(), conf);
    // The first one still has its control socket. Killed, it leaves the folder to the next.
    run(&mox, WAITING);
    mox.kill().unwrap();
    mox.resume().unwrap();
    run(&mox, WAITING);
}
