//! PLAIN, RFC 4616: `authzid NUL authcid NUL password` in one message.

use crate::server::{Ask, Failure, Step, normalized};
use mox_base::Secret;

/// The server's end.
#[derive(Debug, Default)]
pub struct Server {
    user: Option<String>,
}

impl Server {
    pub(crate) fn respond(&mut self, response: &[u8]) -> Step {
        let Ok(text) = std::str::from_utf8(response) else {
            return Step::Failed(Failure::Malformed("not UTF-8"));
        };
        let mut parts = text.split('\0');
        let (Some(authorization), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Step::Failed(Failure::Malformed("want three parts separated by NUL"));
        };
        let (authorization, user) = (normalized(authorization), normalized(user));
        self.user = Some(user.clone());
        if !authorization.is_empty() && authorization != user {
            return Step::Failed(Failure::Authorization);
        }
        Step::Ask(Ask::Verify { user, password: Secret::new(password.to_owned()) })
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn take_user(&mut self) -> String {
        self.user.clone().unwrap_or_default()
    }
}

/// The client's only message.
pub fn message(user: &str, password: &str) -> Vec<u8> {
    format!("\0{user}\0{password}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(user: &str, password: &str) -> Step {
        Step::Ask(Ask::Verify { user: user.to_owned(), password: Secret::new(password.to_owned()) })
    }

    #[test]
    fn rfc_4616_examples() {
        // RFC 4616 §4: with an empty and with another authorization identity.
        assert_eq!(Server::default().respond(b"\0tim\0tanstaaftanstaaf"), ask("tim", "tanstaaftanstaaf"));
        assert_eq!(Server::default().respond(b"Ursel\0Kurt\0xipj3plmq"), Step::Failed(Failure::Authorization));
        assert_eq!(Server::default().respond(b"tim\0tim\0pw"), ask("tim", "pw"));
        assert_eq!(Server::default().respond(&message("tim", "pw")), ask("tim", "pw"));
    }

    #[test]
    fn malformed() {
        for bytes in [b"".as_slice(), b"a", b"a\0b", b"a\0b\0c\0d", b"\0\xff\0x"] {
            assert!(matches!(Server::default().respond(bytes), Step::Failed(Failure::Malformed(_))), "{bytes:?}");
        }
    }
}
