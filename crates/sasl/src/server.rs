//! The server's end: one [`Exchange`] per authentication attempt.
//!
//! Start it with the client's initial response if there was one; then, as each [`Step`] says, send a challenge and pass on
//! the response, or answer what it asks, until it is done. `*` (RFC 4954 §4) and bad base64 are the protocol's to notice.

use crate::scram::{self, Keys};
use crate::{Bindings, Mechanism, cram_md5, external, login, plain};
use mox_base::{Random, Secret, Timestamp};
use std::fmt;
use unicode_normalization::UnicodeNormalization as _;

/// What the server does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this challenge and call [`Exchange::respond`] with the client's response.
    Challenge(Vec<u8>),
    /// Find out, then call [`Exchange::answer`].
    Ask(Ask),
    /// The credentials are right. Whether this user may log in is still to be decided.
    Accepted {
        /// The login address as the client gave it, in NFC. None: the one of the client certificate.
        user: Option<String>,
    },
    /// The attempt has failed.
    Failed(Failure),
}

/// A question to the keeper of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Is this the user's password? Answer `Right`, `Wrong` or `Unavailable`.
    Verify {
        /// The login address, in NFC.
        user: String,
        /// The password as it came.
        password: Secret<String>,
    },
    /// Is this the HMAC-MD5 of the challenge, keyed with the user's password? Answer `Right`, `Wrong` or `Unavailable`.
    VerifyCramMd5 {
        /// The login address, in NFC.
        user: String,
        /// The challenge that was sent.
        challenge: String,
        /// The client's digest.
        digest: [u8; 16],
    },
    /// The user's SCRAM keys? Answer `Keys`, `FakeKeys` or `Unavailable`.
    ScramKeys {
        /// The login address, in NFC.
        user: String,
        /// Which keys.
        hash: scram::Hash,
    },
    /// Does the client certificate stand for this user, or, when none is named, for any? Answer `Right`, `Wrong` or `Unavailable`.
    External {
        /// The login address, in NFC; none when the client leaves it to the certificate.
        user: Option<String>,
    },
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The credentials are right.
    Right,
    /// They are wrong.
    Wrong(Wrong),
    /// The user's SCRAM keys.
    Keys(Keys),
    /// The user has none, for this reason; these are [`Keys::fake`] ones, with which the exchange fails like with a wrong password.
    FakeKeys(Keys, Wrong),
    /// A fault of ours; the client may try again later.
    Unavailable,
}

/// In what way credentials are wrong. The client isn't told; login attempts record it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No such user.
    User,
    /// The password isn't the user's.
    Password,
    /// Either, or no certificate.
    Credentials,
    /// The user has no password, or one from before this mechanism's secret was kept. A client that heard of it could tell users from
    /// others.
    NoKeys,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A response that isn't what the mechanism says. Nothing was verified.
    #[error("malformed response: {0}")]
    Malformed(&'static str),
    /// An authorization identity other than the user, which we never allow.
    #[error("cannot authorize as another user")]
    Authorization,
    /// The credentials are wrong.
    #[error("bad user or password")]
    Wrong(Wrong),
    /// SCRAM's first message doesn't parse or asks for what isn't possible.
    #[error("scram: {0}")]
    ScramFirst(scram::Error),
    /// SCRAM's final message: wrong proof, channel binding or encoding.
    #[error("scram: {0}")]
    ScramFinal(scram::Error),
    /// The client gave up.
    #[error("authentication aborted")]
    Aborted,
    /// A fault of ours.
    #[error("cannot verify credentials now")]
    Unavailable,
}

/// The names under which attempts are recorded and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthResult {
    /// Logged in.
    Ok,
    /// No such user.
    BadUser,
    /// Wrong password.
    BadPassword,
    /// Wrong credentials of another kind.
    BadCreds,
    /// Channel bindings differ: perhaps someone in the middle.
    BadChanBind,
    /// A malformed exchange.
    BadProtocol,
    /// Credentials are right, but the account may not log in.
    LoginDisabled,
    /// A fault of ours.
    Error,
    /// The client gave up.
    Aborted,
}

impl AuthResult {
    /// The name in metrics and login attempts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadUser => "baduser",
            Self::BadPassword => "badpassword",
            Self::BadCreds => "badcreds",
            Self::BadChanBind => "badchanbind",
            Self::BadProtocol => "badprotocol",
            Self::LoginDisabled => "logindisabled",
            Self::Error => "error",
            Self::Aborted => "aborted",
        }
    }
}

impl fmt::Display for AuthResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Failure {
    /// Under which name the attempt is recorded.
    pub const fn result(&self) -> AuthResult {
        match self {
            Self::Malformed(_) | Self::ScramFirst(_) => AuthResult::BadProtocol,
            Self::Authorization | Self::Wrong(Wrong::Credentials) => AuthResult::BadCreds,
            Self::Wrong(Wrong::User) => AuthResult::BadUser,
            Self::Wrong(Wrong::Password) => AuthResult::BadPassword,
            Self::ScramFinal(scram::Error::InvalidProof) => AuthResult::BadCreds,
            Self::ScramFinal(scram::Error::ChannelBindingsDontMatch) => AuthResult::BadChanBind,
            Self::ScramFinal(_) => AuthResult::BadProtocol,
            Self::Wrong(Wrong::NoKeys) | Self::Unavailable => AuthResult::Error,
            Self::Aborted => AuthResult::Aborted,
        }
    }

