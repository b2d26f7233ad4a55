//! TLS as hosts and domains want it: DANE (RFC 7672), MTA-STS (RFC 8461), REQUIRETLS and `TLS-Required: No` (RFC 8689), and what
//! reports say (RFC 8460). Whatever is broken on purpose or by an attacker: never is mail sent less protected than published.

use super::*;
use crate::tls::{FetchError, FetchFuture, PolicySource};
use mox_base::{RecordKind, Tlsa};
use mox_mailauth::tlsrpt::{PolicyResult, results_from_json};
use mox_net::ServerTls;
use mox_net::tls::{Certificates, KeyCert, ServerTlsOptions, read_roots};
use mox_store::tls::SeenTls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};

/// MTA-STS policies by domain.
#[derive(Debug, Default)]
pub(super) struct Served(BTreeMap<String, String>);

impl PolicySource for Served {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> FetchFuture<'a> {
        let policy = self.0.get(domain.ascii()).map(|text| text.clone().into_bytes()).ok_or(FetchError::NoPolicy);
        Box::pin(std::future::ready(policy))
    }
}

/// An authority, and a host with a certificate of it.
pub(super) struct Pki {
    pub(super) server: ServerTls,
    pub(super) key: Vec<u8>,
    pub(super) ca: Vec<u8>,
    pub(super) roots: ClientTls,
}

pub(super) fn pki(name: &str, expired: bool) -> Pki {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    }
    let leaf = params.signed_by(&key, &ca).unwrap();
    let cert = KeyCert::from_pem(format!("{}{}", leaf.pem(), ca.pem()).as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    Pki {
        server: ServerTls::new(Arc::new(Certificates::new(vec![cert]).unwrap()), ServerTlsOptions::default()).unwrap(),
        key: key.subject_public_key_info(),
        ca: ca.der().to_vec(),
        roots: ClientTls::verified(read_roots(false, &[file]).unwrap()).unwrap(),
    }
}

/// Some server that speaks TLS.
pub(super) fn any_server() -> ServerTls {
    pki("mx.b.example", false).server
}

/// `YYYYMMDD`.
pub(super) fn day(time: Timestamp) -> i64 {
    let (year, month, day) = time.date();
    i64::from(year) * 10_000 + i64::from(month) * 100 + i64::from(day)
}

pub(super) fn tlsa(usage: u8, selector: u8, data: &[u8]) -> Tlsa {
    Tlsa { usage, selector, matching: 1, data: Sha256::digest(data).to_vec() }
}

const TLSA_NAME: &str = "_25._tcp.mx.b.example";

/// How a delivery goes.
struct Case {
    zone: Zone,
    policy: Option<String>,
    require_tls: Option<bool>,
    /// The peer's certificate; without, it doesn't offer STARTTLS.
    tls: Option<ServerTls>,
    roots: ClientTls,
}

impl Case {
    fn new(pki: &Pki) -> Self {
        let zone = zone().signed();
        Self { zone, policy: None, require_tls: None, tls: Some(pki.server.clone()), roots: pki.roots.clone() }
    }

    fn zone(self, change: impl FnOnce(Zone) -> Zone) -> Self {
        Self { zone: change(self.zone), ..self }
    }

    fn sts(self, mode: &str, mx: &str) -> Self {
        let policy = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n");
        Self { policy: Some(policy), ..self }.zone(|z| z.txt("_mta-sts.b.example", "v=STSv1; id=1"))
    }

    fn requires(self, require_tls: bool) -> Self {
        Self { require_tls: Some(require_tls), ..self }
    }

    fn without_starttls(self) -> Self {
        Self { tls: None, ..self }
    }

