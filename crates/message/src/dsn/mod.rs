//! Delivery status notifications, RFC 3464 in the report format of RFC 6522, with the UTF-8 of RFC 6533.
//!
//! [`Dsn`] is one that we write: why mail of ours, or mail we accepted, didn't arrive. [`DeliveryStatus`] is one that somebody else wrote and
//! that we only try to understand: all it needs is an action and a status.

mod compose;
#[cfg(test)]
mod corpus;
mod parse;

pub use compose::{Dsn, DsnRecipient, RemoteMta};
pub use parse::{DeliveryStatus, RecipientStatus, StatusError, report_of, smtp_code};

/// What became of a message for a recipient, RFC 3464 §2.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Given up.
    Failed,
    /// Not yet delivered; nothing needs to be done.
    Delayed,
    /// Delivered.
    Delivered,
    /// Handed to a server that doesn't report.
    Relayed,
    /// Delivered to a list or several addresses.
    Expanded,
}

impl Action {
    /// As written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }

    /// As read, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Failed, Self::Delayed, Self::Delivered, Self::Relayed, Self::Expanded]
            .into_iter()
            .find(|a| a.as_str().eq_ignore_ascii_case(text))
    }
}
