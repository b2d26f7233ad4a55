//! Writing messages.
//!
//! A [`Composer`] writes a header and then one [`Entity`], which may be a tree of parts. Lines end in CRLF, values can't break out of
//! their field, text gets the plainest encoding that carries it. The fields the server adds itself are in [`received`] and
//! [`auth_results`].

pub mod auth_results;
pub mod received;

pub use auth_results::{AuthMethod, AuthProperty, AuthResults, authserv_id};
pub use received::{Received, ReceivedFrom, ReceivedProtocol, ReceivedTls};

use crate::date::DateTime;
use crate::encoded_word;
use crate::header::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::{Address, Random};

/// An address with the name of who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAddress {
    /// The display name, may be empty.
    pub name: String,
    /// The address.
    pub address: Address,
}

impl From<Address> for NamedAddress {
    fn from(address: Address) -> Self {
        Self { name: String::new(), address }
    }
}

/// What a message or part contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entity {
    /// `text/<subtype>`; LF and CRLF both break lines.
    Text {
        /// `plain`, `html` …
        subtype: HeaderValue,
        /// The text.
        text: String,
    },
    /// A file.
    Attachment {
        /// Its media type.
        media_type: HeaderValue,
        /// Its name; may be empty.
        file_name: String,
        /// Whether it is shown with the text rather than kept aside.
        inline: bool,
        /// `Content-ID`, without brackets.
        id: Option<HeaderValue>,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// A body that is complete, with the fields that describe it.
    Raw {
        /// The fields.
        fields: Vec<(HeaderName, HeaderValue)>,
        /// The body as it goes into the message.
        body: Vec<u8>,
    },
    /// Several parts.
    Multipart {
        /// `mixed`, `alternative`, or `report; report-type=delivery-status`: with parameters other than the boundary.
        subtype: HeaderValue,
        /// The parts.
        parts: Vec<Self>,
    },
}

impl Entity {
    /// Plain text.
    pub fn plain(text: &str) -> Self {
        Self::Text { subtype: HeaderValue::cleaned("plain"), text: text.to_owned() }
    }
}

/// A finished message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// The message.
    pub bytes: Vec<u8>,
    /// Whether it has bytes beyond ASCII.
    pub eight_bit: bool,
    /// Whether its header may have UTF-8.
    pub smtputf8: bool,
}

/// The message became larger than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message too large")]
pub struct TooLarge;

/// Writes one message.
#[derive(Clone, Debug)]
pub struct Composer {
    out: Vec<u8>,
    smtputf8: bool,
    max_size: usize,
}

/// Longest line of address lists and subjects.
const MAX_LINE: usize = 77;

impl Composer {
    /// A composer for a message. With `smtputf8`, header fields are written in UTF-8; it is needed when a localpart isn't ASCII.
    pub const fn new(smtputf8: bool) -> Self {
        Self { out: Vec::new(), smtputf8, max_size: usize::MAX }
    }

