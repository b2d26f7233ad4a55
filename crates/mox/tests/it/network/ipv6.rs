//! Two servers that reach each other by IPv6 only: DANE, SPF's `ip6` and names of addresses are the same there.

use super::{Ca, Identity, Setup, Validity, noted};
use crate::server::PATIENCE;
use mox_base::reverse_name;
use mox_testkit::peers::{Names, Network, Resolving, Signing, ZoneFile, skip};
use std::net::Ipv6Addr;

const ALPHA: &str = "2a09:9::1:1";
const BETA: &str = "2a09:9::1:2";

/// Its own host, and one with the same address whose certificate isn't ours.
fn zone(name: &str, ip: &str, signing: Signing, identity: &Identity) -> ZoneFile {
    ZoneFile::new(name, signing)
        .with(&format!("@ MX 10 mx\nmx AAAA {ip}\n@ TXT \"v=spf1 ip6:{ip} -all\"\nmx TXT \"v=spf1 ip6:{ip} -all\""))
        .with(&format!("_25._tcp.mx TLSA 3 1 1 {}\n_dmarc TXT \"v=DMARC1; p=reject\"", identity.spki))
        .with(&format!("wrong MX 10 mx-wrong\nmx-wrong AAAA {ip}\n_25._tcp.mx-wrong TLSA 3 1 1 {}", "00".repeat(32)))
}

#[test]
fn mail_goes_and_is_verified_over_ipv6() {
    let Some(network) = Network::require() else { return };
    if !network.has_ipv6() {
        skip("no IPv6 in a network of its own");
        return;
    }
    let ca = Ca::new();
    let ours = ["mx.alpha.example", "mx.beta.example"].map(|name| Identity::self_signed(&[name], Validity::Past));
    let ptr = |ip: &str, host: &str| format!("{}. PTR {host}.", reverse_name(ip.parse().unwrap()));
    let zones = vec![
        zone("alpha.example", ALPHA, Signing::Nsec, &ours[0]),
        zone("beta.example", BETA, Signing::Nsec3, &ours[1]),
        ZoneFile::new("9.0.0.0.9.0.a.2.ip6.arpa", Signing::Nsec).with(&ptr(ALPHA, "mx.alpha.example")).with(&ptr(BETA, "mx.beta.example")),
    ];
    let Some(names) = Names::require(&network, zones) else { return };
    let ip6 = |text: &str| text.parse::<Ipv6Addr>().ok();
    let alpha = Setup::new("mx.alpha.example", [9, 0, 1, 1], ("ann", "alpha.example"), &ours[0], &ca);
    let mut alpha = Setup { ip6: ip6(ALPHA), ..alpha }.start(&network, &names);
    let beta = Setup::new("mx.beta.example", [9, 0, 1, 2], ("bob", "beta.example"), &ours[1], &ca);
    let beta = Setup { ip6: ip6(BETA), resolving: Resolving::Own, ..beta }.start(&network, &names);

    alpha.send("bob@beta.example", "there", "");
    beta.send("ann@alpha.example", "back", "");
    for (host, from) in [(&beta, ALPHA), (&alpha, BETA)] {
        let message = host.messages("Inbox", 1).remove(0);
        for part in [&format!("[IPv6:{from}]"), "Received-SPF: pass", "spf=pass", "dmarc=pass", "iprev=pass", "with dnssec"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    // Another certificate than the one that is published: it waits, over IPv6 as over IPv4.
    alpha.send("bob@wrong.beta.example", "never", "");
    let waiting = alpha.settled();
    assert!(waiting.contains("bob@wrong.beta.example") && waiting.contains("certificate"), "{waiting}");

    assert!(alpha.mox.stop("TERM", PATIENCE).is_some());
    let Some(results) = alpha.tls_results() else { return };
    for (domains, parts) in [
        ("mx.beta.example beta.example ", &["tlsa", "success"][..]),
        ("mx-wrong.beta.example wrong.beta.example ", &["dane-no-match", BETA, ALPHA]),
    ] {
        assert!(noted(&results, domains, parts), "{domains} {parts:?}: {results}");
    }
}
