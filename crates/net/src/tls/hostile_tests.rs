//! Certificates and keys of strangers: broken in any way, they are refused, or verified as somebody's, but never a panic.

use super::check::{Check, Checking, DaneCheck, Findings, Severity};
use super::client_cert::ClientCert;
use super::end_point::server_end_point;
use super::subject::TlsaSubject;
use super::verify::AnyCert;
use super::{HostKey, KeyCert, KeyKind, provider};
use crate::pem;
use mox_base::Tlsa;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const HOST: &str = "mx.example";

/// A host's certificate with its key, and that of its authority.
struct Pki {
    leaf: Vec<u8>,
    authority: Vec<u8>,
    key: Vec<u8>,
    ca: CertificateDer<'static>,
}

static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![HOST.to_owned(), "*.mx.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress("192.0.2.1".parse().unwrap()));
    params.distinguished_name.push(DnType::CommonName, HOST);
    let leaf = params.signed_by(&key, &ca).unwrap();
    Pki { leaf: leaf.der().to_vec(), authority: ca.der().to_vec(), key: key.serialize_der(), ca: ca.der().clone() }
});

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    Cut(usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = || any::<prop::sample::Index>().prop_map(|i| i.index(4096));
    let change = prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..6)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (at(), 1..40usize).prop_map(|(at, n)| Change::Remove(at, n)),
        1 => (at(), 1..40usize).prop_map(|(at, n)| Change::Repeat(at, n)),
        1 => at().prop_map(Change::Cut),
    ];
    prop::collection::vec(change, 1..4)
}

fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for change in changes {
        let place = |at: usize| at % out.len().max(1);
        match change {
            Change::Set(at, byte) => {
                let at = place(*at);
                out.iter_mut().skip(at).take(1).for_each(|b| *b = *byte);
            }
            Change::Flip(at, bit) => {
                let at = place(*at);
                out.iter_mut().skip(at).take(1).for_each(|b| *b ^= bit);
            }
            Change::Insert(at, bytes) => {
                let at = place(*at).min(out.len());
                out.splice(at..at, bytes.iter().copied());
            }
            Change::Remove(at, n) => {
                let at = place(*at).min(out.len());
                out.drain(at..at.saturating_add(*n).min(out.len()));
            }
            Change::Repeat(at, n) => {
                let at = place(*at).min(out.len());
                let again = out[at..at.saturating_add(*n).min(out.len())].to_vec();
                out.splice(at..at, again);
            }
            Change::Cut(at) => out.truncate(place(*at)),
        }
    }
    out
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(PKI.ca.clone()).unwrap();
    roots
}

/// A check of all that can be checked, in which a fault is only noted.
fn every_check(severity: Severity, whole: &[u8]) -> Check {
    let mut records = Vec::new();
    for usage in 0..=4 {
        for selector in 0..=2 {
            records.push(Tlsa { usage, selector, matching: 1, data: Sha256::digest(b"other").to_vec() });
            records.push(Tlsa { usage, selector, matching: 0, data: whole.to_vec() });
        }
    }
    let names = vec![HOST.parse().unwrap()];
    Check { pkix: severity, pkix_name: None, dane: Some(DaneCheck { records, names, severity }) }
}

/// Everything that looks at a certificate of a peer by itself.
fn look(leaf: &[u8], chain: &[u8]) {
    let (leaf_der, chain_der) = (CertificateDer::from(leaf.to_vec()), CertificateDer::from(chain.to_vec()));
    if let Ok(client) = ClientCert::from_der(leaf) {
        let (_kind, name) = (client.key_kind(), client.name());
        assert!(!name.chars().any(char::is_control) && name.len() <= 1000);
    }
    let _binding = server_end_point(leaf);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let name = ServerName::try_from(HOST).unwrap();
    for whole in [leaf, chain] {
        let findings = Findings::default();
        let checking = Checking::new(every_check(Severity::Note, whole), Arc::new(roots()), findings.clone());
        let noted = checking.verify_server_cert(&leaf_der, std::slice::from_ref(&chain_der), &name, &[], now);
        assert!(noted.is_ok() && findings.pkix().is_some() && findings.dane().is_some());
    }
    let pem = pem::encode("CERTIFICATE", leaf);
    let _subject = TlsaSubject::from_pem(pem.as_bytes());
    let _own = KeyCert::from_pem(pem.as_bytes(), pem::encode("PRIVATE KEY", &PKI.key).as_bytes());
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl rustls::client::ResolvesClientCert for Fixed {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn presented(leaf: &[u8]) -> Arc<Fixed> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(PKI.key.clone()));
    let key = provider().key_provider.load_private_key(key).unwrap();
    Arc::new(Fixed(Arc::new(CertifiedKey::new(vec![CertificateDer::from(leaf.to_vec())], key))))
}

