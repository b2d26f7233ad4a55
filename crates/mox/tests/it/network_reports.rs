//! Reports between two servers of ours: mail comes in, its domain is told, and lists what it was told. Nothing is told of reports.

use crate::network::{Ca, Host, Setup, Validity};
use crate::server::PATIENCE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_testkit::peers::{Names, Network, Signing, ZoneFile, wait_until};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};

/// The domain's part of the configuration: keys to sign with, and addresses for reports.
const OF_DOMAIN: &str = "\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\tsel:\n\t\t\t\t\tPrivateKeyFile: dkim.pem\n\t\t\tSign:\n\t\t\t\t- sel\n\
    \t\tDMARC:\n\t\t\tLocalpart: dmarcreports\n\t\t\tAccount: ann\n\t\t\tMailbox: DMARC\n\
    \t\tTLSRPT:\n\t\t\tLocalpart: tlsreports\n\t\t\tAccount: ann\n\t\t\tMailbox: TLSRPT\n";

fn zone(name: &str, ip: &str, public: &str) -> ZoneFile {
    ZoneFile::new(name, Signing::Unsigned)
        .with(&format!("@ MX 10 mx\nmx A {ip}\n@ TXT \"v=spf1 ip4:{ip} -all\"\nmx TXT \"v=spf1 ip4:{ip} -all\""))
        .with(&format!("sel._domainkey TXT \"v=DKIM1; k=ed25519; p={public}\""))
        .with(&format!("_dmarc TXT \"v=DMARC1; p=reject; rua=mailto:dmarcreports@{name}!10m\""))
        .with(&format!("_smtp._tls TXT \"v=TLSRPTv1; rua=mailto:tlsreports@{name}\""))
}

/// What a list has, once there is something.
#[track_caller]
fn listed(host: &Host, command: &str) -> String {
    let mut list = String::new();
    let there = wait_until(PATIENCE, || {
        list = host.run(&[command, "list"]);
        !list.is_empty()
    });
    assert!(there, "nothing in {command}");
    list
}

#[test]
fn two_servers_tell_each_other() {
    let Some(network) = Network::require() else { return };
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let (public, private) = (STANDARD.encode(key.der_bytes()), key.serialize_pem());
    let zones = vec![zone("alpha.example", "9.0.1.1", &public), zone("beta.example", "9.0.2.1", &public)];
    let Some(names) = Names::require(&network, zones) else { return };
    let ca = Ca::new();
    let identity = ca.issue(&["mx.alpha.example", "mx.beta.example"], Validity::Now);
    let files = [("dkim.pem", private.as_str())];
    let start = |hostname, ip, domain| {
        let setup = Setup::new(hostname, ip, ("ann", domain), &identity, &ca);
        Setup { of_domain: OF_DOMAIN, fixed: "OutgoingTLSReportsForAllSuccess: true\n", files: &files, ..setup }.start(&network, &names)
    };
    let alpha = start("mx.alpha.example", [9, 0, 1, 1], "alpha.example");
    let beta = start("mx.beta.example", [9, 0, 2, 1], "beta.example");

    beta.send("ann@alpha.example", "hello", "");
    let message = alpha.messages("Inbox", 1).remove(0);
    assert!(message.contains("dmarc=pass") && message.contains("dkim=pass"), "{message}");
    assert_eq!(alpha.run(&["dmarcdb", "send"]), "1 report(s) queued\n");
    let list = listed(&beta, "dmarcdb");
    assert!(list.contains(" beta.example from mx.alpha.example (\"mx.alpha.example\") about "), "{list}");
    assert!(list.ends_with(": 1 messages, 0 quarantined, 0 rejected\n"), "{list}");
    let report = beta.messages("DMARC", 1).remove(0);
    assert!(report.starts_with("X-Mox-Reason: reporting;\r\n") && report.contains("dkim=pass"), "{report}");

    assert_eq!(beta.run(&["tlsrptdb", "send"]), "1 report(s) queued\n");
    let list = listed(&alpha, "tlsrptdb");
    assert!(list.contains(" alpha.example from beta.example about ") && list.ends_with(" sessions, 0 failed\n"), "{list}");
    let report = alpha.messages("TLSRPT", 1).remove(0);
    assert!(report.starts_with("X-Mox-Reason: reporting;\r\n"), "{report}");

    // Those were mail, too, with DMARC and TLS; but nobody is told of that.
    for host in [&alpha, &beta] {
        for command in ["dmarcdb", "tlsrptdb"] {
            assert_eq!(host.run(&[command, "send"]), "0 report(s) queued\n", "{command}");
        }
        assert_eq!(host.settled(), "messages:\n(none)\n");
    }
}
