//! CRAM-MD5, RFC 2195: the client proves the password with an HMAC-MD5 of our challenge.

use crate::server::{Ask, Failure, Step, normalized};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use mox_base::{Random, Timestamp};
use std::fmt::Write as _;

/// The server's end.
#[derive(Debug)]
pub struct Server {
    challenge: String,
    user: Option<String>,
}

impl Server {
    pub(crate) fn new(random: &dyn Random, now: Timestamp, hostname: &str) -> Self {
        let mut unique = [0; 9];
        random.fill(&mut unique);
        let nanos = i128::from(now.micros()).saturating_mul(1000);
        Self { challenge: format!("<{}.{nanos}@{hostname}>", URL_SAFE_NO_PAD.encode(unique)), user: None }
    }

    pub(crate) fn challenge(&self) -> Step {
        Step::Challenge(self.challenge.clone().into_bytes())
    }

    pub(crate) fn respond(&mut self, response: &[u8]) -> Step {
        let parsed = std::str::from_utf8(response).ok().and_then(|text| {
            // The last space: the user name may hold one.
            let (user, digest) = text.rsplit_once(' ')?;
            Some((normalized(user), from_hex(digest)?))
        });
        let Some((user, digest)) = parsed else {
            return Step::Failed(Failure::Malformed("want user, space and 32 hex digits"));
        };
        self.user = Some(user.clone());
        Step::Ask(Ask::VerifyCramMd5 { user, challenge: self.challenge.clone(), digest })
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn take_user(&mut self) -> String {
        self.user.clone().unwrap_or_default()
    }
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let mut digest = [0; 16];
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// What proves the password: HMAC-MD5 of the challenge, keyed with it.
#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
pub fn digest(password: &[u8], challenge: &[u8]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(password).expect("any key");
    mac.update(challenge);
    mac.finalize().into_bytes().into()
}

/// The client's only message, in answer to the challenge.
pub fn message(user: &str, password: &str, challenge: &[u8]) -> Vec<u8> {
    let mut out = format!("{user} ");
    for byte in digest(password.as_bytes(), challenge) {
        // Writing to a String can't fail.
        let _written = write!(out, "{byte:02x}");
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_2195_example() {
        // RFC 2195 §2.
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        let message = message("tim", "tanstaaftanstaaf", challenge);
        assert_eq!(message, b"tim b913a602c7eda7a495b4e6e7334d3890");
        let mut server = Server { challenge: String::from_utf8_lossy(challenge).into_owned(), user: None };
        let Step::Ask(Ask::VerifyCramMd5 { user, challenge: asked, digest: got }) = server.respond(&message) else { panic!("no question") };
        assert_eq!((user.as_str(), got), ("tim", digest(b"tanstaaftanstaaf", asked.as_bytes())));
    }

    #[test]
    fn malformed() {
        for bytes in [b"".as_slice(), b"tim", b"tim b913", b"tim zz13a602c7eda7a495b4e6e7334d3890", b"tim +913a602c7eda7a495b4e6e7334d3890"]
        {
            let mut server = Server { challenge: String::new(), user: None };
            assert!(matches!(server.respond(bytes), Step::Failed(Failure::Malformed(_))), "{bytes:?}");
        }
    }
}
