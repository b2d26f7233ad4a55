//! Behind a proxy that says who its clients are, by the PROXY protocol.

use crate::server::{BINARY, await_messages, bodies, imap, message};
use mox_testkit::peers::{Mox, Service, SmtpClient, dial};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

/// Where the proxy is.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn behind_a_proxy() -> Mox {
    let started = Mox::start_with(Path::new(BINARY), |folder| {
        let fixed = folder.join("mox.conf");
        let text = std::fs::read_to_string(&fixed)?;
        let networks = "\t\tProxyProtocolNetworks:\n\t\t\t- 127.0.0.2\n\t\tIPs:\n";
        assert!(text.contains("\t\tIPs:\n"), "{text}");
        std::fs::write(&fixed, text.replacen("\t\tIPs:\n", networks, 1))
    });
    started.unwrap()
}

/// A connection from the proxy that begins with some bytes.
fn from_proxy(port: u16, header: &[u8]) -> TcpStream {
    let mut stream = dial(PROXY, port).unwrap();
    stream.write_all(header).unwrap();
    stream
}

#[test]
fn clients_are_known_by_what_their_proxy_says() {
    let mox = behind_a_proxy();
    let deliver = |mut client: SmtpClient, subject: &str| {
        assert!(client.send("x@remote.example", &[Mox::USER], &message(subject)).unwrap().is_ok());
    };
    let header = b"PROXY TCP4 198.51.100.7 127.0.0.1 4000 25\r\n";
    deliver(SmtpClient::over(from_proxy(mox.port(Service::Smtp), header)).unwrap(), "by proxy");
    // Others are who they are, and can't say otherwise.
    deliver(SmtpClient::smtp(mox.port(Service::Smtp)).unwrap(), "directly");
    let mut forging = SmtpClient::raw(Ipv4Addr::LOCALHOST, mox.port(Service::Smtp)).unwrap();
    assert!(forging.reply().unwrap().is_ok());
    assert!(!forging.command("PROXY TCP4 198.51.100.8 127.0.0.1 4000 25").unwrap().is_ok());

    let mut client = imap(&mox);
    await_messages(&mut client, "Inbox", 2);
    let inbox: Vec<String> = bodies(&mut client).into_iter().map(|body| String::from_utf8(body).unwrap()).collect();
    for (subject, address) in [("by proxy", "[198.51.100.7]"), ("directly", "[127.0.0.1]")] {
        let found = inbox.iter().find(|message| message.contains(&format!("\r\nSubject: {subject}\r\n"))).unwrap();
        assert!(found.contains(address), "{address}: {found}");
    }

    // The binary form, and a proxy that only looks whether we live.
    for command in [0x21, 0x20] {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([command, 0x11, 0, 12, 198, 51, 100, 7, 127, 0, 0, 1, 15, 160, 0, 143]);
        let mut greeting = String::new();
        BufReader::new(from_proxy(mox.port(Service::Imap), &header)).read_line(&mut greeting).unwrap();
        assert!(greeting.starts_with("* OK"), "{greeting}");
    }
}

#[test]
fn a_proxy_that_says_nothing_is_not_heard() {
    let mox = behind_a_proxy();
    for port in [mox.port(Service::Smtp), mox.port(Service::Imap)] {
        let mut answer = Vec::new();
        // Closed, or reset if we didn't read all of it.
        drop(from_proxy(port, b"EHLO client.test\r\n").read_to_end(&mut answer));
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
}
