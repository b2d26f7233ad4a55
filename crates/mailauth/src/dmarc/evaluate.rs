//! What follows from a record and the results of SPF and DKIM, RFC 7489 §3.1 and §6.6.

use super::lookup::{DmarcLookup, LookupProblem, lookup, organization};
use super::record::{Alignment, DmarcRecord, Policy};
use crate::dkim::{DkimOutcome, DkimStatus};
use crate::spf::{SpfOutcome, SpfResult};
use crate::suffix::organizational_domain;
use mox_base::{Domain, Lookup, LookupError, Random, RecordKind};
use std::collections::BTreeMap;
use std::fmt;

/// What came of an evaluation, RFC 7489 §11.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DmarcResult {
    /// There is no policy, or no author to have one.
    None,
    /// The author's domain vouches for the message.
    Pass,
    /// It doesn't.
    Fail,
    /// DNS failed where it would have mattered.
    Temperror,
    /// The policy can't be read.
    Permerror,
}

impl DmarcResult {
    /// As in header fields.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Temperror => "temperror",
            Self::Permerror => "permerror",
        }
    }
}

impl fmt::Display for DmarcResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What SPF and DKIM found about a message.
#[derive(Clone, Copy, Debug)]
pub struct Findings<'a> {
    /// The domain of the one author.
    pub from: &'a Domain,
    /// Of SPF, if it was checked.
    pub spf: Option<&'a SpfOutcome>,
    /// Of each signature.
    pub dkim: &'a [DkimOutcome],
}

/// What came of DMARC, and what the domain wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmarcOutcome {
    /// The result.
    pub result: DmarcResult,
    /// What the domain wants for this message: nothing, unless the result is fail.
    pub policy: Policy,
    /// Whether the policy applies: by chance, when it is for some messages.
    pub apply: bool,
    /// The record, if there is one.
    pub record: Option<DmarcRecord>,
    /// Where it was found, or where the search for it ended.
    pub domain: Domain,
    /// A domain verified by SPF is that of the author, as the record wants it.
    pub spf_aligned: bool,
    /// Likewise by DKIM.
    pub dkim_aligned: bool,
    /// Whether the record, or its absence, was authentic.
    pub authentic: bool,
    /// Why it is an error, or none.
    pub problem: Option<LookupProblem>,
}

impl DmarcOutcome {
    /// What is to be done.
    pub fn disposition(&self) -> Policy {
        match self.policy {
            _ if !self.apply => Policy::None,
            // A policy that is being tested is applied one level lower, RFC 9989 §4.7.
            Policy::Reject if self.is_test() => Policy::Quarantine,
            Policy::Quarantine if self.is_test() => Policy::None,
            policy => policy,
        }
    }

    /// Whether the domain only tests its policy.
    pub fn is_test(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.testing)
    }
}

/// Finds the record for a message and evaluates it.
pub async fn verify(dns: &dyn Lookup, findings: &Findings<'_>, random: &dyn Random) -> DmarcOutcome {
    let found = lookup(dns, findings.from).await;
    // Only a record of others can speak of domains that don't exist, and only then it has to be known.
    let speaks = |record: &DmarcRecord| record.nonexistent_policy.is_some() && found.domain != *findings.from;
    let nonexistent = match &found.record {
        Ok((record, _)) if speaks(record) => !exists(dns, findings.from).await,
        _ => false,
    };
    let organizations = match &found.record {
        Ok((record, _)) => organizations(dns, findings, record).await,
        Err(_) => Organizations::default(),
    };
    evaluate(found, findings, &organizations, nonexistent, random)
}

/// Domains and their organizations, as far as these were asked of DNS.
#[derive(Debug, Default)]
struct Organizations(BTreeMap<Domain, Domain>);

impl Organizations {
    /// Whether both belong to the same one.
    fn are_same(&self, one: &Domain, other: &Domain) -> bool {
        let of = |domain: &Domain| self.0.get(domain).cloned().unwrap_or_else(|| organizational_domain(domain));
        one == other || of(one) == of(other)
    }
}

