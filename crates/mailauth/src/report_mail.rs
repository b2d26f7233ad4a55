//! Messages that bring reports, the same for DMARC and TLS but for what is in them: RFC 7489 §7.2.1, RFC 8460 §5.3.

use mox_base::{Address, Random, Timestamp};
use mox_message::compose::{Composed, Composer, Entity, NamedAddress, TooLarge};
use mox_message::{DateTime, HeaderName, HeaderValue};

/// Who sends a report to whom, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `postmaster@` the host or domain that sends.
    pub from: Address,
    /// All report addresses.
    pub to: Vec<Address>,
    /// The domain or host reported on, in A-labels.
    pub policy_domain: &'a str,
    /// Who sends, in A-labels.
    pub submitter: &'a str,
    /// Without brackets.
    pub message_id: String,
    /// Now.
    pub date: Timestamp,
    /// `mox/<version>`.
    pub user_agent: &'a str,
}

/// A report, ready to be put into a message.
pub(crate) struct Packed<'a> {
    /// By which its sender knows it.
    pub(crate) id: &'a str,
    /// The time that it is about.
    pub(crate) begin: Timestamp,
    pub(crate) end: Timestamp,
    /// One sentence for people.
    pub(crate) about: String,
    /// Of the multipart that it is in, with its parameters.
    pub(crate) subtype: &'static str,
    pub(crate) media_type: &'static str,
    /// Of the name of the file.
    pub(crate) suffix: &'static str,
    pub(crate) data: Vec<u8>,
}

impl Envelope<'_> {
    /// The subject of a report: what both RFCs want.
    pub(crate) fn subject(&self, id: &str) -> String {
        format!("Report Domain: {} Submitter: {} Report-ID: <{id}>", self.policy_domain, self.submitter)
    }

    /// The fields up to the body. `more` are those that one kind of reports has.
    pub(crate) fn header(&self, id: &str, more: &[(&'static str, &str)]) -> Composer {
        let mut composer = Composer::new(self.from.needs_smtputf8() || self.to.iter().any(Address::needs_smtputf8));
        let name = HeaderName::from_static;
        let named = |address: &Address| NamedAddress::from(address.clone());
        composer.addresses(&name("From"), &[named(&self.from)]);
        composer.addresses(&name("To"), &self.to.iter().map(named).collect::<Vec<_>>());
        composer.subject(&self.subject(id));
        composer.message_ids(&name("Message-Id"), std::slice::from_ref(&self.message_id));
        composer.date(DateTime::utc(self.date));
        for (field, value) in more {
            composer.field(&name(field), &HeaderValue::cleaned(value));
        }
        composer.field(&name("User-Agent"), &HeaderValue::cleaned(self.user_agent));
        composer
    }

    /// The whole message, not signed yet.
    ///
    /// # Errors
    /// It became too large.
    pub(crate) fn message(&self, report: Packed<'_>, more: &[(&'static str, &str)], random: &dyn Random) -> Result<Composed, TooLarge> {
        let Packed { id, begin, end, about, subtype, media_type, suffix, data } = report;
        let mut composer = self.header(id, more);
        let text = format!("{about}\n\nSent by: {}\nPeriod: {} to {}\n", self.submitter, begin.rfc3339(), end.rfc3339());
        // RFC 7489 §7.2.1.1, RFC 8460 §5.1.
        let file_name = format!("{}!{}!{}!{}.{suffix}", self.submitter, self.policy_domain, begin.secs(), end.secs());
        let attachment = Entity::Attachment { media_type: HeaderValue::cleaned(media_type), file_name, inline: false, id: None, data };
        let parts = vec![Entity::plain(&text), attachment];
        composer.body(&Entity::Multipart { subtype: HeaderValue::cleaned(subtype), parts }, random);
        composer.finish()
    }
}
