//! Messages of name servers that are broken in any way: refused, or records that can be shown, but never a panic.

use super::record::{record, record_type, text};
use super::{trusted, wildcard};
use hickory_resolver::proto::dnssec::Algorithm;
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC, RRSIG, SigInput};
use hickory_resolver::proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SRV, TLSA, TXT, tlsa};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use mox_base::{LookupError, RecordKind};
use mox_testkit::Mutator;

const KINDS: [RecordKind; 9] = [
    RecordKind::A,
    RecordKind::Aaaa,
    RecordKind::Cname,
    RecordKind::Mx,
    RecordKind::Ns,
    RecordKind::Ptr,
    RecordKind::Txt,
    RecordKind::Tlsa,
    RecordKind::Srv,
];

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn signature(covered: RecordType) -> RData {
    let input = SigInput {
        type_covered: covered,
        algorithm: Algorithm::ECDSAP256SHA256,
        num_labels: 1,
        original_ttl: 60,
        sig_expiration: 2000.into(),
        sig_inception: 1000.into(),
        key_tag: 1,
        signer_name: name("example."),
    };
    RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, vec![7; 64])))
}

/// All kinds of records, their signatures, a denial, and a reason.
fn sample() -> Message {
    let host = || name("mx.example.");
    let records = [
        RData::A(A::new(192, 0, 2, 1)),
        RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        RData::CNAME(CNAME(host())),
        RData::MX(MX::new(10, host())),
        RData::NS(NS(host())),
        RData::PTR(PTR(host())),
        RData::TXT(TXT::new(vec!["v=spf1 -all".to_owned(), "more".to_owned()])),
        RData::TLSA(TLSA::new(tlsa::CertUsage::DaneEe, tlsa::Selector::Spki, tlsa::Matching::Sha256, vec![7; 32])),
        RData::SRV(SRV::new(1, 2, 25, host())),
        signature(RecordType::A),
        signature(RecordType::TXT),
    ];
    let mut message = Message::response(7, OpCode::Query);
    message.metadata.response_code = ResponseCode::NoError;
    message.metadata.authentic_data = true;
    message.add_query(Query::query(name("a.example."), RecordType::A));
    message.add_answers(records.map(|data| Record::from_rdata(name("a.example."), 60, data)));
    let denial = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(name("z.example."), [RecordType::TXT, RecordType::NSEC])));
    message.add_authorities([Record::from_rdata(name("*.example."), 60, denial)]);
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(15, [&[0, 6][..], b"bogus for a reason"].concat()));
    message.set_edns(edns);
    message
}

/// What names, texts and reasons of others become must fit into a line of a log, and a header.
fn is_clean(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || c == ' ')
}

/// The kind of a record, and the name in it.
fn parts(record: &mox_base::Record) -> (RecordKind, &str) {
    use mox_base::Record;
    match record {
        Record::A(_) => (RecordKind::A, ""),
        Record::Aaaa(_) => (RecordKind::Aaaa, ""),
        Record::Cname(name) => (RecordKind::Cname, name),
        Record::Mx(mx) => (RecordKind::Mx, &mx.host),
        Record::Ns(name) => (RecordKind::Ns, name),
        Record::Ptr(name) => (RecordKind::Ptr, name),
        Record::Txt(_) => (RecordKind::Txt, ""),
        Record::Tlsa(_) => (RecordKind::Tlsa, ""),
        Record::Srv(srv) => (RecordKind::Srv, &srv.target),
    }
}