    /// `tls`, `plain` or the error; then what reports will say, a line per policy.
    async fn run(self) -> (String, Vec<String>) {
        let served = Served(self.policy.into_iter().map(|p| ("b.example".to_owned(), p)).collect());
        let mut f = Fixture::with_policies(self.zone, |_| {}, Routing::default(), served, self.roots).await;
        let peer = f.peer();
        if let Some(tls) = self.tls {
            peer.speaks_tls(tls);
        }
        if self.require_tls == Some(true) {
            peer.offers("REQUIRETLS");
        }
        let require_tls = self.require_tls;
        f.submit_from("ann@a.example", &["bob@b.example"], |s| s.require_tls = require_tls).await;
        f.run().await;
        f.check_conservation().await;
        let how = match peer.delivered() {
            0 => f.last_result().await.2,
            _ if was_encrypted(&peer) => "tls".to_owned(),
            _ => "plain".to_owned(),
        };
        if peer.delivered() == 0 {
            let waits = f.queued().await.len();
            assert!(waits == 1 || self.require_tls == Some(true), "{how}: only what requires TLS may bounce for the lack of it");
        }
        f.policies.flush().await.unwrap();
        let kept = f.policies.store().results(day(f.clock.now())).await.unwrap();
        let results = kept.iter().flat_map(|r| results_from_json(&r.results).unwrap()).map(|r| show(&r)).collect();
        (how, results)
    }
}

/// Whether the message came over an encrypted connection: nothing but EHLO came between the handshake and MAIL.
pub(super) fn was_encrypted(peer: &Peer) -> bool {
    let lines = peer.lines();
    let mail = lines.iter().rposition(|l| l.starts_with("MAIL")).unwrap();
    lines[..mail].iter().rev().find(|l| !l.starts_with("EHLO")).is_some_and(|l| l == "(TLS)")
}

fn show(r: &PolicyResult) -> String {
    let details: Vec<String> = r.details.iter().map(|d| format!(" {} {}", d.result, d.reason).trim_end().to_owned()).collect();
    format!("{} {} {}/{}{}", r.policy.domain, r.policy.kind.word(), r.success, r.failure, details.join(""))
}

async fn check(what: &str, case: Case, how: &str, reported: &[&str]) {
    let (got, results) = case.run().await;
    assert!(got.starts_with(how), "{what}: {got}");
    assert_eq!(results, reported, "{what}");
}

#[tokio::test(start_paused = true)]
async fn opportunistic() {
    let pki = pki("mx.b.example", true);
    check("whatever certificate", Case::new(&pki), "tls", &["b.example no-policy-found 1/0", "mx.b.example no-policy-found 1/0"]).await;
    let reported = ["b.example no-policy-found 0/1 starttls-not-supported", "mx.b.example no-policy-found 0/1 starttls-not-supported"];
    check("not offered", Case::new(&pki).without_starttls(), "plain", &reported).await;
}

#[tokio::test(start_paused = true)]
async fn dane_as_it_should_be() {
    let pki = pki("mx.b.example", false);
    let good = ["b.example no-policy-found 1/0", "mx.b.example tlsa 1/0"];
    let case = |record: Tlsa| Case::new(&pki).zone(|z| z.tlsa(TLSA_NAME, record));
    check("DANE-EE", case(tlsa(3, 1, &pki.key)), "tls", &good).await;
    check("DANE-TA", case(tlsa(2, 0, &pki.ca)), "tls", &good).await;
    check("one of two", case(tlsa(3, 1, b"next key")).zone(|z| z.tlsa(TLSA_NAME, tlsa(3, 1, &pki.key))), "tls", &good).await;
    check("required", case(tlsa(3, 1, &pki.key)).requires(true), "tls", &good).await;
    // RFC 7671 §5.1: nothing but the key counts.
    let odd = self::pki("other.example", true);
    check("other name, expired", Case::new(&odd).zone(|z| z.tlsa(TLSA_NAME, tlsa(3, 1, &odd.key))), "tls", &good).await;
    // RFC 7672 §2.2: only usages that SMTP doesn't have: STARTTLS, whatever certificate.
    let unusable = ["b.example no-policy-found 1/0", "mx.b.example tlsa 1/0 tlsa-invalid all-unusable-records+ignored"];
    check("unusable", case(tlsa(1, 1, b"x")), "tls", &unusable).await;
}

