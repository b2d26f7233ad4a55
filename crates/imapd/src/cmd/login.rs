//! LOGIN, RFC 9051 §6.2.3.

use super::Done;
use crate::auth::bad_credentials;
use crate::error::Failure;
use crate::session::Session;
use mox_imap::cmd::auth::Login;
use mox_imap::response::Code;
use mox_sasl::server::Wrong;
use mox_sasl::{Answer, Ask, AuthResult};
use unicode_normalization::UnicodeNormalization as _;

const VARIANT: &str = "login";

pub(crate) async fn run(s: &mut Session, login: Login) -> Done {
    let user: String = login.user.nfc().collect();
    if !s.announced().passwords {
        s.end_attempt(VARIANT, &user, None, AuthResult::BadProtocol);
        return Err(Failure::code(Code::PrivacyRequired, "tls required for login"));
    }
    s.begin_attempt().await;
    let answer = s.answer(Ask::Verify { user: user.clone(), password: login.password }).await;
    let result = match answer {
        Answer::Right => return s.decide(VARIANT, &user).await,
        Answer::Wrong(Wrong::User) => AuthResult::BadUser,
        Answer::Wrong(Wrong::Password) => AuthResult::BadPassword,
        Answer::Wrong(Wrong::Credentials) => AuthResult::BadCreds,
        Answer::Wrong(Wrong::NoKeys) | Answer::Keys(_) | Answer::FakeKeys(..) | Answer::Unavailable => AuthResult::Error,
    };
    s.end_attempt(VARIANT, &user, None, result);
    Err(if result == AuthResult::Error { Failure::code(Code::Unavailable, "cannot verify credentials now") } else { bad_credentials() })
}
