//! Commands and their parameters: parsers and printers, named after the rules of RFC 5321 §4.1.
//!
//! A parser gives a value or a [`Bad`]: where in the line, and what was expected there. Real clients deviate; how far they
//! are followed is one value with named fields, [`Dialect`], not an accident. Printing a parsed command and parsing it
//! again gives the same command.

mod command;
mod cursor;
mod mail;
mod path;
mod rcpt;
mod xtext;

pub(crate) use command::decode_base64;
pub use command::{AuthCommand, Bdat, Verb, bdat, ehlo, helo, no_argument, one_string};
pub use cursor::{Bad, Cursor};
pub use mail::{Body, By, Hold, Mail, MailParameters, Return};
pub use rcpt::{Notify, OriginalRecipient, Rcpt, RcptParameters};
pub use xtext::{decode as decode_xtext, encode as encode_xtext};

/// How lines are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// By the letter of the RFCs: `Pedantic` of the configuration.
    pub strict: bool,
    /// White space after a complete command is ignored. Senders on port 25 do that.
    pub trailing_space: bool,
    /// The parameters of DSN, RFC 3461, are known.
    pub dsn: bool,
    /// The parameters of FUTURERELEASE, RFC 4865, are known.
    pub future_release: bool,
    /// MT-PRIORITY, RFC 6710, is known.
    pub priority: bool,
}

/// Why a command isn't carried out, before anyone was asked about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It doesn't parse.
    #[error("bad syntax: {0}")]
    Syntax(#[from] Bad),
    /// A parameter twice, or two that exclude each other.
    #[error("{0} given more than once")]
    Duplicate(&'static str),
    /// A parameter that we don't know, or not here.
    #[error("unrecognized parameter")]
    UnknownParameter,
    /// Another value of BODY than 7BIT and 8BITMIME.
    #[error("requested body type not supported")]
    BodyType,
    /// A parameter whose value isn't one.
    #[error("bad value of {0}")]
    Value(&'static str),
    /// An address beyond ASCII without SMTPUTF8.
    #[error("non-ascii address requires smtputf8")]
    NeedsSmtputf8,
}
