//! Sends a message, receives the webhook that says what became of it, and keeps the address from being written to again if it failed.
//!
//! With `mox localserve` running, and in its `domains.conf`, in account `mox`:
//!
//! ```text
//! OutgoingWebhook:
//!   URL: http://127.0.0.1:8008/
//! ```
//!
//! `cargo run -p mox-webapi-client --example bounces` then writes to an address that localserve makes fail.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use mox_webapi::webhook::{Event, Outgoing};
use mox_webapi::{NameAddress, SendRequest, SuppressionAddRequest, Unknown};
use mox_webapi_client::{CallError, Client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let base = args.next().unwrap_or_else(|| "http://mox%40localhost:moxmoxmox@localhost:1080/webapi/v0/".to_owned());
    let recipient = args.next().unwrap_or_else(|| "permerror@localhost".to_owned());
    let hooks = TcpListener::bind("127.0.0.1:8008").await?;
    let client = Client::new(&base)?;

    let request = SendRequest {
        to: vec![NameAddress { name: String::new(), address: recipient.clone() }],
        subject: "hello".to_owned(),
        text: "hi".to_owned(),
        ..SendRequest::default()
    };
    // Safe to repeat if there is no answer: it is sent once.
    let sent = client.send_once(&request, &format!("example-{}", std::process::id())).await?;
    println!("queued {} as {:?}", sent.message_id, sent.submissions.first().map(|s| s.queue_msg_id));

    loop {
        let (stream, _) = hooks.accept().await?;
        let event = receive(stream).await?;
        println!("{} for {}: {}", event.event, event.message_id, event.error);
        if event.message_id != sent.message_id {
            continue;
        }
        match event.event {
            Event::Delivered => return Ok(()),
            Event::Failed | Event::Suppressed => {
                // The server may have done this by itself: see `Suppressing`.
                let suppress = SuppressionAddRequest { email_address: recipient, manual: false, reason: event.error };
                match client.suppression_add(&suppress).await {
                    Ok(_) => println!("suppressed"),
                    Err(CallError::Refused(error)) if error.code == "error" => println!("was suppressed already"),
                    Err(error) => return Err(error.into()),
                }
                return Ok(());
            }
            _ => {}
        }
    }
}

/// Reads a webhook's request and answers it. An HTTP server does this better.
async fn receive(mut stream: TcpStream) -> Result<Outgoing, Failure> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
                return Ok(mox_webapi::read(body, Unknown::Ignore)?);
            }
        }
        if stream.read_buf(&mut request).await? == 0 {
            return Err("webhook ended early".into());
        }
    }
}
