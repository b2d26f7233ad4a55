//! The client's end of SCRAM.

use super::{Error, Hash, Keys, attribute, escape, is_nonce};
use crate::client::ClientError;
use crate::opaque_string;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::{Random, Secret};
use std::ops::RangeInclusive;
use subtle::ConstantTimeEq as _;

/// How often a server may want a password hashed: fewer make guessing cheap, more keep us at work for nothing, half a second already.
const ITERATIONS: RangeInclusive<u32> = 2048..=1_000_000;

/// What the client says about channel binding: the gs2 header's flag, RFC 5802 §6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// It can't.
    None,
    /// It could, but thinks the server can't.
    NotOffered,
    /// It does.
    Bound { name: &'static str, data: Vec<u8> },
}

/// One exchange.
#[derive(Debug)]
pub struct Client {
    hash: Hash,
    gs2: String,
    channel: Vec<u8>,
    nonce: String,
    bare: String,
    password: Secret<String>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// client-first is sent.
    First,
    /// client-final is sent; the server has to prove itself with this.
    Final(Vec<u8>),
    Proven,
}

impl Client {
    pub(crate) fn new(hash: Hash, user: &str, password: &str, binding: Binding, random: &dyn Random) -> Self {
        let mut nonce = [0; 18];
        random.fill(&mut nonce);
        Self::with_nonce(hash, user, password, binding, STANDARD.encode(nonce))
    }

    fn with_nonce(hash: Hash, user: &str, password: &str, binding: Binding, nonce: String) -> Self {
        let (gs2, data) = match binding {
            Binding::None => ("n,,".to_owned(), Vec::new()),
            Binding::NotOffered => ("y,,".to_owned(), Vec::new()),
            Binding::Bound { name, data } => (format!("p={name},,"), data),
        };
        let channel = [gs2.as_bytes(), &data].concat();
        let bare = format!("n={},r={nonce}", escape(user));
        // Passwords from before the profile are used as they are.
        let password = Secret::new(opaque_string(password).unwrap_or_else(|| password.to_owned()));
        Self { hash, gs2, channel, nonce, bare, password, state: State::First }
    }

    /// client-first-message.
    pub(crate) fn first(&self) -> Vec<u8> {
        format!("{}{}", self.gs2, self.bare).into_bytes()
    }

    /// Whether the server has proven that it knows the user's key.
    pub(crate) const fn is_proven(&self) -> bool {
        matches!(self.state, State::Proven)
    }

    pub(crate) fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ClientError> {
        let text = std::str::from_utf8(challenge).map_err(|_| Error::InvalidEncoding)?;
        if let Some(error) = attribute(Some(text), 'e') {
            return Err(ClientError::Refused(error.chars().filter(|c| !c.is_control()).take(100).collect()));
        }
        match &self.state {
            State::First => self.last(text),
            State::Final(signature) => {
                let theirs = attribute(text.split(',').next(), 'v').ok_or(Error::InvalidEncoding)?;
                let theirs = STANDARD.decode(theirs).map_err(|_| Error::InvalidEncoding)?;
                if !bool::from(theirs.ct_eq(signature)) {
                    return Err(ClientError::ServerUnproven);
                }
                self.state = State::Proven;
                Ok(Vec::new())
            }
            State::Proven => Err(Error::Other.into()),
        }
    }

    /// client-final-message, in answer to server-first-message.
    fn last(&mut self, server_first: &str) -> Result<Vec<u8>, ClientError> {
        let mut parts = server_first.split(',');
        let part = parts.next();
        if attribute(part, 'm').is_some() {
            return Err(Error::ExtensionsNotSupported.into());
        }
        let nonce = attribute(part, 'r').ok_or(Error::InvalidEncoding)?;
        let salt = attribute(parts.next(), 's').ok_or(Error::InvalidEncoding)?;
        let iterations = attribute(parts.next(), 'i').ok_or(Error::InvalidEncoding)?;
        let salt = STANDARD.decode(salt).map_err(|_| Error::InvalidEncoding)?;
        let iterations: u32 = iterations.parse().map_err(|_| Error::InvalidEncoding)?;
        let extension = nonce.strip_prefix(self.nonce.as_str()).ok_or(ClientError::WeakServer("nonce"))?;
        if extension.len() < 8 || !is_nonce(nonce) {
            return Err(ClientError::WeakServer("nonce"));
        }
        if salt.len() < 8 {
            return Err(ClientError::WeakServer("salt"));
        }
        if !ITERATIONS.contains(&iterations) {
            return Err(ClientError::WeakServer("iteration count"));
        }
        let salted = self.hash.salted_password(self.password.expose().as_bytes(), &salt, iterations);
        let keys = Keys::from_salted_password(self.hash, &salted, salt, iterations);
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.channel));
        let auth_message = format!("{},{server_first},{without_proof}", self.bare);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let signature = self.hash.hmac(keys.stored_key.expose(), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        self.state = State::Final(self.hash.hmac(keys.server_key.expose(), auth_message.as_bytes()));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(hash: Hash, nonce: &str, server_first: &str, last: &str, server_final: &str) {
        let mut client = Client::with_nonce(hash, "user", "pencil", Binding::None, nonce.to_owned());
        assert_eq!(client.first(), format!("n,,n=user,r={nonce}").into_bytes());
        assert_eq!(client.respond(server_first.as_bytes()).unwrap(), last.as_bytes());
        assert!(!client.is_proven());
        assert_eq!(client.respond(server_final.as_bytes()).unwrap(), b"");
        assert!(client.is_proven());
    }

    #[test]
    fn iterations_have_bounds() {
        for (iterations, good) in [(2047, false), (2048, true), (1_000_001, false), (u32::MAX, false)] {
            let mut client = Client::with_nonce(Hash::Sha1, "user", "pencil", Binding::None, "fyko+d2lbbFgONRv9qkxdawL".to_owned());
            client.first();
            let answer = client.respond(format!("r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJ,s=QSXCR+Q6sek8bf92,i={iterations}").as_bytes());
            let refused = matches!(answer, Err(ClientError::WeakServer("iteration count")));
            assert_eq!((answer.is_ok(), refused), (good, !good), "{iterations}");
        }
    }

    #[test]
    fn rfc_5802_example() {
        // RFC 5802 §5.
        exchange(
            Hash::Sha1,
            "fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        );
    }

    #[test]
    fn rfc_7677_example() {
        // RFC 7677 §3.
        exchange(
            Hash::Sha256,
            "rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        );
    }

    #[test]
    fn weak_servers_are_refused() {
        let weak = |server_first: &str| {
            let mut client = Client::with_nonce(Hash::Sha1, "u", "p", Binding::None, "abcdefgh".to_owned());
            client.respond(server_first.as_bytes())
        };
        for message in [
            "r=abcdefgh,s=QSXCR+Q6sek8bf92,i=4096",
            "r=othernonce12345678,s=QSXCR+Q6sek8bf92,i=4096",
            "r=abcdefgh12345678,s=QSXC,i=4096",
            "r=abcdefgh12345678,s=QSXCR+Q6sek8bf92,i=1",
            "r=abcdefgh12345678,s=QSXCR+Q6sek8bf92,i=4000000000",
        ] {
            assert!(matches!(weak(message), Err(ClientError::WeakServer(_))), "{message}");
        }
        assert_eq!(weak("e=no-resources"), Err(ClientError::Refused("no-resources".to_owned())));
    }
}
