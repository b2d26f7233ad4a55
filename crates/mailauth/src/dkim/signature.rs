//! `DKIM-Signature` fields as values, RFC 6376 §3.5, and `ARC-Message-Signature` fields, which are like them.

use super::canonical::Canonicalization;
use crate::tags::{TagError, Tags, base64, list};
use mox_base::Domain;

/// A signature's claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `a=`.
    pub algorithm: String,
    /// `b=`.
    pub signature: Vec<u8>,
    /// `bh=`.
    pub body_hash: Vec<u8>,
    /// `c=` of header and body; none if unknown.
    pub canonicalization: Option<(Canonicalization, Canonicalization)>,
    /// `d=`: who signed.
    pub domain: Domain,
    /// `s=`: with which key.
    pub selector: Domain,
    /// `i=`: on whose behalf, as localpart and domain. Not in ARC, where the tag means something else.
    pub identity: Option<(String, Domain)>,
    /// `h=`.
    pub headers: Vec<String>,
    /// `l=`: how much of the body is signed.
    pub length: Option<u64>,
    /// `q=`: how to get the key.
    pub query_methods: Vec<String>,
    /// `t=`: seconds since 1970.
    pub signed_at: Option<u64>,
    /// `x=`: seconds since 1970.
    pub expires: Option<u64>,
}

/// Which field is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    Dkim,
    Arc,
}

/// How to check a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    RsaSha256,
    Ed25519Sha256,
}

impl Algorithm {
    /// By the name of `a=`. `rsa-sha1` isn't one any more, RFC 8301 §3.1.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "rsa-sha256" => Some(Self::RsaSha256),
            "ed25519-sha256" => Some(Self::Ed25519Sha256),
            _ => None,
        }
    }

    /// As in `k=` of key records.
    pub(crate) const fn key_type(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa",
            Self::Ed25519Sha256 => "ed25519",
        }
    }
}

impl Signature {
    /// Parses a field's value.
    ///
    /// # Errors
    /// See [`TagError`].
    pub(crate) fn parse(value: &str, flavor: Flavor) -> Result<Self, TagError> {
        let tags = Tags::parse(value)?;
        // RFC 6376 §6.1.1; ARC has no version, RFC 8617 §4.1.2.
        if flavor == Flavor::Dkim && tags.require("v")? != "1" {
            return Err(TagError::Value("v"));
        }
        let decoded = |name: &'static str| base64(tags.require(name)?).filter(|d| !d.is_empty()).ok_or(TagError::Value(name));
        let algorithm = tags.require("a")?.to_ascii_lowercase();
        let body_hash = decoded("bh")?;
        let known = Algorithm::of(&algorithm).is_some();
        if known && body_hash.len() != 32 {
            return Err(TagError::Value("bh"));
        }
        let domain = Domain::parse_lax(tags.require("d")?).map_err(|_| TagError::Value("d"))?;
        let identity = match tags.find("i").filter(|_| flavor == Flavor::Dkim) {
            None => None,
            Some(text) => {
                let identity = identity(text).ok_or(TagError::Value("i"))?;
                // RFC 6376 §3.5.
                if !identity.1.is_within(&domain) {
                    return Err(TagError::Value("i"));
                }
                Some(identity)
            }
        };
        let (signed_at, expires) = (tags.number("t")?, tags.number("x")?);
        if let (Some(signed), Some(expires)) = (signed_at, expires)
            && signed >= expires
        {
            return Err(TagError::Value("x"));
        }
        let headers = list(tags.require("h")?);
        if headers.is_empty() {
            return Err(TagError::Value("h"));
        }
        Ok(Self {
            signature: decoded("b")?,
            body_hash,
            canonicalization: canonicalization(tags.find("c"), flavor),
            selector: Domain::parse_lax(tags.require("s")?).map_err(|_| TagError::Value("s"))?,
            headers,
            length: tags.number("l")?,
            query_methods: tags.find("q").map(list).unwrap_or_default(),
            signed_at,
            expires,
            identity,
            domain,
            algorithm,
        })
    }

