//! DANE with Postfix in both directions, and each way in which it can be broken. RFC 7672.

use super::{Ca, Host, Identity, Setup, Validity, noted};
use crate::server::PATIENCE;
use mox_testkit::peers::{Names, Network, Postfix, PostfixHost, Resolving, Signing, SmtpClient, ZoneFile, wait_until};
use std::net::Ipv4Addr;
use std::time::Duration;

/// What comes of mail to a domain.
#[derive(Clone, Copy)]
pub(super) enum Want {
    /// Delivered.
    Sent,
    /// Waiting, with this reason.
    Waits(&'static str),
}

const CASES: &[(&str, Want)] = &[
    // RFC 7672 §3.1.1: of a certificate whose key is published, neither dates nor names matter.
    ("ee.dane.example", Want::Sent),
    ("ee-cert.dane.example", Want::Sent),
    ("ee-wrong.dane.example", Want::Waits("certificate")),
    // RFC 7671 §8.1: one of several records is enough, so that keys can be replaced.
    ("rollover.dane.example", Want::Sent),
    ("ta.dane.example", Want::Sent),
    // RFC 7672 §3.1.2: below a published authority, both matter.
    ("ta-expired.dane.example", Want::Waits("certificate")),
    ("ta-name.dane.example", Want::Waits("certificate")),
    ("stripped.dane.example", Want::Waits("starttls")),
    // RFC 7672 §2.2: nothing usable, so TLS without verification; but TLS.
    ("unusable.dane.example", Want::Sent),
    ("unusable-stripped.dane.example", Want::Waits("starttls")),
    ("alias.dane.example", Want::Sent),
    ("alias-wrong.dane.example", Want::Waits("certificate")),
    // The next host is tried.
    ("second.dane.example", Want::Sent),
    // RFC 7672 §2.1.2: what can't be known isn't absent.
    ("bogustlsa.example", Want::Waits("TLSA")),
    ("lametlsa.dane.example", Want::Waits("TLSA")),
    ("bogusmx.example", Want::Waits("looking up")),
    ("expiredmx.example", Want::Waits("looking up")),
    ("expiredtlsa.dane.example", Want::Waits("looking up")),
    // RFC 7672 §2.2.1: without an authentic way to the host, its records don't count, and TLS is opportunistic.
    ("insecure.example", Want::Sent),
    ("insecure-host.dane.example", Want::Sent),
    ("none.dane.example", Want::Sent),
];

/// What is noted for reports: policy domain and recipient domain, and parts of the result.
const NOTED: &[(&str, &[&str])] = &[
    ("mx-ee.dane.example ee.dane.example ", &["tlsa", "success"]),
    (
        "mx-ee-wrong.dane.example ee-wrong.dane.example ",
        &["tlsa-invalid", "dane-no-match", "9.0.2.1", "\"receiving-mx-helo\":\"mx.dane.example ESMTP Postfix\""],
    ),
    ("mx-stripped.dane.example stripped.dane.example ", &["tlsa", "starttls-not-supported"]),
    ("mx-ta-expired.dane.example ta-expired.dane.example ", &["tlsa", "certificate-expired"]),
    ("mx-unusable.dane.example unusable.dane.example ", &["tlsa-invalid", "all-unusable-records+ignored"]),
    ("mx.bogustlsa.example bogustlsa.example ", &["dnssec-invalid"]),
    ("mx-lametlsa.dane.example lametlsa.dane.example ", &["tlsa-invalid"]),
    ("none.dane.example none.dane.example ", &["no-policy-found", "starttls-not-supported"]),
];

/// Where Postfix takes mail: with a certificate that has expired and names somebody else, with a good one, with an expired one
/// of the same authority, and without TLS.
const ODD: &str = "9.0.2.1";
const GOOD: &str = "9.0.2.2";
const EXPIRED: &str = "9.0.2.3";
const PLAIN: &str = "9.0.2.4";

struct Identities {
    ca: Ca,
    odd: Identity,
    good: Identity,
    expired: Identity,
    ours: Identity,
}

impl Identities {
    fn new() -> Self {
        let ca = Ca::new();
        Self {
            odd: Identity::self_signed(&["other.example"], Validity::Past),
            good: ca.issue(&["mx-ta.dane.example"], Validity::Now),
            expired: ca.issue(&["mx-ta-expired.dane.example"], Validity::Past),
            ours: Identity::self_signed(&["mx.alpha.example"], Validity::Now),
            ca,
        }
    }

