//! Public keys in DNS, RFC 6376 §3.6.1: the record, and looking it up.

use super::signature::Algorithm;
use crate::tags::{TagError, Tags, base64, list};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::{Domain, Lookup, LookupError};

/// RFC 8301 §3.2 wants at least 1024 bits.
const MIN_RSA_BITS: usize = 1024;

/// Larger keys only cost verifiers time.
const MAX_RSA_BITS: usize = 4096;

/// A key record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// `h=`: the hashes it may be used with; all if empty.
    pub hashes: Vec<String>,
    /// `k=`.
    pub key_type: String,
    /// `n=`, for people.
    pub notes: String,
    /// `p=`; empty if the key was revoked.
    pub key: Vec<u8>,
    /// `s=`: what it may be used for; anything if empty.
    pub services: Vec<String>,
    /// `t=`: `y` testing, `s` no subdomains in `i=`.
    pub flags: Vec<String>,
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("no dkim key record")]
    NotFound,
    /// DNS failed.
    #[error("looking up dkim key record: {0}")]
    Dns(LookupError),
    /// Records, but none for DKIM.
    #[error("no dkim key among txt records")]
    NotDkim,
    /// RFC 6376 §3.6.2.2: which one applies isn't defined.
    #[error("several dkim key records")]
    Several,
    /// A record that can't be read.
    #[error("bad dkim key record: {0}")]
    Syntax(#[from] TagError),
}

/// What was found at a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLookup {
    /// The key, with the text of its record.
    pub record: Result<(KeyRecord, String), KeyError>,
    /// Whether the answer was authentic.
    pub authentic: bool,
}

impl KeyRecord {
    /// Parses the text of a TXT record.
    ///
    /// # Errors
    /// See [`TagError`].
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let tags = Tags::parse(text)?;
        // RFC 6376 §3.6.1: first, if present.
        if tags.find("v").is_some() && tags.all().first() != Some(&("v", "DKIM1")) {
            return Err(TagError::Value("v"));
        }
        Ok(Self {
            hashes: tags.find("h").map(list).unwrap_or_default(),
            key_type: tags.find("k").unwrap_or("rsa").to_ascii_lowercase(),
            notes: tags.find("n").unwrap_or_default().to_owned(),
            key: base64(tags.require("p")?).ok_or(TagError::Value("p"))?,
            services: tags.find("s").map(list).unwrap_or_default(),
            flags: tags.find("t").map(list).unwrap_or_default(),
        })
    }

    /// Whether a text is meant as a key record: by its version, or by having a key and no version.
    fn is_meant(text: &str) -> bool {
        match Tags::parse(text) {
            Ok(tags) => match tags.find("v") {
                Some(version) => version == "DKIM1",
                None => tags.find("p").is_some(),
            },
            Err(_) => text.trim_start().starts_with("v=DKIM1"),
        }
    }

    /// Whether a flag is set.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f.eq_ignore_ascii_case(flag))
    }

    /// Whether mail may be signed with it.
    pub fn is_for_email(&self) -> bool {
        self.services.is_empty() || self.services.iter().any(|s| s == "*" || s.eq_ignore_ascii_case("email"))
    }

    /// Whether it may be used with SHA-256.
    pub fn allows_sha256(&self) -> bool {
        self.hashes.is_empty() || self.hashes.iter().any(|h| h.eq_ignore_ascii_case("sha256"))
    }

    /// The size of an RSA key in bits.
    pub fn rsa_bits(&self) -> Option<usize> {
        (self.key_type == "rsa").then(|| rsa_components(&self.key)).flatten().map(|(n, _)| bits(n))
    }

    /// Checks a signature over canonical data.
    pub(crate) fn verify(&self, algorithm: Algorithm, data: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        match algorithm {
            Algorithm::RsaSha256 => {
                let (n, e) = rsa_components(&self.key).ok_or(VerifyError::Key)?;
                match bits(n) {
                    ..MIN_RSA_BITS => return Err(VerifyError::Weak),
                    MIN_RSA_BITS..=MAX_RSA_BITS => {}
                    _ => return Err(VerifyError::Large),
                }
                let verified = RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, data, signature);
                verified.map_err(|_| VerifyError::Mismatch)
            }
            // PureEdDSA over the hash, RFC 8463 §3.
            Algorithm::Ed25519Sha256 if self.key.len() == 32 => {
                let hash = digest(&SHA256, data);
                UnparsedPublicKey::new(&ED25519, &self.key).verify(hash.as_ref(), signature).map_err(|_| VerifyError::Mismatch)
            }
            Algorithm::Ed25519Sha256 => Err(VerifyError::Key),
        }
    }

    /// The record's text, defaults left out.
    pub fn to_text(&self) -> String {
        let mut out = "v=DKIM1;".to_owned();
        let mut put = |name: &str, value: &str| {
            if !value.is_empty() {
                out.push_str(&format!("{name}={value};"));
            }
        };
        put("h", &self.hashes.join(":"));
        put("k", if self.key_type == "rsa" { "" } else { &self.key_type });
        put("n", &self.notes);
        put("s", &self.services.join(":"));
        put("t", &self.flags.join(":"));
        format!("{out}p={}", STANDARD.encode(&self.key))
    }
}

