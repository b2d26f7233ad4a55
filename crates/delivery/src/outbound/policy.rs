//! What TLS a next hop must offer, and what came of asking for it.
//!
//! Without a policy, TLS is opportunistic: used when offered, never required, RFC 7435. A recipient domain may have a policy by MTA-STS
//! (RFC 8461), which lists hosts and wants certificates that the world trusts. A host may have TLSA records (DANE, RFC 7672), which
//! name its certificate. What can't be found out is never taken for absent: the message waits. A sender may require one of the two
//! (REQUIRETLS), or ask to be delivered whatever is wrong (`TLS-Required: No`, RFC 8689); then faults are still noted and reported.
//!
//! Order: [`of_domain`] once, [`of_host`] for each host, [`note_session`] for each connection.

use super::Inner;
use super::attempt::requiretls_failure;
use super::failure::Failure;
use super::hosts::{Destinations, HostAddresses};
use crate::metrics::{IgnoredLabels, RequireTlsLabels};
use crate::tls::{SessionResults, StsPolicy};
use mox_base::{Domain, ExtendedError, Host, LookupError};
use mox_mailauth::dane::{self, Base, Gathered};
use mox_mailauth::mtasts::Mode;
use mox_mailauth::tlsrpt::{FailureDetail, PolicyKind, PolicyResult, ResultType};
use mox_net::ClientTls;
use mox_net::tls::{Check, DaneCheck, Fault, Findings, Severity};
use mox_smtp::client::TlsMode;
use mox_store::queue::ReportKind;
use std::net::IpAddr;

const SMTP_PORT: u16 = 25;

/// What is known before looking at hosts.
#[derive(Debug)]
pub(super) struct DomainTls {
    sts: StsPolicy,
    /// What the message wants, RFC 8689.
    require_tls: Option<bool>,
    report: ReportKind,
}

impl DomainTls {
    /// Whether the sender wants the message delivered whatever is wrong with TLS, RFC 8689 §3.
    fn lenient(&self) -> bool {
        self.require_tls == Some(false)
    }
}

/// How to connect to a host.
#[derive(Debug)]
pub(super) struct HostTls {
    /// How TLS is used.
    pub(super) mode: TlsMode,
    /// Whether a failure of TLS leads to another connection without it.
    pub(super) fallback: bool,
    /// What judges the certificate.
    pub(super) config: ClientTls,
    /// What it found.
    pub(super) findings: Option<Findings>,
    /// The name that is asked for.
    pub(super) sni: String,
    /// Whether a certificate that isn't right is refused.
    pub(super) verified: bool,
    /// Whether there is an MTA-STS policy that is enforced, and whether there are TLSA records.
    pub(super) enforced: (bool, bool),
}

/// The policy of the recipient's domain, RFC 8461 §5.
///
/// # Errors
/// It can't be known now, so mail has to wait.
pub(super) async fn of_domain(
    inner: &Inner,
    recipient: &Host,
    require_tls: Option<bool>,
    report: ReportKind,
    results: &mut SessionResults,
) -> Result<DomainTls, Failure> {
    let Some(domain) = recipient.domain() else { return Ok(DomainTls { sts: StsPolicy::default(), require_tls, report }) };
    let sts = match &inner.ports.policies {
        None => StsPolicy::default(),
        Some(policies) => match policies.sts(domain).await {
            Ok(sts) => sts,
            Err(e) if require_tls == Some(false) => {
                tracing::info!(domain = domain.ascii(), error = %e, "delivering without MTA-STS policy, as the message wants");
                ignored(inner, "mtastspolicy");
                StsPolicy::default()
            }
            Err(e) => return Err(Failure::temporary(e.to_string())),
        },
    };
    let mut result = PolicyResult::new(PolicyKind::NoPolicyFound, domain.ascii());
    if let Some(policy) = sts.in_effect() {
        result.policy.kind = PolicyKind::Sts;
        result.policy.strings = policy.lines();
        result.policy.mx_hosts = policy.mx.iter().map(ToString::to_string).collect();
    }
    if let Some(Fault { result: kind, reason }) = &sts.fault {
        result.add(FailureDetail::new(kind.clone(), reason.clone(), 1));
    }
    results.domain = Some(result);
    Ok(DomainTls { sts, require_tls, report })
}