/// Asks for the organizations of the author and of those domains for which the public suffix list alone can't tell: what it keeps
/// apart, no record brings together.
async fn organizations(dns: &dyn Lookup, findings: &Findings<'_>, record: &DmarcRecord) -> Organizations {
    let matters = |relaxed: Alignment| relaxed == Alignment::Relaxed;
    let spf = findings.spf.filter(|spf| matters(record.spf_alignment) && matches!(spf.result, SpfResult::Pass | SpfResult::Temperror));
    let dkim = findings
        .dkim
        .iter()
        .filter(|dkim| matters(record.dkim_alignment) && matches!(dkim.status, DkimStatus::Pass | DkimStatus::Temperror));
    let verified = spf.and_then(|spf| spf.domain.as_ref()).into_iter().chain(dkim.filter_map(|d| d.signature.as_ref().map(|s| &s.domain)));
    let listed = organizational_domain(findings.from);
    let mut found = BTreeMap::new();
    for domain in verified.filter(|domain| *domain != findings.from && organizational_domain(domain) == listed) {
        for domain in [findings.from, domain] {
            if !found.contains_key(domain) {
                found.insert(domain.clone(), organization(dns, domain).await);
            }
        }
    }
    Organizations(found)
}

/// What is known when there was no time to find the record.
pub fn timed_out(from: &Domain) -> DmarcOutcome {
    DmarcOutcome {
        result: DmarcResult::Temperror,
        policy: Policy::None,
        apply: false,
        record: None,
        domain: from.clone(),
        spf_aligned: false,
        dkim_aligned: false,
        authentic: false,
        problem: Some(LookupProblem::Dns(LookupError::timeout())),
    }
}

/// Whether a domain has what mail needs, RFC 9091 §2.7. What can't be found out does.
async fn exists(dns: &dyn Lookup, domain: &Domain) -> bool {
    for kind in [RecordKind::Mx, RecordKind::A, RecordKind::Aaaa] {
        match dns.query(domain.ascii(), kind).await {
            Err(e) if e.is_not_found() => {}
            _ => return true,
        }
    }
    false
}

/// Evaluates what was found. `nonexistent` says that the author's domain doesn't exist.
fn evaluate(
    found: DmarcLookup,
    findings: &Findings<'_>,
    organizations: &Organizations,
    nonexistent: bool,
    random: &dyn Random,
) -> DmarcOutcome {
    let DmarcLookup { record, domain, authentic } = found;
    let record = match record {
        Ok((record, _)) => record,
        Err(problem) => {
            let result = match problem {
                LookupProblem::NotFound | LookupProblem::Several => DmarcResult::None,
                LookupProblem::Syntax(_) => DmarcResult::Permerror,
                LookupProblem::Dns(_) => DmarcResult::Temperror,
            };
            return DmarcOutcome {
                result,
                policy: Policy::None,
                apply: false,
                record: None,
                domain,
                spf_aligned: false,
                dkim_aligned: false,
                authentic,
                problem: Some(problem),
            };
        }
    };
    let aligned = |verified: &Domain, alignment: Alignment| match alignment {
        Alignment::Strict => verified == findings.from,
        Alignment::Relaxed => organizations.are_same(verified, findings.from),
    };
    let spf = findings.spf.and_then(|spf| spf.domain.as_ref().map(|domain| (spf.result, aligned(domain, record.spf_alignment))));
    let spf_aligned = spf == Some((SpfResult::Pass, true));
    let dkim = |status: DkimStatus| {
        findings.dkim.iter().any(|d| d.status == status && d.signature.as_ref().is_some_and(|s| aligned(&s.domain, record.dkim_alignment)))
    };
    let dkim_aligned = dkim(DkimStatus::Pass);
    // An error of DNS only matters where its result could have been the one that is missing.
    let unsure = spf == Some((SpfResult::Temperror, true)) || dkim(DkimStatus::Temperror);
    let result = match (spf_aligned || dkim_aligned, unsure) {
        (true, _) => DmarcResult::Pass,
        (false, true) => DmarcResult::Temperror,
        (false, false) => DmarcResult::Fail,
    };
    let wanted = if domain == *findings.from {
        record.policy
    } else {
        let subdomain = record.subdomain_policy.unwrap_or(record.policy);
        if nonexistent { record.nonexistent_policy.unwrap_or(subdomain) } else { subdomain }
    };
    let policy = if result == DmarcResult::Fail { wanted } else { Policy::None };
    let apply = record.percentage >= 100 || random.below(100) < u64::from(record.percentage);
    DmarcOutcome { result, policy, apply, record: Some(record), domain, spf_aligned, dkim_aligned, authentic, problem: None }
}

