//! Bounces for incoming messages that reached some of their recipients but not others: sent through the queue, by the
//! postmaster, with the null reverse-path.

use crate::service::Service;
use mox_base::{Address, Domain, Localpart, Path};
use mox_delivery::spool::Spool;
use mox_delivery::submit::{Submission, SubmissionRecipient};
use mox_message::dsn::Dsn;
use mox_smtp::grammar::RcptParameters;
use std::collections::BTreeMap;

/// The postmaster of a domain, RFC 5321 §4.5.1.
#[expect(clippy::expect_used, reason = "the word is a localpart")]
pub(crate) fn postmaster(domain: &Domain) -> Address {
    Address::new(Localpart::from_decoded("postmaster").expect("a localpart"), domain.clone())
}

/// The DSN as a submission of the postmaster's account.
pub(crate) fn submission(service: &Service, dsn: Dsn, to: &Path, require_tls: Option<bool>) -> Submission {
    let composed = dsn.compose_ascii(&*service.random);
    let utf8 = dsn.smtputf8.then(|| dsn.compose(&*service.random));
    Submission {
        account: service.directory.current().postmaster().account.name.clone(),
        reverse_path: None,
        recipients: vec![SubmissionRecipient { path: to.clone(), parameters: RcptParameters::default() }],
        unique_sender: None,
        prefix: Vec::new(),
        message: Spool::from(composed.bytes),
        has_8bit: composed.eight_bit,
        smtputf8: to.needs_smtputf8(),
        message_utf8: utf8.map(|composed| composed.bytes),
        require_tls,
        release: None,
        future_release: String::new(),
        message_id: format!("<{}>", dsn.message_id),
        subject: dsn.subject,
        extra: BTreeMap::new(),
        envelope_id: None,
        return_full: false,
        limits: None,
        step: None,
    }
}