    fn zones(&self) -> Vec<ZoneFile> {
        let (odd, wrong) = (&self.odd.spki, "00".repeat(32));
        let ta = self.ca.whole();
        let mut dane = ZoneFile::new("dane.example", Signing::Nsec);
        for (name, ip, records) in [
            ("ee", ODD, vec![format!("3 1 1 {odd}")]),
            ("ee-cert", ODD, vec![format!("3 0 1 {}", self.odd.whole)]),
            ("ee-wrong", ODD, vec![format!("3 1 1 {wrong}")]),
            ("rollover", ODD, vec![format!("3 1 1 {wrong}"), format!("3 1 1 {odd}")]),
            ("ta", GOOD, vec![format!("2 0 1 {ta}")]),
            ("ta-expired", EXPIRED, vec![format!("2 0 1 {ta}")]),
            ("ta-name", GOOD, vec![format!("2 0 1 {ta}")]),
            ("stripped", PLAIN, vec![format!("3 1 1 {odd}")]),
            ("unusable", ODD, vec![format!("1 1 1 {wrong}")]),
            ("unusable-stripped", PLAIN, vec![format!("0 0 1 {wrong}")]),
            ("none", PLAIN, vec![]),
        ] {
            dane = dane.with(&format!("{name} MX 10 mx-{name}\nmx-{name} A {ip}"));
            for record in records {
                dane = dane.with(&format!("_25._tcp.mx-{name} TLSA {record}"));
            }
        }
        dane = dane
            .with("alias MX 10 mx-alias\nmx-alias CNAME mx-ee")
            .with("alias-wrong MX 10 mx-alias-wrong\nmx-alias-wrong CNAME mx-ee-wrong")
            .with("second MX 10 mx-ee-wrong\nsecond MX 20 mx-ee")
            .with("lametlsa MX 10 mx-lametlsa\nmx-lametlsa A 9.0.2.1\n_tcp.mx-lametlsa NS nowhere.dns.")
            .with("expiredtlsa MX 10 mx.expiredhost.example.")
            .with("insecure-host MX 10 mx.insecure.example.");
        vec![
            dane,
            ZoneFile::new("bogustlsa.example", Signing::Nsec3)
                .with("@ MX 10 mx\nmx A 9.0.2.1")
                .with(&format!("_25._tcp.mx TLSA 3 1 1 {odd}"))
                .spoiled(&odd[..12], "000000000000"),
            ZoneFile::new("bogusmx.example", Signing::Nsec).with("@ MX 10 mx-ee.dane.example.").spoiled("mx-ee.dane", "mx-none.dane"),
            ZoneFile::new("expiredmx.example", Signing::Expired).with("@ MX 10 mx-ee.dane.example."),
            // The addresses are as old as the TLSA records.
            ZoneFile::new("expiredhost.example", Signing::Expired).with("mx A 9.0.2.1").with(&format!("_25._tcp.mx TLSA 3 1 1 {odd}")),
            ZoneFile::new("insecure.example", Signing::Unsigned)
                .with("@ MX 10 mx-ee-wrong.dane.example.")
                .with("mx A 9.0.2.1")
                .with(&format!("_25._tcp.mx TLSA 3 1 1 {wrong}")),
            ZoneFile::new("alpha.example", Signing::Nsec)
                .with("@ MX 10 mx\nmx A 9.0.1.1\n@ TXT \"v=spf1 a:mx.alpha.example -all\"")
                .with(&format!("_25._tcp.mx TLSA 3 1 1 {}", self.ours.spki))
                .with("wrong MX 10 mx-wrong\nmx-wrong A 9.0.1.1")
                .with(&format!("_25._tcp.mx-wrong TLSA 3 1 1 {wrong}")),
            ZoneFile::new("beta.example", Signing::Nsec3).with("@ MX 10 mx\nmx A 9.0.1.2"),
            ZoneFile::new("sender.example", Signing::Unsigned).with("@ MX 10 mx-ee.dane.example.\n@ TXT \"v=spf1 +all\""),
        ]
    }

