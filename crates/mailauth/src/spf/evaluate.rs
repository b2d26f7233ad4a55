//! `check_host()`, RFC 7208 §4: following the record of a domain until something matches.
//!
//! Everything that asks DNS is counted: ten terms, two lookups without result, ten names of an MX or PTR, RFC 7208 §4.6.4.
//! Records refer to others (`include`, `redirect`), so evaluation recurses; the ten terms bound how deep.

use super::macros::{MacroString, Values};
use super::record::{Directive, Mechanism, Prefixes, Qualifier, SpfRecord};
use mox_base::{Answer, Domain, Host, Lookup, LookupError, Path, Record, RecordKind, Timestamp};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

/// Terms that ask DNS, RFC 7208 §4.6.4.
const MAX_TERMS: u8 = 10;

/// Lookups that find nothing, RFC 7208 §4.6.4.
const MAX_VOID: u8 = 2;

/// Mail exchangers, and names of an address, that are looked at, RFC 7208 §4.6.4.
const MAX_NAMES: usize = 10;

/// The longest explanation that is kept.
const MAX_EXPLANATION: usize = 800;

/// What came of a check, RFC 7208 §2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpfResult {
    /// There is no policy, or no domain.
    None,
    /// The domain doesn't say.
    Neutral,
    /// The host may use the domain.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    Softfail,
    /// DNS failed; asking again later may help.
    Temperror,
    /// The policy can't be interpreted.
    Permerror,
}

impl SpfResult {
    /// As in header fields.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Softfail => "softfail",
            Self::Temperror => "temperror",
            Self::Permerror => "permerror",
        }
    }
}

impl fmt::Display for SpfResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which identity of the transaction was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The domain of MAIL FROM.
    MailFrom,
    /// The name in HELO, because MAIL FROM was null.
    Helo,
}

/// The SMTP transaction to be checked.
#[derive(Clone, Copy, Debug)]
pub struct SpfSession<'a> {
    /// The client.
    pub remote_ip: IpAddr,
    /// MAIL FROM; none for the null reverse-path.
    pub mail_from: Option<&'a Path>,
    /// The client's name.
    pub helo: &'a Host,
    /// Our name, for explanations.
    pub receiver: &'a Domain,
    /// The time, for explanations.
    pub now: Timestamp,
}

/// What came of checking a transaction, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpfOutcome {
    /// The result.
    pub result: SpfResult,
    /// What was checked.
    pub identity: Identity,
    /// Its domain; none for an address literal, which has no policy.
    pub domain: Option<Domain>,
    /// The term that matched, or `default`. None if evaluation didn't get there.
    pub mechanism: Option<String>,
    /// What went wrong, for temperror, permerror and some none.
    pub problem: Option<String>,
    /// What the domain says about a fail: printable ASCII, not to be trusted.
    pub explanation: Option<String>,
    /// Whether all answers of DNS were authentic.
    pub authentic: bool,
}

/// Checks the identity of a transaction: the domain of MAIL FROM, or the name in HELO if that is null, RFC 7208 §2.4.
pub async fn verify(lookup: &dyn Lookup, session: &SpfSession<'_>) -> SpfOutcome {
    let (identity, host, localpart) = match session.mail_from {
        Some(path) => (Identity::MailFrom, &path.host, path.localpart.as_str()),
        None => (Identity::Helo, session.helo, ""),
    };
    let Some(domain) = host.domain() else {
        return SpfOutcome {
            result: SpfResult::None,
            identity,
            domain: None,
            mechanism: None,
            problem: Some("address literal instead of domain".to_owned()),
            explanation: None,
            authentic: false,
        };
    };
    let query = Query {
        ip: session.remote_ip,
        domain: domain.ascii(),
        localpart,
        helo: &session.helo.for_smtputf8(false),
        receiver: session.receiver.ascii(),
        now: session.now,
    };
    SpfOutcome { identity, domain: Some(domain.clone()), ..check_host(lookup, &query).await }
}

/// The arguments of `check_host()`, and what macros need.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The client.
    pub ip: IpAddr,
    /// The domain of the sender.
    pub domain: &'a str,
    /// The localpart of the sender; if empty, `postmaster`.
    pub localpart: &'a str,
    /// The client's name.
    pub helo: &'a str,
    /// Our name.
    pub receiver: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// `check_host()`, RFC 7208 §4, for a domain that need not be well-formed. The outcome names no domain.
