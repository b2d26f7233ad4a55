//! Making signatures.

use super::canonical::{BodyHasher, Canonicalization, canonical_field};
use super::key::SigningKey;
use crate::section::Section;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::{Domain, Localpart, Timestamp};
use mox_message::Headers;
use mox_message::fold::FoldedField;
use std::collections::HashMap;
use std::time::Duration;

/// How a domain signs, by one of its keys.
#[derive(Clone, Debug)]
pub struct DkimSelector {
    /// The name below `_domainkey.<domain>`.
    pub name: Domain,
    /// The key.
    pub key: SigningKey,
    /// For header fields.
    pub header: Canonicalization,
    /// For the body.
    pub body: Canonicalization,
    /// Names of the fields that are signed; `From` is among them.
    pub headers: Vec<String>,
    /// Whether no further field of these names may be added: each name is signed once more than it occurs.
    pub seal_headers: bool,
    /// How long the signature is valid; for ever if none.
    pub expiration: Option<Duration>,
}

/// Why a message can't be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// RFC 6376 §5.4 wants `From` signed; with several, readers and verifiers may disagree about the author.
    #[error("message must have exactly one From header to be signed")]
    From,
    /// The header section is larger than 1 MiB, or has more than a thousand fields to be signed.
    #[error("header too large to be signed")]
    HeaderTooLarge,
    /// A line in the header section that is no field, which verifiers reject.
    #[error("malformed header")]
    MalformedHeader,
    /// A selector that doesn't sign `From`.
    #[error("selector does not sign the From header")]
    Selector,
    /// The key failed.
    #[error("signing failed")]
    Key,
}

/// The most fields signed.
const MAX_NAMES: usize = 1000;

/// Signs one message for one domain.
#[derive(Debug)]
pub struct Signer<'a> {
    domain: &'a Domain,
    identity: Option<&'a Localpart>,
    selectors: &'a [DkimSelector],
    header: Section,
    bodies: Vec<BodyHasher>,
}

impl<'a> Signer<'a> {
    /// A signer at the start of a message. `identity` is the localpart of `i=`: on whose behalf the domain signs.
    pub fn new(domain: &'a Domain, identity: Option<&'a Localpart>, selectors: &'a [DkimSelector]) -> Self {
        let mut bodies: Vec<BodyHasher> = Vec::new();
        for selector in selectors {
            if !bodies.iter().any(|b| b.canonicalization() == selector.body) {
                bodies.push(BodyHasher::new(selector.body, None));
            }
        }
        Self { domain, identity, selectors, header: Section::new(), bodies }
    }

    /// Takes the next piece of the message, which has CRLF line breaks.
    pub fn push(&mut self, data: &[u8]) {
        let body = self.header.push(data);
        self.bodies.iter_mut().for_each(|b| b.push(body));
    }

    /// The `DKIM-Signature` fields, in the order of the selectors, each with its line break. They go in front of the message.
    ///
    /// # Errors
    /// See [`SignError`].
    pub fn finish(self, now: Timestamp) -> Result<String, SignError> {
        let header = self.header.bytes().ok_or(SignError::HeaderTooLarge)?;
        let fields: Vec<_> = Headers::new(header).fields().collect();
        if fields.iter().any(|f| f.name.is_empty()) {
            return Err(SignError::MalformedHeader);
        }
        if fields.iter().filter(|f| f.is("From")).count() != 1 {
            return Err(SignError::From);
        }
        let hashes: Vec<(Canonicalization, [u8; 32])> = self.bodies.iter().map(|b| (b.canonicalization(), b.clone().finish())).collect();
        let mut out = String::new();
        for selector in self.selectors {
            let hash = hashes.iter().find(|(c, _)| *c == selector.body).map(|(_, hash)| hash).ok_or(SignError::Key)?;
            out.push_str(&self.signature(selector, header, hash, now)?);
        }
        Ok(out)
    }

    fn signature(&self, selector: &DkimSelector, header: &[u8], body_hash: &[u8], now: Timestamp) -> Result<String, SignError> {
        if !selector.headers.iter().any(|h| h.eq_ignore_ascii_case("from")) {
            return Err(SignError::Selector);
        }
        let headers = Headers::new(header);
        let mut names: Vec<&str> = selector.headers.iter().map(String::as_str).collect();
        if selector.seal_headers {
            for name in &selector.headers {
                names.extend(headers.all(name).map(|_| name.as_str()));
            }
        }
        if names.len() > MAX_NAMES {
            return Err(SignError::HeaderTooLarge);
        }
        let mut f = FoldedField::new("DKIM-Signature");
        f.token("v=1;").token(&format!("d={};", self.domain.ascii())).token(&format!("s={};", selector.name.ascii()));
        if let Some(localpart) = self.identity {
            f.token(&format!("i={}@{};", quoted_printable(&localpart.to_string()), self.domain.ascii()));
        }
        f.token(&format!("a={};", selector.key.algorithm()));
        if (selector.header, selector.body) != (Canonicalization::Simple, Canonicalization::Simple) {
            f.token(&format!("c={}/{};", selector.header.name(), selector.body.name()));
        }
        f.token(&format!("t={};", now.secs()));
        if let Some(expiration) = selector.expiration {
            f.token(&format!("x={};", now.after(expiration).secs()));
        }
        for (i, name) in names.iter().enumerate() {
            let end = if i.saturating_add(1) == names.len() { ';' } else { ':' };
            if i == 0 {
                f.token(&format!("h={name}{end}"));
            } else {
                f.glued(&format!("{name}{end}"));
            }
        }
        f.token("bh=").data(&STANDARD.encode(body_hash)).glued(";");
        f.token("b=");
        let data = signed_data(&headers, &names, selector.header, f.finish().trim_end().as_bytes());
        let signature = selector.key.sign(&data).ok_or(SignError::Key)?;
        Ok(f.data(&STANDARD.encode(signature)).finish())
    }
}

