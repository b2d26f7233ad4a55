//! Mail to lists is sealed with the key of the list's domain, RFC 8617.

use crate::authentication::{client, send_to};
use crate::world::{World, base64, list_key};
use mox_testkit::peers::skip;
use std::process::{Command, Stdio};

const MESSAGE: &str = "From: <bob@x.example>\r\nTo: <public@mox.example>\r\nSubject: hi\r\n\r\nhello";

#[tokio::test]
async fn members_get_sealed_mail() {
    let world = World::new().await;
    let mut client = client(&world).await;
    assert!(send_to(&mut client, "bob@x.example", "public@mox.example", MESSAGE).await.starts_with("250"));
    let mut copies = Vec::new();
    for member in ["ann", "cas"] {
        let copy = world.mailbox(member, "Inbox").await.remove(0);
        let names: Vec<&str> = copy.lines().filter(|l| !l.starts_with('\t')).filter_map(|l| l.split_once(':')).map(|(n, _)| n).collect();
        let want = "Delivered-To Return-Path ARC-Seal ARC-Message-Signature ARC-Authentication-Results Authentication-Results Received-SPF Received From To Subject";
        assert_eq!(names.join(" "), want);
        let unfolded = copy.replace("\r\n\t", " ");
        assert!(unfolded.contains("\r\nARC-Authentication-Results: i=1; host.mox.example; iprev=pass"), "{copy}");
        assert!(unfolded.contains("cv=none; d=mox.example; s=list;"), "{copy}");
        copies.push(copy);
    }
    assert_eq!(arc_by_dkimpy(&copies).unwrap_or_else(|| vec!["pass"; 2].into_iter().map(str::to_owned).collect()), ["pass", "pass"]);

    // A member hands it on, to another list of ours: the chain holds, and gets longer.
    let handed_on = copies[0].trim_end_matches("\r\n").to_owned();
    assert!(send_to(&mut client, "bob@x.example", "public@mox.example", &handed_on).await.starts_with("250"));
    let twice = world.mailbox("ann", "Inbox").await.remove(1);
    let unfolded = twice.replace("\r\n\t", " ");
    let found = "arc=pass (1 set, last by mox.example, without dnssec) smtp.remote-ip=192.0.2.7";
    assert!(unfolded.contains(found) && unfolded.contains("cv=pass; d=mox.example;"), "{twice}");
    assert_eq!(arc_by_dkimpy(std::slice::from_ref(&twice)).unwrap_or_else(|| vec!["pass".to_owned()]), ["pass"]);

    // Who changes it breaks the chain, and that is sealed too, once.
    let changed = twice.trim_end_matches("\r\n").replace("hello", "hullo");
    assert!(send_to(&mut client, "bob@x.example", "public@mox.example", &changed).await.starts_with("250"));
    let thrice = world.mailbox("ann", "Inbox").await.remove(2);
    let unfolded = thrice.replace("\r\n\t", " ");
    let broken =
        "arc=fail (2 sets, last by mox.example, without dnssec) reason=\"message signature of instance 2: body hash does not match\"";
    assert!(unfolded.contains(broken) && unfolded.contains("ARC-Seal: i=3;") && unfolded.contains("cv=fail;"), "{thrice}");
    assert!(send_to(&mut client, "bob@x.example", "public@mox.example", thrice.trim_end_matches("\r\n")).await.starts_with("250"));
    assert!(!world.mailbox("ann", "Inbox").await.remove(3).contains("i=4;"));

    // To a member alone, nothing is passed on.
    assert!(send_to(&mut client, "bob@x.example", "ann@mox.example", MESSAGE).await.starts_with("250"));
    assert!(!world.mailbox("ann", "Inbox").await.remove(4).contains("ARC-"));
    drop(client);
    world.close().await;
}

/// What the Python program dkimpy says of chains; none where it isn't installed.
fn arc_by_dkimpy(messages: &[String]) -> Option<Vec<String>> {
    use std::io::Write as _;
    let has = |p: &&str| Command::new(p).args(["-c", "import dkim"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    let Some(python) = ["/usr/bin/python3", "python3"].into_iter().find(has) else {
        skip("python3-dkim isn't installed");
        return None;
    };
    let record = list_key().public_record().unwrap().to_text();
    let script = format!(
        "import sys, dkim, base64\nfor line in sys.stdin:\n  cv, _, why = dkim.arc_verify(base64.b64decode(line), dnsfunc=lambda name, timeout=5: b'{record}')\n  print(cv.decode() if cv == b'pass' else why)\n"
    );
    let mut child = Command::new(python).args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: String = messages.iter().map(|m| format!("{}\n", base64(m.as_bytes()))).collect();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    Some(out.lines().map(str::to_owned).collect())
}