    /// Whether a field of this name is signed.
    pub fn covers(&self, name: &str) -> bool {
        self.headers.iter().any(|h| h.eq_ignore_ascii_case(name))
    }

    /// `i=` as text.
    pub fn identity_text(&self, smtputf8: bool) -> Option<String> {
        self.identity.as_ref().map(|(localpart, domain)| format!("{localpart}@{}", domain.for_smtputf8(smtputf8)))
    }
}

/// `header [ "/" body ]`, each `simple` if not given. In ARC, whose fields pass through many hands, sealers and verifiers agree
/// that a missing tag means `relaxed` for both, whatever RFC 8617 §4.1.2 takes over from DKIM.
fn canonicalization(text: Option<&str>, flavor: Flavor) -> Option<(Canonicalization, Canonicalization)> {
    let kind = |name: &str| match name.trim().to_ascii_lowercase().as_str() {
        "simple" => Some(Canonicalization::Simple),
        "relaxed" => Some(Canonicalization::Relaxed),
        _ => None,
    };
    match text {
        None if flavor == Flavor::Arc => Some((Canonicalization::Relaxed, Canonicalization::Relaxed)),
        None => Some((Canonicalization::Simple, Canonicalization::Simple)),
        Some(text) => match text.split_once('/') {
            Some((header, body)) => Some((kind(header)?, kind(body)?)),
            None => Some((kind(text)?, Canonicalization::Simple)),
        },
    }
}

/// `[ localpart ] "@" domain` in `dkim-quoted-printable`, RFC 6376 §2.11.
fn identity(text: &str) -> Option<(String, Domain)> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'=' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    let text = String::from_utf8(bytes).ok()?;
    let (localpart, domain) = text.rsplit_once('@')?;
    if localpart.chars().any(char::is_control) {
        return None;
    }
    Some((localpart.to_owned(), Domain::parse_lax(domain).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BH: &str = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=";

    fn parse(more: &str) -> Result<Signature, TagError> {
        Signature::parse(&format!("v=1; a=rsa-sha256; d=x.example; s=a_b.c; h=From : to; bh={BH}; b=YWJj{more}"), Flavor::Dkim)
    }

    #[test]
    fn values() {
        let s = parse("; i=a=40b=20c@mail.x.example; c=relaxed; t=1; x=2; l=7; q=dns/txt:x").unwrap();
        assert_eq!(s.identity_text(false).unwrap(), "a@b c@mail.x.example");
        assert_eq!(s.canonicalization, Some((Canonicalization::Relaxed, Canonicalization::Simple)));
        assert_eq!((s.signed_at, s.expires, s.length), (Some(1), Some(2), Some(7)));
        assert!(s.covers("FROM") && !s.covers("subject"));
        assert_eq!(s.query_methods, ["dns/txt", "x"]);
        assert_eq!(parse("; c=odd").unwrap().canonicalization, None);
    }

    #[test]
    fn refuses() {
        for (more, want) in [
            ("; i=@y.example", TagError::Value("i")),
            ("; i=x", TagError::Value("i")),
            ("; i==4@x.example", TagError::Value("i")),
            ("; t=2; x=2", TagError::Value("x")),
            ("; t=-1", TagError::Value("t")),
            ("; d=x.example", TagError::Duplicate("d".to_owned())),
        ] {
            assert_eq!(parse(more), Err(want), "{more}");
        }
        let parse = |text: &str| Signature::parse(text, Flavor::Dkim);
        assert_eq!(parse("v=2; a=b"), Err(TagError::Value("v")));
        assert_eq!(parse("a=b"), Err(TagError::Missing("v")));
        assert_eq!(parse("v=1; a=rsa-sha256; bh=YQ=="), Err(TagError::Value("bh")));
    }
}
