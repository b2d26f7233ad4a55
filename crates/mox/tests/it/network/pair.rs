//! Two servers of ours that find each other by DNS alone: mail, bounces, delays, reports by webhook, and nothing lost when one of
//! them is killed.

use super::{Ca, Host, Identity, Setup, Validity};
use crate::server::PATIENCE;
use base64::Engine as _;
use mox_testkit::peers::{Names, Network, Resolving, Signing, ZoneFile, wait_until};
use rcgen::{KeyPair, PublicKeyData as _};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// The calls of webhooks, as JSON.
#[derive(Clone, Default)]
struct Hooks(Arc<Mutex<Vec<serde_json::Value>>>);

impl Hooks {
    fn listen(network: &Network) -> Self {
        let hooks = Self::default();
        let listener = network.inside(|| TcpListener::bind("9.0.5.1:80")).unwrap().unwrap();
        let calls = Arc::clone(&hooks.0);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                if let Some(body) = request(&mut reader) {
                    calls.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                    // A server that was killed doesn't read it.
                    drop(reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
                }
            }
        });
        hooks
    }

    /// The events about a subject, in order.
    fn events(&self, subject: &str) -> Vec<String> {
        let calls = self.0.lock().unwrap();
        let about = calls.iter().filter(|call| call["Subject"] == subject);
        about.map(|call| call["Event"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// The body of a request, if there is one.
fn request(reader: &mut BufReader<std::net::TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

struct Pair {
    network: Network,
    _names: Names,
    hooks: Hooks,
    alpha: Host,
    beta: Host,
}

/// A domain with everything that DNS can say about its mail.
fn zone(name: &str, ip: &str, signing: Signing, identity: &Identity, dkim: &KeyPair) -> ZoneFile {
    let key = base64::engine::general_purpose::STANDARD.encode(dkim.der_bytes());
    ZoneFile::new(name, signing)
        .with(&format!("@ MX 10 mx\nmx A {ip}\n@ TXT \"v=spf1 ip4:{ip} -all\"\nmx TXT \"v=spf1 ip4:{ip} -all\""))
        .with(&format!("_25._tcp.mx TLSA 3 1 1 {}", identity.spki))
        .with(&format!("s1._domainkey TXT \"v=DKIM1; k=ed25519; p={key}\"\n_dmarc TXT \"v=DMARC1; p=reject\""))
}

fn pair() -> Option<Pair> {
    let network = Network::require()?;
    let ca = Ca::new();
    let identities = ["alpha", "beta"].map(|name| Identity::self_signed(&[&format!("mx.{name}.example")], Validity::Now));
    let dkim = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let names = Names::require(
        &network,
        vec![
            zone("alpha.example", "9.0.1.1", Signing::Nsec, &identities[0], &dkim),
            zone("beta.example", "9.0.1.2", Signing::Nsec3, &identities[1], &dkim),
            ZoneFile::new("0.9.in-addr.arpa", Signing::Unsigned).with("1.1 PTR mx.alpha.example.\n2.1 PTR mx.beta.example."),
        ],
    )?;
    let hooks = Hooks::listen(&network);
    let dkim_pem = dkim.serialize_pem();
    let of_domain = "\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\ts1:\n\t\t\t\t\tPrivateKeyFile: dkim.pem\n\t\t\tSign:\n\t\t\t\t- s1\n";
    let of_account = "\t\tOutgoingWebhook:\n\t\t\tURL: http://9.0.5.1/hook\n\t\tMaxFirstTimeRecipientsPerDay: 1000\n";
    let files = [("dkim.pem", dkim_pem.as_str())];
    let alpha = Setup::new("mx.alpha.example", [9, 0, 1, 1], ("ann", "alpha.example"), &identities[0], &ca);
    let alpha = Setup { of_domain, of_account, files: &files, ..alpha }.start(&network, &names);
    let beta = Setup::new("mx.beta.example", [9, 0, 1, 2], ("bob", "beta.example"), &identities[1], &ca);
    let beta = Setup { resolving: Resolving::Own, of_domain, of_account, files: &files, ..beta }.start(&network, &names);
    Some(Pair { network, _names: names, hooks, alpha, beta })
}

fn with_subject<'m>(messages: &'m [String], subject: &str) -> Vec<&'m str> {
    messages.iter().filter(|m| m.contains(&format!("\r\nSubject: {subject}\r\n"))).map(String::as_str).collect()
}

/// What the history says of the only attempt to deliver to an address.
fn result(host: &Host, to: &str) -> serde_json::Value {
    let mut list = String::new();
    assert!(wait_until(PATIENCE, || {
        list = host.run(&["queue", "retired", "list", "-to", to]);
        list.lines().nth(1).is_some_and(|line| line != "(none)")
    }));
    let id = list.lines().nth(1).and_then(|l| l.split_whitespace().next()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&host.run(&["queue", "retired", "print", id])).unwrap();
    json["Results"][0].clone()
}

#[test]
fn two_servers_that_find_each_other_by_dns() {
    let Some(Pair { hooks, alpha, mut beta, network, _names }) = pair() else { return };
    let waits_for = |subject: &str, event: &str| {
        let heard = wait_until(PATIENCE, || hooks.events(subject).last().is_some_and(|e| e == event));
        assert!(heard, "{subject}: {:?}", hooks.events(subject));
    };

    alpha.send("bob@beta.example", "there", "");
    let inbox = beta.messages("Inbox", 1);
    for part in ["spf=pass", "dkim=pass", "dmarc=pass", "iprev=pass"] {
        assert!(inbox[0].contains(part), "{part}: {}", inbox[0]);
    }
    assert!(inbox[0].contains("with dnssec"), "{}", inbox[0]);
    let found = result(&alpha, "bob@beta.example");
    assert!(found["TLS"].as_str().is_some_and(|tls| tls.ends_with(" verified")), "{found}");
    assert_eq!((&found["Host"], &found["IP"]), (&"mx.beta.example".into(), &"9.0.1.2".into()), "{found}");
    waits_for("there", "delivered");

    // REQUIRETLS in both directions, RFC 8689.
    alpha.send("bob@beta.example", "strict", r#","RequireTLS":true"#);
    beta.send("ann@alpha.example", "strict back", r#","RequireTLS":true"#);
    assert_eq!(with_subject(&beta.messages("Inbox", 2), "strict").len(), 1);
    assert_eq!(with_subject(&alpha.messages("Inbox", 1), "strict back").len(), 1);

    // A bounce.
    beta.send("nobody@alpha.example", "unknown", "");
    let bounce = beta.messages("Inbox", 3).pop().unwrap();
    assert!(bounce.contains("Action: failed") && bounce.contains("550 5.1.1"), "{bounce}");
    assert!(bounce.contains("Remote-MTA: dns;mx.alpha.example"), "{bounce}");
    waits_for("unknown", "failed");

    // A delay: the other one is away.
    assert!(beta.mox.stop("TERM", PATIENCE).is_some());
    alpha.send("bob@beta.example", "late", "");
    for _ in 1..5 {
        let list = alpha.settled();
        assert!(list.contains("bob@beta.example"), "{list}");
        alpha.run(&["queue", "schedule", "-now", "0s"]);
    }
    let delayed = alpha.messages("Inbox", 2).pop().unwrap();
    assert!(delayed.contains("Action: delayed") && delayed.contains("Will-Retry-Until: "), "{delayed}");
    waits_for("late", "delayed");
    beta.mox.resume().unwrap();
    alpha.run(&["queue", "schedule", "-now", "0s"]);
    assert_eq!(with_subject(&beta.messages("Inbox", 4), "late").len(), 1);
    waits_for("late", "delivered");
    assert_eq!(alpha.run(&["queue", "list"]), "messages:\n(none)\n");
    drop((alpha, beta, network));
}

#[test]
fn nothing_is_lost_when_either_is_killed() {
    let Some(Pair { hooks, mut alpha, mut beta, network, _names }) = pair() else { return };
    let mut sent = Vec::new();
    for round in 0..4 {
        for n in 0..12 {
            let subject = format!("round {round} message {n}");
            alpha.send("bob@beta.example", &subject, "");
            sent.push(subject);
            // In the middle of it.
            if n == 6 {
                if round % 2 == 0 {
                    alpha.mox.kill().unwrap()
                } else {
                    beta.mox.kill().unwrap()
                }
                if round % 2 == 0 { alpha.mox.resume().unwrap() } else { beta.mox.resume().unwrap() }
            }
        }
    }
    let mut list = String::new();
    let empty = wait_until(PATIENCE, || {
        // Also those that were at work when their server was killed.
        alpha.run(&["queue", "schedule", "-now", "0s"]);
        list = alpha.run(&["queue", "list"]);
        list == "messages:\n(none)\n"
    });
    assert!(empty, "{list}");
    let mut client = beta.imap();
    client.ok("SELECT Inbox").unwrap();
    let inbox: Vec<String> = crate::server::bodies(&mut client).into_iter().map(|b| String::from_utf8(b).unwrap()).collect();
    let lost: Vec<&String> = sent.iter().filter(|subject| with_subject(&inbox, subject).is_empty()).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    // What was on its way when a side was killed may come again; nothing else may.
    assert!(inbox.len() <= sent.len() + 4 * 10, "{} of {}", inbox.len(), sent.len());
    let untold = |hooks: &Hooks| sent.iter().filter(|subject| hooks.events(subject).last().is_none_or(|e| e != "delivered")).count();
    let told = wait_until(PATIENCE, || {
        // A call during which its server was killed is repeated, by itself a minute later.
        alpha.run(&["queue", "webhook", "schedule", "-now", "0s"]);
        untold(&hooks) == 0
    });
    assert!(told, "{} webhooks missing", untold(&hooks));
    // Told again, a webhook has the same id.
    for subject in &sent {
        let calls = hooks.0.lock().unwrap();
        let mut ids: Vec<i64> =
            calls.iter().filter(|call| call["Subject"] == subject.as_str()).filter_map(|c| c["QueueMsgID"].as_i64()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1, "{subject}");
    }
    // Everything has an end in the history: delivered, and nothing failed.
    let retired = alpha.run(&["queue", "retired", "list", "-n", "1000"]);
    assert_eq!(retired.lines().filter(|line| line.contains(" success ")).count(), sent.len(), "{retired}");
    drop((alpha, beta, network));
}
