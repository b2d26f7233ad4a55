//! MTA-STS with policies from the web, and hosts whose certificates fit, don't, or aren't there. RFC 8461.

use super::dane::{Want, judge, receiving, sent};
use super::{Ca, Identity, Setup, Validity, noted};
use crate::server::PATIENCE;
use mox_testkit::peers::{Names, Network, Postfix, PostfixHost, Resolving, Running, Signing, ZoneFile, require_program, wait_until};

/// A recipient domain below `sts.example`.
struct Case {
    domain: &'static str,
    /// Its policy: mode and hosts; or what its policy host does instead.
    policy: Policy,
    /// Its host and where that is.
    mx: (&'static str, &'static str),
    want: Want,
}

#[derive(Clone, Copy)]
enum Policy {
    Served(&'static str, &'static str),
    /// With a certificate that nobody trusts.
    Untrusted(&'static str, &'static str),
    Status(u16),
    /// The record can't be looked up.
    NoDns,
}
use Policy::{NoDns, Served, Status, Untrusted};

/// A certificate for these names that the world trusts; one that it doesn't; one that has expired; and no TLS.
const GOOD: &str = "9.0.4.1";
const SELF: &str = "9.0.4.2";
const EXPIRED: &str = "9.0.4.3";
const PLAIN: &str = "9.0.4.4";
const GOOD_NAMES: &[&str] = &["mx.sts.example", "*.wide.sts.example", "mx.xn--bcher-kva.sts.example", "a.b.sts.example"];

const CASES: &[Case] = &[
    Case { domain: "right", policy: Served("enforce", "mx.sts.example"), mx: ("mx", GOOD), want: Want::Sent },
    Case { domain: "self", policy: Served("enforce", "mx-self.sts.example"), mx: ("mx-self", SELF), want: Want::Waits("certificate") },
    Case { domain: "expired", policy: Served("enforce", "mx-old.sts.example"), mx: ("mx-old", EXPIRED), want: Want::Waits("certificate") },
    Case { domain: "named", policy: Served("enforce", "mx-named.sts.example"), mx: ("mx-named", GOOD), want: Want::Waits("certificate") },
    Case { domain: "stripped", policy: Served("enforce", "mx-plain.sts.example"), mx: ("mx-plain", PLAIN), want: Want::Waits("starttls") },
    Case { domain: "unlisted", policy: Served("enforce", "other.sts.example"), mx: ("mx", GOOD), want: Want::Waits("MTA-STS policy") },
    Case { domain: "test-self", policy: Served("testing", "mx-self.sts.example"), mx: ("mx-self", SELF), want: Want::Sent },
    Case { domain: "test-stripped", policy: Served("testing", "mx-plain.sts.example"), mx: ("mx-plain", PLAIN), want: Want::Sent },
    Case { domain: "test-unlisted", policy: Served("testing", "other.sts.example"), mx: ("mx", GOOD), want: Want::Sent },
    Case { domain: "off", policy: Served("none", "mx-self.sts.example"), mx: ("mx-self", SELF), want: Want::Sent },
    // RFC 8461 §4.1: a wildcard is for one label.
    Case { domain: "wild", policy: Served("enforce", "*.sts.example"), mx: ("mx", GOOD), want: Want::Sent },
    Case { domain: "wild-cert", policy: Served("enforce", "*.wide.sts.example"), mx: ("x.wide", GOOD), want: Want::Sent },
    Case { domain: "wild-deep", policy: Served("enforce", "*.sts.example"), mx: ("a.b", GOOD), want: Want::Waits("MTA-STS policy") },
    Case {
        domain: "xn--bcher-kva",
        policy: Served("enforce", "*.xn--bcher-kva.sts.example"),
        mx: ("mx.xn--bcher-kva", GOOD),
        want: Want::Sent,
    },
    // RFC 8461 §3.3: a policy that can't be had is as good as none, as long as none is known.
    Case { domain: "untrusted", policy: Untrusted("enforce", "mx.sts.example"), mx: ("mx-self", SELF), want: Want::Sent },
    Case { domain: "missing", policy: Status(404), mx: ("mx-self", SELF), want: Want::Sent },
    Case { domain: "moved", policy: Status(302), mx: ("mx-self", SELF), want: Want::Sent },
    // Whether there is one can't be known.
    Case { domain: "nodns", policy: NoDns, mx: ("mx", GOOD), want: Want::Waits("MTA-STS") },
];

