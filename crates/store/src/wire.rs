//! ENVELOPE, BODYSTRUCTURE and common header fields as IMAP sends them, made once when a message is stored.
//!
//! Text is as in the header, encoded words not decoded, which every client understands; what isn't ASCII goes out as a
//! literal, which every client accepts. So one form serves IMAP4rev1 and rev2 alike.

use mox_message::address::AddressList;
use mox_message::{Disposition, Envelope, Headers, Part, Structure};

/// Header fields kept with a message, in lower case: what Thunderbird, mutt, K-9 Mail and others ask for when they list a mailbox. One
/// field more in their request, and each message has to be read.
pub const COMMON_HEADERS: &[&str] = &[
    "auto-submitted",
    "bcc",
    "cc",
    "chat-version",
    "content-description",
    "content-transfer-encoding",
    "content-type",
    "date",
    "disposition-notification-to",
    "from",
    "importance",
    "in-reply-to",
    "lines",
    "list-archive",
    "list-id",
    "list-post",
    "list-subscribe",
    "list-unsubscribe",
    "message-id",
    "mime-version",
    "newsgroups",
    "priority",
    "references",
    "reply-to",
    "sender",
    "subject",
    "to",
    "x-k9mail-identity",
    "x-label",
    "x-mailer",
    "x-priority",
    "x-spam-flag",
    "x-spam-status",
];

/// Bytes of common header fields kept at most; of messages with more, the blob is read.
const MAX_HEADERS: usize = 8 << 10;

/// The common fields of a header section, in order and as they are; none if they are too large.
pub(crate) fn common_headers(section: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for field in Headers::new(section).fields() {
        let name = field.name.to_ascii_lowercase();
        if !COMMON_HEADERS.iter().any(|common| common.as_bytes() == name) {
            continue;
        }
        out.extend_from_slice(field.raw);
        if out.len() > MAX_HEADERS {
            return None;
        }
    }
    Some(out)
}

/// A `string`, RFC 9051 §9: quoted if it can be.
fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    if bytes.len() <= 1024 && bytes.iter().all(|b| (0x20..0x7f).contains(b) || *b == b'\t') {
        out.push(b'"');
        for b in bytes {
            if matches!(b, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*b);
        }
        out.push(b'"');
        return;
    }
    // RFC 9051 §9: a literal can have any octet but NUL.
    let clean: Vec<u8> = bytes.iter().copied().filter(|b| *b != 0).collect();
    out.extend_from_slice(format!("{{{}}}\r\n", clean.len()).as_bytes());
    out.extend_from_slice(&clean);
}

fn nstring(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"NIL"),
    }
}

fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(n.to_string().as_bytes());
}

/// `"(" env-date … env-message-id ")"`, RFC 9051 §7.5.2.
pub(crate) fn envelope(out: &mut Vec<u8>, e: &Envelope) {
    out.push(b'(');
    nstring(out, e.date().map(|d| d.rfc5322_with_day()).as_deref());
    out.push(b' ');
    nstring(out, e.subject_raw.as_deref());
    // Without Sender or Reply-To the server gives From.
    let or_from = |list: &AddressList| if list.is_empty() { e.from.clone() } else { list.clone() };
    for list in [&e.from, &or_from(&e.sender), &or_from(&e.reply_to), &e.to, &e.cc, &e.bcc] {
        out.push(b' ');
        addresses(out, list);
    }
    out.push(b' ');
    nstring(out, e.in_reply_to.as_deref());
    out.push(b' ');
    nstring(out, e.message_id.as_deref());
    out.push(b')');
}

/// `"(" 1*address ")" / nil`, groups flattened.
fn addresses(out: &mut Vec<u8>, list: &AddressList) {
    let start = out.len();
    out.push(b'(');
    for m in list.mailboxes() {
        out.push(b'(');
        nstring(out, Some(m.name.as_str()).filter(|n| !n.is_empty()));
        out.extend_from_slice(b" NIL ");
        nstring(out, Some(m.localpart.as_str()).filter(|l| !l.is_empty()));
        out.push(b' ');
        nstring(out, Some(m.ascii_host().as_str()).filter(|h| !h.is_empty()));
        out.push(b')');
    }
    if out.len() == start.saturating_add(1) {
        out.truncate(start);
        out.extend_from_slice(b"NIL");
    } else {
        out.push(b')');
    }
}

/// Whether to add what BODY leaves out and BODYSTRUCTURE has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `BODY`.
    Basic,
    /// `BODYSTRUCTURE`.
    Extensible,
}

/// `body`, RFC 9051 §9, of a whole message.
pub fn body(out: &mut Vec<u8>, structure: &Structure, form: Form) {
    part(out, structure, structure.root(), form);
}

fn part(out: &mut Vec<u8>, s: &Structure, p: &Part, form: Form) {
    out.push(b'(');
    if p.is_multipart() {
        for child in s.children(p) {
            part(out, s, child, form);
        }
        out.push(b' ');
        string(out, &p.subtype.to_ascii_uppercase());
        if form == Form::Extensible {
            out.push(b' ');
            params(out, &p.params);
            extension(out, p);
        }
    } else {
        single(out, s, p, form);
    }
    out.push(b')');
}

