//! SPF, DKIM and DMARC of incoming mail: what is written down, and what follows.

use crate::world::{Client, World, sending_key};
use mox_base::Timestamp;
use mox_mailauth::{Canonicalization, DkimSelector, Signer};

pub(crate) async fn client(world: &World) -> Client {
    let mut client = world.connect(&world.incoming());
    client.skip("220").await;
    client.send("EHLO mx.x.example").await;
    client.skip("250").await;
    client
}

/// Sends a message, and gives the reply to it.
async fn send(client: &mut Client, mail_from: &str, message: &str) -> String {
    send_to(client, mail_from, "ann@mox.example", message).await
}

/// Sends a message to somebody, and gives the reply to it.
pub(crate) async fn send_to(client: &mut Client, mail_from: &str, rcpt_to: &str, message: &str) -> String {
    client.send(&format!("MAIL FROM:<{mail_from}>\r\nRCPT TO:<{rcpt_to}>\r\nDATA")).await;
    client.skip("250").await;
    client.skip("250").await;
    client.skip("354").await;
    client.send(&format!("{message}\r\n.")).await;
    client.line().await.unwrap()
}

fn message(from: &str) -> String {
    format!("From: <{from}>\r\nSubject: hi\r\n\r\nhello")
}

/// The message with a signature in front.
fn signed(domain: &str, message: &str) -> String {
    let selector = DkimSelector {
        name: "sel".parse().unwrap(),
        key: sending_key(),
        header: Canonicalization::Relaxed,
        body: Canonicalization::Relaxed,
        headers: ["From", "Subject"].map(str::to_owned).to_vec(),
        seal_headers: true,
        expiration: None,
    };
    let (domain, localpart, selectors) = (domain.parse().unwrap(), "bob".parse().unwrap(), [selector]);
    let mut signer = Signer::new(&domain, Some(&localpart), &selectors);
    signer.push(format!("{message}\r\n").as_bytes());
    format!("{}{message}", signer.finish(Timestamp::from_secs(1_000)).unwrap())
}

/// The fields added in front, unfolded, up to `Received`.
async fn added(world: &World, mailbox: &str) -> String {
    let all = world.mailbox("ann", mailbox).await;
    let message = all.last().expect("no message");
    message.split_once("\r\nReceived: ").unwrap().0.replace("\r\n\t", " ").replace("\r\n", "\n")
}

