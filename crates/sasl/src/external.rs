//! EXTERNAL, RFC 4422 appendix A: the identity comes from outside, here from the TLS client certificate.

use crate::server::{Ask, Failure, Step, normalized};

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
        if text.contains('\0') {
            return Step::Failed(Failure::Malformed("NUL in authorization identity"));
        }
        self.user = (!text.is_empty()).then(|| normalized(text));
        Step::Ask(Ask::External { user: self.user.clone() })
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn take_user(&mut self) -> Option<String> {
        self.user.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_message_leaves_it_to_the_certificate() {
        assert_eq!(Server::default().respond(b""), Step::Ask(Ask::External { user: None }));
        assert_eq!(Server::default().respond(b"a@x"), Step::Ask(Ask::External { user: Some("a@x".to_owned()) }));
        assert!(matches!(Server::default().respond(b"\0"), Step::Failed(Failure::Malformed(_))));
    }
}
