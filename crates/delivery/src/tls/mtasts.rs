//! MTA-STS policies of recipient domains: kept, confirmed, fetched. RFC 8461 §5.
//!
//! A policy that was had once is used until it ends, whatever happens to its record or its host: an attacker who suppresses them
//! gains nothing, RFC 8461 §10.2. Only a domain that never had one, or whose policy is over, is without when its policy can't be had.

use super::{ResultLabels, TlsPolicies};
use mox_base::{Domain, LookupError, Timestamp};
use mox_mailauth::mtasts::{self, Mode, Policy, RecordError};
use mox_mailauth::tlsrpt::ResultType;
use mox_net::tls::Fault;
use mox_store::tls::KeptPolicy;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// For the record and the policy of a domain that we know nothing of.
const FIRST: Duration = Duration::from_secs(60);
/// For confirming what we have.
const AGAIN: Duration = Duration::from_secs(30);
/// So long nothing is fetched again after a fetch failed.
const BACKOFF: Duration = Duration::from_secs(300);
/// How often all policies are looked through.
const REFRESH_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Policies confirmed within this time are left alone.
const FRESH: Duration = Duration::from_secs(12 * 3600);
/// Over this time refreshes are spread.
const REFRESH_OVER: Duration = Duration::from_secs(3 * 3600);
/// How exactly the last use is remembered.
const USE_NOTED_EVERY: Duration = Duration::from_secs(3600);

/// Why there is no policy behind HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The host doesn't exist, or doesn't have it.
    #[error("no policy served")]
    NoPolicy,
    /// The host's certificate isn't valid.
    #[error("certificate of policy host: {} {}", .0.result, .0.reason)]
    Certificate(Fault),
    /// More than a policy may have.
    #[error("policy too large")]
    TooLarge,
    /// Anything else.
    #[error("cannot fetch policy: {0}")]
    Other(String),
}

/// What [`PolicySource::fetch`] returns.
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, FetchError>> + Send + 'a>>;

/// Fetches `https://mta-sts.<domain>/.well-known/mta-sts.txt`, RFC 8461 §3.3: certificate verified, no redirects, status 200.
pub trait PolicySource: Send + Sync + fmt::Debug {
    /// The policy's text.
    fn fetch<'a>(&'a self, domain: &'a Domain) -> FetchFuture<'a>;
}

/// Something wrong with a domain's MTA-STS, in the words of TLS reports.
pub type StsFault = Fault;

/// What is known of a domain's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StsPolicy {
    /// The policy, also one with mode `none`.
    pub policy: Option<Policy>,
    /// What is wrong, for reports; also beside a policy that is still used.
    pub fault: Option<StsFault>,
}

impl StsPolicy {
    const fn good(policy: Policy) -> Self {
        Self { policy: Some(policy), fault: None }
    }

    fn without(fault: StsFault) -> Self {
        Self { policy: None, fault: Some(fault) }
    }

    fn still(policy: Policy, fault: &StsFault) -> Self {
        let reason = if fault.reason.is_empty() { fault.result.word() } else { &fault.reason };
        let fault = Fault { result: fault.result.clone(), reason: format!("{reason}+fallback-to-cached-policy") };
        Self { policy: Some(policy), fault: Some(fault) }
    }

    /// The policy unless its mode is `none`.
    pub fn in_effect(&self) -> Option<&Policy> {
        self.policy.as_ref().filter(|p| p.mode != Mode::None)
    }
}

