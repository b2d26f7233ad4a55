//! Large messages, many messages, and the end of the server.

use crate::server::Server;
use crate::transcript::Pace;
use base64::Engine as _;

fn large_message() -> Vec<u8> {
    let mut data = Vec::new();
    for i in 0..3_000_000u32 {
        data.push(u8::try_from(i.wrapping_mul(2_654_435_761) >> 24).unwrap());
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(&data);
    let mut message = b"Subject: large\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n".to_vec();
    for line in encoded.as_bytes().chunks(76) {
        message.extend_from_slice(line);
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// The bytes of the first literal in a response.
fn literal(response: &[u8]) -> &[u8] {
    let open = response.iter().position(|b| *b == b'{').unwrap();
    let close = open + response[open..].iter().position(|b| *b == b'}').unwrap();
    let size: usize = std::str::from_utf8(&response[open + 1..close]).unwrap().parse().unwrap();
    &response[close + 3..close + 3 + size]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_comes_back_as_it_was() {
    let server = Server::start().await;
    let mut client = server.logged_in(Pace::Lines);
    client.line("greeting").await;
    let message = large_message();
    let mut command = format!("a append inbox {{{}+}}\r\n", message.len()).into_bytes();
    command.extend_from_slice(&message);
    command.extend_from_slice(b"\r\n");
    client.send_bytes(&command).await;
    assert!(client.until("a ").await.ends_with(b"append done\r\n"));
    client.send("b examine inbox", "").await;
    client.until("b ").await;
    client.send("c fetch 1 body.peek[]", "").await;
    assert!(literal(&client.until("c ").await) == message, "BODY[]");
    client.send("d fetch 1 body.peek[1]<1000000.2000000>", "").await;
    let body = message.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(literal(&client.until("d ").await) == &message[body + 1_000_000..body + 3_000_000], "BODY[1]<1000000>");
    client.send("e fetch 1 (binary.size[1] binary.peek[1]<1.2999998>)", "").await;
    let response = client.until("e ").await;
    assert!(response.starts_with(b"* 1 FETCH (UID 1 BINARY.SIZE[1] 3000000 BINARY[1] ~{2999998}\r\n"));
    client.send("f search body nothing", "").await;
    assert_eq!(client.until("f ").await, b"* SEARCH\r\nf OK search done\r\n");
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_from_several_connections() {
    let server = Server::start().await;
    let append = |n: u32| {
        let mut client = server.logged_in(Pace::Lines);
        async move {
            client.line("greeting").await;
            for i in 0..50 {
                let message = format!("Subject: {n} {i}\r\n\r\ntext\r\n");
                client.send_bytes(format!("a append inbox {{{}+}}\r\n{message}\r\n", message.len()).as_bytes()).await;
                assert!(client.until("a ").await.starts_with(b"a OK [APPENDUID "));
            }
        }
    };
    tokio::join!(append(1), append(2), append(3), append(4));
    let mut client = server.logged_in(Pace::Lines);
    client.line("greeting").await;
    client.send("a select inbox", "").await;
    client.until("a ").await;
    client.send("b fetch 1:* (uid flags)", "").await;
    let response = String::from_utf8(client.until("b ").await).unwrap();
    for n in 1..=200 {
        assert!(response.contains(&format!("* {n} FETCH (UID {n} FLAGS ())\r\n")), "{n}");
    }
    client.send("c fetch 1:* (envelope body.peek[header.fields (subject)])", "").await;
    let response = String::from_utf8(client.until("c ").await).unwrap();
    assert_eq!(response.matches(" ENVELOPE (NIL \"").count(), 200);
    for n in 1..=4 {
        for i in 0..50 {
            assert_eq!(response.matches(&format!("\r\nSubject: {n} {i}\r\n\r\n)\r\n")).count(), 1, "{n} {i}");
        }
    }
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_server_is_said() {
    let server = Server::start().await;
    let mut waiting = server.logged_in(Pace::Lines);
    waiting.line("greeting").await;
    let mut idling = server.logged_in(Pace::Lines);
    idling.line("greeting").await;
    idling.send("a idle", "").await;
    assert_eq!(idling.line("idle").await, "+ idling");
    server.service.stop.cancel();
    assert!(waiting.line("bye").await.starts_with("* BYE "));
    assert!(idling.line("bye").await.starts_with("* BYE "));
    assert_eq!(waiting.next_line().await, None);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_waits_is_small() {
    let server = Server::start().await;
    let size = server.size_of_connection();
    assert!(size <= 4096, "{size} bytes");
    server.stop().await;
}