/// Whether TLSA records may be asked for: only below names that are authentic all the way, RFC 7672 §2.2.
pub(super) fn dane_is_possible(host: &Host, found: &Destinations) -> bool {
    host.domain().is_some() && found.original_authentic && found.expanded_authentic
}

/// How to connect to one of the domain's hosts.
///
/// # Errors
/// This host must not be used for the message.
pub(super) async fn of_host(
    inner: &Inner,
    domain: &DomainTls,
    (recipient, host): (&Host, &Host),
    destinations: &Destinations,
    addresses: &HostAddresses,
    results: &mut SessionResults,
) -> Result<HostTls, Failure> {
    let sts = sts_of(inner, domain, host, results)?;
    let mut host_result = host.domain().map(|name| PolicyResult::new(PolicyKind::NoPolicyFound, name.ascii()));
    let gathered = match host.domain().filter(|_| addresses.authentic && dane_is_possible(host, destinations)) {
        None => Ok(None),
        Some(name) => gather(inner, domain, name, addresses, host_result.as_mut()).await,
    };
    let gathered = match gathered {
        Ok(gathered) => gathered,
        Err(failure) => {
            results.hosts.extend(host_result);
            return Err(failure);
        }
    };
    let mut dane = None;
    if let Some(gathered) = &gathered {
        let severity = if domain.lenient() { Severity::Note } else { Severity::Refuse };
        dane = dane_check(inner, (recipient, host), destinations, gathered, severity, host_result.as_mut());
    }
    results.hosts.extend(host_result);
    if domain.require_tls == Some(true) && dane.is_none() && sts != Severity::Refuse {
        // RFC 8689 §4.2.1: a message that requires TLS goes only to hosts that are known for sure.
        inner.metrics.requiretls_unsupported.get_or_create(&RequireTlsLabels { reason: "nopolicy" }).inc();
        return Err(requiretls_failure(false, "next hop has neither DANE nor enforced MTA-STS, which the message requires"));
    }
    let name = host.domain().map_or_else(|| host.to_string(), |d| d.ascii().to_owned());
    let sni = dane.as_ref().and_then(|d| d.names.first()).map_or_else(|| name.clone(), |d| d.ascii().to_owned());
    let required = !domain.lenient() && (sts == Severity::Refuse || gathered.is_some());
    let check = Check { pkix: sts, pkix_name: host.domain().cloned(), dane };
    let verified = check.pkix == Severity::Refuse || check.dane.as_ref().is_some_and(|d| d.severity == Severity::Refuse);
    let (config, findings) = if check.pkix == Severity::Ignore && check.dane.is_none() {
        (inner.ports.opportunistic_tls.clone(), None)
    } else {
        let made = inner.ports.verified_tls.checking(check);
        let (config, findings) = made.map_err(|e| Failure::ours(format!("setting up TLS: {e}")))?;
        (config, Some(findings))
    };
    Ok(HostTls {
        mode: if required { TlsMode::Required } else { TlsMode::Opportunistic },
        fallback: !required && (domain.lenient() || domain.report != ReportKind::Dmarc),
        config,
        findings,
        sni,
        verified,
        enforced: (sts == Severity::Refuse, gathered.is_some()),
    })
}

