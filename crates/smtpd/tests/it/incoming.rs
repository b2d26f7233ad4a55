//! Port 25.

use crate::world::World;

const HELLO: &str = "
    S: 220 mx.mox.example ESMTP mox
    C: HELO mx.x.example
    S: 250-mx.mox.example
    S: 250-PIPELINING
    S: 250-SIZE 104857600
    S: 250-ENHANCEDSTATUSCODES
    S: 250-8BITMIME
    S: 250-CHUNKING
    S: 250-DELIVERBY
    S: 250-LIMITS RCPTMAX=1000
    S: 250 SMTPUTF8
";

async fn check(transcript: &str) -> World {
    let world = World::new().await;
    let mut client = world.connect(&world.incoming());
    client.play(HELLO).await;
    client.play(transcript).await;
    drop(client);
    world
}

#[tokio::test]
async fn a_message_is_in_the_mailbox_when_it_is_done() {
    let world = check(
        "C: MAIL FROM:<bob@x.example>
        C: RCPT TO:<Ann+tag@mox.example>
        C: DATA
        C: From: <bob@x.example>
        C: Subject: hi
        C:
        C: hello
        C: ..
        C: .
        S: 250 2.1.0 looking good
        S: 250 2.1.0 now on the list
        S: 354 see you at the bare dot
        S: 250 2.2.0 it is done",
    )
    .await;
    let [message] = &world.mailbox("ann", "Inbox").await[..] else { panic!("not one message") };
    let (added, original) = message.split_once("From: <bob").unwrap();
    assert!(original.ends_with("\r\n\r\nhello\r\n.\r\n"));
    let added = added.replace("\r\n\t", " ");
    let lines: Vec<&str> = added.split_terminator("\r\n").collect();
    let id = lines[4].split(' ').skip_while(|w| *w != "id").nth(1).unwrap().trim_end_matches(';').to_owned();
    assert!(world.ids.number(&id).is_ok());
    assert_eq!(
        added.replace(&id, "ID").replace(lines[4].rsplit_once("; ").unwrap().1, "DATE"),
        "Delivered-To: Ann+tag@mox.example\r\n\
         Return-Path: <bob@x.example>\r\n\
         Authentication-Results: host.mox.example; iprev=pass (without dnssec) policy.iprev=192.0.2.7; \
         dkim=none reason=\"no dkim signatures\"; spf=pass (without dnssec) smtp.mailfrom=x.example; \
         dmarc=none (without dnssec) header.from=x.example\r\n\
         Received-SPF: pass (domain x.example) client-ip=192.0.2.7; envelope-from=\"bob@x.example\"; helo=mx.x.example; \
         mechanism=\"ip4:192.0.2.7\"; receiver=mx.mox.example; identity=mailfrom\r\n\
         Received: from mx.x.example ([192.0.2.7]) by host.mox.example ([198.51.100.2]) via tcp with SMTP id ID for <Ann+tag@mox.example>; DATE\r\n"
    );
    world.close().await;
}