/// Why it isn't known whether a domain has a policy.
#[derive(Debug, thiserror::Error)]
pub enum StsError {
    /// DNS doesn't tell.
    #[error("looking up MTA-STS record: {0}")]
    Dns(LookupError),
    /// Our cache can't be read.
    #[error("MTA-STS cache: {0}")]
    Store(#[from] mox_store::Error),
}

/// What came of fetching.
enum Fetched {
    Policy(String, Policy),
    Not(StsFault),
}

impl TlsPolicies {
    /// The policy of a recipient domain.
    ///
    /// # Errors
    /// See [`StsError`]: then mail has to wait.
    pub async fn sts(&self, domain: &Domain) -> Result<StsPolicy, StsError> {
        let now = self.ports.clock.now();
        let kept = match self.store.policy(domain.ascii(), now).await {
            Ok(kept) => kept,
            Err(e) => {
                self.count_cached("error");
                return Err(e.into());
            }
        };
        let Some((kept, parsed)) = kept.map(|kept| (Policy::parse(kept.policy.as_bytes()), kept)).map(|(p, k)| (k, p)) else {
            self.count_cached("notfound");
            return self.first(domain, now).await;
        };
        if kept.backoff {
            self.count_cached("backoff");
            return Ok(StsPolicy::without(fault(ResultType::StsPolicyFetchError, "back-off-after-recent-fetch-error")));
        }
        let Ok(policy) = parsed else { return self.first(domain, now).await };
        self.count_cached("ok");
        if now.since(kept.used) >= USE_NOTED_EVERY {
            self.store.policy_used(domain.ascii(), now).await?;
        }
        let record = match self.record(domain, AGAIN).await {
            Ok(record) => record,
            Err(e) => return Ok(StsPolicy::still(policy, &record_fault(&e))),
        };
        if record.id == kept.record_id {
            return Ok(StsPolicy::good(policy));
        }
        match self.fetch(domain, AGAIN).await {
            Fetched::Policy(text, new) => {
                let seen = kept.updated;
                let fresh = fresh(domain, &record.id, text, &new, now);
                self.store.keep_policy(KeptPolicy { inserted: kept.inserted, ..fresh }, Some(seen)).await?;
                Ok(StsPolicy::good(new))
            }
            Fetched::Not(fault) => Ok(StsPolicy::still(policy, &fault)),
        }
    }

    /// Of a domain whose policy we don't have.
    async fn first(&self, domain: &Domain, now: Timestamp) -> Result<StsPolicy, StsError> {
        let record = match self.record(domain, FIRST).await {
            Ok(record) => record,
            Err(RecordError::Absent) => return Ok(StsPolicy::default()),
            // RFC 8461 §5.1 has senders go on without; but an error that is known to be one may be an attack.
            Err(RecordError::Dns(e)) => return Err(StsError::Dns(e)),
            Err(e) => return Ok(StsPolicy::without(record_fault(&e))),
        };
        match self.fetch(domain, FIRST).await {
            Fetched::Policy(text, policy) => {
                self.store.keep_policy(fresh(domain, &record.id, text, &policy, now), None).await?;
                Ok(StsPolicy::good(policy))
            }
            Fetched::Not(fault) => {
                let none = Policy { mode: Mode::None, max_age: BACKOFF, mx: Vec::new(), extensions: Vec::new() };
                let entry = KeptPolicy { backoff: true, ..fresh(domain, &record.id, none.to_string(), &none, now) };
                self.store.keep_policy(entry, None).await?;
                Ok(StsPolicy::without(fault))
            }
        }
    }

    async fn record(&self, domain: &Domain, patience: Duration) -> Result<mtasts::Record, RecordError> {
        let looking = mtasts::lookup(&*self.ports.lookup, domain);
        let found = tokio::time::timeout(patience, looking).await;
        let found = found.unwrap_or_else(|_| Err(RecordError::Dns(LookupError::timeout())));
        if matches!(found, Err(RecordError::Dns(_))) {
            self.count_get("lookuperror", 0.0);
        }
        found
    }

    async fn fetch(&self, domain: &Domain, patience: Duration) -> Fetched {
        let start = self.ports.clock.now();
        let fetching = tokio::time::timeout(patience, self.ports.source.fetch(domain));
        let fetched = fetching.await.unwrap_or_else(|_| Err(FetchError::Other("timeout".to_owned())));
        let took = self.ports.clock.now().since(start).as_secs_f64();
        let text = match fetched {
            Ok(text) => text,
            Err(e) => {
                self.count_get("fetcherror", took);
                tracing::info!(domain = domain.ascii(), error = %e, "no MTA-STS policy behind the record");
                return Fetched::Not(fetch_fault(&e));
            }
        };
        let parsed = Policy::parse(&text).map(|policy| (String::from_utf8_lossy(&text).into_owned(), policy));
        match parsed {
            Ok((text, policy)) => {
                self.count_get("ok", took);
                Fetched::Policy(text, policy)
            }
            Err(e) => {
                self.count_get("fetcherror", took);
                tracing::info!(domain = domain.ascii(), error = %e, "MTA-STS policy can't be understood");
                Fetched::Not(fault(ResultType::StsPolicyInvalid, "malformed-mta-sts-policy"))
            }
        }
    }

    fn count_get(&self, result: &'static str, seconds: f64) {
        self.metrics.get.get_or_create(&ResultLabels { result }).observe(seconds);
    }

    fn count_cached(&self, result: &'static str) {
        self.metrics.get_cached.get_or_create(&ResultLabels { result }).inc();
    }

