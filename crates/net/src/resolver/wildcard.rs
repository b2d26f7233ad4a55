//! Answers made from a wildcard, RFC 4035 §5.3.4: what hickory leaves out.
//!
//! The signature of such an answer is the wildcard's. That it was right to use it takes a proof: the name itself doesn't exist, nor
//! anything between it and the wildcard. hickory takes an NSEC record for that proof only if it happens to cover the wildcard,
//! too, and so calls most such answers bogus. Here the same answer is asked for again and the proof looked at by itself; all
//! signatures have been verified by hickory. What stays bogus is told with a reason, RFC 8914, as far as the answer shows one.

use super::ResolverLimits;
use super::record::{record, record_type};
use super::system::System;
use super::validating::options;
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::{Time as _, TokioRuntimeProvider, TokioTime};
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::{DnsRequestOptions, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{self, Name, RData, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use mox_base::{Answer, ExtendedError, LookupError, Record, RecordKind};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Asks without hickory's last word.
pub(super) struct Wildcards {
    handle: DnssecDnsHandle<NameServerPool<TokioRuntimeProvider>>,
}

impl fmt::Debug for Wildcards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wildcards").finish_non_exhaustive()
    }
}

impl Wildcards {
    /// With the system's name servers.
    ///
    /// # Errors
    /// When hickory refuses its configuration.
    pub(super) fn new(system: &System, limits: &ResolverLimits) -> Result<Self, LookupError> {
        let tls = TlsConfig::new().map_err(|e| LookupError::Temporary(e.to_string()))?;
        let context = Arc::new(PoolContext::new(options(system, limits, true), tls));
        let pool = NameServerPool::from_config(system.config.name_servers().to_vec(), context, TokioRuntimeProvider::default());
        let anchors = system.anchors.as_ref().map_or_else(|| Arc::new(TrustAnchors::default()), |anchors| Arc::clone(&anchors.0));
        Ok(Self { handle: DnssecDnsHandle::with_trust_anchor(pool, anchors) })
    }

    /// The records at a name that are made from a wildcard, authentic; if that can't be proven, why the answer isn't believed.
    pub(super) async fn query(&self, name: &Name, kind: RecordKind) -> Result<Answer<Vec<Record>>, ExtendedError> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.edns_set_dnssec_ok = true;
        let query = Query::query(name.clone(), record_type(kind));
        let response = match self.handle.lookup(query, options).first_answer().await {
            Err(NetError::Dns(DnsError::Nsec { response, proof: Proof::Bogus, .. })) => {
                if is_proven(&response, name, record_type(kind)) {
                    response
                } else {
                    return Err(reason(&response));
                }
            }
            Ok(response) => return Err(reason(&response)),
            Err(_) => return Err(ExtendedError::new(ExtendedError::BOGUS, "")),
        };
        let answers = response.answers.iter().filter(|r| r.record_type() == record_type(kind));
        let ttl = response.answers.iter().map(|r| r.ttl).min().unwrap_or(0);
        let records: Vec<Record> = answers.filter_map(|r| record(&r.data)).collect();
        if records.is_empty() {
            return Err(ExtendedError::new(ExtendedError::BOGUS, ""));
        }
        Ok(Answer { records, authentic: true, ttl: Duration::from_secs(u64::from(ttl)) })
    }
}

/// What is wrong with an answer that isn't believed, as far as the answer itself shows it: hickory keeps what it found to itself.
/// A fault further up, in the zone's keys, is "bogus", which is also what resolvers say that don't know more.
fn reason(response: &Message) -> ExtendedError {
    // The clock by which hickory has judged.
    let now = u32::try_from(TokioTime::current_time()).unwrap_or(u32::MAX);
    ExtendedError::new(reason_at(response, now), "")
}

/// As [`reason`], at a time: an INFO-CODE.
pub(super) fn reason_at(response: &Message, now: u32) -> u16 {
    const EXPIRED: u16 = 7;
    const NOT_YET_VALID: u16 = 8;
    const RRSIGS_MISSING: u16 = 10;
    const NSEC_MISSING: u16 = 12;
    let all = || response.answers.iter().chain(&response.authorities);
    let signature = |record: &rr::Record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig.input().clone()),
        _ => None,
    };
    let mut reasons = all().filter(|r| r.proof == Proof::Bogus && r.record_type() != RecordType::RRSIG).map(|bogus| {
        let of_set = all().filter(|r| r.name == bogus.name).filter_map(signature).filter(|s| s.type_covered == bogus.record_type());
        let signatures: Vec<_> = of_set.collect();
        // RFC 4034 §3.1.5: times compare as serial numbers.
        let past = |time: u32, now: u32| now.wrapping_sub(time) < 1 << 31 && now != time;
        if signatures.is_empty() {
            RRSIGS_MISSING
        } else if signatures.iter().all(|s| past(s.sig_expiration.get(), now)) {
            EXPIRED
        } else if signatures.iter().all(|s| past(now, s.sig_inception.get())) {
            NOT_YET_VALID
        } else {
            ExtendedError::BOGUS
        }
    });
    let denial = || all().any(|r| matches!(r.record_type(), RecordType::NSEC | RecordType::NSEC3));
    match reasons.next() {
        Some(reason) => reasons.find(|r| *r != ExtendedError::BOGUS).filter(|_| reason == ExtendedError::BOGUS).unwrap_or(reason),
        None if response.answers.is_empty() && !denial() => NSEC_MISSING,
        None => ExtendedError::BOGUS,
    }
}