/// RFC 7672: each way of breaking it, by mistake or on purpose, has mail wait; it is never sent otherwise.
#[tokio::test(start_paused = true)]
async fn dane_broken() {
    let pki = pki("mx.b.example", false);
    let with = |record: Tlsa| Case::new(&pki).zone(|z| z.tlsa(TLSA_NAME, record));
    let good = || with(tlsa(3, 1, &pki.key));
    let handshake = "starttls: ";
    let lookup = "looking up TLSA records of mx.b.example: ";
    check("wrong key", with(tlsa(3, 1, b"x")), handshake, &["mx.b.example tlsa 0/1 tlsa-invalid dane-no-match"]).await;
    let expired = self::pki("mx.b.example", true);
    let case = Case::new(&expired).zone(|z| z.tlsa(TLSA_NAME, tlsa(2, 0, &expired.ca)));
    check("expired below DANE-TA", case, handshake, &["mx.b.example tlsa 0/1 certificate-expired"]).await;
    let other = self::pki("other.example", false);
    let case = Case::new(&other).zone(|z| z.tlsa(TLSA_NAME, tlsa(2, 0, &other.ca)));
    check("other name below DANE-TA", case, handshake, &["mx.b.example tlsa 0/1 certificate-host-mismatch"]).await;
    let stripped = ["b.example no-policy-found 0/1 starttls-not-supported", "mx.b.example tlsa 0/1 starttls-not-supported"];
    check("STARTTLS stripped", good().without_starttls(), handshake, &stripped).await;
    let unusable = [
        "b.example no-policy-found 0/1 starttls-not-supported",
        "mx.b.example tlsa 0/1 tlsa-invalid all-unusable-records+ignored starttls-not-supported",
    ];
    check("STARTTLS stripped, unusable records", with(tlsa(0, 1, b"x")).without_starttls(), handshake, &unusable).await;
    let temporary = good().zone(|z| z.temporary(TLSA_NAME, Some(RecordKind::Tlsa)));
    check("SERVFAIL", temporary, lookup, &["mx.b.example tlsa 0/0 tlsa-invalid tlsa-lookup-error"]).await;
    let bogus = good().zone(|z| z.bogus(TLSA_NAME, Some(RecordKind::Tlsa)));
    check("bogus", bogus, lookup, &["mx.b.example tlsa 0/1 dnssec-invalid extended-dns-error-6-dnssec-bogus"]).await;
    check("bogus MX", good().zone(|z| z.bogus("b.example", Some(RecordKind::Mx))), "looking up MX of b.example: DNSSEC", &[]).await;
    let address = "looking up addresses of mx.b.example: DNSSEC";
    let reported = ["mx.b.example tlsa 0/1 validation-failure dns-extended-error-6-dnssec-bogus"];
    check("bogus address", good().zone(|z| z.bogus("mx.b.example", None)), address, &reported).await;
}

/// RFC 7672 §2.1, §2.2: TLSA records count only where all that led to them is authentic.
#[tokio::test(start_paused = true)]
async fn dane_without_dnssec() {
    let pki = pki("mx.b.example", false);
    let wrong = || Case::new(&pki).zone(|z| z.tlsa(TLSA_NAME, tlsa(3, 1, b"x")));
    let none = ["b.example no-policy-found 1/0", "mx.b.example no-policy-found 1/0"];
    check("insecure MX", wrong().zone(|z| z.insecure("b.example")), "tls", &none).await;
    check("insecure host", wrong().zone(|z| z.insecure("mx.b.example")), "tls", &none).await;
    check("insecure TLSA", wrong().zone(|z| z.insecure("_tcp.mx.b.example")), "tls", &none).await;
    // Name servers that are broken for TLSA aren't asked where it can't matter.
    let broken = wrong().zone(|z| z.insecure("b.example").temporary(TLSA_NAME, None));
    check("insecure MX, broken name server", broken, "tls", &none).await;
}

