//! The fields that say what a message is about and between whom: IMAP's ENVELOPE, RFC 9051 §7.5.2.
//!
//! Values are kept as they are in the header, unfolded; decoding encoded words is left to whoever shows them, because IMAP
//! wants both forms. Of fields that must occur once the first counts; address fields that occur several times are joined.

use crate::address::{AddressList, AddressListError};
use crate::date::DateTime;
use crate::encoded_word;
use crate::header::Headers;
use mox_base::Address;

/// The envelope of a message (not of its transport).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Envelope {
    /// `Date`, as text.
    pub date_raw: Option<String>,
    /// `Subject`, encoded words not decoded.
    pub subject_raw: Option<String>,
    /// `From`.
    pub from: AddressList,
    /// `Sender`.
    pub sender: AddressList,
    /// `Reply-To`.
    pub reply_to: AddressList,
    /// `To`.
    pub to: AddressList,
    /// `Cc`.
    pub cc: AddressList,
    /// `Bcc`.
    pub bcc: AddressList,
    /// `In-Reply-To`, as text.
    pub in_reply_to: Option<String>,
    /// `Message-ID`, as text, usually with its `<>`.
    pub message_id: Option<String>,
}

/// Why a message has no author that decisions can be based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FromError {
    /// There is no `From` field.
    #[error("no From header")]
    Missing,
    /// There are several `From` fields. None is picked: readers may show another one.
    #[error("multiple From headers")]
    MultipleFields,
    /// The field isn't an address list.
    #[error("malformed From header")]
    Malformed(#[from] AddressListError),
    /// The field has no address or several.
    #[error("From header must have exactly one address")]
    NotOneAddress,
    /// The address can't be one.
    #[error("invalid address in From header")]
    InvalidAddress,
}

impl Envelope {
    /// Reads the envelope from a header section.
    pub fn of(headers: &Headers<'_>) -> Self {
        let mut envelope = Self::default();
        for field in headers.fields() {
            let name = field.name;
            if name.len() > 11 {
                continue;
            }
            let list = match name.to_ascii_lowercase().as_slice() {
                b"date" => {
                    envelope.date_raw.get_or_insert_with(|| field.text());
                    continue;
                }
                b"subject" => {
                    envelope.subject_raw.get_or_insert_with(|| field.text());
                    continue;
                }
                b"in-reply-to" => {
                    envelope.in_reply_to.get_or_insert_with(|| field.text());
                    continue;
                }
                b"message-id" => {
                    envelope.message_id.get_or_insert_with(|| field.text());
                    continue;
                }
                b"from" => &mut envelope.from,
                b"sender" => &mut envelope.sender,
                b"reply-to" => &mut envelope.reply_to,
                b"to" => &mut envelope.to,
                b"cc" => &mut envelope.cc,
                b"bcc" => &mut envelope.bcc,
                _ => continue,
            };
            list.0.append(&mut AddressList::parse_lenient(&field.text()).0);
        }
        envelope
    }

    /// `Date`, parsed; none if absent or unreadable.
    pub fn date(&self) -> Option<DateTime> {
        DateTime::parse(self.date_raw.as_deref()?)
    }

    /// `Subject`, decoded.
    pub fn subject(&self) -> Option<String> {
        self.subject_raw.as_ref().map(|s| encoded_word::decode(s.as_bytes()))
    }

    /// The envelope of a message that gets more header fields put in front.
    #[must_use]
    pub(crate) fn behind(self, prefix: Self) -> Self {
        let join = |mut first: AddressList, mut then: AddressList| {
            first.0.append(&mut then.0);
            first
        };
        Self {
            date_raw: prefix.date_raw.or(self.date_raw),
            subject_raw: prefix.subject_raw.or(self.subject_raw),
            from: join(prefix.from, self.from),
            sender: join(prefix.sender, self.sender),
            reply_to: join(prefix.reply_to, self.reply_to),
            to: join(prefix.to, self.to),
            cc: join(prefix.cc, self.cc),
            bcc: join(prefix.bcc, self.bcc),
            in_reply_to: prefix.in_reply_to.or(self.in_reply_to),
            message_id: prefix.message_id.or(self.message_id),
        }
    }
}