/// Why data isn't signed by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerifyError {
    /// Not a key of its type.
    Key,
    Weak,
    Large,
    Mismatch,
}

fn bits(n: &[u8]) -> usize {
    let leading = n.first().map_or(0, |b| usize::try_from(b.leading_zeros()).unwrap_or(0));
    n.len().saturating_mul(8).saturating_sub(leading)
}

/// Modulus and exponent of an RSA key: a SubjectPublicKeyInfo, as everyone publishes, or an RSAPublicKey, as RFC 6376 §3.6.1 says
/// (erratum 3017).
fn rsa_components(der: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let (outer, _) = element(der, SEQUENCE)?;
    let key = if outer.first() == Some(&INTEGER) {
        outer
    } else {
        let (algorithm, rest) = element(outer, SEQUENCE)?;
        if !algorithm.starts_with(RSA_ENCRYPTION) {
            return None;
        }
        let (bit_string, _) = element(rest, BIT_STRING)?;
        element(bit_string.strip_prefix(&[0])?, SEQUENCE)?.0
    };
    let (n, rest) = element(key, INTEGER)?;
    let (e, _) = element(rest, INTEGER)?;
    let positive = |n: &'_ [u8]| n.iter().position(|b| *b != 0);
    Some((n.get(positive(n)?..)?, e.get(positive(e)?..)?))
}

/// The content of the DER element of a type at the start, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (len, rest) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    let (len, rest) = if *len < 0x80 {
        (usize::from(*len), rest)
    } else {
        let (octets, rest) = rest.split_at_checked(usize::from(len & 0x7f)).filter(|(o, _)| o.len() <= 3)?;
        (octets.iter().fold(0_usize, |n, b| (n << 8) | usize::from(*b)), rest)
    };
    rest.split_at_checked(len)
}

/// Looks up the key of a selector, RFC 6376 §3.6.2.
pub async fn lookup_key(lookup: &dyn Lookup, selector: &Domain, domain: &Domain) -> KeyLookup {
    let name = format!("{}._domainkey.{}", selector.ascii(), domain.ascii());
    let answer = match lookup.txt(&name).await {
        Ok(answer) => answer,
        Err(LookupError::NotFound { authentic }) => return KeyLookup { record: Err(KeyError::NotFound), authentic },
        Err(LookupError::BadName(_)) => return KeyLookup { record: Err(KeyError::NotFound), authentic: false },
        Err(e) => return KeyLookup { record: Err(KeyError::Dns(e)), authentic: false },
    };
    let texts = answer.records.iter().map(|t| String::from_utf8_lossy(t).into_owned());
    let mut meant = texts.filter(|t| KeyRecord::is_meant(t));
    let record = match (meant.next(), meant.next()) {
        (None, _) => Err(KeyError::NotDkim),
        (Some(_), Some(_)) => Err(KeyError::Several),
        (Some(text), None) => KeyRecord::parse(&text).map(|record| (record, text)).map_err(KeyError::from),
    };
    KeyLookup { record, authentic: answer.authentic }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records() {
        let r = KeyRecord::parse("v=DKIM1; h=sha1:sha256; k=RSA; n=a note; s=email; t=y:s; x=1; p=YW\r\n Jj;").unwrap();
        assert!(r.allows_sha256() && r.is_for_email() && r.has_flag("y") && r.has_flag("S"));
        assert_eq!(r.to_text(), "v=DKIM1;h=sha1:sha256;n=a note;s=email;t=y:s;p=YWJj");
        assert_eq!(KeyRecord::parse(&r.to_text()).unwrap(), r);
        assert!(KeyRecord::parse("p=").unwrap().key.is_empty());
        for bad in ["", "k=rsa", "p=YWJj; v=DKIM1", "v=DKIM2; p=", "v=DKIM1; p=?", "p=;p="] {
            assert!(KeyRecord::parse(bad).is_err(), "{bad}");
        }
        assert!(KeyRecord::is_meant("v=DKIM1; ?") && KeyRecord::is_meant("k=rsa; p=") && !KeyRecord::is_meant("v=spf1 -all"));
    }

    proptest! {
        #[test]
        fn any_text(text in "(v=DKIM1;)?[a-z0-9=;: +/]{0,60}") {
            let _record = KeyRecord::parse(&text);
        }

        #[test]
        fn any_key(mut bytes in proptest::collection::vec(any::<u8>(), 0..60), start in any::<bool>()) {
            if start {
                bytes.splice(0..0, [0x30, 0x20, 0x30, 0x0d, 0x06, 0x09]);
            }
            let _parts = rsa_components(&bytes);
        }
    }
}
