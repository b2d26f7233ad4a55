//! SCRAM, RFC 5802 (SHA-1) and RFC 7677 (SHA-256), with channel binding of RFC 5929 and RFC 9266.
//!
//! Four messages: client-first names the user, server-first gives salt and iterations, client-final proves the password,
//! server-final proves that the server knows the user's key. [`Keys`] is what a server keeps; from it no client can be
//! impersonated. Messages are `a=value` attributes joined by commas, RFC 5802 §5.1.

mod client;
mod keys;
mod server;

pub(crate) use client::Binding;
pub use client::Client;
pub use keys::{Hash, ITERATIONS, Keys};
pub use server::Server;

/// What can go wrong, by the names of `server-error-value`, RFC 5802 §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A message that doesn't parse.
    #[error("invalid-encoding")]
    InvalidEncoding,
    /// A mandatory extension.
    #[error("extensions-not-supported")]
    ExtensionsNotSupported,
    /// The proof, or the nonce, is wrong.
    #[error("invalid-proof")]
    InvalidProof,
    /// The two ends see different TLS connections.
    #[error("channel-bindings-dont-match")]
    ChannelBindingsDontMatch,
    /// The client was led to believe that we can't bind to channels.
    #[error("server-does-support-channel-binding")]
    ServerDoesSupportChannelBinding,
    /// A PLUS mechanism without channel binding.
    #[error("channel-binding-not-supported")]
    ChannelBindingNotSupported,
    /// A kind of channel binding that isn't there on this connection.
    #[error("unsupported-channel-binding-type")]
    UnsupportedChannelBindingType,
    /// A user name that can't be.
    #[error("invalid-username-encoding")]
    InvalidUsernameEncoding,
    /// Another problem.
    #[error("other-error")]
    Other,
}

/// The attribute at the start of a message part, `x=value`.
fn attribute(part: Option<&str>, name: char) -> Option<&str> {
    part?.strip_prefix(name)?.strip_prefix('=')
}

/// RFC 5802 §5.1 `saslname`: comma and equals sign are written `=2C` and `=3D`.
fn unescape(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('=') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix("2C") {
            out.push(',');
            rest = after;
        } else {
            rest = after.strip_prefix("3D")?;
            out.push('=');
        }
    }
    out.push_str(rest);
    Some(out)
}

fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// RFC 5802 §5.1: printable ASCII without comma.
fn is_nonce(text: &str) -> bool {
    text.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(unescape("a=2Cb=3Dc").as_deref(), Some("a,b=c"));
        assert_eq!(unescape("a=2c"), None);
        assert_eq!(unescape("a="), None);
        assert_eq!(unescape(&escape("x=,y")).as_deref(), Some("x=,y"));
    }
}
