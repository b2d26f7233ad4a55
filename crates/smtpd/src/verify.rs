//! Whom an incoming message is from: SPF of its envelope, its signatures, DMARC of its author.

use crate::connection::Connection;
use crate::dns::iprev;
use crate::local_dns::LocalDns;
use mox_base::{Address, Domain, Host, Lookup, Path};
use mox_delivery::inbound::Authentication;
use mox_mailauth::ReadMessage;
use mox_mailauth::arc::ArcOutcome;
use mox_mailauth::dkim::{DkimOutcome, DkimSettings};
use mox_mailauth::dmarc::{self, Findings};
use mox_mailauth::results::{arc_method, dkim_methods, spf_method};
use mox_mailauth::spf::{self, SpfOutcome, SpfResult, SpfSession, received_spf};
use mox_store::directory::Directory;
use std::time::Duration;
use tokio::time::timeout;

/// How long checks may take, in two steps: what stands by itself, all at once; and DMARC, which builds on that. Who makes the first
/// step slow, by a name server that doesn't answer for a signature's key, must not spoil the second.
const PATIENCE: Patience = Patience { first: Duration::from_secs(45), dmarc: Duration::from_secs(15) };

/// In localserve, DNS may not be there at all, and somebody waits who is trying something out.
const LOCAL_PATIENCE: Patience = Patience { first: Duration::from_secs(3), dmarc: Duration::from_secs(2) };

struct Patience {
    first: Duration,
    dmarc: Duration,
}

/// What is checked.
pub(crate) struct Subject<'a> {
    pub(crate) mail_from: Option<&'a Path>,
    pub(crate) helo: &'a Host,
    pub(crate) from: Option<&'a Address>,
    pub(crate) message: Option<&'a ReadMessage>,
    /// SPF, if it was checked before.
    pub(crate) spf: Option<SpfOutcome>,
    pub(crate) directory: &'a Directory,
    pub(crate) smtputf8: bool,
}

impl Connection {
    fn patience(&self) -> Patience {
        if self.service.settings.localserve { LOCAL_PATIENCE } else { PATIENCE }
    }

    /// DNS for these checks.
    fn dns<'a>(&'a self, directory: &'a Directory) -> LocalDns<'a> {
        LocalDns {
            real: &*self.service.lookup,
            directory,
            selectors: &self.service.selectors,
            loopback: self.remote_ip().to_canonical().is_loopback(),
        }
    }

