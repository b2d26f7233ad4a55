//! Submission: ownership, header fields, the queue.

use crate::world::World;

const BEGIN: &str = "
    C: MAIL FROM:<ann@mox.example>
    C: RCPT TO:<bob@x.example>
    C: DATA
    S: 250 2.1.0 looking good
    S: 250 2.1.0 now on the list
    S: 354 see you at the bare dot
";

#[tokio::test]
async fn a_message_is_completed_and_queued() {
    let world = World::new().await;
    let mut client = world.logged_in("ann@mox.example").await;
    client.play(BEGIN).await;
    client.play("C: From: Ann <ann@mox.example>\nC: X-Mox-Extra-order-id: 7\nC: Bcc: x\nC:\nC: hi\nC: .\nS: 250 2.2.0 it is done").await;
    let [(entry, message, text)] = &world.queued().await[..] else { panic!("not one entry") };
    assert_eq!(entry.sender.as_ref().unwrap().to_string(), "ann@mox.example");
    assert_eq!((entry.recipient.to_string().as_str(), message.account.as_str()), ("bob@x.example", "ann"));
    assert_eq!(message.extra.get("Order-Id").map(String::as_str), Some("7"));
    let names: Vec<&str> =
        text.split("\r\n").take_while(|l| !l.is_empty()).filter(|l| !l.starts_with('\t')).map(|l| l.split(':').next().unwrap()).collect();
    assert_eq!(names, ["Received", "Message-Id", "Date", "Authentication-Results", "From", "Bcc"]);
    let unfolded = text.replace("\r\n\t", " ");
    assert!(
        unfolded.contains("Received: from host.mox.example by host.mox.example ([198.51.100.2]) via tcp with ESMTPA id "),
        "{unfolded}"
    );
    assert!(unfolded.contains(" for <bob@x.example>; ") && !text.contains("192.0.2.7"), "{unfolded}");
    assert!(unfolded.contains("Authentication-Results: host.mox.example; auth=pass smtp.mailfrom=ann@mox.example\r\n"), "{unfolded}");
    assert_eq!(message.message_id, unfolded.split("Message-Id: ").nth(1).unwrap().split("\r\n").next().unwrap());
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn what_is_for_us_only_stays_here() {
    let world = World::with(|settings| settings.remove_bcc = true).await;
    let mut client = world.logged_in("ann@mox.example").await;
    // Small, and so large that it waits in a file.
    for lines in [1, 5000] {
        client.play(BEGIN).await;
        let header =
            "bcc: Cas <cas@mox.example>,\r\n\thidden@x.example\r\nFrom: <ann@mox.example>\r\nx-mox-extra-a: 1\r\nTo: <bob@x.example>";
        let body = "a line of a message\r\n".repeat(lines);
        client.send(&format!("{header}\r\n\r\n{body}.")).await;
        client.skip("250").await;
        let (_, message, text) = world.queued().await.pop().unwrap();
        let kept = format!("\r\nFrom: <ann@mox.example>\r\nTo: <bob@x.example>\r\n\r\n{body}");
        assert!(
            text.ends_with(&kept) && !text.contains("hidden") && !text.to_lowercase().contains("x-mox"),
            "{}",
            &text[..1000.min(text.len())]
        );
        assert_eq!(message.extra.get("A").map(String::as_str), Some("1"));
    }
    drop(client);
    world.close().await;
}

/// RFC 5322 §2.1.1 allows 998 octets; what signs a message must be able to rely on what it sent.
#[tokio::test]
async fn long_lines_stay_as_they_are() {
    let world = World::new().await;
    let mut client = world.logged_in("ann@mox.example").await;
    client.play(BEGIN).await;
    let message = format!("From: <ann@mox.example>\r\nTo: <bob@x.example>\r\n\r\n{}\r\nshort\r\n", "<p>long</p>".repeat(10_000));
    client.send(&format!("{message}.")).await;
    client.skip("250").await;
    let (_, _, text) = world.queued().await.pop().unwrap();
    assert!(text.ends_with(&message), "{}", &text[..1000]);
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn several_recipients_share_a_message_that_names_none() {
    let world = World::new().await;
    let mut client = world.logged_in("ann@mox.example").await;
    client
        .play(
            "C: MAIL FROM:<members@mox.example> RET=FULL ENVID=q1 HOLDFOR=60 MT-PRIORITY=-4 BY=3600;NT
            C: RCPT TO:<bob@x.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob@x.example
            C: RCPT TO:<cas@mox.example>
            C: RCPT TO:<bob@x.example>
            C: RCPT TO:<nobody@mox.example>
            C: DATA
            S: 250 2.1.0 looking good
            S: 250 2.1.0 now on the list
            S: 250 2.1.0 now on the list
            S: 250 2.1.0 now on the list
            S: 550 5.1.1 no such user
            S: 354 see you at the bare dot
            C: From: <members@mox.example>
            C: TLS-Required: No
            C:
            C: .
            S: 250 2.2.0 it is done",
        )
        .await;
    let queued = world.queued().await;
    let rcpts: Vec<String> = queued.iter().map(|(entry, ..)| entry.recipient.to_string()).collect();
    assert_eq!(rcpts, ["bob@x.example", "cas@mox.example"]);
    let (entry, message, text) = &queued[0];
    assert!(!text.contains(" for <"), "{text}");
    assert!(text.replace("\r\n\t", " ").lines().next().unwrap().contains(" PRIORITY -4; "));
    let by = message.deliver_by.unwrap();
    assert_eq!((message.priority.map(mox_base::Priority::get), by.late, by.trace), (Some(-4), mox_base::WhenLate::Notify, true));
    assert_eq!((by.at, entry.by_due), (entry.queued.after(std::time::Duration::from_secs(3600)), Some(by.at)));
    assert_eq!((message.envelope_id.as_deref(), message.return_full), (Some("q1"), true));
    assert_eq!((entry.notify.success, entry.notify.failure, entry.notify.delay), (true, false, true));
    assert_eq!((entry.original_recipient.as_deref(), entry.require_tls), (Some("rfc822;bob@x.example"), Some(false)));
    assert_eq!((message.future_release.as_str(), entry.next_attempt), ("for;60", entry.queued.after(std::time::Duration::from_secs(60))));
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn only_own_addresses() {
    let world = World::new().await;
    let mut client = world.logged_in("ann+x@mox.example").await;
    client
        .play(
            "C: MAIL FROM:<cas@mox.example>
            S: 550 5.7.1 must match authenticated user
            C: MAIL FROM:<ann@[198.51.100.2]>
            S: 550 5.7.1 must match authenticated user
            C: MAIL FROM:<public@mox.example>
            S: 550 5.7.1 must match authenticated user
            C: MAIL FROM:<ann@off.example>
            S: 451 4.3.0 sender domain temporarily disabled
            C: MAIL FROM:<ann@elsewhere.example>
            S: 550 5.7.1 must match authenticated user",
        )
        .await;
    for (header, reply) in [
        ("From: <cas@mox.example>", "550 5.7.1 from header must match authenticated user"),
        ("From: <ann@off.example>", "451 4.3.0 domain of from header temporarily disabled"),
        ("X-Mox-Extra-a: 1\nC: x-mox-extra-A: 2\nC: From: <ann@mox.example>", "554 5.6.0 duplicate x-mox-extra- header"),
    ] {
        client.play(BEGIN).await;
        client.play(&format!("C: {header}\nC:\nC: .\nS: {reply}")).await;
    }
    for header in
        ["To: <ann@mox.example>", "From: <ann@mox.example>, <cas@mox.example>", "From: <ann@mox.example>\r\nFrom: <ann@mox.example>"]
    {
        client.play(BEGIN).await;
        client.send(&format!("{header}\r\n\r\n.")).await;
        assert!(client.skip("550").await.starts_with("550 5.6.0 cannot parse header or from address: "));
    }
    client.play(BEGIN).await;
    client.play("C: From: <ann+anything@mox.example>\nC:\nC: .\nS: 250 2.2.0 it is done").await;
    assert_eq!(world.queued().await.len(), 1);
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn limits_on_sending() {
    let world = World::new().await;
    let mut client = world.logged_in("ann@mox.example").await;
    let messages = "451 4.7.1 account may send to 5 recipients in 24 hours, see MaxOutgoingMessagesPerDay in its configuration";
    let first_time =
        "451 4.7.1 account may send to 3 first-time recipients in 24 hours, see MaxFirstTimeRecipientsPerDay in its configuration";
    let done = "250 2.2.0 it is done";
    // Five recipients a day, three of them new.
    let mut send = async |hours: u64, recipients: &[&str], reply: &str| {
        world.clock.advance(std::time::Duration::from_secs(hours * 3600));
        client.play("C: MAIL FROM:<ann@mox.example>\nS: 250 2.1.0 looking good").await;
        for recipient in recipients {
            client.play(&format!("C: RCPT TO:<{recipient}@x.example>\nS: 250 2.1.0 now on the list")).await;
        }
        client.play(&format!("C: DATA\nS: 354 see you at the bare dot\nC: From: <ann@mox.example>\nC:\nC: .\nS: {reply}")).await;
    };
    send(0, &["a", "b"], done).await;
    send(0, &["a", "c", "d"], first_time).await;
    send(12, &["a", "b", "c"], done).await;
    send(0, &["a"], messages).await;
    // The first two, and both new, are a day old.
    send(13, &["d", "e"], done).await;
    send(0, &["a"], messages).await;
    // Nothing of it has left the queue, which has room for nine.
    let room = "452 4.3.1 account may have 9 messages in the queue, see QueueMaxMessages in its configuration";
    send(25, &["a", "b", "d"], room).await;
    drop(client);
    assert_eq!(world.queued().await.len(), 7);
    world.close().await;
}

#[tokio::test]
async fn bounces_are_recognised_by_their_address() {
    let world = World::new().await;
    let mut client = world.logged_in("fromid@mox.example").await;
    let message = "C: From: <fromid@mox.example>\nC:\nC: .\n";
    client.play("C: MAIL FROM:<fromid@mox.example>\nC: RCPT TO:<a@x.example>\nC: RCPT TO:<b@x.example>\nC: DATA").await;
    client
        .play("S: 250 2.1.0 looking good\nS: 250 2.1.0 now on the list\nS: 250 2.1.0 now on the list\nS: 354 see you at the bare dot")
        .await;
    client.play(&format!("{message}S: 250 2.2.0 it is done")).await;
    let queued = world.queued().await;
    let ids: Vec<&str> = queued.iter().map(|(entry, ..)| entry.from_id.as_deref().unwrap()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids[0].len() == 22);
    assert_eq!(queued[0].0.sender.as_ref().unwrap().to_string(), format!("fromid+{}@mox.example", ids[0]));
    // A chosen one is for one recipient, once.
    for (recipients, reply) in [
        (1, "250 2.2.0 it is done"),
        (1, "554 5.1.7 id in mail from address was used before"),
        (2, "554 5.5.3 only one recipient allowed with a chosen id in the mail from address"),
    ] {
        client.play("C: MAIL FROM:<fromid+mine@mox.example>\nS: 250 2.1.0 looking good").await;
        for i in 0..recipients {
            client.play(&format!("C: RCPT TO:<r{i}@x.example>\nS: 250 2.1.0 now on the list")).await;
        }
        client.play("C: DATA\nS: 354 see you at the bare dot").await;
        client.play(&format!("{message}S: {reply}")).await;
    }
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn unique_senders_only_where_asked_for() {
    let world = World::new().await;
    // Nothing behind the separator, or another address to log in with: no id.
    for (login, from) in [("fromid@mox.example", "fromid+@mox.example"), ("fromid+x@mox.example", "fromid@mox.example")] {
        let mut client = world.logged_in(login).await;
        client.play(&format!("C: MAIL FROM:<{from}>\nC: RCPT TO:<a@x.example>\nC: DATA")).await;
        client.play("S: 250 2.1.0 looking good\nS: 250 2.1.0 now on the list\nS: 354 see you at the bare dot").await;
        client.play("C: From: <fromid@mox.example>\nC:\nC: .\nS: 250 2.2.0 it is done").await;
        let queued = world.queued().await;
        let entry = &queued.last().unwrap().0;
        assert_eq!((entry.from_id.as_deref(), entry.sender.as_ref().unwrap().to_string().as_str()), (None, from));
    }
    // Without a separator, there is no place for an id.
    let mut client = world.logged_in("fromid@mox.example").await;
    client.play("C: MAIL FROM:<ann@plain.example>\nC: RCPT TO:<a@x.example>\nC: DATA").await;
    client.play("S: 250 2.1.0 looking good\nS: 250 2.1.0 now on the list\nS: 354 see you at the bare dot").await;
    client.play("C: From: <ann@plain.example>\nC:\nC: .").await;
    let reply = "554 5.3.5 login address asks for unique senders, but the domain of the from header has no separator for them";
    client.play(&format!("S: {reply}")).await;
    drop(client);
    assert_eq!(world.queued().await.len(), 2);
    world.close().await;
}

#[tokio::test]
async fn by_the_letter() {
    let world = World::with(|settings| settings.pedantic = true).await;
    let mut client = world.logged_in("ann@mox.example").await;
    for (header, reply) in [
        ("Return-Path: <x@y>\r\nFrom: <ann@mox.example>".to_owned(), "550 5.6.0 message has a return-path header"),
        (format!("From: <ann@mox.example>\r\nX: {}", "x".repeat(1000)), "550 5.6.0 header line too long"),
        ("From: <ann@mox.example>\r\nSubject: \u{f8}".to_owned(), "500 5.6.0 8-bit data needs body=8bitmime"),
    ] {
        client.play(BEGIN).await;
        client.send(&format!("{header}\r\n\r\n.")).await;
        client.play(&format!("S: {reply}")).await;
    }
    client.play("C: MAIL FROM:<ann@mox.example> BODY=8BITMIME\nC: RCPT TO:<bob@x.example>\nC: DATA").await;
    client.play("S: 250 2.1.0 looking good\nS: 250 2.1.0 now on the list\nS: 354 see you at the bare dot").await;
    client.play("C: From: <ann@mox.example>\nC: Subject: \u{f8}\nC:\nC: .\nS: 550 5.6.0 smtputf8 required for message").await;
    drop(client);
    world.close().await;
}