    /// Sets the size in bytes beyond which [`Self::finish`] fails.
    #[must_use]
    pub const fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Adds a field. Values beyond ASCII are encoded unless the message is SMTPUTF8.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue) -> &mut Self {
        let value =
            if self.smtputf8 || value.as_str().is_ascii() { value.as_str().to_owned() } else { encoded_word::encode_words(value.as_str()) };
        // A space, so that unfolding gives the value exactly, RFC 5322 §2.2.3.
        self.folded_words(name, ' ', value.split(' '));
        self
    }

    /// Adds fields that are already written, each with its CRLF.
    pub fn raw_fields(&mut self, fields: &[u8]) -> &mut Self {
        self.out.extend_from_slice(fields);
        self
    }

    /// Adds a `Subject`.
    pub fn subject(&mut self, subject: &str) -> &mut Self {
        self.field(&HeaderName::from_static("Subject"), &HeaderValue::cleaned(subject))
    }

    /// Adds a `Date`.
    pub fn date(&mut self, date: DateTime) -> &mut Self {
        self.field(&HeaderName::from_static("Date"), &HeaderValue::cleaned(&date.rfc5322()))
    }

    /// Adds a list of ids, given without brackets, as in `Message-Id` or `References`. An empty list adds nothing.
    pub fn message_ids(&mut self, name: &HeaderName, ids: &[String]) -> &mut Self {
        let ids: Vec<String> = ids.iter().map(|id| format!("<{}>", HeaderValue::cleaned(id))).collect();
        if !ids.is_empty() {
            self.write(&format!("{name}: {}\r\n", ids.join("\r\n\t")));
        }
        self
    }

    /// Adds a list of addresses. An empty list adds nothing.
    pub fn addresses(&mut self, name: &HeaderName, list: &[NamedAddress]) -> &mut Self {
        let last = list.len().saturating_sub(1);
        let written: Vec<String> =
            list.iter().enumerate().map(|(i, a)| format!("{}{}", self.address(a), if i < last { "," } else { "" })).collect();
        if !written.is_empty() {
            self.folded_words(name, '\t', written.iter().map(String::as_str));
        }
        self
    }

    fn address(&self, named: &NamedAddress) -> String {
        let address = HeaderValue::cleaned(&named.address.for_smtputf8(self.smtputf8));
        if named.name.is_empty() {
            return format!("<{address}>");
        }
        let name = HeaderValue::cleaned(&named.name);
        let name = name.as_str();
        if (name.is_ascii() || self.smtputf8) && !name.contains("=?") {
            format!("\"{}\" <{address}>", name.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            format!("{} <{address}>", encoded_word::encode(name))
        }
    }

    /// Writes words that stay whole, on a new line that starts with `indent` where one would get too long.
    fn folded_words<'w>(&mut self, name: &HeaderName, indent: char, words: impl Iterator<Item = &'w str>) {
        let mut line = format!("{name}:");
        let mut first = true;
        for word in words {
            // A line must not be white space only, RFC 5322 §3.2.2: empty words stay with the line they are in.
            if !first && !word.is_empty() && line.len().saturating_add(1).saturating_add(word.len()) > MAX_LINE {
                self.write(&line);
                self.write("\r\n");
                line = format!("{indent}{word}");
            } else {
                line.push(' ');
                line.push_str(word);
            }
            first = false;
        }
        self.write(&line);
        self.write("\r\n");
    }

    fn write(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Adds `MIME-Version`, the fields that describe the content, and the content.
    pub fn body(&mut self, entity: &Entity, random: &dyn Random) -> &mut Self {
        self.write("MIME-Version: 1.0\r\n");
        self.content(entity, random)
    }

    /// Adds the fields that describe the content, and the content. For those who write `MIME-Version` earlier.
    pub fn content(&mut self, entity: &Entity, random: &dyn Random) -> &mut Self {
        self.entity(entity, random);
        self
    }

    fn entity(&mut self, entity: &Entity, random: &dyn Random) {
        match entity {
            Entity::Text { subtype, text } => self.text(subtype, text),
            Entity::Attachment { media_type, file_name, inline, id, data } => {
                self.write(&format!("Content-Type: {media_type}\r\n"));
                if let Some(id) = id {
                    self.write(&format!("Content-ID: <{id}>\r\n"));
                }
                let kind = if *inline { "inline" } else { "attachment" };
                self.write(&format!("Content-Disposition: {kind}{}\r\n", file_name_param(file_name)));
                self.write("Content-Transfer-Encoding: base64\r\n\r\n");
                self.base64(data);
            }
            Entity::Raw { fields, body } => {
                for (name, value) in fields {
                    self.write(&format!("{name}: {value}\r\n"));
                }
                self.write("\r\n");
                self.out.extend_from_slice(body);
            }
            Entity::Multipart { subtype, parts } => {
                // Random enough not to occur in any part.
                let mut bytes = [0; 15];
                random.fill(&mut bytes);
                let boundary = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
                self.write(&format!("Content-Type: multipart/{subtype};\r\n\tboundary=\"{boundary}\"\r\n\r\n"));
                for part in parts {
                    self.write(&format!("--{boundary}\r\n"));
                    self.entity(part, random);
                    if !self.out.ends_with(b"\r\n") {
                        self.write("\r\n");
                    }
                }
                self.write(&format!("--{boundary}--\r\n"));
            }
        }
    }

    fn text(&mut self, subtype: &HeaderValue, text: &str) {
        let mut text = text.replace("\r\n", "\n");
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let ascii = text.is_ascii();
        let charset = if ascii { "us-ascii" } else { "utf-8" };
        // RFC 5321 §4.5.3.1.6 allows 998; the Go server's 76 keeps what others might wrap.
        let quoted = text.contains('\r') || text.contains('\0') || text.split('\n').any(|l| l.len() > 76);
        let encoding = match (quoted, ascii && !self.smtputf8) {
            (true, _) => "quoted-printable",
            (false, true) => "7bit",
            (false, false) => "8bit",
        };
        self.write(&format!("Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"));
        if quoted {
            quoted_printable(&text, &mut self.out);
        } else {
            self.write(&text.replace('\n', "\r\n"));
        }
    }

    fn base64(&mut self, data: &[u8]) {
        // 57 bytes make 76 characters.
        for piece in data.chunks(57) {
            self.write(&STANDARD.encode(piece));
            self.write("\r\n");
        }
    }

    /// The message.
    ///
    /// # Errors
    /// [`TooLarge`] if it is larger than [`Self::max_size`].
    pub fn finish(self) -> Result<Composed, TooLarge> {
        if self.out.len() > self.max_size {
            return Err(TooLarge);
        }
        let eight_bit = !self.out.is_ascii();
        Ok(Composed { bytes: self.out, eight_bit, smtputf8: self.smtputf8 })
    }
}

