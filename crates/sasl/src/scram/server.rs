//! The server's end of SCRAM.

use super::{Error, Hash, Keys, attribute, is_nonce, unescape};
use crate::Bindings;
use crate::server::{Answer, Ask, Failure, Step, Wrong};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_base::Random;
use subtle::ConstantTimeEq as _;
use unicode_normalization::is_nfc;

/// One exchange.
#[derive(Debug)]
pub struct Server {
    hash: Hash,
    plus: bool,
    bindings: Bindings,
    server_nonce: String,
    user: String,
    state: State,
}

#[derive(Debug)]
enum State {
    First,
    Keys(First),
    Final {
        first: First,
        server_first: String,
        keys: Keys,
        /// Why the keys are fake, if they are.
        fake: Option<Wrong>,
    },
    /// server-final is sent; the client acknowledges with an empty message.
    Proven,
    /// `e=…` is sent; whatever comes, it has failed.
    Refused(Failure),
    Over,
}

/// What the final message has to be consistent with.
#[derive(Debug)]
struct First {
    bare: String,
    nonce: String,
    /// gs2 header and channel binding data.
    channel: Vec<u8>,
}

impl Server {
    pub(crate) fn new(hash: Hash, plus: bool, bindings: Bindings, random: &dyn Random) -> Self {
        let mut nonce = [0; 12];
        random.fill(&mut nonce);
        Self { hash, plus, bindings, server_nonce: STANDARD.encode(nonce), user: String::new(), state: State::First }
    }

    pub(crate) fn user(&self) -> Option<&str> {
        (!self.user.is_empty()).then_some(self.user.as_str())
    }

