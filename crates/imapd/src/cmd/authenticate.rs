//! AUTHENTICATE, RFC 9051 §6.2.2, with initial responses, RFC 4959.

use super::Done;
use crate::auth::bad_credentials;
use crate::error::Failure;
use crate::session::Session;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_imap::cmd::auth::Authenticate;
use mox_imap::response::{self, Code};
use mox_sasl::server::Context;
use mox_sasl::{AuthResult, Exchange, Failure as SaslFailure, Mechanism, Step, scram};

pub(crate) async fn run(s: &mut Session, a: Authenticate) -> Done {
    s.begin_attempt().await;
    // The LOGIN mechanism isn't for IMAP, which has a command for it.
    let mechanism = Mechanism::from_name(&a.mechanism).filter(|m| *m != Mechanism::Login);
    let Some(mechanism) = mechanism else {
        s.end_attempt("(unrecognized)", "", None, AuthResult::BadProtocol);
        return Err(Failure::no("unsupported mechanism"));
    };
    let variant = mechanism.label();
    if let Err(failure) = possible(s, mechanism) {
        s.end_attempt(variant, "", None, AuthResult::BadProtocol);
        return Err(failure);
    }
    let initial = match &a.initial_response {
        None => None,
        Some(text) if text.expose() == "=" => Some(Vec::new()),
        Some(text) => match STANDARD.decode(text.expose()) {
            Ok(bytes) => Some(bytes),
            Err(_) => {
                s.end_attempt(variant, "", None, AuthResult::BadProtocol);
                return Err(Failure::bad("malformed base64"));
            }
        },
    };
    let bindings = s.bindings();
    let context = Context { random: &*s.service.random, now: s.service.clock.now(), hostname: &s.service.hostname, bindings };
    let mut exchange = Exchange::new(mechanism, context);
    let mut step = exchange.start(initial.as_deref());
    loop {
        step = match step {
            Step::Challenge(bytes) => match challenge(s, &bytes).await? {
                Ok(response) => exchange.respond(&response),
                // After SCRAM has told the client what is wrong, that is the outcome, not that the client then gives up.
                Err(failure) => match exchange.cancel() {
                    Step::Failed(SaslFailure::Aborted) => Step::Failed(failure),
                    step => step,
                },
            },
            Step::Ask(ask) => {
                let answer = s.answer(ask).await;
                exchange.answer(answer)
            }
            Step::Accepted { user } => {
                let user = user.or_else(|| s.certificate.as_ref().map(|o| o.login.address.to_string()));
                return match user {
                    Some(user) => s.decide(variant, &user).await,
                    None => Err(bad_credentials()),
                };
            }
            Step::Failed(failure) => {
                let user = exchange.user().unwrap_or_default().to_owned();
                if !failure.counts() {
                    s.failed = s.failed.saturating_sub(1);
                }
                s.end_attempt(variant, &user, None, failure.result());
                return Err(refusal(s, &failure));
            }
        };
    }
}

/// Whether this connection is fit for a mechanism.
fn possible(s: &Session, mechanism: Mechanism) -> Result<(), Failure> {
    let announced = s.announced();
    if mechanism.sends_password() && !announced.passwords {
        return Err(Failure::code(Code::PrivacyRequired, "tls required for this mechanism"));
    }
    if mechanism == Mechanism::External && !announced.external {
        return Err(Failure::code(Code::AuthenticationFailed, "no client certificate"));
    }
    if mechanism.binds_channel() && !announced.bindings {
        return Err(Failure::no("no tls to bind to"));
    }
    Ok(())
}

/// Sends a challenge and reads the response; the inner error ends the exchange.
async fn challenge(s: &mut Session, bytes: &[u8]) -> Result<Result<Vec<u8>, SaslFailure>, Failure> {
    response::continuation(&mut s.conn.out, &STANDARD.encode(bytes));
    s.conn.flush().await?;
    s.conn.hesitate().await;
    let line = s.conn.line(s.service.limits.read_before_login).await?;
    if line == b"*" {
        return Ok(Err(SaslFailure::Aborted));
    }
    Ok(STANDARD.decode(&line).map_err(|_| SaslFailure::Malformed("base64")))
}

/// What the client hears of a failure.
fn refusal(s: &Session, failure: &SaslFailure) -> Failure {
    match failure {
        SaslFailure::Aborted => Failure::bad("authentication aborted"),
        SaslFailure::Malformed(what) => Failure::bad(format!("malformed response: {what}")),
        SaslFailure::Authorization => Failure::code(Code::AuthorizationFailed, "cannot authorize as another user"),
        SaslFailure::Wrong(_) => bad_credentials(),
        SaslFailure::ScramFinal(scram::Error::ChannelBindingsDontMatch) => {
            tracing::warn!(cid = s.id, remote = %s.remote, "channel binding differs: perhaps someone intercepts this connection");
            Failure::code(Code::AuthenticationFailed, "channel bindings do not match")
        }
        SaslFailure::ScramFinal(scram::Error::InvalidProof) => bad_credentials(),
        SaslFailure::ScramFirst(error) | SaslFailure::ScramFinal(error) => Failure::no(format!("scram: {error}")),
        SaslFailure::Unavailable => Failure::code(Code::Unavailable, "cannot verify credentials now"),
    }
}