/// What is noted for reports about the recipient domain, RFC 8460 §4.3.
const NOTED: &[(&str, &[&str])] = &[
    ("right", &["\"sts\"", "mode: enforce"]),
    ("self", &["\"sts\"", "certificate-not-trusted"]),
    ("expired", &["\"sts\"", "certificate-expired"]),
    ("named", &["\"sts\"", "certificate-host-mismatch"]),
    ("stripped", &["\"sts\"", "starttls-not-supported"]),
    ("unlisted", &["\"sts\"", "validation-failure"]),
    ("test-self", &["\"sts\"", "mode: testing", "certificate-not-trusted"]),
    ("off", &["no-policy-found"]),
    ("untrusted", &["sts-webpki-invalid"]),
    ("moved", &["sts-policy-fetch-error"]),
];

fn address(who: &str, case: &Case) -> String {
    format!("{who}@{}.sts.example", case.domain)
}

fn zones() -> Vec<ZoneFile> {
    let mut zone = ZoneFile::new("sts.example", Signing::Unsigned).with("policies A 9.0.3.1");
    let mut hosts: Vec<(&str, &str)> = CASES.iter().map(|case| case.mx).collect();
    hosts.sort_unstable();
    hosts.dedup();
    for (host, ip) in hosts {
        zone = zone.with(&format!("{host} A {ip}"));
    }
    for Case { domain, policy, mx, .. } in CASES {
        zone = zone.with(&format!("{domain} MX 10 {}\nmta-sts.{domain} CNAME policies", mx.0));
        zone = zone.with(&match policy {
            NoDns => format!("_mta-sts.{domain} NS nowhere.dns."),
            _ => format!("_mta-sts.{domain} TXT \"v=STSv1; id=1;\""),
        });
    }
    vec![
        zone,
        ZoneFile::new("alpha.example", Signing::Nsec).with("@ MX 10 mx\nmx A 9.0.1.1"),
        ZoneFile::new("beta.example", Signing::Nsec).with("@ MX 10 mx\nmx A 9.0.1.2"),
    ]
}

