//! Mail from the world, judged by what the sender's zone says: SPF, DKIM, DMARC, names of addresses.

use super::{Ca, Identity, Setup, Validity};
use mox_testkit::peers::{Names, Network, Reply, Resolving, Signing, SmtpClient, ZoneFile};
use std::net::SocketAddr;

#[test]
fn mail_is_judged_by_the_senders_zone() {
    let Some(network) = Network::require() else { return };
    let signed = |name: &str| ZoneFile::new(name, Signing::Nsec).with("@ MX 10 mx\nmx A 9.0.6.1\nhost A 9.0.6.1");
    let zones = vec![
        ZoneFile::new("alpha.example", Signing::Nsec).with("@ MX 10 mx\nmx A 9.0.1.1"),
        signed("pass.example").with("@ TXT \"v=spf1 a:host.pass.example -all\"\n_dmarc TXT \"v=DMARC1; p=reject\""),
        signed("quarantine.example").with("@ TXT \"v=spf1 -all\"\n_dmarc TXT \"v=DMARC1; p=quarantine\""),
        signed("none.example").with("@ TXT \"v=spf1 ~all\"\n_dmarc TXT \"v=DMARC1; p=none\""),
        signed("bogus.example").with("@ TXT \"v=spf1 ip4:9.0.6.1 -all\"").spoiled("v=spf1 ip4", "v=spf1 ip6"),
        ZoneFile::new("plain.example", Signing::Unsigned).with("@ MX 10 mx\nmx A 9.0.6.1\n@ TXT \"v=spf1 ip4:9.0.6.1 -all\""),
        ZoneFile::new("6.0.9.in-addr.arpa", Signing::Nsec)
            .with("1 PTR host.pass.example.\n2 PTR host.pass.example.\n3 PTR host.pass.example."),
    ];
    let Some(names) = Names::require(&network, zones) else { return };
    let ca = Ca::new();
    let ours = Identity::self_signed(&["mx.alpha.example"], Validity::Now);
    let (network, names) = (&network, &names);
    std::thread::scope(|scope| {
        for (resolving, ip) in [(Resolving::Trusted, [9, 0, 1, 1]), (Resolving::Own, [9, 0, 1, 2])] {
            let setup = Setup { resolving, ..Setup::new("mx.alpha.example", ip, ("ann", "alpha.example"), &ours, &ca) };
            scope.spawn(move || judged(network, names, setup));
        }
    });
}

fn judged(network: &Network, names: &Names, setup: Setup<'_>) {
    let alpha = setup.start(network, names);
    let send = |source: &str, from: &str| -> Reply {
        let source: SocketAddr = format!("{source}:0").parse().unwrap();
        let mut client = SmtpClient::over(network.connect_from(source, alpha.mox.at(25)).unwrap()).unwrap();
        let message =
            format!("From: <x@{from}>\r\nTo: <ann@alpha.example>\r\nSubject: from {from}\r\nMessage-ID: <1@{from}>\r\n\r\ntext\r\n");
        client.send(&format!("x@{from}"), &["ann@alpha.example"], message.as_bytes()).unwrap()
    };
    let arrived = |mailbox: &str, count: usize| alpha.messages(mailbox, count).pop().unwrap();

    std::thread::scope(|scope| {
        assert!(send("9.0.6.1", "pass.example").is_ok());
        let message = arrived("Inbox", 1);
        for part in ["Received-SPF: pass", "spf=pass", "dmarc=pass", "iprev=pass", "with dnssec"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        // Somebody else in its name, who gets a slow answer.
        let refused = scope.spawn(|| send("9.0.6.2", "pass.example"));
        assert!(send("9.0.6.3", "none.example").is_ok());
        let message = arrived("Inbox", 2);
        for part in ["Received-SPF: softfail", "dmarc=fail", "iprev=fail"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(send("9.0.6.4", "quarantine.example").is_ok());
        assert!(arrived("Junk", 1).contains("dmarc=fail"));

        assert!(send("9.0.6.1", "plain.example").is_ok());
        let message = arrived("Inbox", 3);
        let spf = message.split("spf=pass").nth(1).unwrap_or_default();
        assert!(spf.contains("without dnssec"), "{message}");

        // A bogus record isn't an absent one.
        let reply = send("9.0.6.1", "bogus.example");
        assert!(reply.is_ok(), "{reply:?}");
        let message = arrived("Inbox", 4);
        assert!(message.contains("Received-SPF: temperror"), "{message}");

        let reply = refused.join().unwrap();
        assert_eq!(reply.code, 550, "{reply:?}");
        assert!(reply.text.starts_with("5.7."), "{reply:?}");
        assert_eq!(alpha.messages("Inbox", 4).len(), 4);
    });
}