/// RFC 7672 §2.2.3: first the name that aliases lead to.
#[tokio::test(start_paused = true)]
async fn dane_of_an_alias() {
    let pki = pki("real.example", false);
    let aliased = || {
        let zone =
            Zone::new().mx("b.example", 10, "mx.b.example").cname("mx.b.example", "real.example").a("real.example", "192.0.2.1").signed();
        Case { zone, ..Case::new(&pki) }
    };
    let real = aliased().zone(|z| z.tlsa("_25._tcp.real.example", tlsa(2, 0, &pki.ca)).tlsa(TLSA_NAME, tlsa(3, 1, b"x")));
    check("at the end", real, "tls", &["b.example no-policy-found 1/0", "real.example tlsa 1/0"]).await;
    let own = aliased().zone(|z| z.tlsa(TLSA_NAME, tlsa(3, 1, &pki.key)));
    check("at the alias", own, "tls", &["b.example no-policy-found 1/0", "mx.b.example tlsa 1/0"]).await;
    // The alias is authentic and has records, what it leads to isn't.
    let weak = aliased().zone(|z| z.tlsa(TLSA_NAME, tlsa(3, 1, b"x")).insecure("real.example"));
    check("insecure end", weak, "starttls: ", &["mx.b.example tlsa 0/1 tlsa-invalid dane-no-match"]).await;
}

#[tokio::test(start_paused = true)]
async fn mta_sts() {
    let pki = pki("mx.b.example", false);
    let wrong = self::pki("other.example", false);
    let wrong = Pki { roots: wrong.roots.clone(), ..wrong };
    let stranger = || Case { roots: wrong.roots.clone(), ..Case::new(&pki) };
    let host = "mx.b.example no-policy-found 1/0";
    check("enforced", Case::new(&pki).sts("enforce", "mx.b.example"), "tls", &["b.example sts 1/0", host]).await;
    check("wildcard", Case::new(&pki).sts("enforce", "*.b.example"), "tls", &["b.example sts 1/0", host]).await;
    check("mode none", Case::new(&wrong).sts("none", "x.example"), "tls", &["b.example no-policy-found 1/0", host]).await;
    let mismatch = "b.example sts 0/1 certificate-host-mismatch";
    check("enforced, other name", Case::new(&wrong).sts("enforce", "mx.b.example"), "starttls: ", &[mismatch]).await;
    check("testing, other name", Case::new(&wrong).sts("testing", "mx.b.example"), "tls", &[mismatch, host]).await;
    let untrusted = "b.example sts 0/1 certificate-not-trusted";
    let (got, _) = stranger().sts("enforce", "mx.b.example").run().await;
    assert!(got.starts_with("starttls: "), "untrusted: {got}");
    let (got, results) = stranger().sts("testing", "mx.b.example").run().await;
    assert!(got == "tls" && results[0].starts_with(untrusted), "{got} {results:?}");
    let stripped = ["b.example sts 0/1 starttls-not-supported", "mx.b.example no-policy-found 0/1 starttls-not-supported"];
    check("enforced, stripped", Case::new(&pki).sts("enforce", "mx.b.example").without_starttls(), "starttls: ", &stripped).await;
    check("testing, stripped", Case::new(&pki).sts("testing", "mx.b.example").without_starttls(), "plain", &stripped).await;
    let unlisted = "b.example sts 0/1 validation-failure mtasts-policy-mx-mismatch";
    check("enforced, unlisted host", Case::new(&pki).sts("enforce", "x.example"), "host mx.b.example is not among", &[unlisted]).await;
    let tested = "b.example sts 1/1 validation-failure mtasts-policy-mx-mismatch";
    check("testing, unlisted host", Case::new(&pki).sts("testing", "x.example"), "tls", &[tested, host]).await;
    let failing = Case::new(&pki).zone(|z| z.temporary("_mta-sts.b.example", None));
    check("record can't be had", failing, "looking up MTA-STS record: ", &[]).await;
    let unfetched = Case { policy: None, ..Case::new(&wrong).sts("enforce", "mx.b.example") };
    let fault = "b.example no-policy-found 1/0 sts-policy-fetch-error no-policy-served";
    check("policy can't be had", unfetched, "tls", &[fault, host]).await;
}

