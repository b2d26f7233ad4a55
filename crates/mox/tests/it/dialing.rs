//! How next hops are reached, from outside: from which address of ours, through a proxy that wants a login, and in chunks.

use crate::queue::{await_queue, is_empty, kick, run, send};
use crate::server::BINARY;
use mox_testkit::peers::{Mox, Reaction, Sink, Socks, skip};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddrV4, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// `mox serve` with more in `mox.conf`, and all mail by the transport `way` of it.
fn serving_by(more: &str) -> Mox {
    let mox = Mox::serve_with(Path::new(BINARY), |folder| {
        let fixed = folder.join("mox.conf");
        std::fs::write(&fixed, std::fs::read_to_string(&fixed)? + more)?;
        let dynamic = folder.join("domains.conf");
        std::fs::write(&dynamic, std::fs::read_to_string(&dynamic)? + "Routes:\n\t-\n\t\tTransport: way\n")
    });
    mox.unwrap()
}

/// A host that has the address of one of its clients in a block list. It keeps whom it was called by, and what they said.
struct Picky {
    heard: Arc<Mutex<Vec<(String, String)>>>,
}

impl Picky {
    fn listen(address: SocketAddrV4, blocked: &'static str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&heard);
        // It ends with the test's process.
        std::thread::spawn(move || {
            while let Ok((stream, client)) = listener.accept() {
                let client = client.ip().to_string();
                let mut reader = BufReader::new(stream);
                let mut line = String::from("(connect)");
                let mut in_data = false;
                loop {
                    shared.lock().unwrap().push((client.clone(), line.trim_end().to_owned()));
                    let reply = match line.get(..4).unwrap_or_default() {
                        _ if in_data && line != ".\r\n" => "",
                        "(con" => "220 picky.test",
                        "EHLO" => "250 picky.test",
                        "MAIL" if client == blocked => "550 5.7.1 you are blocked using bl.test",
                        "DATA" => "354 go",
                        _ => "250 2.0.0 ok",
                    };
                    in_data = line.starts_with("DATA") || (in_data && line != ".\r\n");
                    if !reply.is_empty() && reader.get_mut().write_all(format!("{reply}\r\n").as_bytes()).is_err() {
                        break;
                    }
                    line.clear();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        break;
                    }
                }
            }
        });
        Ok(Self { heard })
    }

    /// The clients that said something, in order.
    fn clients(&self, command: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(_, line)| line.starts_with(command)).map(|(client, _)| client.clone()).collect()
    }
}

#[test]
fn a_blocked_address_of_ours_is_replaced_by_the_next() {
    let picky = match Picky::listen("127.77.0.26:25".parse().unwrap(), "127.77.1.1") {
        Ok(picky) => picky,
        Err(error) => return skip(&format!("port 25 of a loopback address: {error}")),
    };
    let transport =
        "Transports:\n\tway:\n\t\tDirect:\n\t\t\tOutgoingIPs:\n\t\t\t\t- 127.77.1.1\n\t\t\t\t- 127.77.1.2\n\t\t\tHostname: out.test\n";
    let mox = serving_by(transport);
    send(&mox, &["ann@[127.77.0.26]"], "blocked");
    await_queue(&mox, |list| list.contains("blocked using"));
    assert_eq!(picky.clients("MAIL"), ["127.77.1.1"]);
    kick(&mox);
    await_queue(&mox, is_empty);
    assert_eq!(picky.clients("MAIL"), ["127.77.1.1", "127.77.1.2"]);
    assert_eq!(picky.clients("EHLO out.test"), picky.clients("MAIL"));
    let retired = run(&mox, &["queue", "retired", "list"]);
    assert!(retired.contains(" success "), "{retired}");
    // The next message goes the way that works.
    send(&mox, &["ann@[127.77.0.26]"], "remembered");
    await_queue(&mox, is_empty);
    assert_eq!(picky.clients("MAIL").last().map(String::as_str), Some("127.77.1.2"));
}

#[test]
fn a_real_proxy_that_wants_a_login_gets_one() {
    let Some(socks) = Socks::require_login("ann", "secret") else { return };
    let sink = match Sink::start_at("127.77.0.27:25".parse().unwrap(), |_| Reaction::Normal) {
        Ok(sink) => sink,
        Err(error) => return skip(&format!("port 25 of a loopback address: {error}")),
    };
    let proxy = |password: &str| {
        let auth = format!("\t\t\tAuth:\n\t\t\t\tUsername: ann\n\t\t\t\tPassword: {password}\n");
        let port = socks.port();
        format!(
            "Transports:\n\tway:\n\t\tSocks:\n\t\t\tAddress: 127.0.0.1:{port}\n\t\t\tRemoteIPs:\n\t\t\t\t- 127.0.0.1\n\t\t\tRemoteHostname: proxy.test\n{auth}"
        )
    };
    let mox = serving_by(&proxy("secret"));
    send(&mox, &["ann@[127.77.0.27]"], "through");
    await_queue(&mox, is_empty);
    assert_eq!(sink.received().len(), 1);
    drop(mox);
    let mox = serving_by(&proxy("wrong"));
    send(&mox, &["ann@[127.77.0.27]"], "refused");
    await_queue(&mox, |list| list.contains("proxy refuses user name and password"));
    assert_eq!(sink.received().len(), 1);
}