/// `; filename=…`, RFC 2231 §4 for what isn't ASCII. Nothing for an empty name.
fn file_name_param(name: &str) -> String {
    let name = HeaderValue::cleaned(name);
    let name = name.as_str();
    if name.is_empty() {
        String::new()
    } else if name.is_ascii() {
        format!("; filename=\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        let encoded: String = name
            .bytes()
            .map(|b| if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect();
        format!("; filename*=utf-8''{encoded}")
    }
}

/// Encodes text with LF line breaks, RFC 2045 §6.7. Output lines are at most 76 characters.
fn quoted_printable(text: &str, out: &mut Vec<u8>) {
    for line in text.split_inclusive('\n') {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let last = line.len().saturating_sub(1);
        let mut column = 0;
        for (i, b) in line.bytes().enumerate() {
            let plain = (b.is_ascii_graphic() && b != b'=') || (matches!(b, b' ' | b'\t') && i < last);
            let width = if plain { 1 } else { 3 };
            // Room for the `=` of a soft line break.
            if column + width > 75 {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            if plain {
                out.push(b);
            } else {
                out.extend_from_slice(format!("={b:02X}").as_bytes());
            }
            column += width;
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Encoding, decode};
    use crate::structure::Structure;
    use expect_test::expect;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Zeros;
    impl Random for Zeros {
        fn fill(&self, buf: &mut [u8]) {
            buf.fill(0);
        }
    }

    fn named(name: &str, address: &str) -> NamedAddress {
        NamedAddress { name: name.to_owned(), address: address.parse().unwrap() }
    }

    #[test]
    fn whole_message() {
        let mut c = Composer::new(false);
        c.addresses(&HeaderName::from_static("From"), &[named("Jörg \"x\"", "j@bücher.example")]);
        c.addresses(
            &HeaderName::from_static("To"),
            &[named("", "a@x.example"), named("B, \"b\"", "b@x.example"), named("", "a-rather-long-localpart@x.example")],
        );
        c.addresses(&HeaderName::from_static("Cc"), &[]);
        c.subject("Grüße aus Köln, ganz normal und dann noch mehr Text, damit die Zeile umbricht");
        c.message_ids(&HeaderName::from_static("References"), &["a@x".to_owned(), "b@x".to_owned()]);
        c.body(
            &Entity::Multipart {
                subtype: HeaderValue::cleaned("mixed"),
                parts: vec![
                    Entity::plain("Hallo\nWelt ü"),
                    Entity::Attachment {
                        media_type: HeaderValue::cleaned("image/png"),
                        file_name: "ä.png".to_owned(),
                        inline: false,
                        id: None,
                        data: vec![0; 60],
                    },
                ],
            },
            &Zeros,
        );
        let composed = c.finish().unwrap();
        assert!(composed.eight_bit);
        expect![[r#"
            From: =?utf-8?q?J=C3=B6rg_=22x=22?= <j@xn--bcher-kva.example>
            To: <a@x.example>, "B, \"b\"" <b@x.example>,
            	<a-rather-long-localpart@x.example>
            Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus =?utf-8?q?K=C3=B6ln=2C?= ganz normal
             und dann noch mehr Text, damit die Zeile umbricht
            References: <a@x>
            	<b@x>
            MIME-Version: 1.0
            Content-Type: multipart/mixed;
            	boundary="AAAAAAAAAAAAAAAAAAAA"

            --AAAAAAAAAAAAAAAAAAAA
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: 8bit

            Hallo
            Welt ü
            --AAAAAAAAAAAAAAAAAAAA
            Content-Type: image/png
            Content-Disposition: attachment; filename*=utf-8''%C3%A4.png
            Content-Transfer-Encoding: base64

            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
            AAAA
            --AAAAAAAAAAAAAAAAAAAA--
        "#]]
        .assert_eq(&String::from_utf8(composed.bytes.clone()).unwrap().replace("\r\n", "\n"));
        let s = Structure::of(&composed.bytes);
        assert!(s.defects.is_empty());
        let e = s.root().envelope.as_ref().unwrap();
        assert_eq!(e.from.mailboxes().next().unwrap().decoded_name(), "Jörg \"x\"");
        assert_eq!(e.to.mailboxes().nth(1).unwrap().name, "B, \"b\"");
        assert_eq!(s.section(&[2]).unwrap().file_name().as_deref(), Some("ä.png"));
    }

    #[test]
    fn too_large() {
        let mut c = Composer::new(false).max_size(10);
        c.subject("0123456789");
        assert_eq!(c.finish(), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn subjects_survive(subject in "[a-zäß€ =?]{0,100}") {
            let subject = subject.trim();
            for smtputf8 in [false, true] {
                if smtputf8 && subject.contains("=?") { continue }
                let mut c = Composer::new(smtputf8);
                c.subject(subject);
                let bytes = c.finish().unwrap().bytes;
                // Runs of spaces may collapse where a line was folded: compare words.
                let read = crate::header::Headers::new(&bytes).decoded("subject").unwrap();
                prop_assert!(read.split_whitespace().eq(subject.split_whitespace()), "{:?} {:?}", read, subject);
                prop_assert_eq!(bytes.iter().filter(|b| **b == b':').count(), 1);
            }
        }

        #[test]
        fn texts_survive(text in "[a-zä =\t\n\r.]{0,300}") {
            let mut c = Composer::new(false);
            c.body(&Entity::plain(&text), &Zeros);
            let bytes = c.finish().unwrap().bytes;
            let s = Structure::of(&bytes);
            let body = &bytes[usize::try_from(s.root().body.start).unwrap()..];
            prop_assert!(body.split(|b| *b == b'\n').all(|l| l.len() <= 78));
            let decoded = String::from_utf8(decode(s.root().transfer_encoding(), body, usize::MAX)).unwrap();
            let mut want = text.replace("\r\n", "\n");
            if !want.ends_with('\n') { want.push('\n') }
            prop_assert_eq!(decoded.replace("\r\n", "\n"), want);
            prop_assert!(s.root().transfer_encoding() != Encoding::Unknown);
        }
    }
}