/// Looks at a message in every way; gives how many records and reasons were found.
fn look(message: &Message, proof: Proof) -> (usize, usize) {
    let (mut records, mut reasons) = (0, 0);
    let query = Query::query(name("a.example."), RecordType::A);
    let mut asked = Message::query();
    asked.add_query(query.clone());
    asked.metadata.id = 7;
    let _mine = trusted::is_reply(&asked, message);
    for kind in KINDS {
        match trusted::answer(message, kind) {
            Ok(answer) => {
                for found in &answer.records {
                    let (its_kind, shown) = parts(found);
                    assert_eq!(its_kind, kind);
                    assert!(is_clean(shown) && (!shown.ends_with('.') || shown.ends_with("\\.")), "{shown:?}");
                }
                records += answer.records.len();
            }
            Err(error) => assert!(matches!(error, LookupError::NotFound { .. }), "{error:?}"),
        }
    }
    match trusted::failure(message, message.metadata.response_code) {
        LookupError::Bogus(_) => reasons += 1,
        error => assert!(!matches!(error, LookupError::NotFound { .. }), "a failure became an absence: {error:?}"),
    }
    let error = trusted::failure(message, message.metadata.response_code).to_string();
    assert!(!error.contains(char::is_control), "{error:?}");

    let mut judged = message.clone();
    judged.answers.iter_mut().chain(&mut judged.authorities).for_each(|r| r.proof = proof);
    for now in [0, 1500, u32::MAX] {
        assert!([6, 7, 8, 10, 12].contains(&wildcard::reason_at(&judged, now)));
    }
    for kind in KINDS {
        let proven = wildcard::is_proven(&judged, &name("a.example."), record_type(kind));
        assert!(!proven || proof == Proof::Secure, "believed what isn't signed");
    }
    for data in judged.answers.iter().chain(&judged.authorities).map(|r| &r.data) {
        let _known = record(data);
    }
    assert!(judged.answers.iter().all(|r| is_clean(&text(&r.name))));
    (records, reasons)
}

#[test]
fn a_message_without_faults() {
    let bytes = sample().to_vec().unwrap();
    assert_eq!(look(&Message::from_vec(&bytes).unwrap(), Proof::Bogus), (9, 1));
}

#[test]
fn broken_messages() {
    let bytes = sample().to_vec().unwrap();
    let (mut read, mut records, mut reasons) = (0, 0, 0);
    for seed in 0..4000 {
        let mutator = Mutator::new(seed);
        let Ok(message) = Message::from_vec(&mutator.bytes(&bytes)) else { continue };
        let proof = *mutator.one_of(&[Proof::Secure, Proof::Insecure, Proof::Bogus, Proof::Indeterminate]);
        let found = look(&message, proof);
        (read, records, reasons) = (read + 1, records + found.0, reasons + found.1);
    }
    assert!(read > 500 && records > 2000 && reasons > 100, "{read} {records} {reasons}");
}

/// Names point to others, RFC 1035 §4.1.4: in circles, forwards, and at themselves.
#[test]
fn names_that_point() {
    let header = [0, 7, 0x81, 0xa0, 0, 1, 0, 1, 0, 0, 0, 0];
    for target in 0..60_u8 {
        for start in [vec![0xc0, target], vec![1, b'a', 0xc0, target], vec![63; 64], vec![0xc0], vec![0xff, 0xff], vec![0x40, 1]] {
            let question = [&start[..], &[0, 1, 0, 1]].concat();
            let answer = [&start[..], &[0, 5, 0, 1, 0, 0, 0, 60, 0, u8::try_from(start.len()).unwrap()], &start].concat();
            if let Ok(message) = Message::from_vec(&[&header[..], &question, &answer].concat()) {
                look(&message, Proof::Secure);
            }
        }
    }
}

/// RFC 8914 §2: at least a code; the text may be anything, or nothing.
#[test]
fn reasons_of_any_length() {
    for seed in 0..500 {
        let mutator = Mutator::new(seed);
        let mut message = sample();
        let mut edns = Edns::new();
        let option = mutator.bytes(&[&[0, 9][..], b"DNSKEY missing \r\n\x1b[31m\xff"].concat());
        edns.options_mut().remove(EdnsCode::Unknown(15));
        edns.options_mut().insert(EdnsOption::Unknown(15, option));
        message.set_edns(edns);
        message.metadata.response_code = ResponseCode::ServFail;
        if let Ok(message) = Message::from_vec(&message.to_vec().unwrap()) {
            look(&message, Proof::Bogus);
        }
    }
}