/// `body-type-1part`.
fn single(out: &mut Vec<u8>, s: &Structure, p: &Part, form: Form) {
    string(out, &p.media_type.to_ascii_uppercase());
    out.push(b' ');
    string(out, &p.subtype.to_ascii_uppercase());
    out.push(b' ');
    params(out, &p.params);
    out.push(b' ');
    nstring(out, p.id.as_deref());
    out.push(b' ');
    nstring(out, p.description.as_deref());
    out.push(b' ');
    // RFC 2045 §6.1: 7BIT is the default.
    string(out, &p.encoding.as_deref().filter(|e| !e.is_empty()).unwrap_or("7bit").to_ascii_uppercase());
    out.push(b' ');
    number(out, p.body.end.saturating_sub(p.body.start));
    if let Some(embedded) = s.message_of(p) {
        out.push(b' ');
        match &embedded.envelope {
            Some(e) => envelope(out, e),
            None => envelope(out, &Envelope::default()),
        }
        out.push(b' ');
        part(out, s, embedded, form);
    }
    if p.is_text() || p.message.is_some() {
        out.push(b' ');
        number(out, p.lines.into());
    }
    if form == Form::Extensible {
        out.push(b' ');
        nstring(out, p.md5.as_deref());
        extension(out, p);
    }
}

/// Disposition, language and location.
fn extension(out: &mut Vec<u8>, p: &Part) {
    out.push(b' ');
    match &p.disposition {
        Some(Disposition { kind, params: list }) => {
            out.push(b'(');
            string(out, kind);
            out.push(b' ');
            params(out, list);
            out.push(b')');
        }
        None => out.extend_from_slice(b"NIL"),
    }
    out.push(b' ');
    let languages: Vec<&str> = p.language.as_deref().unwrap_or_default().split(',').map(str::trim).filter(|l| !l.is_empty()).collect();
    match languages.as_slice() {
        [] => out.extend_from_slice(b"NIL"),
        [one] => string(out, one),
        many => {
            for (i, language) in many.iter().enumerate() {
                out.push(if i == 0 { b'(' } else { b' ' });
                string(out, language);
            }
            out.push(b')');
        }
    }
    out.push(b' ');
    nstring(out, p.location.as_deref());
}

/// `body-fld-param`: names in upper case, sorted.
fn params(out: &mut Vec<u8>, list: &[(String, String)]) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    let mut sorted: Vec<(String, &str)> = list.iter().map(|(name, value)| (name.to_ascii_uppercase(), value.as_str())).collect();
    sorted.sort();
    for (i, (name, value)) in sorted.iter().enumerate() {
        out.push(if i == 0 { b'(' } else { b' ' });
        string(out, name);
        out.push(b' ');
        string(out, value);
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(message: &str, form: Form) -> String {
        let mut out = Vec::new();
        body(&mut out, &Structure::of(message.replace('\n', "\r\n").as_bytes()), form);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_without_mime_is_plain_text() {
        assert_eq!(shown("Subject: x\n\nhello\nworld\n", Form::Basic), r#"("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL "7BIT" 14 2)"#);
    }

    #[test]
    fn multipart_with_attachment() {
        let text = "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhi\n--b\nContent-Type: image/png; Name=\"a\\\"b.png\"\n\
                    Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=x.png\nContent-Language: de, en\n\nAAAA\n--b--\n";
        assert_eq!(
            shown(text, Form::Extensible),
            "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"us-ascii\") NIL NIL \"7BIT\" 2 1 NIL NIL NIL NIL)\
             (\"IMAGE\" \"PNG\" (\"NAME\" \"a\\\"b.png\") NIL NIL \"BASE64\" 4 NIL (\"attachment\" (\"FILENAME\" \"x.png\")) (\"de\" \"en\") NIL) \
             \"MIXED\" (\"BOUNDARY\" \"b\") NIL NIL NIL)"
        );
    }

    #[test]
    fn envelope_falls_back_to_from() {
        let header = b"From: \"A B\" <a@x.example>, =?utf-8?q?=C3=A4?= <c@y.example>\r\nTo: g: d@z.example;\r\nSubject: \xc3\xa4\r\nDate: Fri, 2 Jan 2026 03:04:05 +0100\r\n\r\n";
        let mut out = Vec::new();
        envelope(&mut out, &Envelope::of(&Headers::new(header)));
        let from = r#"(("A B" NIL "a" "x.example")("=?utf-8?q?=C3=A4?=" NIL "c" "y.example"))"#;
        let want =
            format!("(\"Fri, 2 Jan 2026 03:04:05 +0100\" {{2}}\r\nä {from} {from} {from} ((NIL NIL \"d\" \"z.example\")) NIL NIL NIL NIL)");
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn common_headers_keep_order_and_bytes() {
        let section = b"Received: x\r\nSUBJECT:  a\r\n b\r\nX-Other: 1\r\nfrom: c\r\n\r\n";
        assert_eq!(common_headers(section).unwrap(), b"SUBJECT:  a\r\n b\r\nfrom: c\r\n");
        assert_eq!(common_headers(&b"To: x\r\n".repeat(2000)), None);
    }
}
