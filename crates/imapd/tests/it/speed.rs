//! How long common commands take on a large mailbox. To be run by hand, in release: `cargo test --release -p mox-imapd --test it -- --ignored --nocapture speed`.

use crate::server::{Server, TestClient};
use crate::transcript::Pace;
use mox_store::{Append, Error, Flags, Message};
use tokio::time::Instant;

const MESSAGES: u32 = 20_000;

fn message(i: u32) -> Vec<u8> {
    let head = format!(
        "From: Some Sender <sender{i}@remote.example>\r\nTo: Me <mjl@mox.example>\r\nSubject: message number {i}\r\nMessage-ID: <{i}@remote.example>\r\n\
         Date: Wed, 1 Jan 2020 10:11:12 +0200\r\nReceived: from a by b; Wed, 1 Jan 2020 10:11:12 +0200\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=b{i}\r\n\r\n--b{i}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    );
    let text = "Lorem ipsum dolor sit amet, consectetur adipiscing elit.\r\n".repeat(25);
    format!("{head}{text}--b{i}\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>{text}</p>\r\n--b{i}--\r\n").into_bytes()
}

async fn timed(client: &mut TestClient, command: &str) {
    // The second time is with warm caches, as it is for most users.
    for round in 0..2 {
        let started = Instant::now();
        client.send(&format!("a {command}"), "").await;
        let response = client.until("a ").await;
        if round == 1 {
            eprintln!("{:>9.2} ms {:>10} bytes  {command}", started.elapsed().as_secs_f64() * 1000.0, response.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn speed() {
    let server = Server::start().await;
    let account = server.service.store.account("mjl").await.unwrap();
    let inbox = account.mailboxes().by_name("Inbox").unwrap().id;
    for start in (0..MESSAGES).step_by(500) {
        let mut prepared = Vec::new();
        for i in start..start + 500 {
            prepared.push(account.prepare(Message::new(message(i))).await.unwrap());
        }
        let flags = if start % 1000 == 0 { Flags::SEEN } else { Flags::NONE };
        account
            .write(move |w| {
                for p in &prepared {
                    w.add(inbox, p, &Append { flags, ..Append::default() })?;
                }
                Ok::<_, Error>(())
            })
            .await
            .unwrap();
    }
    let mut client = server.logged_in(Pace::Lines);
    client.line("greeting").await;
    for command in [
        "select inbox",
        "status inbox (messages unseen)",
        "fetch 1:* (uid flags)",
        "fetch 1:* (envelope internaldate rfc822.size)",
        "fetch 1:* bodystructure",
        "fetch 1:* body.peek[header.fields (from to subject date message-id)]",
        "fetch 1:2000 body.peek[]",
        "search unseen",
        "search from sender777@",
        "search body nowhere",
        "store 1:1000 +flags \\flagged",
        "store 1:1000 -flags \\flagged",
    ] {
        timed(&mut client, command).await;
    }
    let started = Instant::now();
    let text = String::from_utf8(message(1)).unwrap();
    for _ in 0..500 {
        client.send(&format!("a append Archive {{{}+}}\r\n{text}", text.len()), "").await;
        client.until("a ").await;
    }
    eprintln!("{:>9.0} appends/s", 500.0 / started.elapsed().as_secs_f64());
    drop((client, account));
    server.stop().await;
}