    /// Refreshes policies once a day, from now on, until stopped.
    pub async fn run_refresh(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.refresh_all(&stop) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REFRESH_EVERY) => {}
            }
        }
    }

    /// Confirms all policies that are due, spread over some hours, in random order.
    async fn refresh_all(&self, stop: &CancellationToken) {
        let now = self.ports.clock.now();
        let mut due = match self.store.policies_to_refresh(now, now.before(FRESH)).await {
            Ok(due) => due,
            Err(e) => return tracing::error!(error = %e, "looking for MTA-STS policies to refresh"),
        };
        due.sort_by_cached_key(|_| self.ports.random.u64());
        let apart = REFRESH_OVER / u32::try_from(due.len()).unwrap_or(u32::MAX).max(1);
        for (n, kept) in due.into_iter().enumerate() {
            if n > 0 {
                // Between half and one and a half of the share.
                let jitter = apart.mul_f64(0.5 + unit(self.ports.random.u64()));
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(jitter) => {}
                }
            }
            let domain = kept.domain.clone();
            match tokio::time::timeout(FIRST, self.refresh(kept)).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::error!(domain, error = %e, "refreshing MTA-STS policy"),
                Err(_) => tracing::info!(domain, "refreshing MTA-STS policy took too long"),
            }
        }
    }

    /// Confirms one policy, so that it doesn't end while it is still published. RFC 8461 §5.1.
    async fn refresh(&self, kept: KeptPolicy) -> Result<(), mox_store::Error> {
        let now = self.ports.clock.now();
        let Ok(domain) = Domain::parse_lax(&kept.domain) else {
            return self.store.remove_policy(&kept.domain, kept.updated).await;
        };
        let old = Policy::parse(kept.policy.as_bytes()).ok();
        let record = match self.record(&domain, AGAIN).await {
            Ok(record) if record.id == kept.record_id && !kept.backoff => {
                let max_age = old.map_or(BACKOFF, |p| p.max_age);
                let seen = kept.updated;
                return self.store.keep_policy(KeptPolicy { valid_end: now.after(max_age), updated: now, ..kept }, Some(seen)).await;
            }
            Ok(record) => Some(record),
            // RFC 8461 §8.3: a domain that ends its policy says `none` first, and then removes its record.
            Err(RecordError::Absent) if old.as_ref().is_none_or(|p| p.mode == Mode::None) => {
                return self.store.remove_policy(&kept.domain, kept.updated).await;
            }
            Err(_) => None,
        };
        if let Fetched::Policy(text, policy) = self.fetch(&domain, AGAIN).await {
            let id = record.map_or_else(|| kept.record_id.clone(), |r| r.id);
            let entry = KeptPolicy { inserted: kept.inserted, used: kept.used, ..fresh(&domain, &id, text, &policy, now) };
            self.store.keep_policy(entry, Some(kept.updated)).await?;
        }
        Ok(())
    }
}