    /// Whether the failure counts against the client in limits on guessing.
    pub const fn counts(&self) -> bool {
        !matches!(self, Self::Unavailable)
    }
}

/// What an exchange needs to know of the connection and the moment.
#[derive(Debug)]
pub struct Context<'a> {
    /// For nonces and challenges.
    pub random: &'a dyn Random,
    /// The time, part of CRAM-MD5 challenges.
    pub now: Timestamp,
    /// Our name, part of CRAM-MD5 challenges.
    pub hostname: &'a str,
    /// What TLS offers to bind to.
    pub bindings: Bindings,
}

/// One authentication attempt.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    machine: Machine,
}

#[derive(Debug)]
enum Machine {
    Plain(plain::Server),
    Login(login::Server),
    CramMd5(cram_md5::Server),
    Scram(Box<scram::Server>),
    External(external::Server),
}

impl Exchange {
    /// An attempt with a mechanism.
    pub fn new(mechanism: Mechanism, context: Context<'_>) -> Self {
        let machine = match mechanism {
            Mechanism::Plain => Machine::Plain(plain::Server::default()),
            Mechanism::Login => Machine::Login(login::Server::default()),
            Mechanism::CramMd5 => Machine::CramMd5(cram_md5::Server::new(context.random, context.now, context.hostname)),
            Mechanism::Scram { hash, plus } => Machine::Scram(Box::new(scram::Server::new(hash, plus, context.bindings, context.random))),
            Mechanism::External => Machine::External(external::Server::default()),
        };
        Self { mechanism, machine }
    }

    /// The mechanism.
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Begins, with the initial response if the client sent one.
    pub fn start(&mut self, initial: Option<&[u8]>) -> Step {
        match (initial, &mut self.machine) {
            (None, Machine::CramMd5(machine)) => machine.challenge(),
            // RFC 4954 §4: an initial response to a mechanism in which the server speaks first fails.
            (Some(_), Machine::CramMd5(_)) => Step::Failed(Failure::Malformed("initial response not allowed")),
            (None, Machine::Login(machine)) => machine.challenge(),
            (None, _) => Step::Challenge(Vec::new()),
            (Some(response), _) => self.respond(response),
        }
    }

    /// Goes on with the client's response to a challenge.
    pub fn respond(&mut self, response: &[u8]) -> Step {
        match &mut self.machine {
            Machine::Plain(machine) => machine.respond(response),
            Machine::Login(machine) => machine.respond(response),
            Machine::CramMd5(machine) => machine.respond(response),
            Machine::Scram(machine) => machine.respond(response),
            Machine::External(machine) => machine.respond(response),
        }
    }

    /// Goes on with the answer to what was asked.
    pub fn answer(&mut self, answer: Answer) -> Step {
        match &mut self.machine {
            Machine::Plain(machine) => decide(answer, Some(machine.take_user())),
            Machine::Login(machine) => decide(answer, Some(machine.take_user())),
            Machine::CramMd5(machine) => decide(answer, Some(machine.take_user())),
            Machine::Scram(machine) => machine.answer(answer),
            Machine::External(machine) => decide(answer, machine.take_user()),
        }
    }

    /// Ends the attempt because the client cancels it, or because its response can't be decoded. After SCRAM has told the
    /// client what is wrong, that is the outcome, not that the client then gives up.
    pub fn cancel(&mut self) -> Step {
        let refused = match &mut self.machine {
            Machine::Scram(machine) => machine.take_refusal(),
            _ => None,
        };
        Step::Failed(refused.unwrap_or(Failure::Aborted))
    }

    /// The user named so far, for recording the attempt.
    pub fn user(&self) -> Option<&str> {
        match &self.machine {
            Machine::Plain(machine) => machine.user(),
            Machine::Login(machine) => machine.user(),
            Machine::CramMd5(machine) => machine.user(),
            Machine::Scram(machine) => machine.user(),
            Machine::External(machine) => machine.user(),
        }
    }
}

fn decide(answer: Answer, user: Option<String>) -> Step {
    match answer {
        Answer::Right => Step::Accepted { user },
        Answer::Wrong(wrong) => Step::Failed(Failure::Wrong(wrong)),
        // Keys weren't asked for: a bug of the caller, and thus no reason to let anyone in or to blame anyone.
        Answer::Keys(_) | Answer::FakeKeys(..) | Answer::Unavailable => Step::Failed(Failure::Unavailable),
    }
}

/// A user name as it is looked up: NFC.
pub(crate) fn normalized(user: &str) -> String {
    user.nfc().collect()
}