/// Policies over HTTPS.
fn policies(network: &Network, ca: &Ca) -> Option<Running> {
    let python = require_program("python3")?;
    let folder = network.folder();
    let names: Vec<String> = CASES.iter().map(|case| format!("mta-sts.{}.sts.example", case.domain)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pem = |name: &str, identity: &Identity| {
        let path = folder.join(name);
        std::fs::write(&path, format!("{}{}", identity.key, identity.cert)).unwrap();
        path
    };
    let trusted = pem("policies.pem", &ca.issue(&names, Validity::Now));
    let untrusted = pem("untrusted.pem", &Identity::self_signed(&names, Validity::Now));
    let mut hosts = serde_json::Map::new();
    for (case, name) in CASES.iter().zip(&names) {
        let (status, mode, mx) = match case.policy {
            Served(mode, mx) | Untrusted(mode, mx) => (200, mode, mx),
            Status(status) => (status, "enforce", "mx.sts.example"),
            NoDns => continue,
        };
        let pem = if matches!(case.policy, Untrusted(..)) { &untrusted } else { &trusted };
        let body = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n");
        hosts.insert((*name).to_owned(), serde_json::json!({"pem": pem, "status": status, "body": body}));
    }
    let config = folder.join("policies.json");
    std::fs::write(&config, serde_json::json!({"ip": "9.0.3.1", "pem": trusted, "hosts": hosts}).to_string()).unwrap();
    let script = folder.join("policies.py");
    std::fs::write(&script, include_str!("policies.py")).unwrap();
    let mut command = network.command("", &python).unwrap();
    let out = std::fs::File::create(folder.join("policies.log")).unwrap();
    command.arg(script).arg(config).stdout(out.try_clone().unwrap()).stderr(out);
    let running = Running::start(&mut command).unwrap();
    let log = || std::fs::read_to_string(folder.join("policies.log")).unwrap_or_default();
    assert!(network.wait_for("9.0.3.1:443".parse().unwrap(), PATIENCE), "{}", log());
    Some(running)
}

#[test]
fn policies_decide_by_their_mode() {
    let Some(network) = Network::require() else { return };
    let ca = Ca::new();
    let Some(names) = Names::require(&network, zones()) else { return };
    let Some(_policies) = policies(&network, &ca) else { return };
    let ours = Identity::self_signed(&["mx.alpha.example"], Validity::Now);
    let host = PostfixHost {
        main_cf: "myhostname = mx.sts.example\ndefault_transport = discard:\nsmtpd_tls_loglevel = 1",
        smtpd: &[
            receiving(&network, GOOD, &ca.issue(GOOD_NAMES, Validity::Now)),
            receiving(&network, SELF, &Identity::self_signed(&["mx-self.sts.example"], Validity::Now)),
            receiving(&network, EXPIRED, &ca.issue(&["mx-old.sts.example"], Validity::Past)),
            (PLAIN.parse().unwrap(), "-o smtpd_tls_security_level=none".to_owned()),
        ],
    };
    let postfix = Postfix::start_in(&network, &host).unwrap();
    let alpha = Setup::new("mx.alpha.example", [9, 0, 1, 1], ("ann", "alpha.example"), &ours, &ca).start(&network, &names);
    let beta = Setup::new("mx.beta.example", [9, 0, 1, 2], ("bob", "beta.example"), &ours, &ca);
    let beta = Setup { resolving: Resolving::Own, ..beta }.start(&network, &names);
    let mut wrong = Vec::new();
    for (host, who) in [(&alpha, "trusted"), (&beta, "own")] {
        for case in CASES {
            host.send(&address(who, case), "sts", "");
        }
        wrong.extend(judge(host, &postfix, CASES.iter().map(|case| (address(who, case), case.want))));
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), postfix.log());

    // RFC 8689 §4.2.
    alpha.send("lenient@self.sts.example", "lenient", r#","RequireTLS":false"#);
    assert!(wait_until(PATIENCE, || sent(&postfix.log(), "lenient@self.sts.example") == 1), "{}", alpha.run(&["queue", "list"]));
    alpha.send("lenient@unlisted.sts.example", "lenient", r#","RequireTLS":false"#);
    assert!(wait_until(PATIENCE, || sent(&postfix.log(), "lenient@unlisted.sts.example") == 1), "{}", alpha.run(&["queue", "list"]));
    alpha.send("strict@test-self.sts.example", "strict", r#","RequireTLS":true"#);
    let bounces = alpha.messages("Inbox", 1).concat();
    assert!(bounces.contains("\r\nStatus: 5.7.30"), "{bounces}");

    alpha.counted(&[
        "mox_mtasts_get_duration_seconds_count result=ok",
        "mox_mtasts_get_duration_seconds_count result=fetcherror",
        "mox_mtastsdb_get_total result=ok",
        "mox_mtastsdb_get_total result=notfound",
        "mox_queue_delivery_duration_seconds_count tlsmode=requiredstarttls+mtasts result=ok",
        "mox_queue_tlsrequiredno_ignored_total ignored=mtastsmx",
        "mox_httpclient_request_duration_seconds_count pkg=mtasts method=get",
    ]);

    // What was learned is kept when the policies are out of reach, and across a restart.
    drop(_policies);
    let mut alpha = alpha;
    assert!(alpha.mox.stop("TERM", PATIENCE).is_some());
    alpha.mox.resume().unwrap();
    alpha.send("later@right.sts.example", "later", "");
    alpha.send("later@stripped.sts.example", "later", "");
    let later = ["right", "stripped"].map(|d| CASES.iter().find(|case| case.domain == d).unwrap());
    let wrong = judge(&alpha, &postfix, later.map(|case| (address("later", case), case.want)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    assert!(alpha.mox.stop("TERM", PATIENCE).is_some());
    let Some(results) = alpha.tls_results() else { return };
    for (domain, parts) in NOTED {
        assert!(noted(&results, &format!("{domain}.sts.example {domain}.sts.example "), parts), "{domain} {parts:?}: {results}");
    }
}