/// The one author of a message, for ownership of addresses, DMARC and rules: exactly one `From` field, well-formed, with
/// exactly one valid address.
///
/// # Errors
/// See [`FromError`].
pub fn author(headers: &Headers<'_>) -> Result<Address, FromError> {
    let mut fields = headers.all("From");
    let field = fields.next().ok_or(FromError::Missing)?;
    if fields.next().is_some() {
        return Err(FromError::MultipleFields);
    }
    let list = AddressList::parse(&field.text())?;
    let mut mailboxes = list.mailboxes();
    let (Some(mailbox), None) = (mailboxes.next(), mailboxes.next()) else { return Err(FromError::NotOneAddress) };
    mailbox.address().ok_or(FromError::InvalidAddress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Mailbox;

    #[test]
    fn of_a_header() {
        let e = Envelope::of(&Headers::new(
            b"Date: Mon, 23 Nov 2026 04:04:23 +0100\r\nsubject: =?utf-8?q?=C3=A4?=\r\nSubject: second\r\nFROM: a@x.example\r\nTo: b@x.example\r\nTo: c@x.example\r\nMessage-Id: <1@x>\r\n\r\n",
        ));
        assert_eq!(e.subject().as_deref(), Some("ä"));
        assert_eq!(e.subject_raw.as_deref(), Some("=?utf-8?q?=C3=A4?="));
        assert_eq!(e.to.mailboxes().count(), 2);
        assert_eq!(e.date().map(DateTime::rfc5322).as_deref(), Some("23 Nov 2026 04:04:23 +0100"));
        assert_eq!(e.message_id.as_deref(), Some("<1@x>"));
        assert_eq!(e.in_reply_to, None);
    }

    #[test]
    fn authors() {
        let malformed = FromError::Malformed(AddressListError);
        for (header, want) in [
            ("From: A <a@x.example>\r\n", Ok("a@x.example")),
            ("X: y\r\n", Err(FromError::Missing)),
            ("From: a@x.example\r\nfrom: b@x.example\r\n", Err(FromError::MultipleFields)),
            ("From: a@x.example, b@x.example\r\n", Err(FromError::NotOneAddress)),
            ("From: x:;\r\n", Err(FromError::NotOneAddress)),
            ("From: a@x.example <b@x.example>\r\n", Err(malformed)),
            ("From: nobody\r\n", Err(malformed)),
            ("From: a@[192.0.2.1]\r\n", Err(FromError::InvalidAddress)),
        ] {
            assert_eq!(author(&Headers::new(header.as_bytes())).map(|a| a.to_string()), want.map(str::to_owned), "{header}");
        }
    }

    proptest::proptest! {
        /// Whom authentication takes for the author is the one whom clients show, and the only one.
        #[test]
        fn authentication_and_display_agree(
            fields in proptest::collection::vec(
                ("(From|FROM|from |From\t|Sender|X-From|=\\?utf-8\\?q\\?From\\?=)",
                 "( |\r\n |\t|\"|\\\\|<|>|,|;|:|\\(|\\)|@|a@x\\.example|eve@y\\.example|<b@z\\.example>|=\\?utf-8\\?q\\?eve=40y\\.example\\?=|\u{0}|\u{e4}|\u{202e}|group:){0,7}"),
                1..4,
            ),
        ) {
            let header: String = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
            let headers = Headers::new(header.as_bytes());
            if let Ok(author) = author(&headers) {
                let shown = Envelope::of(&headers).from;
                let shown: Vec<_> = shown.mailboxes().map(Mailbox::address).collect();
                proptest::prop_assert_eq!(shown, [Some(author)], "{}", header);
            }
        }
    }
}