/// A number from 0 to 1.
fn unit(random: u64) -> f64 {
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

fn fresh(domain: &Domain, id: &str, text: String, policy: &Policy, now: Timestamp) -> KeptPolicy {
    KeptPolicy {
        domain: domain.ascii().to_owned(),
        inserted: now,
        valid_end: now.after(policy.max_age),
        updated: now,
        used: now,
        backoff: false,
        record_id: id.to_owned(),
        policy: text,
    }
}

fn fault(result: ResultType, reason: impl Into<String>) -> StsFault {
    Fault { result, reason: reason.into() }
}

fn record_fault(e: &RecordError) -> StsFault {
    let result = match e {
        RecordError::Multiple | RecordError::Syntax(_) => ResultType::StsPolicyInvalid,
        RecordError::Absent | RecordError::Dns(_) => ResultType::StsPolicyFetchError,
    };
    fault(result, e.reason())
}

fn fetch_fault(e: &FetchError) -> StsFault {
    match e {
        FetchError::NoPolicy => fault(ResultType::StsPolicyFetchError, "no-policy-served"),
        FetchError::TooLarge => fault(ResultType::StsPolicyFetchError, "policy-too-large"),
        FetchError::Other(_) => fault(ResultType::StsPolicyFetchError, "cannot-fetch-policy"),
        FetchError::Certificate(f) => {
            let reason = if f.reason.is_empty() { f.result.word().to_owned() } else { format!("{}+{}", f.result, f.reason) };
            fault(ResultType::StsWebpkiInvalid, reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TlsMetrics, TlsPorts};
    use super::*;
    use mox_store::{Settings, Store};
    use mox_testkit::{SeededRandom, VirtualClock, Zone};
    use std::sync::{Arc, Mutex};

    /// Serves what it is told to, and counts.
    #[derive(Debug)]
    struct Source(Mutex<(Result<Vec<u8>, FetchError>, usize)>);

    impl PolicySource for Source {
        fn fetch<'a>(&'a self, _: &'a Domain) -> FetchFuture<'a> {
            let mut state = self.0.lock().unwrap();
            state.1 += 1;
            let answer = state.0.clone();
            Box::pin(std::future::ready(answer))
        }
    }

    #[derive(Debug)]
    struct Changing(Mutex<Zone>);

    impl mox_base::Lookup for Changing {
        fn query<'a>(&'a self, name: &'a str, kind: mox_base::RecordKind) -> mox_base::LookupFuture<'a> {
            let zone = self.0.lock().unwrap().clone();
            let name = name.to_owned();
            Box::pin(async move { zone.query(&name, kind).await })
        }
    }

    struct World {
        policies: TlsPolicies,
        source: Arc<Source>,
        zone: Arc<Changing>,
        clock: VirtualClock,
        _folder: tempfile::TempDir,
    }

    const ENFORCE: &[u8] = b"version: STSv1\nmode: enforce\nmx: mx.a.example\nmax_age: 86400\n";
    const TESTING: &[u8] = b"version: STSv1\nmode: testing\nmx: mx.a.example\nmax_age: 86400\n";
    const NONE: &[u8] = b"version: STSv1\nmode: none\nmax_age: 86400\n";

    fn record(id: &str) -> Zone {
        Zone::new().txt("_mta-sts.a.example", &format!("v=STSv1; id={id}"))
    }

    async fn world(zone: Zone, policy: Result<&[u8], FetchError>) -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = VirtualClock::default();
        let random: Arc<dyn mox_base::Random> = Arc::new(SeededRandom::default());
        let store = Store::open(Settings::sqlite(folder.path()), Arc::new(clock.clone()), Arc::clone(&random)).await.unwrap();
        let source = Arc::new(Source(Mutex::new((policy.map(<[u8]>::to_vec), 0))));
        let zone = Arc::new(Changing(Mutex::new(zone)));
        let ports = TlsPorts {
            clock: Arc::new(clock.clone()),
            random,
            lookup: Arc::clone(&zone) as Arc<dyn mox_base::Lookup>,
            source: Arc::clone(&source) as Arc<dyn PolicySource>,
        };
        let tls = mox_store::tls::TlsStore::open(&store).await.unwrap();
        World { policies: TlsPolicies::new(tls, ports, true, TlsMetrics::default()), source, zone, clock, _folder: folder }
    }

    impl World {
        async fn show(&self) -> String {
            match self.policies.sts(&"a.example".parse().unwrap()).await {
                Err(e) => e.to_string(),
                Ok(sts) => {
                    let mode = sts.policy.map_or("-", |p| p.mode.word());
                    let fault = sts.fault.map(|f| format!(" {} {}", f.result, f.reason)).unwrap_or_default();
                    format!("{mode}{fault}")
                }
            }
        }

        fn serves(&self, policy: Result<&[u8], FetchError>) {
            self.source.0.lock().unwrap().0 = policy.map(<[u8]>::to_vec);
        }

        fn fetches(&self) -> usize {
            self.source.0.lock().unwrap().1
        }

        fn dns(&self, zone: Zone) {
            *self.zone.0.lock().unwrap() = zone;
        }
    }

    #[tokio::test]
    async fn a_policy_is_fetched_once_and_again_when_its_id_changes() {
        let w = world(record("1"), Ok(ENFORCE)).await;
        assert_eq!(w.show().await, "enforce");
        assert_eq!(w.show().await, "enforce");
        assert_eq!(w.fetches(), 1);
        w.serves(Ok(TESTING));
        assert_eq!(w.show().await, "enforce", "same id");
        w.dns(record("2"));
        assert_eq!(w.show().await, "testing");
        assert_eq!(w.show().await, "testing");
        assert_eq!(w.fetches(), 2);
    }

    #[tokio::test]
    async fn whoever_suppresses_record_or_policy_gains_nothing() {
        let w = world(record("1"), Ok(ENFORCE)).await;
        assert_eq!(w.show().await, "enforce");
        for (zone, want) in [
            (Zone::new(), "enforce sts-policy-fetch-error no-mta-sts-dns-txt-record+fallback-to-cached-policy"),
            (
                record("1").temporary("_mta-sts.a.example", None),
                "enforce sts-policy-fetch-error mta-sts-dns-lookup+fallback-to-cached-policy",
            ),
            (record("1").bogus("_mta-sts.a.example", None), "enforce sts-policy-fetch-error mta-sts-dns-lookup+fallback-to-cached-policy"),
            (
                record("1").txt("_mta-sts.a.example", "v=STSv1; id=2"),
                "enforce sts-policy-invalid multiple-mta-sts-records+fallback-to-cached-policy",
            ),
        ] {
            w.dns(zone);
            assert_eq!(w.show().await, want);
        }
        w.dns(record("2"));
        let bad_cert = FetchError::Certificate(Fault { result: ResultType::CertificateExpired, reason: String::new() });
        for (served, want) in [
            (Err(FetchError::NoPolicy), "enforce sts-policy-fetch-error no-policy-served+fallback-to-cached-policy"),
            (Err(bad_cert), "enforce sts-webpki-invalid certificate-expired+fallback-to-cached-policy"),
            (Ok(b"nonsense".as_slice()), "enforce sts-policy-invalid malformed-mta-sts-policy+fallback-to-cached-policy"),
        ] {
            w.serves(served);
            assert_eq!(w.show().await, want);
        }
        // Until it is over.
        w.clock.advance(Duration::from_secs(86400));
        assert_eq!(w.show().await, "- sts-policy-invalid malformed-mta-sts-policy");
    }

    #[tokio::test]
    async fn without_policy() {
        for (zone, served, want, again) in [
            (Zone::new(), Ok(ENFORCE), "-", "-"),
            (record("1"), Ok(NONE), "none", "none"),
            (
                record("1"),
                Err(FetchError::NoPolicy),
                "- sts-policy-fetch-error no-policy-served",
                "- sts-policy-fetch-error back-off-after-recent-fetch-error",
            ),
            (
                record("1"),
                Ok(b"x".as_slice()),
                "- sts-policy-invalid malformed-mta-sts-policy",
                "- sts-policy-fetch-error back-off-after-recent-fetch-error",
            ),
            (
                Zone::new().txt("_mta-sts.a.example", "v=STSv1; x"),
                Ok(ENFORCE),
                "- sts-policy-invalid malformed-mta-sts-record",
                "- sts-policy-invalid malformed-mta-sts-record",
            ),
            (
                Zone::new().temporary("_mta-sts.a.example", None),
                Ok(ENFORCE),
                "looking up MTA-STS record: temporary DNS failure: planned, for _mta-sts.a.example",
                "looking up MTA-STS record: temporary DNS failure: planned, for _mta-sts.a.example",
            ),
        ] {
            let w = world(zone, served).await;
            assert_eq!(w.show().await, want);
            assert_eq!(w.show().await, again);
        }
    }

    #[tokio::test]
    async fn after_a_failed_fetch_it_is_tried_again_after_a_while() {
        let w = world(record("1"), Err(FetchError::Other("refused".to_owned()))).await;
        assert_eq!(w.show().await, "- sts-policy-fetch-error cannot-fetch-policy");
        w.serves(Ok(ENFORCE));
        assert_eq!(w.show().await, "- sts-policy-fetch-error back-off-after-recent-fetch-error");
        w.clock.advance(BACKOFF);
        assert_eq!(w.show().await, "enforce");
    }

    #[tokio::test(start_paused = true)]
    async fn refresh_keeps_policies_alive_and_lets_ended_ones_go() {
        let w = world(record("1"), Ok(ENFORCE)).await;
        assert_eq!(w.show().await, "enforce");
        let stop = CancellationToken::new();
        for _ in 0..3 {
            w.clock.advance(Duration::from_secs(20 * 3600));
            w.policies.refresh_all(&stop).await;
            assert_eq!(w.show().await, "enforce", "confirmed");
        }
        assert_eq!(w.fetches(), 1, "same id, nothing fetched");
        // A new policy is fetched before anybody needs it.
        w.dns(record("2"));
        w.serves(Ok(NONE));
        w.clock.advance(Duration::from_secs(20 * 3600));
        w.policies.refresh_all(&stop).await;
        assert_eq!(w.fetches(), 2);
        assert_eq!(w.show().await, "none");
        w.dns(Zone::new());
        w.clock.advance(Duration::from_secs(20 * 3600));
        w.policies.refresh_all(&stop).await;
        assert!(w.policies.store().policies().await.unwrap().is_empty());
    }
}