/// How surely a message is from its author's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Validation {
    /// The domain itself was verified.
    Strict,
    /// Its organization was, and DMARC passes.
    Dmarc,
    /// Its organization was.
    Relaxed,
    /// Nothing of it was.
    None,
}

/// How surely a message is from its author's domain.
pub fn validation(findings: &Findings<'_>, dmarc: DmarcResult) -> Validation {
    let spf = findings.spf.filter(|spf| spf.result == SpfResult::Pass).and_then(|spf| spf.domain.as_ref());
    let verified: Vec<&Domain> = findings.dkim.iter().filter_map(DkimOutcome::verified_domain).chain(spf).collect();
    let organization = organizational_domain(findings.from);
    if verified.contains(&findings.from) {
        Validation::Strict
    } else if verified.iter().any(|domain| organizational_domain(domain) == organization) {
        if dmarc == DmarcResult::Pass { Validation::Dmarc } else { Validation::Relaxed }
    } else {
        Validation::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dkim::{DkimProblem, Signature};
    use crate::spf::Identity;
    use mox_testkit::{SeededRandom, Zone};

    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("a zone answers at once"),
        }
    }

    fn d(name: &str) -> Domain {
        name.parse().unwrap()
    }

    fn spf(result: SpfResult, domain: &str) -> SpfOutcome {
        SpfOutcome {
            result,
            identity: Identity::MailFrom,
            domain: Some(d(domain)),
            mechanism: None,
            problem: None,
            explanation: None,
            authentic: false,
        }
    }

    fn dkim(status: DkimStatus, domain: &str) -> DkimOutcome {
        let signature = Signature {
            algorithm: "rsa-sha256".to_owned(),
            signature: vec![1],
            body_hash: vec![1],
            canonicalization: None,
            domain: d(domain),
            selector: d("s"),
            identity: None,
            headers: vec!["From".to_owned()],
            length: None,
            query_methods: vec![],
            signed_at: None,
            expires: None,
        };
        DkimOutcome { status, signature: Some(signature), record: None, authentic: false, problem: None::<DkimProblem> }
    }

    fn check(zone: &Zone, from: &str, spf: Option<SpfOutcome>, dkim: &[DkimOutcome]) -> DmarcOutcome {
        let from = d(from);
        ready(verify(zone, &Findings { from: &from, spf: spf.as_ref(), dkim }, &SeededRandom::default()))
    }

    #[test]
    fn alignment() {
        let relaxed = Zone::new().txt("_dmarc.x.example", "v=DMARC1;p=reject").signed();
        let strict = Zone::new().txt("_dmarc.x.example", "v=DMARC1;p=reject;adkim=s;aspf=s");
        let pass = |domain: &str| Some(spf(SpfResult::Pass, domain));
        for (zone, spf, dkims, want) in [
            (&relaxed, pass("x.example"), vec![], DmarcResult::Pass),
            (&relaxed, pass("bounce.x.example"), vec![], DmarcResult::Pass),
            (&strict, pass("bounce.x.example"), vec![], DmarcResult::Fail),
            (&strict, None, vec![dkim(DkimStatus::Pass, "x.example")], DmarcResult::Pass),
            (&strict, None, vec![dkim(DkimStatus::Pass, "m.x.example")], DmarcResult::Fail),
            (&relaxed, None, vec![dkim(DkimStatus::Pass, "m.x.example")], DmarcResult::Pass),
            (&relaxed, pass("y.example"), vec![dkim(DkimStatus::Pass, "z.example")], DmarcResult::Fail),
            (&relaxed, Some(spf(SpfResult::Softfail, "x.example")), vec![dkim(DkimStatus::Fail, "x.example")], DmarcResult::Fail),
            // Errors count only where they may have hidden a pass.
            (&relaxed, Some(spf(SpfResult::Temperror, "x.example")), vec![], DmarcResult::Temperror),
            (&relaxed, Some(spf(SpfResult::Temperror, "y.example")), vec![], DmarcResult::Fail),
            (&relaxed, None, vec![dkim(DkimStatus::Temperror, "x.example")], DmarcResult::Temperror),
            (&relaxed, None, vec![dkim(DkimStatus::Temperror, "y.example")], DmarcResult::Fail),
            (&relaxed, Some(spf(SpfResult::Temperror, "x.example")), vec![dkim(DkimStatus::Pass, "x.example")], DmarcResult::Pass),
        ] {
            let outcome = check(zone, "x.example", spf.clone(), &dkims);
            assert_eq!(outcome.result, want, "{spf:?} {dkims:?}");
            let wanted = if want == DmarcResult::Fail { Policy::Reject } else { Policy::None };
            assert_eq!(outcome.disposition(), wanted);
        }
        assert!(check(&relaxed, "x.example", None, &[]).authentic);
    }

    /// The examples of RFC 7489 §B.1, and of RFC 9989.
    #[test]
    fn examples() {
        let zone = Zone::new().txt("_dmarc.example.com", "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com");
        for (from, verified, want) in [
            ("example.com", "example.com", true),
            ("example.com", "child.example.com", true),
            ("child.example.com", "example.com", true),
            ("example.com", "example.net", false),
            ("child.example.com", "example.net", false),
        ] {
            let want = if want { DmarcResult::Pass } else { DmarcResult::Fail };
            assert_eq!(check(&zone, from, Some(spf(SpfResult::Pass, verified)), &[]).result, want, "{from} {verified}");
            assert_eq!(check(&zone, from, None, &[dkim(DkimStatus::Pass, verified)]).result, want, "{from} {verified}");
        }
    }

    #[test]
    fn which_record_applies() {
        let zone = Zone::new()
            .txt("_dmarc.x.example", "v=DMARC1;p=reject;sp=quarantine;np=reject")
            .txt("_dmarc.own.x.example", "v=DMARC1;p=none")
            .txt("_dmarc.two.x.example", "v=DMARC1;p=none")
            .txt("_dmarc.two.x.example", "v=DMARC1;p=reject")
            .txt("_dmarc.two.example", "v=DMARC1;p=none")
            .txt("_dmarc.two.example", "v=DMARC1;p=reject")
            .txt("_dmarc.bad.x.example", "v=DMARC1;p=odd")
            .txt("_dmarc.other.x.example", "something else")
            .temporary("_dmarc.down.x.example", None)
            .txt("_dmarc.co.uk", "v=DMARC1;p=reject;psd=y;np=quarantine")
            .txt("_dmarc.com", "v=DMARC1;p=reject")
            .a("sub.x.example", "192.0.2.1")
            .a("y.co.uk", "192.0.2.1");
        for (from, result, policy, domain) in [
            ("x.example", DmarcResult::Fail, Policy::Reject, "x.example"),
            ("own.x.example", DmarcResult::Fail, Policy::None, "own.x.example"),
            ("sub.x.example", DmarcResult::Fail, Policy::Quarantine, "x.example"),
            ("nowhere.x.example", DmarcResult::Fail, Policy::Reject, "x.example"),
            ("other.x.example", DmarcResult::Fail, Policy::Reject, "x.example"),
            ("two.x.example", DmarcResult::Fail, Policy::Reject, "x.example"),
            ("alone.two.example", DmarcResult::None, Policy::None, "two.example"),
            ("bad.x.example", DmarcResult::Permerror, Policy::None, "bad.x.example"),
            ("down.x.example", DmarcResult::Temperror, Policy::None, "down.x.example"),
            ("y.co.uk", DmarcResult::Fail, Policy::Reject, "co.uk"),
            ("nowhere.co.uk", DmarcResult::Fail, Policy::Quarantine, "co.uk"),
            ("y.com", DmarcResult::None, Policy::None, "y.com"),
        ] {
            let outcome = check(&zone, from, None, &[]);
            assert_eq!((outcome.result, outcome.policy, outcome.domain.ascii()), (result, policy, domain), "{from}");
        }
    }

    #[test]
    fn sampling_and_testing() {
        let some = Zone::new().txt("_dmarc.x.example", "v=DMARC1;p=reject;pct=30");
        let random = SeededRandom::default();
        let from = d("x.example");
        let findings = Findings { from: &from, spf: None, dkim: &[] };
        let applied = (0..1000).filter(|_| ready(verify(&some, &findings, &random)).apply).count();
        assert!((200..400).contains(&applied), "{applied}");
        let testing = Zone::new().txt("_dmarc.x.example", "v=DMARC1;p=reject;t=y");
        let outcome = check(&testing, "x.example", None, &[]);
        assert_eq!((outcome.policy, outcome.disposition()), (Policy::Reject, Policy::Quarantine));
        let testing = Zone::new().txt("_dmarc.x.example", "v=DMARC1;p=quarantine;t=y");
        assert_eq!(check(&testing, "x.example", None, &[]).disposition(), Policy::None);
    }

    /// The walk of RFC 9989 §4.10.
    #[test]
    fn the_walk_up_the_tree() {
        let zone = Zone::new()
            .txt("_dmarc.x.example", "v=DMARC1;p=reject")
            .txt("_dmarc.b.x.example", "v=DMARC1;p=none")
            .txt("_dmarc.own.x.example", "v=DMARC1;p=quarantine;psd=n")
            .txt("_dmarc.host.x.example", "v=DMARC1;p=quarantine;psd=y")
            .txt("_dmarc.c2.host.x.example", "v=DMARC1;p=none")
            .txt("_dmarc.deep.example", "v=DMARC1;p=reject;sp=quarantine")
            .txt("_dmarc.only.nothing.example", "v=DMARC1;p=reject")
            // At names that the walk leaves out.
            .txt("_dmarc.3.4.5.6.7.8.deep.example", "v=DMARC1;p=none");
        for (from, policy, domain) in [
            // The record with the fewest labels is the organization's.
            ("a.b.x.example", Policy::Reject, "x.example"),
            ("b.x.example", Policy::None, "b.x.example"),
            ("a.own.x.example", Policy::Quarantine, "own.x.example"),
            // Below a suffix that isn't on the list: the customer's own record, or else the suffix's.
            ("a.c1.host.x.example", Policy::Quarantine, "host.x.example"),
            ("a.c2.host.x.example", Policy::None, "c2.host.x.example"),
            ("host.x.example", Policy::Quarantine, "host.x.example"),
            ("1.2.3.4.5.6.7.8.deep.example", Policy::Quarantine, "deep.example"),
            ("2.3.4.5.6.7.8.deep.example", Policy::Quarantine, "deep.example"),
            // Nobody higher has one.
            ("a.only.nothing.example", Policy::Reject, "only.nothing.example"),
        ] {
            let before = zone.queries();
            let outcome = check(&zone, from, None, &[]);
            assert_eq!((outcome.policy, outcome.domain.ascii()), (policy, domain), "{from}");
            assert!(zone.queries() - before <= 8, "{from}: {} queries", zone.queries() - before);
        }
    }

    #[test]
    fn organizations_end_where_they_say() {
        let zone = Zone::new()
            .txt("_dmarc.x.example", "v=DMARC1;p=reject")
            .txt("_dmarc.own.x.example", "v=DMARC1;p=reject;psd=n")
            .txt("_dmarc.host.x.example", "v=DMARC1;p=reject;psd=y")
            .txt("_dmarc.strict.example", "v=DMARC1;p=reject;adkim=s;aspf=s");
        for (from, verified, want) in [
            ("a.x.example", "b.x.example", true),
            ("a.own.x.example", "b.own.x.example", true),
            ("a.own.x.example", "x.example", false),
            ("x.example", "a.own.x.example", false),
            ("a.c1.host.x.example", "b.c1.host.x.example", true),
            ("c1.host.x.example", "c2.host.x.example", false),
            ("c1.host.x.example", "host.x.example", false),
            ("x.example", "c1.host.x.example", false),
            ("x.example", "host.x.example", false),
            ("host.x.example", "host.x.example", true),
            ("strict.example", "a.strict.example", false),
            ("strict.example", "strict.example", true),
            ("x.example", "strict.example", false),
        ] {
            let by_spf = check(&zone, from, Some(spf(SpfResult::Pass, verified)), &[]);
            let by_dkim = check(&zone, from, None, &[dkim(DkimStatus::Pass, verified)]);
            assert_eq!((by_spf.spf_aligned, by_dkim.dkim_aligned), (want, want), "{from} {verified}");
        }
    }

    #[test]
    fn validations() {
        let from = d("a.x.example");
        let with = |spf: Option<SpfOutcome>, dmarc| validation(&Findings { from: &from, spf: spf.as_ref(), dkim: &[] }, dmarc);
        assert_eq!(with(Some(spf(SpfResult::Pass, "a.x.example")), DmarcResult::None), Validation::Strict);
        assert_eq!(with(Some(spf(SpfResult::Pass, "b.x.example")), DmarcResult::Pass), Validation::Dmarc);
        assert_eq!(with(Some(spf(SpfResult::Pass, "b.x.example")), DmarcResult::None), Validation::Relaxed);
        assert_eq!(with(Some(spf(SpfResult::Fail, "a.x.example")), DmarcResult::None), Validation::None);
    }
}
