//! Whether the peer has its certificate's key: the part of verification that is the same whatever else is asked of a certificate.

use super::provider;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Checks handshake signatures. webpki refuses certificates that are odd in ways that don't matter here (version 1, unknown critical
/// extensions): then the signature is checked with the bare key.
#[derive(Debug)]
pub(super) struct Signatures(Arc<CryptoProvider>);

impl Signatures {
    pub(super) fn new() -> Self {
        Self(provider())
    }

    pub(super) fn algorithms(&self) -> rustls::crypto::WebPkiSupportedAlgorithms {
        self.0.signature_verification_algorithms
    }

    pub(super) fn tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls12_signature(message, cert, dss, &self.algorithms()) {
            Err(e) if is_about_certificate(&e) => self.tls12_with_raw_key(message, cert, dss),
            result => result,
        }
    }

    pub(super) fn tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls13_signature(message, cert, dss, &self.algorithms()) {
            Err(e) if is_about_certificate(&e) => verify_tls13_signature_with_raw_key(message, &spki(cert)?, dss, &self.algorithms()),
            result => result,
        }
    }

    pub(super) fn schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }

    /// What `verify_tls12_signature` does, with the key found by a more lenient parser.
    fn tls12_with_raw_key(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, parsed) = X509Certificate::from_der(cert).map_err(|_| CertificateError::BadEncoding)?;
        let key = parsed.public_key();
        let algorithms = self.algorithms();
        let (_, candidates) = algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme).ok_or(CertificateError::BadSignature)?;
        let fitting =
            candidates.iter().filter(|algorithm| algorithm_of(key.raw).is_some_and(|id| id == algorithm.public_key_alg_id().as_ref()));
        for algorithm in fitting {
            if algorithm.verify_signature(&key.subject_public_key.data, message, dss.signature()).is_ok() {
                return Ok(HandshakeSignatureValid::assertion());
            }
        }
        Err(CertificateError::BadSignature.into())
    }
}

/// The three methods that verifiers of clients and of servers have alike, by their field `signatures`.
macro_rules! verify_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            self.signatures.tls12(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            self.signatures.tls13(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.signatures.schemes()
        }
    };
}
pub(super) use verify_signatures;

/// A certificate that webpki can't judge, rather than a signature that is wrong.
fn is_about_certificate(e: &Error) -> bool {
    matches!(e, Error::InvalidCertificate(reason) if *reason != CertificateError::BadSignature)
}

/// The SubjectPublicKeyInfo of a certificate, in DER.
pub(super) fn spki<'a>(cert: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, Error> {
    let (_, parsed) = X509Certificate::from_der(cert).map_err(|_| CertificateError::BadEncoding)?;
    Ok(SubjectPublicKeyInfoDer::from(parsed.tbs_certificate.subject_pki.raw))
}

/// The content of the AlgorithmIdentifier, the first element of a SubjectPublicKeyInfo. RFC 5280 §4.1.
fn algorithm_of(spki: &[u8]) -> Option<&[u8]> {
    let inner = sequence(spki)?;
    sequence(inner)
}

/// The content of a DER SEQUENCE at the start.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    if tag != 0x30 {
        return None;
    }
    if first < 0x80 {
        return rest.get(..usize::from(first));
    }
    let (length, content) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(length, _)| length.len() <= 4)?;
    let length = length.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b));
    content.get(..usize::try_from(length).ok()?)
}