pub async fn check_host(lookup: &dyn Lookup, query: &Query<'_>) -> SpfOutcome {
    let mut evaluation = Evaluation::new(lookup, query);
    let outcome = |result, mechanism, problem, explanation, authentic| SpfOutcome {
        result,
        identity: Identity::MailFrom,
        domain: None,
        mechanism,
        problem,
        explanation,
        authentic,
    };
    let matched = match evaluation.check(query.domain.to_owned()).await {
        Ok(matched) => matched,
        Err(Failed { temporary, problem }) => {
            let result = if temporary { SpfResult::Temperror } else { SpfResult::Permerror };
            return outcome(result, None, Some(problem), None, evaluation.authentic);
        }
    };
    let authentic = evaluation.authentic;
    let explanation = match (matched.result, matched.exp) {
        // Best effort, with limits of its own: the result stands already.
        (SpfResult::Fail, Some((exp, domain))) => Evaluation::new(lookup, query).explain(&exp, &domain).await,
        _ => None,
    };
    outcome(matched.result, matched.mechanism, matched.problem, explanation, authentic)
}

/// Why evaluation ended without a match.
struct Failed {
    temporary: bool,
    problem: String,
}

impl Failed {
    fn permanent(problem: impl Into<String>) -> Self {
        Self { temporary: false, problem: problem.into() }
    }

    fn temporary(what: &str, error: &LookupError) -> Self {
        Self { temporary: true, problem: format!("looking up {what}: {error}") }
    }
}

/// What a domain's record says.
struct Matched {
    /// Never an error.
    result: SpfResult,
    mechanism: Option<String>,
    problem: Option<String>,
    /// Where a fail is explained, and in the record of which domain that stands.
    exp: Option<(MacroString, String)>,
}

impl Matched {
    fn none(problem: &str) -> Self {
        Self { result: SpfResult::None, mechanism: None, problem: Some(problem.to_owned()), exp: None }
    }
}

type Checked<'f, T> = Pin<Box<dyn Future<Output = Result<T, Failed>> + Send + 'f>>;

struct Evaluation<'a> {
    lookup: &'a dyn Lookup,
    query: &'a Query<'a>,
    /// The client; IPv4 also if it was mapped into IPv6, RFC 7208 §5.
    ip: IpAddr,
    terms: u8,
    void: u8,
    authentic: bool,
}

impl<'a> Evaluation<'a> {
    fn new(lookup: &'a dyn Lookup, query: &'a Query<'a>) -> Self {
        Self { lookup, query, ip: query.ip.to_canonical(), terms: 0, void: 0, authentic: true }
    }

