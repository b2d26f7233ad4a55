//! Parts of FETCH responses that come from the view and the narrow rows: flags, dates, numbers. None allocates per message.

use mox_base::{ModSeq, Timestamp, Uid};
use mox_imap::put;
use mox_store::{Flags, Mailbox};

/// The flags in the order in which they are printed.
const NAMES: [(Flags, &[u8]); 10] = [
    (Flags::SEEN, b"\\Seen"),
    (Flags::ANSWERED, b"\\Answered"),
    (Flags::FLAGGED, b"\\Flagged"),
    (Flags::DELETED, b"\\Deleted"),
    (Flags::DRAFT, b"\\Draft"),
    (Flags::FORWARDED, b"$Forwarded"),
    (Flags::JUNK, b"$Junk"),
    (Flags::NOTJUNK, b"$NotJunk"),
    (Flags::PHISHING, b"$Phishing"),
    (Flags::MDNSENT, b"$MDNSent"),
];

/// `FLAGS (…)`.
pub(crate) fn flags(out: &mut Vec<u8>, flags: Flags, keywords: &[u16], mailbox: &Mailbox) {
    out.extend_from_slice(b"FLAGS (");
    let start = out.len();
    for (flag, name) in NAMES {
        if flags.has(flag) {
            if out.len() > start {
                out.push(b' ');
            }
            out.extend_from_slice(name);
        }
    }
    if !keywords.is_empty() {
        let mut names: Vec<&str> = keywords.iter().filter_map(|i| mailbox.keywords.get(usize::from(*i))).map(|k| k.as_str()).collect();
        names.sort_unstable();
        for name in names {
            if out.len() > start {
                out.push(b' ');
            }
            out.extend_from_slice(name.as_bytes());
        }
    }
    out.push(b')');
}

/// `* seq FETCH (UID uid`: the beginning of each response about a message.
pub(crate) fn head(out: &mut Vec<u8>, seq: u32, uid: Uid) {
    out.extend_from_slice(b"* ");
    put::number(out, u64::from(seq));
    out.extend_from_slice(b" FETCH (UID ");
    put::number(out, u64::from(uid.get()));
}

/// ` MODSEQ (n)`.
pub(crate) fn modseq(out: &mut Vec<u8>, modseq: ModSeq) {
    out.extend_from_slice(b" MODSEQ (");
    put::number(out, modseq.get());
    out.push(b')');
}

/// Prints dates; messages of one day share the work.
#[derive(Debug, Default)]
pub(crate) struct Dates {
    day: i64,
    /// ` 2-Jan-2006 `
    text: Vec<u8>,
}

const DAY: i64 = 24 * 60 * 60;

impl Dates {
    /// `" 2-Jan-2006 15:04:05 +0000"`, RFC 9051 §9 `date-time`, in a zone so many minutes east of UTC.
    pub(crate) fn print(&mut self, out: &mut Vec<u8>, time: Timestamp, offset_minutes: i16) {
        let secs = time.secs().saturating_add(i64::from(offset_minutes).saturating_mul(60));
        let day = secs.div_euclid(DAY);
        if self.text.is_empty() || day != self.day {
            self.day = day;
            self.text = time.imap_at(offset_minutes).as_bytes().get(..12).unwrap_or_default().to_vec();
        }
        let rest = secs.rem_euclid(DAY);
        out.push(b'"');
        out.extend_from_slice(&self.text);
        for (n, end) in [(rest / 3600, b':'), (rest / 60 % 60, b':'), (rest % 60, b' ')] {
            let n = u8::try_from(n).unwrap_or(0);
            out.extend_from_slice(&[b'0'.saturating_add(n / 10), b'0'.saturating_add(n % 10), end]);
        }
        let (sign, zone) = (if offset_minutes < 0 { b'-' } else { b'+' }, offset_minutes.unsigned_abs());
        out.push(sign);
        for n in [zone / 60, zone % 60] {
            let n = u8::try_from(n).unwrap_or(0);
            out.extend_from_slice(&[b'0'.saturating_add(n / 10), b'0'.saturating_add(n % 10)]);
        }
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let mut dates = Dates::default();
        for secs in [1_136_214_245, 1_136_214_246, -1, 0, 86_399, 86_400] {
            for zone in [0, 120, -150, 1439, -1439] {
                let mut out = Vec::new();
                dates.print(&mut out, Timestamp::from_secs(secs), zone);
                assert_eq!(String::from_utf8_lossy(&out), format!("\"{}\"", Timestamp::from_secs(secs).imap_at(zone)));
            }
        }
    }
}