    pub(crate) fn respond(&mut self, response: &[u8]) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => match self.first(response) {
                Ok(first) => {
                    self.state = State::Keys(first);
                    Step::Ask(Ask::ScramKeys { user: self.user.clone(), hash: self.hash })
                }
                Err(Rejected::Negotiation(error)) => Step::Failed(Failure::ScramFirst(error)),
                Err(Rejected::Authorization) => Step::Failed(Failure::Authorization),
            },
            State::Final { first, server_first, keys, fake } => {
                match self.verify(response, &first, &server_first, &keys) {
                    // Fake keys can't match; should they, there still are no others.
                    Ok(signature) if fake.is_none() => {
                        self.state = State::Proven;
                        Step::Challenge(format!("v={signature}").into_bytes())
                    }
                    Ok(_) => self.refuse(Error::InvalidProof, fake),
                    Err(error) => self.refuse(error, fake),
                }
            }
            State::Proven if response.is_empty() => Step::Accepted { user: Some(std::mem::take(&mut self.user)) },
            State::Proven => Step::Failed(Failure::Malformed("want an empty message")),
            State::Refused(failure) => Step::Failed(failure),
            State::Keys(_) | State::Over => Step::Failed(Failure::Unavailable),
        }
    }

    /// The failure that the client was told of, if it was.
    pub(crate) fn take_refusal(&mut self) -> Option<Failure> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Refused(failure) => Some(failure),
            _ => None,
        }
    }

    fn refuse(&mut self, error: Error, fake: Option<Wrong>) -> Step {
        let failure = match (error, fake) {
            (Error::InvalidProof, Some(why)) => Failure::Wrong(why),
            (error, _) => Failure::ScramFinal(error),
        };
        self.state = State::Refused(failure);
        Step::Challenge(format!("e={error}").into_bytes())
    }

    pub(crate) fn answer(&mut self, answer: Answer) -> Step {
        let State::Keys(first) = std::mem::replace(&mut self.state, State::Over) else {
            return Step::Failed(Failure::Unavailable);
        };
        let (keys, fake) = match answer {
            Answer::Keys(keys) => (keys, None),
            Answer::FakeKeys(keys, why) => (keys, Some(why)),
            Answer::Wrong(wrong) => return Step::Failed(Failure::Wrong(wrong)),
            Answer::Right | Answer::Unavailable => return Step::Failed(Failure::Unavailable),
        };
        let server_first = format!("r={},s={},i={}", first.nonce, STANDARD.encode(&keys.salt), keys.iterations);
        let challenge = server_first.clone().into_bytes();
        self.state = State::Final { first, server_first, keys, fake };
        Step::Challenge(challenge)
    }

    /// `gs2-header client-first-message-bare`, RFC 5802 §7.
    fn first(&mut self, message: &[u8]) -> Result<First, Rejected> {
        let text = std::str::from_utf8(message).map_err(|_| Error::InvalidEncoding)?;
        let (flag, rest) = text.split_once(',').ok_or(Error::InvalidEncoding)?;
        let (authorization, bare) = rest.split_once(',').ok_or(Error::InvalidEncoding)?;
        let gs2 = text.get(..text.len().saturating_sub(bare.len())).unwrap_or_default();
        let mut channel = gs2.as_bytes().to_vec();
        channel.extend_from_slice(self.binding(flag)?);

        let authorization = match authorization {
            "" => None,
            named => {
                let name = attribute(Some(named), 'a').and_then(unescape).ok_or(Error::InvalidEncoding)?;
                Some(name).filter(|n| is_nfc(n)).ok_or(Error::InvalidUsernameEncoding).map(Some)?
            }
        };
        let mut parts = bare.split(',');
        let mut part = parts.next();
        if attribute(part, 'm').is_some() {
            return Err(Error::ExtensionsNotSupported.into());
        }
        let user = attribute(part, 'n').and_then(unescape).ok_or(Error::InvalidEncoding)?;
        if user.is_empty() || !is_nfc(&user) {
            return Err(Error::InvalidUsernameEncoding.into());
        }
        part = parts.next();
        let nonce = attribute(part, 'r').ok_or(Error::InvalidEncoding)?;
        if nonce.len() < 8 || !is_nonce(nonce) {
            return Err(Error::InvalidEncoding.into());
        }
        self.user = user;
        if authorization.is_some_and(|name| name != self.user) {
            return Err(Rejected::Authorization);
        }
        Ok(First { nonce: format!("{nonce}{}", self.server_nonce), bare: bare.to_owned(), channel })
    }

    /// The data to bind to, by the gs2 flag. RFC 5802 §6.
    fn binding(&self, flag: &str) -> Result<&[u8], Error> {
        match flag {
            "n" if self.plus => Err(Error::ChannelBindingNotSupported),
            "n" => Ok(&[]),
            // The client can bind but thinks we can't: under TLS, someone took PLUS out of our list.
            "y" if self.plus || !self.bindings.is_empty() => Err(Error::ServerDoesSupportChannelBinding),
            "y" => Ok(&[]),
            _ => {
                let name = attribute(Some(flag), 'p').ok_or(Error::InvalidEncoding)?;
                self.bindings.named(name).ok_or(Error::UnsupportedChannelBindingType)
            }
        }
    }

    /// `channel-binding "," nonce ["," extensions] "," proof`; gives the server's signature.
    fn verify(&self, message: &[u8], first: &First, server_first: &str, keys: &Keys) -> Result<String, Error> {
        let text = std::str::from_utf8(message).map_err(|_| Error::InvalidEncoding)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Error::InvalidEncoding)?;
        let mut parts = without_proof.split(',');
        let channel = attribute(parts.next(), 'c').ok_or(Error::InvalidEncoding)?;
        let nonce = attribute(parts.next(), 'r').ok_or(Error::InvalidEncoding)?;
        let channel = STANDARD.decode(channel).map_err(|_| Error::InvalidEncoding)?;
        let proof = STANDARD.decode(proof).map_err(|_| Error::InvalidEncoding)?;
        if !bool::from(channel.ct_eq(&first.channel)) {
            return Err(Error::ChannelBindingsDontMatch);
        }
        let auth_message = format!("{},{server_first},{without_proof}", first.bare);
        let proven = keys.verify(self.hash, auth_message.as_bytes(), &proof);
        if nonce != first.nonce || !proven {
            return Err(Error::InvalidProof);
        }
        Ok(STANDARD.encode(self.hash.hmac(keys.server_key.expose(), auth_message.as_bytes())))
    }
}

enum Rejected {
    Negotiation(Error),
    Authorization,
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        Self::Negotiation(error)
    }
}
