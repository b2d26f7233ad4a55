//! The client's end: choosing a mechanism and answering challenges.

use crate::scram::{self, Hash};
use crate::{Bindings, Mechanism, cram_md5, plain};
use mox_base::{Random, Secret};

/// Who logs in, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The login name.
    pub user: String,
    /// The password.
    pub password: Secret<String>,
}

/// Why the exchange must be cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// A challenge that the mechanism doesn't have.
    #[error("unexpected challenge")]
    Unexpected,
    /// A message of the server that is against the rules of SCRAM.
    #[error("scram: {0}")]
    Scram(#[from] scram::Error),
    /// The server says what is wrong.
    #[error("refused: {0}")]
    Refused(String),
    /// The server asks for a proof that would be easy to attack.
    #[error("server sends an unacceptable {0}")]
    WeakServer(&'static str),
    /// The server's signature is wrong: it doesn't know the user.
    #[error("server doesn't prove that it knows the user")]
    ServerUnproven,
    /// A `-PLUS` mechanism on a connection that has nothing to bind to.
    #[error("no channel binding without TLS")]
    NoBinding,
}

/// Mechanisms for a choice without explicit configuration, best first. No password crosses the wire with them.
pub const PREFERRED: [Mechanism; 5] = [
    Mechanism::Scram { hash: Hash::Sha256, plus: true },
    Mechanism::Scram { hash: Hash::Sha256, plus: false },
    Mechanism::Scram { hash: Hash::Sha1, plus: true },
    Mechanism::Scram { hash: Hash::Sha1, plus: false },
    Mechanism::CramMd5,
];

/// The first mechanism of `wanted` that the server offers; those that need TLS only when there are bindings.
pub fn choose(wanted: &[Mechanism], offered: &[Mechanism], bindings: &Bindings) -> Option<Mechanism> {
    wanted.iter().copied().find(|m| offered.contains(m) && !(m.is_bound_to_tls() && bindings.is_empty()))
}

/// One authentication attempt.
#[derive(Debug)]
pub struct Client {
    mechanism: Mechanism,
    credentials: Credentials,
    scram: Option<scram::Client>,
    /// Messages sent so far.
    sent: u32,
}

impl Client {
    /// An attempt. `wanted` and `offered` matter for SCRAM without channel binding: when binding was wanted and isn't
    /// offered, the server hears so and can notice a downgrade, RFC 5802 §6.
    ///
    /// # Errors
    /// [`ClientError::NoBinding`] for a `-PLUS` mechanism without bindings.
    pub fn new(
        mechanism: Mechanism,
        credentials: Credentials,
        bindings: &Bindings,
        (wanted, offered): (&[Mechanism], &[Mechanism]),
        random: &dyn Random,
    ) -> Result<Self, ClientError> {
        let scram = match mechanism {
            Mechanism::Scram { hash, plus } => {
                let is_plus = |m: &Mechanism| matches!(m, Mechanism::Scram { plus: true, .. });
                let binding = if plus {
                    let (name, data) = bindings.preferred().ok_or(ClientError::NoBinding)?;
                    scram::Binding::Bound { name, data: data.to_vec() }
                } else if !bindings.is_empty() && wanted.iter().any(is_plus) && !offered.iter().any(is_plus) {
                    scram::Binding::NotOffered
                } else {
                    scram::Binding::None
                };
                Some(scram::Client::new(hash, &credentials.user, credentials.password.expose(), binding, random))
            }
            _ => None,
        };
        Ok(Self { mechanism, credentials, scram, sent: 0 })
    }

    /// The mechanism.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The message to send with the command, for mechanisms in which the client speaks first.
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        if !self.mechanism.is_client_first() || self.sent > 0 {
            return None;
        }
        // LOGIN's first message may be sent at once, but some servers want to ask.
        if self.mechanism == Mechanism::Login {
            return None;
        }
        self.sent = 1;
        Some(self.first())
    }

    fn first(&self) -> Vec<u8> {
        match (&self.scram, self.mechanism) {
            (Some(scram), _) => scram.first(),
            (None, Mechanism::Plain) => plain::message(&self.credentials.user, self.credentials.password.expose()),
            // The certificate says who we are.
            (None, _) => Vec::new(),
        }
    }

    /// The answer to a challenge.
    ///
    /// # Errors
    /// The exchange must then be cancelled.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ClientError> {
        let nth = self.sent;
        self.sent = nth.saturating_add(1);
        match (self.mechanism, nth) {
            (Mechanism::Plain | Mechanism::External, 0) => Ok(self.first()),
            (Mechanism::Login, 0) => Ok(self.credentials.user.clone().into_bytes()),
            (Mechanism::Login, 1) => Ok(self.credentials.password.expose().clone().into_bytes()),
            (Mechanism::CramMd5, 0) => Ok(cram_md5::message(&self.credentials.user, self.credentials.password.expose(), challenge)),
            (Mechanism::Scram { .. }, 0) => Ok(self.first()),
            (Mechanism::Scram { .. }, _) => match &mut self.scram {
                Some(scram) => scram.respond(challenge),
                None => Err(ClientError::Unexpected),
            },
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Whether the server's success may be believed: with SCRAM, only after it has proven itself.
    ///
    /// # Errors
    /// [`ClientError::ServerUnproven`].
    pub fn accept_success(&self) -> Result<(), ClientError> {
        match &self.scram {
            Some(scram) if !scram.is_proven() => Err(ClientError::ServerUnproven),
            _ => Ok(()),
        }
    }
}
