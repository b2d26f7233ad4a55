//! The methods of `Authentication-Results`, RFC 8601, with remarks on DNSSEC.

use crate::arc::{ArcOutcome, ArcStatus};
use crate::dkim::DkimOutcome;
use crate::dmarc::DmarcOutcome;
use crate::reader::HeaderProblem;
use crate::spf::{Identity, SpfOutcome};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::Domain;
use mox_message::compose::{AuthMethod, AuthProperty};
use std::net::IpAddr;

/// Whether DNS answers were authentic, as a comment.
pub const fn dnssec_remark(authentic: bool) -> &'static str {
    if authentic { "with dnssec" } else { "without dnssec" }
}

/// A domain's property: in Unicode where the message may be, with the ASCII form as comment.
fn domain_property(kind: &str, name: &str, domain: &Domain, smtputf8: bool) -> AuthProperty {
    let text = domain.for_smtputf8(smtputf8);
    let comment = if text == domain.ascii() { String::new() } else { domain.ascii().to_owned() };
    AuthProperty { comment, ..AuthProperty::new(kind, name, text) }
}

/// SPF's result.
pub fn spf_method(outcome: &SpfOutcome, smtputf8: bool) -> AuthMethod {
    let name = match outcome.identity {
        Identity::MailFrom => "mailfrom",
        Identity::Helo => "helo",
    };
    AuthMethod {
        method: "spf".to_owned(),
        result: outcome.result.name().to_owned(),
        comment: dnssec_remark(outcome.authentic).to_owned(),
        reason: String::new(),
        properties: outcome.domain.iter().map(|domain| domain_property("smtp", name, domain, smtputf8)).collect(),
    }
}

/// DKIM's results: one for each signature, or `none`.
pub fn dkim_methods(outcomes: Result<&[DkimOutcome], HeaderProblem>, smtputf8: bool) -> Vec<AuthMethod> {
    let none = |reason: String| vec![AuthMethod { method: "dkim".to_owned(), result: "none".to_owned(), reason, ..AuthMethod::default() }];
    match outcomes {
        Err(problem) => none(problem.to_string()),
        Ok([]) => none("no dkim signatures".to_owned()),
        Ok(outcomes) => outcomes.iter().map(|outcome| dkim_method(outcome, smtputf8)).collect(),
    }
}

fn dkim_method(outcome: &DkimOutcome, smtputf8: bool) -> AuthMethod {
    let bits = outcome.record.as_ref().and_then(|(record, _)| record.rsa_bits());
    let key = bits.map(|bits| format!("{bits} bit rsa, ")).unwrap_or_default();
    let mut properties = Vec::new();
    if let Some(signature) = &outcome.signature {
        properties.push(domain_property("header", "d", &signature.domain, smtputf8));
        properties.push(domain_property("header", "s", &signature.selector, smtputf8));
        properties.push(AuthProperty::new("header", "a", &signature.algorithm));
        let text = STANDARD.encode(&signature.signature);
        properties.push(AuthProperty::new("header", "b", text.get(..12).unwrap_or(&text)));
        if let Some(identity) = signature.identity_text(smtputf8) {
            properties.push(AuthProperty::address("header", "i", &identity));
        }
    }
    AuthMethod {
        method: "dkim".to_owned(),
        result: outcome.status.name().to_owned(),
        comment: format!("{key}{}", dnssec_remark(outcome.authentic)),
        reason: outcome.problem.as_ref().map(ToString::to_string).unwrap_or_default(),
        properties,
    }
}

/// ARC's result, RFC 8617 §10.1; none if nobody sealed the message. `client` is whom we got it from.
pub fn arc_method(outcome: &ArcOutcome, client: IpAddr, smtputf8: bool) -> Option<AuthMethod> {
    if outcome.status == ArcStatus::None {
        return None;
    }
    let sealer = outcome.sealers.last().map(|domain| domain.for_smtputf8(smtputf8));
    let sets = outcome.sealers.len();
    let sealed = sealer.map(|domain| format!("{sets} {}, last by {domain}, ", if sets == 1 { "set" } else { "sets" })).unwrap_or_default();
    Some(AuthMethod {
        method: "arc".to_owned(),
        result: outcome.status.name().to_owned(),
        comment: format!("{sealed}{}", dnssec_remark(outcome.authentic)),
        reason: outcome.problem.as_ref().map(ToString::to_string).unwrap_or_default(),
        properties: vec![AuthProperty::new("smtp", "remote-ip", &client.to_canonical().to_string())],
    })
}

/// DMARC's result for the author's domain; none without such a domain. `overrides` say why its policy wasn't applied.
pub fn dmarc_method(outcome: Option<(&DmarcOutcome, &Domain)>, overrides: &[&str], smtputf8: bool) -> AuthMethod {
    let Some((outcome, from)) = outcome else {
        return AuthMethod { method: "dmarc".to_owned(), result: "none".to_owned(), ..AuthMethod::default() };
    };
    let remark = dnssec_remark(outcome.authentic);
    let comment = if overrides.is_empty() { remark.to_owned() } else { format!("{remark}, override {}", overrides.join(",")) };
    AuthMethod {
        method: "dmarc".to_owned(),
        result: outcome.result.name().to_owned(),
        comment,
        reason: String::new(),
        properties: vec![domain_property("header", "from", from, smtputf8)],
    }
}