#[tokio::test]
async fn results_are_written_down() {
    let world = World::new().await;
    let mut client = client(&world).await;
    assert!(send(&mut client, "bob@strict.example", &signed("strict.example", &message("bob@strict.example"))).await.starts_with("250"));
    let added = added(&world, "Inbox").await;
    // The signature is quoted where it has a slash.
    let b = added.split_once("header.b=").unwrap().1.split(' ').next().unwrap().to_owned();
    assert_eq!(b.trim_matches('"').len(), 12);
    assert_eq!(
        added.replace(&b, "B"),
        "Delivered-To: ann@mox.example\n\
         Return-Path: <bob@strict.example>\n\
         Authentication-Results: host.mox.example; iprev=pass (without dnssec) policy.iprev=192.0.2.7; \
         dkim=pass (without dnssec) header.d=strict.example header.s=sel header.a=ed25519-sha256 header.b=B header.i=bob@strict.example; \
         spf=pass (without dnssec) smtp.mailfrom=strict.example; dmarc=pass (without dnssec) header.from=strict.example\n\
         Received-SPF: pass (domain strict.example) client-ip=192.0.2.7; envelope-from=\"bob@strict.example\"; helo=mx.x.example; \
         mechanism=\"ip4:192.0.2.7\"; receiver=mx.mox.example; identity=mailfrom"
    );
    drop(client);
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn domains_have_their_will() {
    let world = World::new().await;
    let mut client = client(&world).await;
    // Neither SPF nor a signature.
    let refused = send(&mut client, "eve@x.example", &message("bob@strict.example")).await;
    assert!(refused.starts_with("550 5.7.26 rejecting message due to dmarc policy"), "{refused}");
    // A signature of someone else doesn't help; one of its own does, whatever SPF says.
    let other = signed("careful.example", &message("bob@strict.example"));
    assert!(send(&mut client, "eve@x.example", &other).await.starts_with("550 5.7.26"));
    let own = signed("strict.example", &message("bob@strict.example"));
    assert!(send(&mut client, "eve@x.example", &own).await.starts_with("250"));
    // A changed message isn't the signed one.
    assert!(send(&mut client, "eve@x.example", &own.replace("hello", "hullo")).await.starts_with("550 5.7.26"));
    // No DNS, no verdict.
    assert!(send(&mut client, "bob@shaky.example", &message("bob@shaky.example")).await.starts_with("250"));
    assert!(added(&world, "Inbox").await.contains("spf=temperror (without dnssec) smtp.mailfrom=shaky.example; dmarc=temperror"));
    // Suspicious mail is kept apart.
    assert!(send(&mut client, "eve@x.example", &message("bob@careful.example")).await.starts_with("250"));
    let added = added(&world, "Junk").await;
    assert!(added.starts_with("X-Mox-Reason: dmarc-policy;\nDelivered-To: ann@mox.example\n"), "{added}");
    assert!(added.contains("dmarc=fail (without dnssec) header.from=careful.example"), "{added}");
    // Without one author, nobody's will counts.
    let two = message("bob@strict.example").replace("Subject", "From: a@x.example\r\nSubject");
    assert!(send(&mut client, "eve@x.example", &two).await.starts_with("250"));
    assert_eq!(world.mailbox("ann", "Inbox").await.len(), 3);
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn several_recipients_only_for_verified_senders() {
    let world = World::new().await;
    let mut client = client(&world).await;
    client
        .play(
            "C: MAIL FROM:<eve@careful.example>
            C: RCPT TO:<ann@mox.example>
            C: RCPT TO:<cas@mox.example>
            S: 250 2.1.0 looking good
            S: 250 2.1.0 now on the list
            S: 452 4.5.3 only one recipient allowed without spf pass
            C: RSET
            S: 250 2.0.0 all clear
            C: MAIL FROM:<bob@strict.example>
            C: RCPT TO:<ann@mox.example>
            C: RCPT TO:<cas@mox.example>
            S: 250 2.1.0 looking good
            S: 250 2.1.0 now on the list
            S: 250 2.1.0 now on the list",
        )
        .await;
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn localserve_vouches_for_its_own() {
    let world = World::with(|settings| settings.localserve = true).await;
    let mut client = world.connect_from(&world.incoming(), "127.0.0.1:4000");
    client.skip("220").await;
    client.send("EHLO localhost").await;
    client.skip("250").await;
    // Its own domain has no MX in DNS; the check of that has nothing to do with these.
    let message = signed("localhost", &message("bob@localhost"));
    assert!(send(&mut client, "bob@localhost", &message).await.starts_with("250"));
    let added = added(&world, "Inbox").await;
    assert!(added.contains("dkim=pass") && added.contains("header.d=localhost"), "{added}");
    assert!(added.contains("spf=pass (without dnssec) smtp.mailfrom=localhost"), "{added}");
    drop(client);
    world.close().await;
}

#[tokio::test]
async fn nobody_else_says_what_we_found() {
    let world = World::new().await;
    let mut client = client(&world).await;
    let forged = "Authentication-Results: (us) \"HOST.mox.example\"; dmarc=pass header.from=strict.example\r\n";
    let other = "Authentication-Results: mx.x.example; spf=pass smtp.mailfrom=x.example\r\n";
    let message = format!("{forged}{other}{}", message("bob@x.example"));
    assert!(send(&mut client, "bob@x.example", &message).await.starts_with("250"));
    let stored = world.mailbox("ann", "Inbox").await.remove(0);
    let rest = format!("\r\n{other}From: <bob@x.example>\r\nSubject: hi\r\n\r\nhello\r\n");
    assert!(stored.ends_with(&rest), "{stored}");
    assert_eq!(stored.matches("host.mox.example;").count(), 1, "{stored}");
    assert!(!stored.contains("HOST"), "{stored}");
    drop(client);
    world.close().await;
}

/// DNS that doesn't answer at all: mail gets in, later than otherwise, but not by much.
#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_dns() {
    for (localserve, limit) in [(true, 5), (false, 60)] {
        let world = World::with(|settings| settings.localserve = localserve).await;
        let address = if localserve { "127.0.0.1:4000" } else { "192.0.2.7:4000" };
        let mut client = world.connect_from(&world.incoming(), address);
        client.skip("220").await;
        client.send("EHLO mx.x.example").await;
        client.skip("250").await;
        let began = tokio::time::Instant::now();
        let message = signed("silent.example", &message("bob@silent.example"));
        assert!(send(&mut client, "bob@x.example", &message).await.starts_with("250"));
        assert!(began.elapsed().as_secs() <= limit, "{:?}", began.elapsed());
        let added = added(&world, "Inbox").await;
        assert!(added.contains("dkim=temperror") && added.contains("dmarc=temperror"), "{added}");
        drop(client);
        world.close().await;
    }
}