/// How to verify a server of a relay, and the name that is asked for: by its TLSA records if it has some that can be used and DNSSEC vouches for its
/// name and addresses, RFC 7673 §3; else by authorities. MTA-STS is about MX hosts only, RFC 8461 §1.
///
/// `names`: the server, if DNSSEC vouches for it; the name that its certificate has to have otherwise; the domain whose service it is.
///
/// # Errors
/// The records can't be looked up now: whoever can make that fail must not be able to switch DANE off.
pub(super) async fn of_relay(
    inner: &Inner,
    (server, expected, service): (Option<&Domain>, &Host, Option<&Domain>),
    port: u16,
    expanded: Option<&Domain>,
) -> Result<(ClientTls, String), Failure> {
    let by_authorities =
        || (inner.ports.verified_tls.clone(), expected.domain().map_or_else(|| expected.to_string(), |d| d.ascii().to_owned()));
    let Some(host) = server else { return Ok(by_authorities()) };
    let gathered = match dane::gather(&*inner.ports.lookup, Base { host, expanded }, port).await {
        Ok(None) => return Ok(by_authorities()),
        Ok(Some(gathered)) => gathered,
        Err(e) => {
            inner.metrics.dane_gather_errors.inc();
            return Err(Failure::temporary(format!("looking up TLSA records of {} at port {port}: {e}", host.ascii())));
        }
    };
    inner.metrics.dane_required.inc();
    let records = gathered.usable();
    if records.is_empty() {
        // RFC 7673 §3.4: as if there were none.
        inner.metrics.dane_unverified.inc();
        return Ok(by_authorities());
    }
    let names = dane::names(&gathered, host, service.map(|domain| (domain, domain)));
    let sni = names.first().unwrap_or(host).ascii().to_owned();
    let dane = Some(DaneCheck { records, names, severity: Severity::Refuse });
    let made = inner.ports.verified_tls.checking(Check { pkix: Severity::Ignore, pkix_name: None, dane });
    let (config, _findings) = made.map_err(|e| Failure::ours(format!("setting up TLS: {e}")))?;
    Ok((config, sni))
}

/// What MTA-STS makes of a host's certificate. RFC 8461 §5.
fn sts_of(inner: &Inner, domain: &DomainTls, host: &Host, results: &mut SessionResults) -> Result<Severity, Failure> {
    let Some(policy) = domain.sts.in_effect() else { return Ok(Severity::Ignore) };
    let enforced = policy.mode == Mode::Enforce;
    if !host.domain().is_some_and(|name| policy.allows(name)) {
        let mut detail = FailureDetail::new(ResultType::ValidationFailure, "mtasts-policy-mx-mismatch", 1);
        detail.mx_hostname = host.to_string();
        if let Some(result) = &mut results.domain {
            result.failure = result.failure.saturating_add(1);
            result.add(detail);
        }
        if enforced && !domain.lenient() {
            return Err(Failure::temporary(format!("host {host} is not among those of the domain's MTA-STS policy")));
        }
        if enforced {
            ignored(inner, "mtastsmx");
        }
    }
    Ok(if enforced && !domain.lenient() { Severity::Refuse } else { Severity::Note })
}

/// Notes that a host's addresses are signed wrongly: a fault that DANE has found, RFC 7672 §2.1.1.
pub(super) fn note_bogus(results: &mut SessionResults, host: &Host, error: &ExtendedError) {
    let Some(name) = host.domain() else { return };
    let mut result = PolicyResult::new(PolicyKind::Tlsa, name.ascii());
    result.failure = 1;
    result.add(FailureDetail::new(ResultType::ValidationFailure, format!("dns-extended-error-{}", error.slug()), 1));
    results.hosts.push(result);
}

/// The TLSA records of a host.
async fn gather(
    inner: &Inner,
    domain: &DomainTls,
    host: &Domain,
    addresses: &HostAddresses,
    result: Option<&mut PolicyResult>,
) -> Result<Option<Gathered>, Failure> {
    let e = match dane::gather(&*inner.ports.lookup, Base { host, expanded: addresses.expanded.as_ref() }, SMTP_PORT).await {
        Ok(gathered) => return Ok(gathered),
        Err(e) => e,
    };
    inner.metrics.dane_gather_errors.inc();
    if let Some(result) = result {
        result.policy.kind = PolicyKind::Tlsa;
        let (kind, sessions) = match &e {
            LookupError::Bogus(_) => (ResultType::DnssecInvalid, 1),
            _ => (ResultType::TlsaInvalid, 0),
        };
        let reason = e.extended().map_or_else(|| "tlsa-lookup-error".to_owned(), |e| format!("extended-dns-error-{}", e.slug()));
        result.failure = result.failure.saturating_add(sessions);
        result.add(FailureDetail::new(kind, reason, sessions));
    }
    if domain.lenient() {
        ignored(inner, "badtlsa");
        return Ok(None);
    }
    // RFC 7672 §2.1.2: who can make this lookup fail must not be able to switch DANE off.
    Err(Failure::temporary(format!("looking up TLSA records of {}: {e}", host.ascii())))
}

