//! Judging a server's certificate by what its domain has published: DANE (RFC 7672) and PKIX for MTA-STS (RFC 8461).
//!
//! A [`Check`] belongs to one connection. What it finds is kept in [`Findings`], also where a fault is only to be noticed, as
//! policies in testing and messages with `TLS-Required: No` want: the handshake then goes on, and the fault can be reported.

use super::info::fault_of;
use super::signature::{Signatures, spki, verify_signatures};
use mox_base::{Domain, Tlsa};
use mox_mailauth::dane;
use mox_mailauth::tlsrpt::ResultType;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, OtherError, RootCertStore};
use std::sync::{Arc, Mutex, PoisonError};

/// What follows from a certificate that isn't as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Severity {
    /// It isn't looked at.
    #[default]
    Ignore,
    /// It is noted.
    Note,
    /// The handshake fails.
    Refuse,
}

/// What a server's certificate has to satisfy.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// A chain to one of our roots, and the name.
    pub pkix: Severity,
    /// The name, where it isn't the one that is asked for.
    pub pkix_name: Option<Domain>,
    /// TLSA records.
    pub dane: Option<DaneCheck>,
}

/// Any of these records must match.
#[derive(Clone, Debug)]
pub struct DaneCheck {
    /// The records. All four usages are understood; SMTP wants only 2 and 3 to be given.
    pub records: Vec<Tlsa>,
    /// Names, of which the certificate must have one if it is verified by a trust anchor.
    pub names: Vec<Domain>,
    /// What follows if none matches.
    pub severity: Severity,
}

/// What is wrong with a certificate or a handshake, in the words of TLS reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind, RFC 8460 §4.3.
    pub result: ResultType,
    /// More precisely; may be empty.
    pub reason: String,
}

/// What a [`Check`] found, once there was a certificate. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Mutex<Found>>);

#[derive(Clone, Debug, Default)]
struct Found {
    pkix: Option<Result<(), Fault>>,
    dane: Option<Result<Tlsa, Fault>>,
}

impl Findings {
    /// Of PKIX, if it was looked at.
    pub fn pkix(&self) -> Option<Result<(), Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pkix.clone()
    }

    /// Of DANE, if it was looked at: the record that matched.
    pub fn dane(&self) -> Option<Result<Tlsa, Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).dane.clone()
    }
}

/// No TLSA record matches.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no TLSA record matches the certificate")]
pub struct NoMatch;

/// The verifier of one connection.
#[derive(Debug)]
pub(super) struct Checking {
    check: Check,
    roots: Arc<RootCertStore>,
    signatures: Signatures,
    findings: Findings,
}

impl Checking {
    pub(super) fn new(check: Check, roots: Arc<RootCertStore>, findings: Findings) -> Self {
        Self { check, roots, signatures: Signatures::new(), findings }
    }

    fn pkix(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>], name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, self.signatures.algorithms().all)?;
        match &self.check.pkix_name {
            Some(name) => any_name(std::slice::from_ref(name), &parsed),
            None => verify_server_name(&parsed, name),
        }
    }

    /// The first record that is satisfied; else what is wrong with the one that came closest.
    fn dane(&self, dane: &DaneCheck, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Tlsa, Error> {
        let mut closest = Error::from(CertificateError::Other(OtherError(Arc::new(NoMatch))));
        for record in &dane.records {
            match self.record(dane, record, leaf, chain, now) {
                Ok(true) => return Ok(record.clone()),
                Ok(false) => {}
                Err(e) => closest = e,
            }
        }
        Err(closest)
    }

    /// Whether a record is satisfied; an error when it matches but the rest isn't right.
    fn record(
        &self,
        dane: &DaneCheck,
        record: &Tlsa,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<bool, Error> {
        let matches = |cert: &CertificateDer<'_>| spki(cert).is_ok_and(|key| dane::matches(record, cert, &key));
        match record.usage {
            // RFC 7671 §5.1: names and dates don't matter.
            dane::DANE_EE => Ok(matches(leaf)),
            dane::DANE_TA => self.trust_anchor(dane, record, leaf, chain, now),
            dane::PKIX_EE => {
                if !matches(leaf) {
                    return Ok(false);
                }
                self.pkix_for_any(dane, leaf, chain, now).map(|()| true)
            }
            dane::PKIX_TA => {
                if !chain.iter().any(matches) {
                    return Ok(false);
                }
                self.pkix_for_any(dane, leaf, chain, now).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// RFC 7671 §5.2: the leaf chains to the certificate that matches, which needn't be sent if the record has it whole.
    fn trust_anchor(
        &self,
        dane: &DaneCheck,
        record: &Tlsa,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<bool, Error> {
        let matches = |cert: &&CertificateDer<'_>| spki(cert).is_ok_and(|key| dane::matches(record, cert, &key));
        let whole = (record.selector == 0 && record.matching == 0).then(|| CertificateDer::from(record.data.clone()));
        let Some(anchor) = std::iter::once(leaf).chain(chain).find(matches).or(whole.as_ref()) else { return Ok(false) };
        let mut roots = RootCertStore::empty();
        roots.add(anchor.clone())?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, chain, now, self.signatures.algorithms().all)?;
        any_name(&dane.names, &parsed)?;
        Ok(true)
    }

    fn pkix_for_any(&self, dane: &DaneCheck, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, self.signatures.algorithms().all)?;
        any_name(&dane.names, &parsed)
    }
}

/// RFC 7672 §3.2.3: one of the names is enough.
fn any_name(names: &[Domain], parsed: &ParsedCertificate<'_>) -> Result<(), Error> {
    let mut result = Err(CertificateError::NotValidForName.into());
    for name in names {
        let Ok(name) = ServerName::try_from(name.ascii()) else { continue };
        match verify_server_name(parsed, &name) {
            Ok(()) => return Ok(()),
            Err(e) => result = Err(e),
        }
    }
    result
}

impl ServerCertVerifier for Checking {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut refused = None;
        let mut found = Found::default();
        if let Some(dane) = self.check.dane.as_ref().filter(|d| d.severity != Severity::Ignore) {
            let result = self.dane(dane, leaf, chain, now);
            found.dane = Some(result.clone().map_err(|e| fault_of(&e)));
            refused = result.err().filter(|_| dane.severity == Severity::Refuse);
        }
        if self.check.pkix != Severity::Ignore {
            let result = self.pkix(leaf, chain, name, now);
            let no_roots = self.roots.is_empty();
            found.pkix = Some(result.clone().map_err(|e| {
                let fault = fault_of(&e);
                if no_roots { Fault { reason: "no-system-roots".to_owned(), ..fault } } else { fault }
            }));
            refused = refused.or_else(|| result.err().filter(|_| self.check.pkix == Severity::Refuse));
        }
        *self.findings.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
        refused.map_or_else(|| Ok(ServerCertVerified::assertion()), Err)
    }

    verify_signatures!();
}
