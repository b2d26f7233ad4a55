//! TLS of a trial connection, with versions, cipher suites and key exchange as somebody wants them.

use super::client::ClientTls;
use super::info::iana_name;
use super::provider;
use super::verify::AnyCert;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, NamedGroup, RootCertStore, SupportedProtocolVersion};
use std::sync::Arc;

/// What may be chosen. The default is what all other connections have.
#[derive(Clone, Debug, Default)]
pub struct ClientTlsOptions {
    /// Authorities that must have issued the certificate; none accepts any.
    pub roots: Option<RootCertStore>,
    /// Not TLS 1.2.
    pub only_13: bool,
    /// Not TLS 1.3.
    pub only_12: bool,
    /// Cipher suites by their names at IANA, in any case; all if empty.
    pub cipher_suites: Vec<String>,
    /// Groups for the exchange of keys: `curvep256`, `curvep384`, `x25519`, `x25519mlkem768`; all if empty.
    pub groups: Vec<String>,
    /// Sessions can't be resumed.
    pub no_resumption: bool,
}

/// Why there is no such TLS.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A cipher suite that isn't known, or not safe.
    #[error("cipher suite {0:?} is not supported; supported: {1}")]
    CipherSuite(String, String),
    /// A group that isn't known.
    #[error("key exchange {0:?} is not supported; supported: {1}")]
    Group(String, String),
    /// They can't be had together.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

impl ClientTls {
    /// TLS with options.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn with_options(options: ClientTlsOptions) -> Result<Self, OptionsError> {
        let mut crypto = provider().as_ref().clone();
        if !options.cipher_suites.is_empty() {
            let all: Vec<_> = crypto.cipher_suites.iter().map(|suite| (iana_name(suite.suite()), *suite)).collect();
            crypto.cipher_suites = chosen(&options.cipher_suites, &all).map_err(|(name, known)| OptionsError::CipherSuite(name, known))?;
        }
        if !options.groups.is_empty() {
            let all: Vec<_> = crypto.kx_groups.iter().map(|group| (group_name(group.name()), *group)).collect();
            crypto.kx_groups = chosen(&options.groups, &all).map_err(|(name, known)| OptionsError::Group(name, known))?;
        }
        let versions: &[&SupportedProtocolVersion] = match (options.only_12, options.only_13) {
            (true, _) => &[&TLS12],
            (_, true) => &[&TLS13],
            _ => &[&TLS13, &TLS12],
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto)).with_protocol_versions(versions)?;
        let roots = Arc::new(options.roots.clone().unwrap_or_else(RootCertStore::empty));
        let mut config = if options.roots.is_some() {
            builder.with_root_certificates(Arc::clone(&roots)).with_no_client_auth()
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCert::new())).with_no_client_auth()
        };
        if options.no_resumption {
            config.resumption = Resumption::disabled();
        }
        Ok(Self::from_parts(config, roots))
    }
}

/// Those that are wanted, in that order; else the name that isn't known, and all that are.
fn chosen<T: Copy>(wanted: &[String], all: &[(String, T)]) -> Result<Vec<T>, (String, String)> {
    let find = |name: &String| {
        let found = all.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        found.ok_or_else(|| (name.clone(), all.iter().map(|(known, _)| known.to_ascii_lowercase()).collect::<Vec<_>>().join(", ")))
    };
    wanted.iter().map(find).collect()
}

fn group_name(group: NamedGroup) -> String {
    match group {
        NamedGroup::secp256r1 => "curvep256".to_owned(),
        NamedGroup::secp384r1 => "curvep384".to_owned(),
        NamedGroup::secp521r1 => "curvep521".to_owned(),
        other => format!("{other:?}").to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let options = |suites: &[&str], groups: &[&str]| ClientTlsOptions {
            cipher_suites: suites.iter().map(|s| (*s).to_owned()).collect(),
            groups: groups.iter().map(|s| (*s).to_owned()).collect(),
            ..ClientTlsOptions::default()
        };
        let with = ClientTls::with_options;
        let tls = with(options(&["tls_aes_128_gcm_sha256"], &["curvep256", "x25519mlkem768"])).unwrap();
        let provider = tls.config().crypto_provider().clone();
        assert_eq!((provider.cipher_suites.len(), provider.kx_groups.len()), (1, 2));
        assert!(matches!(with(options(&["TLS_RSA_WITH_RC4_128_SHA"], &[])), Err(OptionsError::CipherSuite(..))));
        assert!(matches!(with(options(&[], &["curvep521"])), Err(OptionsError::Group(..))));
        // A suite of TLS 1.2 alone leaves TLS 1.3 without any.
        let old = options(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"], &[]);
        assert!(with(ClientTlsOptions { only_12: true, ..old.clone() }).is_ok());
        assert!(matches!(with(ClientTlsOptions { only_13: true, ..old }), Err(OptionsError::Tls(_))));
    }
}
