//! Reports in messages, RFC 7489 §7.2.1: finding one, and writing one.

use super::{Feedback, XmlError};
pub use crate::report_mail::Envelope;
use crate::report_mail::Packed;
use crate::unpack::{self, MAX_MESSAGE};
use mox_base::Random;
use mox_message::compose::{Composed, Entity};
use mox_message::{Part, Structure};
use std::io;

/// Why there is no report in a message, or none can be put into one.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Nothing in the message is one.
    #[error("no dmarc report in message")]
    NoReport,
    /// The message, or what it unpacks to, is larger than allowed.
    #[error("dmarc report too large")]
    TooLarge,
    /// It can't be unpacked.
    #[error("unpacking dmarc report: {0}")]
    Packed(io::Error),
    /// It isn't a report.
    #[error(transparent)]
    Xml(#[from] XmlError),
}

impl MessageError {
    pub(super) fn unpacking(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::FileTooLarge { Self::TooLarge } else { Self::Packed(e) }
    }
}

/// The report that a message brings, in whatever part of it.
///
/// # Errors
/// See [`MessageError`].
pub fn read(message: &[u8]) -> Result<Feedback, MessageError> {
    if message.len() > MAX_MESSAGE {
        return Err(MessageError::TooLarge);
    }
    let structure = Structure::of(message);
    for part in structure.parts() {
        let Some(sure) = may_be_report(part) else { continue };
        let data = unpack::content(message, part);
        let xml = match Packing::of(&data) {
            Some(Packing::Gzip) => unpack::gunzip(&data).map_err(MessageError::unpacking)?,
            Some(Packing::Zip) => unpack::unzip(&data).map_err(MessageError::unpacking)?,
            Some(Packing::Plain) => data,
            None if sure => return Err(MessageError::Packed(io::Error::from(io::ErrorKind::InvalidData))),
            None => continue,
        };
        return Ok(Feedback::from_xml(&xml)?);
    }
    Err(MessageError::NoReport)
}

/// Whether a part is one that reports are in, and if so, whether it must be.
fn may_be_report(part: &Part) -> Option<bool> {
    if !part.children.is_empty() || part.message.is_some() {
        return None;
    }
    match (part.media_type.as_str(), part.subtype.as_str()) {
        ("application", "gzip" | "x-gzip" | "zip" | "x-zip" | "x-zip-compressed" | "xml") | ("text", "xml") => Some(true),
        ("application", "octet-stream") => Some(false),
        _ if !part.explicit_type => Some(false),
        _ => None,
    }
}

/// How a report is packed. What it begins with is more to be trusted than what senders call it.
enum Packing {
    Gzip,
    Zip,
    Plain,
}

impl Packing {
    fn of(data: &[u8]) -> Option<Self> {
        let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data).trim_ascii_start();
        match data {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [b'P', b'K', 3, 4, ..] => Some(Self::Zip),
            _ if text.starts_with(b"<?xml") || text.starts_with(b"<feedback") => Some(Self::Plain),
            _ => None,
        }
    }
}

/// Puts a report into a message, not signed yet. RFC 7489 §7.2.1.1.
///
/// # Errors
/// It became too large.
pub fn message(report: &Feedback, envelope: &Envelope<'_>, random: &dyn Random) -> Result<Composed, MessageError> {
    let packed = Packed {
        id: &report.metadata.id,
        begin: report.metadata.begin,
        end: report.metadata.end,
        about: format!("Attached is an aggregate report about DMARC for mail with {} in From.", envelope.policy_domain),
        subtype: "mixed",
        media_type: "application/gzip",
        suffix: "xml.gz",
        data: report.to_gzip().map_err(MessageError::Packed)?,
    };
    envelope.message(packed, &[], random).map_err(|_| MessageError::TooLarge)
}