#[tokio::test]
async fn senders_and_recipients() {
    let world = check(
        "C: MAIL FROM:<bob@null.example>
        S: 550 5.7.27 domain of mail from address cannot receive mail
        C: MAIL FROM:<bob@temp.example>
        S: 451 4.4.0 looking up domain of mail from address
        C: MAIL FROM:<bob@[192.0.2.1]>
        S: 550 5.7.0 mail from address with ip address not allowed
        C: MAIL FROM:<bob@x.example>
        S: 250 2.1.0 looking good
        C: RCPT TO:<ann@elsewhere.example>
        S: 550 5.1.1 not accepting email for this domain
        C: RCPT TO:<ann@[198.51.100.2]>
        S: 550 5.1.1 not accepting email for this domain
        C: RCPT TO:<ann@off.example>
        S: 450 4.2.1 recipient domain temporarily disabled
        C: RCPT TO:<gone@mox.example>
        S: 550 5.1.1 moved away
        C: RCPT TO:<later@mox.example>
        S: 451 4.3.0 error processing
        C: RCPT TO:<whatever@catch.example>
        S: 250 2.1.0 now on the list
        C: RCPT TO:<PostMaster>
        S: 250 2.1.0 now on the list
        C: RCPT TO:<postmaster@mx.mox.example>
        S: 250 2.1.0 now on the list
        C: RCPT TO:<whatever@catch.example>
        S: 250 2.1.0 now on the list
        C: DATA
        S: 354 see you at the bare dot
        C:
        C: .
        S: 250 2.2.0 it is done",
    )
    .await;
    assert_eq!(world.mailbox("cas", "Inbox").await.len(), 1, "an address given twice");
    assert_eq!(world.mailbox("ann", "Postmaster").await.len(), 2);
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn unknown_users_are_refused_late_and_slowly() {
    let world = World::new().await;
    let mut client = world.connect(&world.incoming());
    client.play(HELLO).await;
    client.play("C: MAIL FROM:<bob@x.example>\nC: RCPT TO:<nobody@mox.example>\nC: DATA\nS: 250 2.1.0 looking good\nS: 250 2.1.0 now on the list\nS: 354 see you at the bare dot").await;
    let before = tokio::time::Instant::now();
    client.play("C:\nC: x\nC: .\nS: 550 5.1.1 no such user(s)").await;
    assert_eq!(before.elapsed().as_secs(), 5);
    // RFC 5321 §4.1.1.4: the transaction is over.
    client.play("C: DATA\nS: 503 5.5.1 send MAIL first").await;
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn who_is_left_out_is_told_by_a_bounce() {
    let world = check(
        "C: MAIL FROM:<bob@x.example>
        C: RCPT TO:<ann@mox.example>
        C: RCPT TO:<nobody@mox.example>
        C: RCPT TO:<full@mox.example>
        C: DATA
        S: 250 2.1.0 looking good
        S: 250 2.1.0 now on the list
        S: 250 2.1.0 now on the list
        S: 250 2.1.0 now on the list
        S: 354 see you at the bare dot
        C: Subject: hi
        C: Message-Id: <1@x.example>
        C:
        C: x
        C: .
        S: 250 2.2.0 it is done
        # One reply for all who didn't get it.
        C: MAIL FROM:<bob@x.example>
        C: RCPT TO:<nobody@mox.example>
        C: RCPT TO:<full@mox.example>
        C: DATA
        S: 250 2.1.0 looking good
        S: 250 2.1.0 now on the list
        S: 250 2.1.0 now on the list
        S: 354 see you at the bare dot
        C:
        C: x
        C: .
        S: 554-5.3.0 550 5.1.1 no such user(s)
        S: 554-5.3.0 452 4.2.2 account storage full
        S: 554 5.3.0 multiple errors",
    )
    .await;
    let [(entry, message, text)] = &world.queued().await[..] else { panic!("not one bounce") };
    assert_eq!((&entry.sender, entry.recipient.to_string().as_str()), (&None, "bob@x.example"));
    assert_eq!((message.account.as_str(), message.subject.as_str()), ("ann", "mail delivery failure"));
    for part in [
        "postmaster@mox.example",
        "nobody@mox.example",
        "full@mox.example",
        "Status: 5.1.1",
        "Status: 4.2.2",
        "<1@x.example>",
        "Subject: hi",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    world.close().await;
}

#[tokio::test]
async fn aliases() {
    let world = check(
        "C: MAIL FROM:<bob@x.example>
        C: RCPT TO:<public@mox.example>
        C: DATA
        S: 250 2.1.0 looking good
        S: 250 2.1.0 now on the list
        S: 354 see you at the bare dot
        C: From: <bob@x.example>
        C:
        C: .
        S: 250 2.2.0 it is done
        C: MAIL FROM:<bob@x.example>
        C: RCPT TO:<members@mox.example>
        C: DATA
        S: 250 2.1.0 looking good
        S: 250 2.1.0 now on the list
        S: 354 see you at the bare dot
        C: From: <bob@x.example>
        C:
        C: .
        S: 550 5.7.2 not allowed to send to destination",
    )
    .await;
    assert!(world.mailbox("ann", "Inbox").await[0].starts_with("Delivered-To: ann@mox.example\r\n"));
    assert!(world.mailbox("cas", "Inbox").await[0].starts_with("Delivered-To: cas@mox.example\r\n"));
    world.close().await;
}

#[tokio::test]
async fn loops_are_broken() {
    let world = World::new().await;
    let mut client = world.connect(&world.incoming());
    client.play(HELLO).await;
    let message = format!("{}\r\n.\r\n", "Received: from x by y; z\r\n".repeat(101));
    client.send(&format!("MAIL FROM:<bob@x.example>\r\nRCPT TO:<ann@mox.example>\r\nDATA\r\n{message}NOOP")).await;
    client
        .play(
            "S: 250 2.1.0 looking good
            S: 250 2.1.0 now on the list
            S: 354 see you at the bare dot
            S: 550 5.4.6 loop detected, more than 100 received headers
            S: 250 2.0.0 alrighty",
        )
        .await;
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn large_messages_and_chunks() {
    let world = World::new().await;
    let mut client = world.connect(&world.incoming());
    client.play(HELLO).await;
    let body = "0123456789abcdef\r\n".repeat(20_000);
    client.send(&format!("MAIL FROM:<bob@x.example>\r\nRCPT TO:<ann@mox.example>\r\nDATA\r\nSubject: large\r\n\r\n{body}.")).await;
    client.play("S: 250 2.1.0 looking good\nS: 250 2.1.0 now on the list\nS: 354 see you at the bare dot\nS: 250 2.2.0 it is done").await;
    client.send("MAIL FROM:<bob@x.example>\r\nRCPT TO:<ann@mox.example>\r\nBDAT 12\r\nSubject: b\r\nBDAT 5 LAST\r\n\r\nx").await;
    client.play("S: 250 2.1.0 looking good\nS: 250 2.1.0 now on the list\nS: 250 2.0.0 12 octets received\nS: 250 2.2.0 it is done").await;
    let messages = world.mailbox("ann", "Inbox").await;
    assert!(messages[0].ends_with(&format!("Subject: large\r\n\r\n{body}")));
    assert!(messages[1].ends_with("Subject: b\r\n\r\nx\r\n"));
    drop(client);
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn rejected_mail_makes_the_connection_slow() {
    let world = World::new().await;
    let mut client = world.connect(&world.incoming());
    client.play(HELLO).await;
    client
        .play(
            "C: MAIL FROM:<spam@x.example>
            C: RCPT TO:<ann@mox.example>
            C: DATA
            S: 250 2.1.0 looking good
            S: 250 2.1.0 now on the list
            S: 354 see you at the bare dot",
        )
        .await;
    let before = tokio::time::Instant::now();
    client.play("C:\nC: .\nS: 451 4.3.0 error processing").await;
    assert!((20..=30).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    assert!(world.mailbox("ann", "Inbox").await.is_empty());
    drop(client);
    world.close().await;
}