    fn postfix(&self, network: &Network) -> Postfix {
        let host = PostfixHost {
            main_cf: "myhostname = mx.dane.example\ndefault_transport = discard:\n\
                      transport_maps = inline:{alpha.example=smtp:, wrong.alpha.example=smtp:}\n\
                      smtp_tls_security_level = dane\nsmtp_tls_loglevel = 1\nsmtpd_tls_loglevel = 1\nsmtp_bind_address = 9.0.2.1",
            smtpd: &[
                receiving(network, ODD, &self.odd),
                receiving(network, GOOD, &self.good),
                receiving(network, EXPIRED, &self.expired),
                (PLAIN.parse().unwrap(), "-o smtpd_tls_security_level=none".to_owned()),
            ],
        };
        Postfix::start_in(network, &host).unwrap()
    }
}

/// Where Postfix takes mail with a certificate.
pub(super) fn receiving(network: &Network, ip: &str, identity: &Identity) -> (Ipv4Addr, String) {
    let path = network.folder().join(format!("{ip}.pem"));
    std::fs::write(&path, format!("{}{}", identity.key, identity.cert)).unwrap();
    (ip.parse().unwrap(), format!("-o smtpd_tls_security_level=may -o smtpd_tls_chain_files={}", path.display()))
}

/// How often Postfix's log says that an address got mail.
pub(super) fn sent(log: &str, to: &str) -> usize {
    log.lines().filter(|line| line.contains(&format!("to=<{to}>")) && line.contains("status=sent")).count()
}

/// Waits for Postfix to have got what it should, and judges what stayed in our queue.
pub(super) fn judge(host: &Host, postfix: &Postfix, cases: impl IntoIterator<Item = (String, Want)>) -> Vec<String> {
    let list = host.settled();
    let mut wrong = Vec::new();
    for (to, want) in cases {
        let waiting = list.lines().find(|line| line.contains(&to)).unwrap_or_default();
        let arrived = waiting.is_empty() && wait_until(Duration::from_secs(15), || sent(&postfix.log(), &to) > 0);
        let good = match want {
            Want::Sent => arrived,
            Want::Waits(reason) => waiting.contains(reason) && sent(&postfix.log(), &to) == 0,
        };
        if !good {
            wrong.push(format!("{to}: {}", if arrived { "delivered" } else { waiting }));
        }
    }
    wrong
}

#[test]
fn is_verified_in_both_directions_and_never_downgraded() {
    let Some(network) = Network::require() else { return };
    let identities = Identities::new();
    let Some(names) = Names::require(&network, identities.zones()) else { return };
    let postfix = identities.postfix(&network);
    let start = |setup: Setup<'_>| setup.start(&network, &names);
    let alpha = start(Setup::new("mx.alpha.example", [9, 0, 1, 1], ("ann", "alpha.example"), &identities.ours, &identities.ca));
    let beta = Setup::new("mx.beta.example", [9, 0, 1, 2], ("bob", "beta.example"), &identities.ours, &identities.ca);
    let beta = start(Setup { resolving: Resolving::Own, ..beta });

    for (host, who) in [(&alpha, "trusted"), (&beta, "own")] {
        for (domain, _) in CASES {
            host.send(&format!("{who}@{domain}"), "dane", "");
        }
    }
    let cases = |who: &'static str| CASES.iter().map(move |(domain, want)| (format!("{who}@{domain}"), *want));
    let mut wrong = judge(&alpha, &postfix, cases("trusted"));
    wrong.extend(judge(&beta, &postfix, cases("own")));
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), postfix.log());

    // RFC 8689 §4.2: whoever doesn't want TLS gets mail through to the domain whose records are wrong.
    alpha.send("lenient@ee-wrong.dane.example", "lenient", r#","RequireTLS":false"#);
    assert!(wait_until(PATIENCE, || sent(&postfix.log(), "lenient@ee-wrong.dane.example") == 1), "{}", alpha.run(&["queue", "list"]));
    // And what requires it all the way goes to no host that doesn't promise it, DANE or not.
    alpha.send("strict@ee.dane.example", "strict", r#","RequireTLS":true"#);
    alpha.send("strict@none.dane.example", "strict", r#","RequireTLS":true"#);
    let bounces = alpha.messages("Inbox", 2).concat();
    assert_eq!(bounces.matches("\r\nStatus: 5.7.30").count(), 2, "{bounces}");
    assert_eq!(sent(&postfix.log(), "strict@ee.dane.example"), 0);

    // From Postfix to us.
    let mut client = SmtpClient::over(network.connect("9.0.2.1:25".parse().unwrap()).unwrap()).unwrap();
    for (to, subject) in [("ann@alpha.example", "verified"), ("ann@wrong.alpha.example", "refused")] {
        let message = format!("From: <x@sender.example>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\r\ntext\r\n");
        assert!(client.send("x@sender.example", &[to], message.as_bytes()).unwrap().is_ok());
    }
    let inbox = alpha.messages("Inbox", 3);
    assert!(inbox.iter().any(|message| message.contains("Subject: verified")), "{inbox:?}");
    assert!(postfix.log().contains("Verified TLS connection established to mx.alpha.example"), "{}", postfix.log());
    assert!(wait_until(PATIENCE, || postfix.log().contains("to=<ann@wrong.alpha.example>, relay=")), "{}", postfix.log());
    assert!(postfix.log().contains("Server certificate not verified"), "{}", postfix.log());

    alpha.counted(&[
        "mox_dane_verify_total",
        "mox_dane_verify_errors_total",
        "mox_queue_destinations_total",
        "mox_queue_destinations_authentic_total",
        "mox_queue_destination_dane_required_total",
        "mox_queue_destination_dane_starttlsunverified_total",
        "mox_queue_destination_dane_gathertlsa_errors_total",
        "mox_queue_delivery_duration_seconds_count tlsmode=requiredstarttls+dane result=ok",
        "mox_queue_delivery_duration_seconds_count tlsmode=opportunistic result=ok",
        "mox_queue_requiretls_unsupported_total reason=nopolicy",
        "mox_queue_requiretls_unsupported_total reason=norequiretls",
        "mox_smtpclient_tlsrequiredno_ignored_total ignored=daneverification",
        "mox_smtpclient_command_duration_seconds_count cmd=starttls code=220",
        "mox_dns_lookup_duration_seconds_count result=ok",
        "mox_dns_lookup_duration_seconds_count result=nxdomain",
        "mox_dns_lookup_duration_seconds_count type=tlsa",
        "mox_smtpserver_delivery_starttls_total",
        "mox_spf_verify_duration_seconds_count status=pass",
    ]);

    // What reports will tell, RFC 8460 §4.3.
    let mut alpha = alpha;
    assert!(alpha.mox.stop("TERM", PATIENCE).is_some());
    let Some(results) = alpha.tls_results() else { return };
    for (domains, parts) in NOTED {
        assert!(noted(&results, domains, parts), "{domains} {parts:?}: {results}");
    }
}
