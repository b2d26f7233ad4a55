//! Records as hickory has them, and as the rest of the server knows them.

use hickory_resolver::proto::rr::{Name, RData, RecordType};
use mox_base::{Mx, Record, RecordKind, Srv, Tlsa};

pub(super) const fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Cname => RecordType::CNAME,
        RecordKind::Mx => RecordType::MX,
        RecordKind::Ns => RecordType::NS,
        RecordKind::Ptr => RecordType::PTR,
        RecordKind::Txt => RecordType::TXT,
        RecordKind::Tlsa => RecordType::TLSA,
        RecordKind::Srv => RecordType::SRV,
    }
}

pub(crate) fn record(data: &RData) -> Option<Record> {
    Some(match data {
        RData::A(a) => Record::A(a.0),
        RData::AAAA(a) => Record::Aaaa(a.0),
        RData::CNAME(name) => Record::Cname(text(&name.0)),
        RData::MX(mx) => Record::Mx(Mx { preference: mx.preference, host: text(&mx.exchange) }),
        RData::NS(name) => Record::Ns(text(&name.0)),
        RData::PTR(name) => Record::Ptr(text(&name.0)),
        RData::TXT(txt) => Record::Txt(txt.txt_data.concat()),
        RData::SRV(srv) => Record::Srv(Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target: text(&srv.target) }),
        RData::TLSA(tlsa) => Record::Tlsa(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => return None,
    })
}

/// A name without its trailing dot; the root is empty.
pub(crate) fn text(name: &Name) -> String {
    let mut text = name.to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}
