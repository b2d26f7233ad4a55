//! Bounces for incoming messages that reached some of their recipients but not others: sent through the queue, by the
//! postmaster, with the null reverse-path.

use crate::service::Service;
use mox_base::{Address, Domain, Localpart, Path};
use mox_delivery::spool::Spool;
use mox_delivery::submit::{Submission, SubmissionRecipient};
use mox_message::dsn::Dsn;
use mox_smtp::grammar::RcptParameters;

/// The postmaster of a domain, RFC 5321 §4.5.1.
#[expect(clippy::expect_used, reason = "the word is a localpart")]
pub(crate) fn postmaster(domain: &Domain) -> Address {
    Address::new(Localpart::from_decoded("postmaster").expect("a localpart"), domain.clone())
}

/// The DSN as a submission of the postmaster's account.
pub(crate) fn submission(service: &Service, dsn: Dsn, to: &Path, require_tls: Option<bool>) -> Submission {
    let composed = dsn.compose_ascii(&*service.random);
    let utf8 = dsn.smtputf8.then(|| dsn.compose(&*service.random));
    let account = service.directory.current().postmaster().account.name.clone();
    let recipients = vec![SubmissionRecipient { path: to.clone(), parameters: RcptParameters::default() }];
    Submission {
        has_8bit: composed.eight_bit,
        smtputf8: to.needs_smtputf8(),
        message_utf8: utf8.map(|composed| composed.bytes),
        require_tls,
        message_id: format!("<{}>", dsn.message_id),
        sign_domain: signing_domain(service, &dsn.from.domain),
        subject: dsn.subject,
        ..Submission::new(account, None, recipients, Spool::from(composed.bytes))
    }
}

/// The nearest domain at or above the author's that signs.
fn signing_domain(service: &Service, author: &Domain) -> Option<Domain> {
    let names = std::iter::successors(Some(author.ascii()), |name| name.split_once('.').map(|(_, parent)| parent));
    names.filter_map(|name| Domain::parse_lax(name).ok()).find(|domain| service.selectors.of(domain).is_some())
}