/// Whether all of an answer is at the name, signed by a wildcard, and one of its NSEC records proves that the wildcard is meant.
pub(super) fn is_proven(response: &Message, name: &Name, kind: RecordType) -> bool {
    if response.metadata.response_code != ResponseCode::NoError {
        return false;
    }
    let mut wildcard = None;
    for answer in &response.answers {
        if answer.proof != Proof::Secure || answer.name != *name {
            return false;
        }
        match &answer.data {
            RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) if rrsig.input().type_covered == kind => {
                wildcard = Some((rrsig.input().num_labels, rrsig.input().signer_name.clone()));
            }
            RData::DNSSEC(DNSSECRData::RRSIG(_)) => return false,
            _ if answer.record_type() == kind => {}
            _ => return false,
        }
    }
    let Some((labels, zone)) = wildcard else { return false };
    let nsecs = response.authorities.iter().filter(|r| r.proof == Proof::Secure);
    let mut nsecs = nsecs.filter_map(|r| match &r.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => Some((&r.name, nsec)),
        _ => None,
    });
    labels < name.num_labels() && nsecs.any(|(owner, nsec)| zone.zone_of(owner) && leaves_only(name, labels, owner, nsec))
}

/// Whether an NSEC record proves that a name doesn't exist, and that the closest name above it which does has no more than so many
/// labels: those of the wildcard without its asterisk.
fn leaves_only(name: &Name, labels: u8, owner: &Name, nsec: &NSEC) -> bool {
    let next = nsec.next_domain_name();
    let types = nsec.type_set();
    // RFC 6840 §4.1: the NSEC of a delegation or a DNAME says nothing about what is below.
    let cut = types.contains(RecordType::NS) && !types.contains(RecordType::SOA) || types.contains(RecordType::DNAME);
    if cut && owner.zone_of(name) {
        return false;
    }
    // The last NSEC of a zone leads back to its apex.
    let covers = owner < name && (name < next || next <= owner && next.zone_of(name));
    covers && shared(name, owner).max(shared(name, next)) <= usize::from(labels) && !name.zone_of(next)
}

/// How many labels two names have in common, from the right.
fn shared(a: &Name, b: &Name) -> usize {
    let same = |(a, b): &(&[u8], &[u8])| a.eq_ignore_ascii_case(b);
    a.iter().rev().zip(b.iter().rev()).take_while(same).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// RFC 8914 §4: what an answer shows of why it isn't believed.
    #[test]
    fn reasons() {
        use hickory_resolver::proto::dnssec::Algorithm;
        use hickory_resolver::proto::dnssec::rdata::{RRSIG, SigInput};
        use hickory_resolver::proto::op::OpCode;
        use hickory_resolver::proto::rr::rdata::A;
        const NOW: u32 = 1_000_000;
        let signature = |covered: RecordType, from: u32, until: u32| {
            let input = SigInput {
                type_covered: covered,
                algorithm: Algorithm::ECDSAP256SHA256,
                num_labels: 2,
                original_ttl: 60,
                sig_expiration: until.into(),
                sig_inception: from.into(),
                key_tag: 1,
                signer_name: name("example."),
            };
            rr::Record::from_rdata(name("a.example."), 60, RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, vec![0; 64]))))
        };
        let address = |proof: Proof| {
            let mut record = rr::Record::from_rdata(name("a.example."), 60, RData::A(A::new(192, 0, 2, 1)));
            record.proof = proof;
            record
        };
        let of = |answers: Vec<rr::Record>| {
            let mut response = Message::response(1, OpCode::Query);
            response.add_answers(answers);
            reason_at(&response, NOW)
        };
        let covers = |from: u32, until: u32| signature(RecordType::A, from, until);
        for (answers, want) in [
            (vec![address(Proof::Bogus)], 10),
            (vec![address(Proof::Bogus), signature(RecordType::TXT, 0, NOW - 1)], 10),
            (vec![address(Proof::Bogus), covers(NOW - 100, NOW - 1)], 7),
            (vec![address(Proof::Bogus), covers(NOW + 1, NOW + 100)], 8),
            (vec![address(Proof::Bogus), covers(NOW - 100, NOW + 100)], 6),
            // One that is good in time, so that it isn't about time.
            (vec![address(Proof::Bogus), covers(NOW - 100, NOW - 1), covers(NOW - 100, NOW + 100)], 6),
            (vec![address(Proof::Secure), covers(NOW - 100, NOW + 100)], 6),
            (vec![], 12),
        ] {
            assert_eq!(of(answers.clone()), want, "{answers:?}");
        }
    }

    #[test]
    fn what_nsec_records_leave() {
        let none = [RecordType::TXT];
        let cut = [RecordType::NS];
        for (owner, next, types, want) in [
            ("*.wild.example.", "zzz.example.", &none[..], true),
            // The last of the zone.
            ("*.wild.example.", "example.", &none, true),
            ("a.wild.example.", "z.wild.example.", &none, true),
            // The name exists, or isn't between.
            ("m.wild.example.", "z.wild.example.", &none, false),
            ("n.wild.example.", "z.wild.example.", &none, false),
            ("a.wild.example.", "b.wild.example.", &none, false),
            // It exists as a name with something below it.
            ("a.wild.example.", "x.m.wild.example.", &none, false),
            // A delegation says nothing about names below it.
            ("wild.example.", "z.wild.example.", &cut, false),
        ] {
            let nsec = NSEC::new(name(next), types.iter().copied());
            assert_eq!(leaves_only(&name("m.wild.example."), 2, &name(owner), &nsec), want, "{owner} {next}");
        }
        // Something exists between the wildcard and the name.
        let nsec = NSEC::new(name("zzz.example."), none);
        assert!(!leaves_only(&name("x.m.wild.example."), 2, &name("a.m.wild.example."), &nsec));
        assert!(leaves_only(&name("x.m.wild.example."), 2, &name("a.wild.example."), &nsec));
    }
}