/// The check that TLSA records ask for; none if none of them can be used.
fn dane_check(
    inner: &Inner,
    (recipient, host): (&Host, &Host),
    destinations: &Destinations,
    gathered: &Gathered,
    severity: Severity,
    result: Option<&mut PolicyResult>,
) -> Option<DaneCheck> {
    inner.metrics.dane_required.inc();
    let records = gathered.usable();
    if let Some(result) = result {
        result.policy.kind = PolicyKind::Tlsa;
        result.policy.strings = gathered.texts();
        gathered.base.ascii().clone_into(&mut result.policy.domain);
        if records.is_empty() {
            result.add(FailureDetail::new(ResultType::TlsaInvalid, "all-unusable-records+ignored", 0));
        }
    }
    if records.is_empty() {
        // RFC 7672 §2.2: STARTTLS is required, the certificate isn't verified.
        inner.metrics.dane_unverified.inc();
        return None;
    }
    let host = host.domain()?;
    let next_hop = recipient.domain().map(|original| (original, destinations.name.as_ref().unwrap_or(original)));
    Some(DaneCheck { records, names: dane::names(gathered, host, next_hop), severity })
}

fn ignored(inner: &Inner, what: &'static str) {
    inner.metrics.tls_required_no.get_or_create(&IgnoredLabels { ignored: what }).inc();
}

/// What a connection was about.
#[derive(Clone, Debug)]
pub(super) struct Session<'a> {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    /// The host's name.
    pub(super) host: &'a str,
    /// What it calls itself.
    pub(super) greeting: &'a str,
}

/// What came of STARTTLS.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// TLS is there.
    Encrypted,
    /// It isn't offered, or refused.
    NotOffered,
    /// The handshake failed.
    Failed(Fault),
}

/// Notes what came of a connection, for the domain and for the host that was looked at last. RFC 8460 §4.3.
pub(super) fn note_session(inner: &Inner, results: &mut SessionResults, tls: &HostTls, session: &Session<'_>, outcome: &Outcome) {
    let (pkix, dane) = tls.findings.as_ref().map_or((None, None), |f| (f.pkix(), f.dane()));
    let lenient = !tls.verified;
    if dane.is_some() {
        inner.metrics.dane_verify.inc();
    }
    if matches!(dane, Some(Err(_))) {
        inner.metrics.dane_verify_errors.inc();
        if lenient {
            inner.metrics.client_tls_required_no.get_or_create(&IgnoredLabels { ignored: "daneverification" }).inc();
        }
    }
    if lenient && tls.findings.is_some() && matches!(outcome, Outcome::Failed(_)) {
        ignored(inner, "badtls");
    }
    let found = |finding: Option<Result<(), Fault>>| match (outcome, finding) {
        (Outcome::NotOffered, _) => Some(Err(Fault { result: ResultType::StarttlsNotSupported, reason: String::new() })),
        (_, Some(Err(fault))) => Some(Err(fault)),
        (Outcome::Encrypted, _) => Some(Ok(())),
        // The other side of the check refused: this one has nothing to say.
        (Outcome::Failed(_), Some(Ok(()))) => None,
        (Outcome::Failed(fault), None) => Some(Err(fault.clone())),
    };
    let judged = pkix.is_some() || dane.is_some();
    let dane = dane.map(|found| found.map(|_| ()));
    let of_domain = if judged && pkix.is_none() && matches!(outcome, Outcome::Failed(_)) { None } else { found(pkix) };
    let of_host = if judged && dane.is_none() && matches!(outcome, Outcome::Failed(_)) { None } else { found(dane) };
    let host_result = results.hosts.last_mut();
    for (result, found) in [(results.domain.as_mut(), of_domain), (host_result, of_host)] {
        let (Some(result), Some(found)) = (result, found) else { continue };
        match found {
            Ok(()) => result.success = result.success.saturating_add(1),
            Err(Fault { result: kind, reason }) => {
                result.failure = result.failure.saturating_add(1);
                result.add(FailureDetail {
                    sending_ip: session.from.to_string(),
                    receiving_ip: session.to.to_string(),
                    mx_hostname: session.host.to_owned(),
                    mx_helo: session.greeting.to_owned(),
                    ..FailureDetail::new(kind, reason, 1)
                });
            }
        }
    }
}