/// Both sides of a handshake in which both show a certificate, as far as it goes; whether it went to its end.
fn shake(leaf: &[u8], version: &'static SupportedProtocolVersion, verifier: Arc<dyn ServerCertVerifier>) -> bool {
    let presented = presented(leaf);
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyCert::new()))
        .with_cert_resolver(presented.clone());
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(presented);
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from(HOST).unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
    }
    !client.is_handshaking() && !server.is_handshaking()
}

fn verifiers(leaf: &[u8]) -> [Arc<dyn ServerCertVerifier>; 3] {
    let checking = |severity| Arc::new(Checking::new(every_check(severity, leaf), Arc::new(roots()), Findings::default()));
    [Arc::new(AnyCert::new()), checking(Severity::Note), checking(Severity::Refuse)]
}

#[test]
fn what_is_right_is_accepted() {
    look(&PKI.leaf, &PKI.authority);
    for version in [&TLS12, &TLS13] {
        for verifier in verifiers(&PKI.leaf) {
            assert!(shake(&PKI.leaf, version, verifier));
        }
    }
}

/// The key stays what it was, so that a certificate that only looks odd is still somebody's: encryption goes on without a policy.
#[test]
fn odd_certificates_of_the_same_key_do_without_a_policy() {
    // The version, RFC 5280 §4.1.2.1: 3 becomes one that there isn't.
    let version = PKI.leaf.windows(5).position(|w| w == [0xa0, 3, 2, 1, 2]).unwrap();
    let mut odd = PKI.leaf.clone();
    odd[version + 4] = 0;
    for tls in [&TLS12, &TLS13] {
        assert!(shake(&odd, tls, Arc::new(AnyCert::new())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn changed_certificates(leaf in changes(), authority in prop::option::of(changes())) {
        let chain = authority.map_or_else(|| PKI.authority.clone(), |changes| changed(&PKI.authority, &changes));
        look(&changed(&PKI.leaf, &leaf), &chain);
    }

    #[test]
    fn anything_as_a_certificate(mut bytes in prop::collection::vec(any::<u8>(), 0..300), sequence: bool) {
        if let (true, Ok(length)) = (sequence, u16::try_from(bytes.len())) {
            bytes.splice(0..0, [&[0x30, 0x82][..], &length.to_be_bytes()].concat());
        }
        look(&bytes, &PKI.authority);
        look(&PKI.leaf, &bytes);
    }

    #[test]
    fn changed_keys(rsa: bool, changes in changes(), label in "(RSA |EC |)PRIVATE KEY") {
        static KEYS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
            KeyKind::ALL.map(|kind| pem::blocks(&HostKey::generate(kind).unwrap().pkcs8_pem()).remove(0).der)
        });
        let text = pem::encode(&label, &changed(&KEYS[usize::from(rsa)], &changes));
        if let Ok(key) = HostKey::from_pem(&text) {
            let again = HostKey::from_pem(&key.pkcs8_pem()).unwrap();
            prop_assert_eq!(again.spki_digest(), key.spki_digest());
        }
        let _subject = TlsaSubject::from_pem(text.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whoever shows it in a handshake, as client or server.
    #[test]
    fn changed_certificates_in_handshakes(leaf in changes(), old: bool) {
        let leaf = changed(&PKI.leaf, &leaf);
        for verifier in verifiers(&leaf) {
            let _done = shake(&leaf, if old { &TLS12 } else { &TLS13 }, verifier);
        }
    }
}