/// Both at once: each must be satisfied, and neither replaces the other. RFC 8461 §2.
#[tokio::test(start_paused = true)]
async fn mta_sts_beside_dane() {
    let pki = pki("mx.b.example", false);
    let both = |record: Tlsa| Case::new(&pki).sts("enforce", "mx.b.example").zone(|z| z.tlsa(TLSA_NAME, record));
    check("both", both(tlsa(3, 1, &pki.key)), "tls", &["b.example sts 1/0", "mx.b.example tlsa 1/0"]).await;
    check("DANE fails", both(tlsa(3, 1, b"x")), "starttls: ", &["mx.b.example tlsa 0/1 tlsa-invalid dane-no-match"]).await;
    let odd = self::pki("other.example", false);
    let case = Case::new(&odd).sts("enforce", "mx.b.example").zone(|z| z.tlsa(TLSA_NAME, tlsa(3, 1, &odd.key)));
    check("PKIX fails", case, "starttls: ", &["b.example sts 0/1 certificate-host-mismatch"]).await;
}

/// RFC 8689 §4.2.1: only what is known for sure will do.
#[tokio::test(start_paused = true)]
async fn requiretls() {
    let pki = pki("mx.b.example", false);
    let refused = "next hop has neither DANE nor enforced MTA-STS";
    check("no policy", Case::new(&pki).requires(true), refused, &[]).await;
    check("testing", Case::new(&pki).sts("testing", "mx.b.example").requires(true), refused, &[]).await;
    let unusable = Case::new(&pki).zone(|z| z.tlsa(TLSA_NAME, tlsa(1, 1, b"x"))).requires(true);
    check("unusable records", unusable, refused, &["mx.b.example tlsa 0/0 tlsa-invalid all-unusable-records+ignored"]).await;
    let enforced = Case::new(&pki).sts("enforce", "mx.b.example").requires(true);
    check("enforced", enforced, "tls", &["b.example sts 1/0", "mx.b.example no-policy-found 1/0"]).await;
    let wrong = Case::new(&pki).zone(|z| z.tlsa(TLSA_NAME, tlsa(3, 1, b"x"))).requires(true);
    check("wrong record", wrong, "starttls: ", &["mx.b.example tlsa 0/1 tlsa-invalid dane-no-match"]).await;
}

/// RFC 8689 §3: the sender wants it delivered whatever is wrong; it is reported all the same.
#[tokio::test(start_paused = true)]
async fn tls_required_no() {
    let pki = pki("mx.b.example", false);
    let lenient = || Case::new(&pki).requires(false);
    let bad = "mx.b.example tlsa 0/1 tlsa-invalid dane-no-match";
    let wrong = lenient().zone(|z| z.tlsa(TLSA_NAME, tlsa(3, 1, b"x")));
    check("wrong record", wrong, "tls", &["b.example no-policy-found 1/0", bad]).await;
    let failing = lenient().zone(|z| z.temporary(TLSA_NAME, None));
    check("TLSA can't be had", failing, "tls", &["b.example no-policy-found 1/0", "mx.b.example tlsa 1/0 tlsa-invalid tlsa-lookup-error"])
        .await;
    let failing = lenient().zone(|z| z.temporary("_mta-sts.b.example", None));
    check("record can't be had", failing, "tls", &["b.example no-policy-found 1/0", "mx.b.example no-policy-found 1/0"]).await;
    let unlisted = "b.example sts 1/1 validation-failure mtasts-policy-mx-mismatch";
    check("unlisted", lenient().sts("enforce", "x.example"), "tls", &[unlisted, "mx.b.example no-policy-found 1/0"]).await;
    let stripped = lenient().sts("enforce", "mx.b.example").without_starttls();
    let reported = ["b.example sts 0/1 starttls-not-supported", "mx.b.example no-policy-found 0/1 starttls-not-supported"];
    check("stripped", stripped, "plain", &reported).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_domain_offers_is_remembered() {
    let pki = pki("mx.b.example", false);
    for (tls, want) in [(Some(&pki.server), true), (None, false)] {
        let mut f = Fixture::new().await;
        let peer = f.peer();
        if let Some(tls) = tls {
            peer.speaks_tls(tls.clone());
            peer.offers("REQUIRETLS");
        }
        f.submit(&["bob@b.example"]).await;
        f.run().await;
        f.policies.flush().await.unwrap();
        let seen = f.policies.store().seen("ann", "b.example").await.unwrap();
        assert_eq!(seen, Some(SeenTls { updated: f.clock.now(), starttls: want, requiretls: want }));
    }
}
