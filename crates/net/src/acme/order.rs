//! One order, from its placing to the certificate, RFC 8555 §7.4.
//!
//! The provider asks us to prove that a host is ours in one of several ways; we try those we can, each with an order of its own since a
//! failed proof spoils the order: first over TLS, then over HTTP.

use super::answers::{Answering, Answers};
use super::provider::{AcmeError, Challenges};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use std::sync::Arc;
use std::time::Duration;

/// How long the provider may take to ask and decide, and to issue.
const PATIENCE: RetryPolicy = RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_secs(120));

/// What to order.
pub(super) struct Ordering<'a> {
    pub(super) account: &'a Account,
    /// The host, in A-labels.
    pub(super) host: &'a str,
    /// The request for the certificate, in DER.
    pub(super) request: &'a [u8],
    /// The certificate that it is to replace, if the provider wants to know, RFC 9773 §5.
    pub(super) replaces: Option<CertificateIdentifier<'static>>,
    pub(super) challenges: Challenges,
    pub(super) answers: &'a Arc<Answers>,
}

/// Gets a certificate: its chain in PEM.
pub(super) async fn place(ordering: &Ordering<'_>) -> Result<String, AcmeError> {
    let mut refused = AcmeError::NoChallenge;
    let ways = [(ordering.challenges.tls, ChallengeType::TlsAlpn01), (ordering.challenges.http, ChallengeType::Http01)];
    for (_, way) in ways.into_iter().filter(|(possible, _)| *possible) {
        match attempt(ordering, &way).await {
            Ok(chain) => return Ok(chain),
            Err(error @ (AcmeError::Validation { .. } | AcmeError::NotOffered(_))) => {
                tracing::warn!(target: "autotls", %error, servername = ordering.host, "the acme provider didn't accept an answer");
                refused = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

async fn attempt(ordering: &Ordering<'_>, way: &ChallengeType) -> Result<String, AcmeError> {
    let mut order = new_order(ordering).await?;
    // Given until the provider has decided.
    let answering = answer(&mut order, ordering, way).await?;
    if order.state().status != OrderStatus::Ready {
        match order.poll_ready(&PATIENCE).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) | Err(Error::Api(_)) => return Err(why_invalid(&mut order, way).await),
            Err(error) => return Err(error.into()),
        }
    }
    drop(answering);
    order.finalize_csr(ordering.request).await?;
    Ok(order.poll_certificate(&PATIENCE).await?)
}

async fn new_order(ordering: &Ordering<'_>) -> Result<Order, AcmeError> {
    let hosts = [Identifier::Dns(ordering.host.to_owned())];
    if let Some(replaces) = &ordering.replaces {
        match ordering.account.new_order(&NewOrder::new(&hosts).replaces(replaces.clone())).await {
            Ok(order) => return Ok(order),
            // RFC 9773 §5: a certificate can be replaced once. It is only a hint, which some providers don't know or repeat.
            Err(error) => {
                tracing::debug!(target: "autotls", %error, servername = ordering.host, "no order as a replacement");
            }
        }
    }
    Ok(ordering.account.new_order(&NewOrder::new(&hosts)).await?)
}

/// Prepares answers to all questions of an order, and tells the provider to ask. What was proven before isn't asked again.
async fn answer(order: &mut Order, ordering: &Ordering<'_>, way: &ChallengeType) -> Result<Vec<Answering>, AcmeError> {
    let mut answering = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            _ => return Err(AcmeError::Validation { way: name(way), reason: "the provider doesn't ask any more".into() }),
        }
        let mut challenge = authorization.challenge(way.clone()).ok_or(AcmeError::NotOffered(name(way)))?;
        // RFC 8555 §8: only letters of base64url, so that it can be a part of a path and of an answer.
        if !challenge.token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return Err(AcmeError::Validation { way: name(way), reason: "the provider asks with a malformed token".into() });
        }
        let key_authorization = challenge.key_authorization();
        answering.push(match way {
            ChallengeType::Http01 => ordering.answers.answer_http(&challenge.token, key_authorization.as_str()),
            _ => ordering.answers.answer_tls(ordering.host, key_authorization.digest().as_ref()).map_err(AcmeError::Certificate)?,
        });
        challenge.set_ready().await?;
    }
    Ok(answering)
}

/// What the provider found wrong.
async fn why_invalid(order: &mut Order, way: &ChallengeType) -> AcmeError {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        // Without news, what is known has to do.
        if let Err(error) = authorization.refresh().await {
            reasons.push(error.to_string());
        }
        reasons.extend(authorization.challenges.iter().filter_map(|c| c.error.as_ref()).map(ToString::to_string));
    }
    AcmeError::Validation { way: name(way), reason: reasons.join("; ") }
}

const fn name(way: &ChallengeType) -> &'static str {
    match way {
        ChallengeType::Http01 => "http-01",
        _ => "tls-alpn-01",
    }
}
