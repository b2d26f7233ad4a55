//! Identifiers that tie messages together: Message-IDs, references and base subjects.

use crate::address::is_plain_address;
use crate::header::Headers;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mox_base::{Localpart, Random};

/// A new Message-ID without its `<>`: 16 random bytes, at the host that makes it.
pub fn new_message_id(random: &dyn Random, host: &str) -> String {
    let mut id = [0; 16];
    random.fill(&mut id);
    format!("{}@{host}", URL_SAFE_NO_PAD.encode(id))
}

/// Why a Message-ID can't be canonicalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageIdError {
    /// No `<`, no `>`, or something other than a space behind it.
    #[error("not a Message-ID in angle brackets")]
    Syntax,
    /// Nothing between the brackets.
    #[error("empty Message-ID")]
    Empty,
}

/// The canonical form of a `Message-ID` value, for comparing: without brackets, lower case, an address' localpart without needless
/// quotes.
///
/// # Errors
/// See [`MessageIdError`].
pub fn canonical_message_id(value: &str) -> Result<String, MessageIdError> {
    let rest = value.trim().strip_prefix('<').ok_or(MessageIdError::Syntax)?;
    let (id, after) = rest.split_once('>').ok_or(MessageIdError::Syntax)?;
    if !after.is_empty() && !after.starts_with(' ') {
        return Err(MessageIdError::Syntax);
    }
    canonical(id).ok_or(MessageIdError::Empty)
}

fn canonical(id: &str) -> Option<String> {
    let id = id.to_lowercase();
    if id.is_empty() {
        return None;
    }
    if let Some((localpart, domain)) = id.rsplit_once('@')
        && is_plain_address(domain)
        && let Ok(localpart) = localpart.parse::<Localpart>()
    {
        return Some(format!("{localpart}@{domain}"));
    }
    Some(id)
}

/// The ids that a message refers to, oldest first: those of `References`, else the first of `In-Reply-To`.
pub fn references(headers: &Headers<'_>) -> Vec<String> {
    let mut ids = Vec::new();
    for field in headers.all("References") {
        referenced(&field.text(), &mut ids);
    }
    if ids.is_empty() {
        for field in headers.all("In-Reply-To") {
            referenced(&field.text(), &mut ids);
        }
        ids.truncate(1);
    }
    ids
}

/// All `<…>` of a text. One interrupted by another `<` is dropped; white space inside comes from broken folding.
fn referenced(text: &str, ids: &mut Vec<String>) {
    let mut open: Option<String> = None;
    for c in text.chars() {
        match (&mut open, c) {
            (_, '<') => open = Some(String::new()),
            (Some(id), '>') => {
                ids.extend(canonical(id));
                open = None;
            }
            (Some(_), ' ' | '\t') | (None, _) => {}
            (Some(id), c) => id.push(c),
        }
    }
}

/// The base subject of a decoded subject, RFC 5256 §2.1, and whether it was that of a reply or forward.
pub fn base_subject(subject: &str) -> (String, bool) {
    let mut response = false;
    let text = collapsed(&subject.to_lowercase());
    let mut s = text.as_str();
    loop {
        // (2) trailers.
        s = s.trim_end();
        while let Some(rest) = s.strip_suffix("(fwd)") {
            response = true;
            s = rest.trim_end();
        }
        // (3) to (5) leaders and blobs.
        loop {
            let before = s.len();
            while let Some(rest) = without_leader(s, &mut response) {
                s = rest;
            }
            // All blobs at once, since behind none of them was a leader: one at a time would take quadratic time.
            while let Some(rest) = without_blob(s).filter(|rest| !rest.is_empty()) {
                s = rest;
            }
            if s.len() == before {
                break;
            }
        }
        // (6) `[fwd: … ]`.
        match s.strip_prefix("[fwd:").and_then(|rest| rest.strip_suffix(']')) {
            Some(rest) => {
                response = true;
                s = rest;
            }
            None => break,
        }
    }
    // Threads would be joined by what databases can't hold.
    if s.contains('\0') { (String::new(), response) } else { (s.to_owned(), response) }
}

/// Runs of white space as one space, CR removed.
fn collapsed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\r' => {}
            ' ' | '\t' | '\n' => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// Strips one white space, or `*subj-blob subj-refwd`.
fn without_leader<'s>(s: &'s str, response: &mut bool) -> Option<&'s str> {
    if let Some(rest) = s.strip_prefix(' ') {
        return Some(rest);
    }
    let mut rest = s;
    while let Some(after) = without_blob(rest) {
        rest = after;
    }
    let rest = rest.strip_prefix("re").or_else(|| rest.strip_prefix("fwd")).or_else(|| rest.strip_prefix("fw"))?;
    let rest = rest.trim_start_matches(' ');
    let rest = without_blob(rest).unwrap_or(rest);
    let rest = rest.strip_prefix(':')?;
    *response = true;
    Some(rest)
}

/// Strips `subj-blob = "[" *BLOBCHAR "]" *WSP`.
fn without_blob(s: &str) -> Option<&str> {
    let inner = s.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    inner.get(end..)?.strip_prefix(']').map(|rest| rest.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn message_ids() {
        for (value, want) in [
            ("<User@Domain@Time>", Ok("user@domain@time")),
            ("<user@d> (added by x)", Ok("user@d")),
            (" <\"user\"@d> ", Ok("user@d")),
            ("<no at>", Ok("no at")),
            ("<>", Err(MessageIdError::Empty)),
            ("<a@b>x", Err(MessageIdError::Syntax)),
            ("a@b", Err(MessageIdError::Syntax)),
            ("<a@b", Err(MessageIdError::Syntax)),
        ] {
            assert_eq!(canonical_message_id(value).as_deref(), want.as_ref().map(|s| *s), "{value}");
        }
    }

    #[test]
    fn reference_lists() {
        let ids = |h: &str| references(&Headers::new(h.as_bytes()));
        assert_eq!(ids("References: <A@b> junk <c@\r\n\td>\r\nReferences: <e<f@g>\r\n"), ["a@b", "c@d", "f@g"]);
        assert_eq!(ids("References: none\r\nIn-Reply-To: <a@b> <c@d>\r\n"), ["a@b"]);
        assert!(ids("Subject: x\r\n").is_empty());
    }

    #[test]
    fn base_subjects() {
        for (subject, want, response) in [
            ("[list] re: [list] fwd: a b c", "a b c", true),
            ("fwd [tag] Test", "fwd [tag] test", false),
            ("[nonlist]", "[nonlist]", false),
            ("test (fwd) (fwd) ", "test", true),
            ("Re: Re[2]: Test", "test", true),
            ("[fwd: Test]", "test", true),
            ("[Fwd: [fwd: re: Test]]", "test", true),
            ("re: ", "", true),
            ("  a \t b", "a b", false),
            ("", "", false),
            ("[a] [b]", "[b]", false),
            ("re: a\0b", "", true),
            ("regular", "regular", false),
        ] {
            assert_eq!(base_subject(subject), (want.to_owned(), response), "{subject}");
        }
    }

    #[test]
    fn hostile_subjects_take_linear_time() {
        base_subject(&"[a]".repeat(100_000));
        base_subject(&"[".repeat(300_000));
        base_subject(&"re:".repeat(100_000));
        base_subject(&format!("{}{}", "[fwd:".repeat(50_000), "]".repeat(50_000)));
    }

    proptest! {
        #[test]
        fn base_subject_is_stable(subject in "[ref w:\\[\\]()d ]{0,30}") {
            let (base, _) = base_subject(&subject);
            prop_assert_eq!(base_subject(&base).0, base);
        }
    }
}
