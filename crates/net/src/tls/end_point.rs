//! The channel binding `tls-server-end-point`, RFC 5929 §4: a hash of the server's certificate.
//!
//! Weaker than an exporter, for it doesn't tell connections to the same server apart, but it is there in every version of TLS. A
//! certificate whose signature has no hash function of its own (Ed25519) has none.

use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// The hash of a certificate in DER.
pub(super) fn server_end_point(der: &[u8]) -> Option<Vec<u8>> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let algorithm = &cert.signature_algorithm;
    let id = match SignatureAlgorithm::try_from(algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(params)) => params.hash_algorithm_oid().to_id_string(),
        _ => algorithm.algorithm.to_id_string(),
    };
    Some(match id.as_str() {
        // With MD5 and SHA-1, alone for PSS, with RSA and with ECDSA, it is SHA-256 instead. RFC 5929 §4.1
        "1.2.840.113549.2.5" | "1.3.14.3.2.26" | "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1"
        // SHA-256.
        | "2.16.840.1.101.3.4.2.1" | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => Sha256::digest(der).to_vec(),
        "2.16.840.1.101.3.4.2.4" | "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Sha224::digest(der).to_vec(),
        "2.16.840.1.101.3.4.2.2" | "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(der).to_vec(),
        "2.16.840.1.101.3.4.2.3" | "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(der).to_vec(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn by_the_hash_of_the_signature() {
        let hash = |algorithm| {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let cert = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap().self_signed(&key).unwrap();
            (server_end_point(cert.der()), cert.der().to_vec())
        };
        let (got, der) = hash(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(got, Some(Sha256::digest(der).to_vec()));
        let (got, der) = hash(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(got, Some(Sha384::digest(der).to_vec()));
        assert_eq!(hash(&rcgen::PKCS_ED25519).0, None);
        assert_eq!(server_end_point(b"x"), None);
    }
}