/// A message instead of a report that nobody can take, RFC 7489 §7.2.2: how large it is, and which addresses don't want so much.
///
/// # Errors
/// It became too large.
pub fn error_message(
    (report, size): (&Feedback, u64),
    uris: &[String],
    envelope: &Envelope<'_>,
    random: &dyn Random,
) -> Result<Composed, MessageError> {
    let mut composer = envelope.header(&report.metadata.id, &[]);
    let mut text = format!(
        "Report-Date: {}\nReport-Domain: {}\nReport-ID: {}\nReport-Size: {size}\nSubmitter: {}\n",
        envelope.date.rfc5322(),
        envelope.policy_domain,
        report.metadata.id,
        envelope.submitter
    );
    for uri in uris {
        text.push_str(&format!("Submitting-URI: {uri}\n"));
    }
    composer.body(&Entity::plain(&text), random);
    composer.finish().map_err(|_| MessageError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::super::{Metadata, Published, Row};
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use flate2::Compression;
    use flate2::read::GzEncoder;
    use mox_base::Timestamp;
    use mox_testkit::SeededRandom;
    use proptest::prelude::*;
    use std::io::{Read as _, Write as _};

    fn sample() -> Feedback {
        let metadata = Metadata {
            organization: "mail.a.example".to_owned(),
            email: "postmaster@mail.a.example".to_owned(),
            id: "20240102.10.0123456789abcdef".to_owned(),
            begin: Timestamp::from_secs(1_704_153_600),
            end: Timestamp::from_secs(1_704_239_999),
            ..Metadata::default()
        };
        let row = Row { source_ip: "192.0.2.1".to_owned(), count: 3, header_from: "b.example".to_owned(), ..Row::default() };
        Feedback { metadata, published: Published { domain: "b.example".to_owned(), ..Published::default() }, rows: vec![row] }
    }

    fn envelope() -> Envelope<'static> {
        Envelope {
            from: "postmaster@mail.a.example".parse().unwrap(),
            to: vec!["r1@b.example".parse().unwrap(), "r2@c.example".parse().unwrap()],
            policy_domain: "b.example",
            submitter: "mail.a.example",
            message_id: "1@mail.a.example".to_owned(),
            date: Timestamp::from_secs(1_704_240_000),
            user_agent: "mox/test",
        }
    }

    fn sample_message() -> String {
        String::from_utf8(message(&sample(), &envelope(), &SeededRandom::default()).unwrap().bytes).unwrap()
    }

    #[test]
    fn there_and_back_in_a_message() {
        let text = sample_message();
        for part in [
            "From: <postmaster@mail.a.example>\r\n",
            "To: <r1@b.example>, <r2@c.example>\r\n",
            "User-Agent: mox/test\r\n",
            "multipart/mixed",
            "application/gzip",
            "mail.a.example!b.example!1704153600!1704239999.xml.gz",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let subject = "Subject: Report Domain: b.example Submitter: mail.a.example Report-ID: <20240102.10.0123456789abcdef>";
        assert!(text.replace("\r\n ", " ").contains(subject), "{text}");
        assert_eq!(read(text.as_bytes()).unwrap(), sample());
    }

    #[test]
    fn a_report_that_is_too_large_is_announced() {
        let uris = ["mailto:r1@b.example!1k".to_owned()];
        let composed = error_message((&sample(), 5000), &uris, &envelope(), &SeededRandom::default()).unwrap();
        let text = String::from_utf8(composed.bytes).unwrap();
        let body = "Report-Date: 3 Jan 2024 00:00:00 +0000\r\nReport-Domain: b.example\r\n\
            Report-ID: 20240102.10.0123456789abcdef\r\nReport-Size: 5000\r\nSubmitter: mail.a.example\r\n\
            Submitting-URI: mailto:r1@b.example!1k\r\n";
        assert!(text.ends_with(body), "{text}");
    }

    fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn part(media_type: &str, data: &[u8]) -> Vec<u8> {
        let of_type = if media_type.is_empty() { String::new() } else { format!("Content-Type: {media_type}\r\n") };
        format!("{of_type}Content-Transfer-Encoding: base64\r\n\r\n{}", STANDARD.encode(data)).into_bytes()
    }

    #[test]
    fn however_it_is_packed() {
        let (xml, gzip) = (sample().to_xml().into_bytes(), sample().to_gzip().unwrap());
        let zip = zipped(&[("a!b!1!2.xml", &xml)]);
        for (media_type, data) in [
            ("application/gzip", &gzip),
            ("application/x-gzip", &gzip),
            ("application/zip", &zip),
            ("application/zip", &gzip),
            ("application/octet-stream", &zip),
            ("application/octet-stream", &gzip),
            ("application/octet-stream", &xml),
            ("text/xml", &xml),
            ("", &gzip),
        ] {
            assert_eq!(read(&part(media_type, data)).unwrap(), sample(), "{media_type}");
        }
        let nested = [
            b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n\
              --x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n"
                .to_vec(),
            part("application/octet-stream", b"something else"),
            b"\r\n--y\r\n".to_vec(),
            part("application/gzip", &gzip),
            b"\r\n--y--\r\n\r\n--x--\r\n".to_vec(),
        ];
        assert_eq!(read(&nested.concat()).unwrap(), sample());
    }

    /// RFC 1952 §2.2: a file of gzip may be several, one behind the other.
    #[test]
    fn in_pieces() {
        let xml = sample().to_xml();
        let (a, b) = xml.as_bytes().split_at(xml.len() / 2);
        let pieces = [unpack::gzip(a).unwrap(), unpack::gzip(b"").unwrap(), unpack::gzip(b).unwrap()].concat();
        assert_eq!(read(&part("application/gzip", &pieces)).unwrap(), sample());
    }

    #[test]
    fn what_has_no_report() {
        let two = zipped(&[("a.xml", b"<feedback/>"), ("b.xml", b"<feedback/>")]);
        for (message, want) in [
            (b"Subject: hi\r\n\r\nhello".to_vec(), "no dmarc report"),
            (part("text/plain", b"<feedback>"), "no dmarc report"),
            (part("application/octet-stream", b"hello"), "no dmarc report"),
            (part("application/gzip", b"hello"), "unpacking dmarc report"),
            (part("application/gzip", b"\x1f\x8bhello"), "unpacking dmarc report"),
            (part("application/zip", b"PK\x03\x04hello"), "unpacking dmarc report"),
            (part("application/zip", &two), "unpacking dmarc report: zip archive with 2 files"),
            (part("text/xml", b"<feedback/>"), "bad date range"),
            (vec![b'a'; MAX_MESSAGE + 1], "dmarc report too large"),
        ] {
            let error = read(&message).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}, not {want}");
        }
    }

    /// 300 MiB of spaces, in less than 1 MiB: nothing is unpacked beyond the limit.
    #[test]
    fn bombs_are_refused() {
        const SIZE: u64 = 300 << 20;
        let mut gzip = Vec::new();
        GzEncoder::new(std::io::repeat(b' ').take(SIZE), Compression::fast()).read_to_end(&mut gzip).unwrap();
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("a.xml", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::copy(&mut std::io::repeat(b' ').take(SIZE), &mut zip).unwrap();
        let zip = zip.finish().unwrap().into_inner();
        // Many small ones, one behind the other, RFC 1952 §2.2.
        let member = unpack::gzip(&vec![b' '; 1 << 20]).unwrap();
        let members = member.repeat(300);
        // A file that says it is small.
        let mut lying = zip.clone();
        for (magic, at) in [(b"PK\x01\x02", 24), (b"PK\x03\x04", 22)] {
            let place = lying.windows(4).rposition(|w| w == magic).unwrap();
            lying[place + at..place + at + 4].copy_from_slice(&10_u32.to_le_bytes());
        }
        // A gzip of a gzip is unpacked once.
        let twice = unpack::gzip(&gzip).unwrap();
        let large = "dmarc report too large";
        for (what, data, want) in [
            ("gzip", gzip, large),
            ("members", members, large),
            ("zip", zip, large),
            ("a zip of another size", lying, large),
            ("gzip of gzip", twice, "not a whole dmarc report"),
        ] {
            assert!(data.len() < 2 << 20);
            let error = read(&part("application/octet-stream", &data)).unwrap_err().to_string();
            assert!(error.starts_with(want) || what == "gzip of gzip" && error.starts_with("bad xml"), "{what}: {error}, not {want}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..900, byte: u8, packing in 0..3) {
            let mut text = match packing {
                0 => sample_message().into_bytes(),
                1 => part("application/zip", &zipped(&[("a", sample().to_xml().as_bytes())])),
                _ => part("application/gzip", &sample().to_gzip().unwrap()),
            };
            let place = at.min(text.len() - 1);
            text[place] = byte;
            let _read = read(&text);
        }

        #[test]
        fn archives_of_anything(mut data in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200, zip: bool) {
            let mut packed = if zip { zipped(&[("a", &data)]) } else { unpack::gzip(&data).unwrap() };
            let _read = read(&part("application/octet-stream", &packed));
            let place = at.min(packed.len());
            packed.splice(place..place, data.drain(..data.len() / 2));
            let _read = read(&part("application/octet-stream", &packed));
        }
    }
}
