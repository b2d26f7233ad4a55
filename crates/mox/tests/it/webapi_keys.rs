//! API keys of the webapi: made and removed with commands, limited to what they are for, and nobody's password elsewhere.

use crate::server::{await_messages, imap, start};
use crate::webapi_http::{self, Reply};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_testkit::peers::{ImapClient, Mox, Service, SmtpClient};
use serde_json::json;

#[track_caller]
fn run(mox: &Mox, args: &[&str]) -> String {
    let output = mox.command(args).unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(mox: &Mox, args: &[&str]) -> String {
    let output = mox.command(args).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap().trim_end().to_owned()
}

fn call_as(mox: &Mox, user: &str, password: &str, method: &str, json: &str) -> Reply {
    let credentials = STANDARD.encode(format!("{user}:{password}"));
    webapi_http::call_as(mox, &format!("Authorization: Basic {credentials}\r\n"), method, "", json)
}

#[track_caller]
fn forbidden(reply: &Reply) {
    assert_eq!((reply.status, reply.json()["Code"].as_str()), (403, Some("outOfScope")), "{}", reply.text());
}

const SEND: &str = r#"{"To":[{"Address":"mox@localhost"}],"Text":"x"}"#;

#[test]
fn a_key_is_for_what_it_was_made_for() {
    let mox = start();
    let everything = run(&mox, &["webapi", "key", "add", "mox", "everything"]);
    let everything = everything.trim_end();
    let limited = run(&mox, &["webapi", "key", "add", "-from", "mox+shop@localhost", "mox", "shop \"1\"", "send", "SuppressionPresent"]);
    let limited = limited.trim_end();
    let short = run(&mox, &["webapi", "key", "add", "-expires", "1ms", "mox", "short"]);
    let call = |key: &str, method: &str, json: &str| call_as(&mox, Mox::USER, key, method, json);

    assert_eq!(call(everything, "SuppressionList", "{}").json(), json!({"Suppressions": []}));
    assert_eq!(call(everything, "QueueList", "{}").status, 200);
    assert_eq!(call(limited, "SuppressionPresent", r#"{"EmailAddress":"a@b.example"}"#).json(), json!({"Present": false}));
    for method in ["SuppressionList", "SuppressionAdd", "MessageGet", "MessageDelete", "MailboxList", "QueueCancel"] {
        forbidden(&call(limited, method, r#"{"EmailAddress":"a@b.example"}"#));
    }
    // Only the author of the key; the address that logs in is the one to send from, if none is given.
    forbidden(&call(limited, "Send", SEND));
    forbidden(&call(limited, "Send", &SEND.replacen('{', r#"{"From":[{"Address":"mox@localhost"}],"#, 1)));
    assert_eq!(call(limited, "Send", &SEND.replacen('{', r#"{"From":[{"Address":"other@elsewhere.example"}],"#, 1)).code(), "badFrom");
    await_messages(&mut imap(&mox), "Inbox", 0);
    assert_eq!(call(limited, "Send", &SEND.replacen('{', r#"{"From":[{"Address":"mox+shop@localhost"}],"#, 1)).status, 200);
    assert_eq!(call_as(&mox, "mox+shop@localhost", limited, "Send", SEND).status, 200);
    await_messages(&mut imap(&mox), "Inbox", 2);

    // The account's own password is limited by nothing; what ends, or isn't a key of this account, is nobody's.
    assert_eq!(call(Mox::PASSWORD, "QueueList", "{}").status, 200);
    assert_eq!(call(short.trim_end(), "QueueList", "{}").status, 401);
    assert_eq!(call_as(&mox, "nobody@elsewhere.example", everything, "QueueList", "{}").status, 401);
    assert_eq!(call(&everything.replace("moxkey_", "moxkey-"), "QueueList", "{}").status, 401);

    let listed = run(&mox, &["webapi", "key", "list", "mox"]);
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0], ["# id, name, account, scope, from, created, expires, last used (3)"]);
    let (first, second) = (&lines[1], &lines[2]);
    assert!(everything.starts_with(&format!("moxkey_{}_", first[0])), "{listed}");
    assert_eq!(first[1..5], ["\"everything\"", "mox", "all", "-"]);
    assert_eq!(second[1..5], ["\"shop \\\"1\\\"\"", "mox", "send,SuppressionPresent", "mox+shop@localhost"]);
    assert!(first[5].ends_with('Z') && first[6] == "-" && first[7].ends_with('Z'), "{listed}");
    assert!(lines[3][6].ends_with('Z') && lines[3][7] == "-", "{listed}");
    assert!(!listed.contains(everything));

    // Removed: at once.
    assert_eq!(run(&mox, &["webapi", "key", "rm", first[0]]), "");
    assert_eq!(call(everything, "QueueList", "{}").status, 401);
    assert_eq!(refused(&mox, &["webapi", "key", "rm", first[0]]), "no such api key");
}

#[test]
fn a_key_is_nobodys_password_elsewhere_and_survives_a_restart() {
    let mut mox = start();
    let key = run(&mox, &["webapi", "key", "add", "mox", "program"]);
    let key = key.trim_end();
    assert!(ImapClient::login(mox.port(Service::Imap), Mox::USER, key).is_err());
    let mut submission = SmtpClient::smtp(mox.port(Service::Submission)).unwrap();
    assert!(submission.login(Mox::USER, key).is_err());
    mox.kill().unwrap();
    // Nothing in the data folder has its text.
    let found = std::process::Command::new("grep").args(["-rlF", &key[16..]]).arg(mox.dir()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    mox.resume().unwrap();
    assert_eq!(call_as(&mox, Mox::USER, key, "QueueList", "{}").status, 200);
}

#[test]
fn what_is_no_key() {
    let mox = start();
    let add = |args: &[&str]| refused(&mox, &[&["webapi", "key", "add"], args].concat());
    assert_eq!(add(&["nobody", "x"]), "no such account: \"nobody\"");
    assert!(add(&["mox", "x", "everything"]).starts_with("\"everything\" is neither a method nor one of the scopes send, "));
    assert!(add(&["mox", ""]).starts_with("a key needs a name"));
    assert!(add(&["-from", "x", "mox", "x"]).starts_with("x: "));
    assert_eq!(add(&["-from", "a@elsewhere.example", "mox", "x"]), "the account may not send with this address");
    assert_eq!(add(&["-expires", "-1h", "mox", "x"]), "the key would have ended already");
    assert_eq!(add(&["-expires", "soon", "mox", "x"]), "parsing -expires: bad duration \"soon\"");
    assert_eq!(refused(&mox, &["webapi", "key", "list", "nobody"]), "no such account: \"nobody\"");
    assert_eq!(run(&mox, &["webapi", "key", "list"]).lines().count(), 1);
}
