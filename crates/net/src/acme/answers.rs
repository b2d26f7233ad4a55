//! Answers to the provider's questions, as long as it may ask them.

use crate::tls::provider;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a question over HTTP has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The host isn't one that gets certificates here.
    Host,
    /// Nothing was asked with this token.
    Token,
}

/// The answers that are given now.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Key authorizations by their tokens.
    http: Mutex<BTreeMap<String, String>>,
    /// Certificates by the names of hosts.
    tls: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

/// Gives an answer until it is dropped.
#[derive(Debug)]
pub(super) struct Answering {
    answers: Arc<Answers>,
    given: Given,
}

#[derive(Debug)]
enum Given {
    Http(String),
    Tls(String),
}

impl Answers {
    /// RFC 8555 §8.3.
    pub(super) fn answer_http(self: &Arc<Self>, token: &str, authorization: &str) -> Answering {
        lock(&self.http).insert(token.to_owned(), authorization.to_owned());
        Answering { answers: Arc::clone(self), given: Given::Http(token.to_owned()) }
    }

    /// RFC 8737 §3: a certificate for the host with the digest of the key authorization in it.
    pub(super) fn answer_tls(self: &Arc<Self>, host: &str, digest: &[u8]) -> Result<Answering, String> {
        let certificate = certificate(host, digest)?;
        lock(&self.tls).insert(host.to_owned(), certificate);
        Ok(Answering { answers: Arc::clone(self), given: Given::Tls(host.to_owned()) })
    }

    pub(super) fn http(&self, token: &str) -> Option<String> {
        lock(&self.http).get(token).cloned()
    }

    pub(super) fn tls(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        lock(&self.tls).get(host).cloned()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        match &self.given {
            Given::Http(token) => drop(lock(&self.answers.http).remove(token)),
            Given::Tls(host) => drop(lock(&self.answers.tls).remove(host)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn certificate(host: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    if digest.len() != 32 {
        return Err("digest of the key authorization isn't SHA-256".to_owned());
    }
    let key = KeyPair::generate().map_err(|e| e.to_string())?;
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(|e| e.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let cert = params.self_signed(&key).map_err(|e| e.to_string())?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = provider().key_provider.load_private_key(key.into()).map_err(|e| e.to_string())?;
    // Not checked against the certificate, whose critical extension only the provider knows.
    Ok(Arc::new(CertifiedKey::new(vec![cert.der().clone()], key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_there_while_they_are_given() {
        let answers = Arc::new(Answers::default());
        let (http, tls) = (answers.answer_http("token", "token.thumb"), answers.answer_tls("mx.example", &[7; 32]).unwrap());
        assert_eq!(answers.http("token").as_deref(), Some("token.thumb"));
        assert!(answers.tls("mx.example").is_some() && answers.tls("other.example").is_none());
        drop((http, tls));
        assert!(answers.http("token").is_none() && answers.tls("mx.example").is_none());
        assert!(answers.answer_tls("mx.example", &[7; 20]).is_err());
    }
}