    fn spf_session<'a>(&'a self, mail_from: Option<&'a Path>, helo: &'a Host) -> SpfSession<'a> {
        SpfSession {
            remote_ip: self.remote_ip(),
            mail_from,
            helo,
            receiver: &self.listener.settings.hostname,
            now: self.service.clock.now(),
        }
    }

    /// SPF of an envelope.
    pub(crate) async fn check_spf(&self, mail_from: Option<&Path>, helo: &Host, directory: &Directory) -> SpfOutcome {
        let local = self.dns(directory);
        let lookup: &dyn Lookup = if self.service.settings.localserve { &local } else { &*self.service.lookup };
        let session = self.spf_session(mail_from, helo);
        let began = self.service.clock.monotonic();
        let outcome = match timeout(self.patience().first, spf::verify(lookup, &session)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let host = mail_from.map_or(helo, |path| &path.host);
                let identity = if mail_from.is_some() { spf::Identity::MailFrom } else { spf::Identity::Helo };
                SpfOutcome {
                    result: SpfResult::Temperror,
                    identity,
                    domain: host.domain().cloned(),
                    mechanism: None,
                    problem: Some("timeout".to_owned()),
                    explanation: None,
                    authentic: false,
                }
            }
        };
        self.service.metrics.spf(outcome.result.name(), self.service.clock.monotonic().saturating_sub(began));
        if let Some(explanation) = &outcome.explanation {
            tracing::info!(cid = self.cid, "the remote domain explains that spf fails: {explanation}");
        }
        outcome
    }

    /// Checks a message. What comes of it, and the field `Received-SPF`.
    pub(crate) async fn authenticate(&mut self, subject: Subject<'_>) -> (Authentication, String) {
        let known = self.iprev.take();
        let this = &*self;
        let local = this.dns(subject.directory);
        let lookup: &dyn Lookup = if this.service.settings.localserve { &local } else { &*this.service.lookup };
        let reverse = async {
            match known {
                Some(iprev) => iprev,
                None => {
                    let began = this.service.clock.monotonic();
                    let found = iprev(&*this.service.lookup, this.remote_ip(), this.patience().first).await;
                    this.service.metrics.iprev(found.result.name(), this.service.clock.monotonic().saturating_sub(began));
                    found
                }
            }
        };
        let envelope = async {
            match subject.spf.clone() {
                Some(spf) => spf,
                None => this.check_spf(subject.mail_from, subject.helo, subject.directory).await,
            }
        };
        let (reverse, spf, (dkim, dkim_results), arc) = tokio::join!(
            reverse,
            envelope,
            this.check_signatures(lookup, subject.message, subject.smtputf8),
            this.check_seals(lookup, subject.message)
        );
        let dmarc = match subject.from {
            None => None,
            Some(from) => Some(this.check_dmarc(lookup, &Findings { from: &from.domain, spf: Some(&spf), dkim: &dkim }).await),
        };
        let field = received_spf(&spf, &this.spf_session(subject.mail_from, subject.helo), subject.smtputf8);
        let mut methods = vec![this.iprev_method(&reverse)];
        methods.extend(dkim_results);
        methods.push(spf_method(&spf, subject.smtputf8));
        methods.extend(arc.as_ref().and_then(|arc| arc_method(arc, this.remote_ip(), subject.smtputf8)));
        self.iprev = Some(reverse);
        (Authentication { methods, spf: Some(spf), dkim, arc, dmarc }, field)
    }

    /// What earlier handlers found, if any sealed the message.
    async fn check_seals(&self, lookup: &dyn Lookup, message: Option<&ReadMessage>) -> Option<ArcOutcome> {
        let message = message.filter(|message| message.is_sealed())?;
        let verified = timeout(self.patience().first, message.verify_arc(lookup)).await;
        Some(verified.unwrap_or_else(|_| message.unverified_arc()))
    }

    async fn check_signatures(
        &self,
        lookup: &dyn Lookup,
        message: Option<&ReadMessage>,
        smtputf8: bool,
    ) -> (Vec<DkimOutcome>, Vec<mox_message::compose::AuthMethod>) {
        let Some(message) = message else { return (Vec::new(), dkim_methods(Ok(&[]), smtputf8)) };
        let localhost = "localhost".parse::<Domain>().ok().filter(|_| self.service.settings.localserve);
        let settings = DkimSettings { now: self.service.clock.now(), accept_top_level: localhost.as_ref() };
        let began = self.service.clock.monotonic();
        let verified = match timeout(self.patience().first, message.verify_dkim(lookup, &settings)).await {
            Ok(verified) => verified,
            Err(_) => Ok(message.unverified_dkim()),
        };
        let took = self.service.clock.monotonic().saturating_sub(began);
        for outcome in verified.iter().flatten() {
            let algorithm = outcome.signature.as_ref().map_or("", |s| match s.algorithm.as_str() {
                "rsa-sha256" => "rsasha256",
                "ed25519-sha256" => "ed25519sha256",
                _ => "other",
            });
            self.service.metrics.dkim(algorithm, outcome.status.name(), took);
        }
        let methods = dkim_methods(verified.as_deref().map_err(|problem| *problem), smtputf8);
        (verified.unwrap_or_default(), methods)
    }

    async fn check_dmarc(&self, lookup: &dyn Lookup, findings: &Findings<'_>) -> dmarc::DmarcOutcome {
        let began = self.service.clock.monotonic();
        let outcome = match timeout(self.patience().dmarc, dmarc::verify(lookup, findings, &*self.service.random)).await {
            Ok(outcome) => outcome,
            Err(_) => dmarc::timed_out(findings.from),
        };
        let reject = outcome.policy == dmarc::Policy::Reject;
        self.service.metrics.dmarc(outcome.result.name(), reject, outcome.apply, self.service.clock.monotonic().saturating_sub(began));
        outcome
    }
}