/// What the key signs, RFC 6376 §3.7: the fields of each name from the bottom up, then the signature's own field with an empty
/// `b=` and without line break.
pub(crate) fn signed_data(headers: &Headers<'_>, names: &[&str], canonicalization: Canonicalization, own: &[u8]) -> Vec<u8> {
    // By name, the last at the end; looking each up anew would be quadratic in the header.
    let mut fields: HashMap<Vec<u8>, Vec<&[u8]>> = HashMap::new();
    for field in headers.fields().filter(|f| !f.name.is_empty()) {
        fields.entry(field.name.to_ascii_lowercase()).or_default().push(field.raw);
    }
    let mut data = Vec::new();
    for name in names {
        // A name beyond the available fields stands for their absence, RFC 6376 §5.4.2.
        if let Some(raw) = fields.get_mut(name.to_ascii_lowercase().as_bytes()).and_then(Vec::pop) {
            canonical_field(canonicalization, raw, &mut data);
        }
    }
    canonical_field(canonicalization, own, &mut data);
    data
}

/// `dkim-quoted-printable`, RFC 6376 §2.11; characters beyond ASCII stay, RFC 8616 §5.
fn quoted_printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ';' | '=' => format!("={:02X}", u32::from(c)),
            c if c.is_ascii() && !c.is_ascii_graphic() => format!("={:02X}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::Ed25519KeyPair;
    use expect_test::expect;
    use std::sync::Arc;

    // RFC 8463 §A.3, without the signatures.
    const MESSAGE: &str = "From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";

    fn key() -> SigningKey {
        // RFC 8463 §A.1.
        let seed = STANDARD.decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap();
        SigningKey::Ed25519(Arc::new(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()))
    }

    fn selector() -> DkimSelector {
        DkimSelector {
            name: "brisbane".parse().unwrap(),
            key: key(),
            header: Canonicalization::Relaxed,
            body: Canonicalization::Relaxed,
            headers: ["From", "To", "Subject", "Date"].map(str::to_owned).to_vec(),
            seal_headers: true,
            expiration: Some(Duration::from_secs(72 * 3600)),
        }
    }

    #[test]
    fn rfc_8463_vector() {
        let own = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
        let names = ["from", "to", "subject", "date", "message-id", "from", "subject", "date"];
        let data = signed_data(&Headers::new(MESSAGE.as_bytes()), &names, Canonicalization::Relaxed, own.as_bytes());
        assert_eq!(
            STANDARD.encode(key().sign(&data).unwrap()),
            "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
        );
    }

    fn sign(message: &str, selectors: &[DkimSelector], piece: usize) -> Result<String, SignError> {
        let domain = "football.example.com".parse().unwrap();
        let localpart = "joe=x".parse().unwrap();
        let mut signer = Signer::new(&domain, Some(&localpart), selectors);
        message.as_bytes().chunks(piece).for_each(|p| signer.push(p));
        signer.finish(Timestamp::from_secs(1_528_637_909))
    }

    #[test]
    fn field() {
        let whole = sign(MESSAGE, &[selector()], usize::MAX).unwrap();
        expect![[r#"
            DKIM-Signature: v=1; d=football.example.com; s=brisbane;
            	i=joe=3Dx@football.example.com; a=ed25519-sha256; c=relaxed/relaxed;
            	t=1528637909; x=1528897109; h=From:To:Subject:Date:From:To:Subject:Date;
            	bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AWR73uQy2uAHSUYHhjc8ODHA
            	N51xHFSXPENG+LyHsTxzIHge163CNpO+FBDmVvnoq1Li+NYYJ64OUpZcZZBOBg==
        "#]]
        .assert_eq(&whole.replace("\r\n", "\n"));
        for piece in 1..9 {
            assert_eq!(sign(MESSAGE, &[selector()], piece).unwrap(), whole);
        }
    }

    #[test]
    fn refuses() {
        assert_eq!(sign("To: x\r\n\r\n", &[selector()], 9), Err(SignError::From));
        assert_eq!(sign("From: x\r\nFrom: y\r\n\r\n", &[selector()], 9), Err(SignError::From));
        assert_eq!(sign("From: x\r\nbroken\r\n\r\n", &[selector()], 9), Err(SignError::MalformedHeader));
        assert_eq!(sign("\r\nFrom: x\r\n", &[selector()], 9), Err(SignError::From));
        assert_eq!(sign(&format!("From: x\r\nX: {}\r\n\r\n", "x".repeat(2 << 20)), &[selector()], 1 << 16), Err(SignError::HeaderTooLarge));
        let other = DkimSelector { headers: vec!["To".to_owned()], ..selector() };
        assert_eq!(sign(MESSAGE, &[other], 9), Err(SignError::Selector));
    }
}
