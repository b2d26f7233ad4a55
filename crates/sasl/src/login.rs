//! LOGIN, draft-murchison-sasl-login: user name and password in two messages. Obsolete, and still used by clients.

use crate::server::{Ask, Failure, Step, normalized};
use mox_base::Secret;

/// The server's end.
#[derive(Debug, Default)]
pub struct Server {
    user: Option<String>,
}

impl Server {
    pub(crate) fn challenge(&self) -> Step {
        Step::Challenge(b"Username:".to_vec())
    }

    pub(crate) fn respond(&mut self, response: &[u8]) -> Step {
        let Ok(text) = std::str::from_utf8(response) else {
            return Step::Failed(Failure::Malformed("not UTF-8"));
        };
        match &self.user {
            None => {
                self.user = Some(normalized(text));
                Step::Challenge(b"Password:".to_vec())
            }
            Some(user) => Step::Ask(Ask::Verify { user: user.clone(), password: Secret::new(text.to_owned()) }),
        }
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn take_user(&mut self) -> String {
        self.user.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_messages() {
        let mut server = Server::default();
        assert_eq!(server.challenge(), Step::Challenge(b"Username:".to_vec()));
        assert_eq!(server.respond(b"ann"), Step::Challenge(b"Password:".to_vec()));
        let ask = Ask::Verify { user: "ann".to_owned(), password: Secret::new("pw".to_owned()) };
        assert_eq!(server.respond(b"pw"), Step::Ask(ask));
    }
}