    /// The function of RFC 7208 §4, for the first domain and for those that its record refers to.
    fn check(&mut self, domain: String) -> Checked<'_, Matched> {
        Box::pin(async move {
            if !is_name(&domain) {
                return Ok(Matched::none("malformed domain"));
            }
            let Some(record) = self.record(&domain).await? else { return Ok(Matched::none("no spf record")) };
            for directive in &record.directives {
                if self.matches(directive, &domain).await? {
                    let result = match directive.qualifier {
                        Qualifier::Pass => SpfResult::Pass,
                        Qualifier::Fail => SpfResult::Fail,
                        Qualifier::Softfail => SpfResult::Softfail,
                        Qualifier::Neutral => SpfResult::Neutral,
                    };
                    let exp = record.exp.map(|exp| (exp, domain));
                    return Ok(Matched { result, mechanism: Some(directive.text.clone()), problem: None, exp });
                }
            }
            let Some(redirect) = record.redirect else {
                return Ok(Matched { result: SpfResult::Neutral, mechanism: Some("default".to_owned()), problem: None, exp: None });
            };
            // It counts as well, or records could refer to each other for ever.
            self.count_term()?;
            let target = self.name(&redirect, &domain).await?;
            let matched = self.check(target.clone()).await?;
            match matched.result {
                // RFC 7208 §6.1.
                SpfResult::None => Err(Failed::permanent(format!("no spf record at {target}, where redirect leads"))),
                _ => Ok(matched),
            }
        })
    }

    /// RFC 7208 §4.4 and §4.5.
    async fn record(&mut self, domain: &str) -> Result<Option<SpfRecord>, Failed> {
        let texts = match self.lookup.txt(domain).await {
            Ok(answer) => {
                self.authentic &= answer.authentic;
                answer.records
            }
            Err(e) => {
                self.authentic &= matches!(e, LookupError::NotFound { authentic: true });
                return match e {
                    LookupError::NotFound { .. } | LookupError::BadName(_) => Ok(None),
                    e => Err(Failed::temporary(&format!("spf record at {domain}"), &e)),
                };
            }
        };
        let mut meant = texts.iter().filter(|t| SpfRecord::is_meant(t));
        let Some(text) = meant.next() else { return Ok(None) };
        if meant.next().is_some() {
            return Err(Failed::permanent(format!("several spf records at {domain}")));
        }
        SpfRecord::parse(text).map(Some).map_err(|e| Failed::permanent(format!("bad spf record at {domain}: {e}")))
    }

    async fn matches(&mut self, directive: &Directive, domain: &str) -> Result<bool, Failed> {
        match &directive.mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(network, length) => Ok(within(self.ip, IpAddr::V4(*network), *length)),
            Mechanism::Ip6(network, length) => Ok(within(self.ip, IpAddr::V6(*network), *length)),
            Mechanism::Include(spec) => {
                self.count_term()?;
                let target = self.name(spec, domain).await?;
                // RFC 7208 §5.2, the table.
                match self.check(target.clone()).await?.result {
                    SpfResult::Pass => Ok(true),
                    SpfResult::None => Err(Failed::permanent(format!("no spf record at included {target}"))),
                    _ => Ok(false),
                }
            }
            Mechanism::A(spec, prefixes) => {
                self.count_term()?;
                let target = self.target(spec.as_ref(), domain).await?;
                self.address_matches(&target, *prefixes).await
            }
            Mechanism::Mx(spec, prefixes) => {
                self.count_term()?;
                let target = self.target(spec.as_ref(), domain).await?;
                let hosts = self.found(&target, RecordKind::Mx).await?;
                let hosts: Vec<String> =
                    hosts.into_iter().filter_map(|r| if let Record::Mx(mx) = r { Some(mx.host) } else { None }).collect();
                for host in hosts.iter().take(MAX_NAMES) {
                    if self.address_matches(host, *prefixes).await? {
                        return Ok(true);
                    }
                }
                // RFC 7208 §4.6.4.
                if hosts.len() > MAX_NAMES { Err(Failed::permanent(format!("more than 10 mx hosts at {target}"))) } else { Ok(false) }
            }
            Mechanism::Ptr(spec) => {
                self.count_term()?;
                let target = self.target(spec.as_ref(), domain).await?;
                let below = |name: &str| is_below(name, &target);
                Ok(self.verified_name(below).await?.is_some())
            }
            Mechanism::Exists(spec) => {
                self.count_term()?;
                let target = self.name(spec, domain).await?;
                // Of IPv4, whatever the client has, RFC 7208 §5.7.
                Ok(!self.found(&target, RecordKind::A).await?.is_empty())
            }
        }
    }

    fn count_term(&mut self) -> Result<(), Failed> {
        self.terms = self.terms.saturating_add(1);
        if self.terms > MAX_TERMS { Err(Failed::permanent("more than 10 terms that need dns lookups")) } else { Ok(()) }
    }

    /// The records at a name; none if there are none, which may not happen often.
    async fn found(&mut self, name: &str, kind: RecordKind) -> Result<Vec<Record>, Failed> {
        if !is_name(name) {
            return Ok(Vec::new());
        }
        match self.lookup.query(name, kind).await {
            Ok(Answer { records, authentic, .. }) => {
                self.authentic &= authentic;
                Ok(records)
            }
            Err(LookupError::NotFound { authentic }) => {
                self.authentic &= authentic;
                self.void = self.void.saturating_add(1);
                if self.void > MAX_VOID { Err(Failed::permanent("more than 2 dns lookups without result")) } else { Ok(Vec::new()) }
            }
            Err(LookupError::BadName(_)) => Ok(Vec::new()),
            Err(e) => {
                self.authentic = false;
                Err(Failed::temporary(name, &e))
            }
        }
    }

    async fn address_matches(&mut self, name: &str, prefixes: Prefixes) -> Result<bool, Failed> {
        let (kind, length) = if self.ip.is_ipv4() { (RecordKind::A, prefixes.v4) } else { (RecordKind::Aaaa, prefixes.v6) };
        let records = self.found(name, kind).await?;
        Ok(records.iter().any(|record| match record {
            Record::A(ip) => within(self.ip, IpAddr::V4(*ip), length),
            Record::Aaaa(ip) => within(self.ip, IpAddr::V6(*ip), length),
            _ => false,
        }))
    }

    /// The first name of the client that leads back to it, for which `wanted` holds, RFC 7208 §5.5.
    async fn verified_name(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Option<String>, Failed> {
        let reverse = mox_base::dns::reverse_name(self.ip);
        let names = match self.found(&reverse, RecordKind::Ptr).await {
            Ok(names) => names,
            // An error of DNS here is no match, RFC 7208 §5.5.
            Err(Failed { temporary: true, .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let names = names.into_iter().filter_map(|r| if let Record::Ptr(name) = r { Some(name) } else { None });
        for name in names.take(MAX_NAMES).filter(|name| wanted(name)) {
            match self.address_matches(&name, Prefixes { v4: 32, v6: 128 }).await {
                Ok(true) => return Ok(Some(name)),
                Ok(false) | Err(Failed { temporary: true, .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// The `p` macro, RFC 7208 §7.3: the domain itself if possible, else a name below it, else any.
    async fn ptr_name(&mut self, domain: &str) -> Result<String, Failed> {
        self.count_term()?;
        if let Some(name) = self.verified_name(|name| name.eq_ignore_ascii_case(domain)).await? {
            return Ok(name);
        }
        if let Some(name) = self.verified_name(|name| is_below(name, domain)).await? {
            return Ok(name);
        }
        Ok(self.verified_name(|_| true).await?.unwrap_or_else(|| "unknown".to_owned()))
    }

    async fn target(&mut self, spec: Option<&MacroString>, domain: &str) -> Result<String, Failed> {
        match spec {
            Some(spec) => self.name(spec, domain).await,
            None => Ok(domain.to_owned()),
        }
    }

    async fn name(&mut self, spec: &MacroString, domain: &str) -> Result<String, Failed> {
        let ptr_name = self.ptr_name_for(spec, domain).await?;
        Ok(spec.expand_name(&self.values(domain, &ptr_name)))
    }

    async fn ptr_name_for(&mut self, spec: &MacroString, domain: &str) -> Result<String, Failed> {
        if spec.uses_ptr_name() { self.ptr_name(domain).await } else { Ok(String::new()) }
    }

    fn values<'v>(&'v self, domain: &'v str, ptr_name: &'v str) -> Values<'v> {
        // RFC 7208 §4.3.
        let localpart = if self.query.localpart.is_empty() { "postmaster" } else { self.query.localpart };
        Values {
            localpart,
            sender_domain: self.query.domain,
            domain,
            ip: self.ip,
            ptr_name,
            helo: self.query.helo,
            receiver: self.query.receiver,
            now: self.query.now.secs(),
        }
    }

    /// RFC 7208 §6.2. None if anything is wrong with it.
    async fn explain(mut self, exp: &MacroString, domain: &str) -> Option<String> {
        let name = self.name(exp, domain).await.ok()?;
        if !is_name(&name) {
            return None;
        }
        let texts = self.lookup.txt(&name).await.ok()?.records;
        let [text] = texts.as_slice() else { return None };
        let text = MacroString::parse(std::str::from_utf8(text).ok()?, true).ok()?;
        let ptr_name = self.ptr_name_for(&text, domain).await.ok()?;
        let explanation: String = text.expand(&self.values(domain, &ptr_name)).chars().filter(|c| matches!(c, ' '..='~')).collect();
        Some(explanation.chars().take(MAX_EXPLANATION).collect())
    }
}

/// Whether DNS can be asked for it, RFC 7208 §4.3: labels of 1 to 63 octets, in ASCII.
fn is_name(name: &str) -> bool {
    name.is_ascii() && name.len() <= 253 && name.split('.').all(|label| !label.is_empty() && label.len() <= 63)
}

/// Whether a name is another or below it.
fn is_below(name: &str, parent: &str) -> bool {
    let (name, parent) = (name.to_ascii_lowercase(), parent.to_ascii_lowercase());
    name.strip_suffix(&parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether an address is in a network of the same family.
fn within(ip: IpAddr, network: IpAddr, length: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(u32::from(32_u8.saturating_sub(length))).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(u32::from(128_u8.saturating_sub(length))).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}
