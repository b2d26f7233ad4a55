//! `mox config dnsrecords`: what a domain should have in DNS.

use super::config::load;
use super::dns::with_resolver;
use super::dnscheck::{anywhere, verified_tls};
use crate::cli::{Command, Failure, Invocation, Outcome, print};
use crate::wire::listener_keys;
use mox_base::{Domain, Lookup};
use mox_config::{DkimKey, DkimPublicKey, DnsInput, Fixed, Snapshot, UnicodeDomain, dns_records};
use mox_net::TcpDial;
use mox_net::acme::{Files, account_url};
use mox_net::http::Client;
use mox_net::tls::{HostKey, KeyKind};
use rcgen::KeyPair;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How we introduce ourselves to providers.
const USER_AGENT: &str = concat!("mox/", env!("CARGO_PKG_VERSION"));

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "config dnsrecords",
    params: &["domain"],
    listed: true,
    help: "Print the DNS records that a domain should have, for a zone file.\n\n\
        The records follow from the configuration. DNS is only asked whether the domain is signed with DNSSEC: if not, records for \
        DANE are printed as comments. The provider of certificates, if the server has an account with it, is asked for the address of the \
        account, for records that limit certificates to it.",
    flags: &[],
    args: 1..=1,
    run: print_records,
}];

fn print_records(invocation: &Invocation) -> Outcome {
    let (fixed, snapshot) = load(invocation, true)?;
    let domain: Domain = invocation.arg(0).parse().map_err(|e| Failure::new("parsing domain", e))?;
    if !snapshot.dynamic.domains.contains_key(&domain) {
        return Err(Failure::Error(format!("domain {domain}: no such domain")));
    }
    let account_uri = account_uri(&fixed);
    let input = DnsInput {
        fixed: &fixed.settings,
        dynamic: &snapshot.dynamic,
        domain: &domain,
        dkim: &dkim_keys(&snapshot, &domain)?,
        host_keys: &host_keys(&fixed)?,
        signed: is_signed(&domain),
        account_uri: account_uri.as_deref(),
    };
    let lines = dns_records(&input).unwrap_or_default();
    print(&lines.into_iter().map(|line| line + "\n").collect::<String>())
}

pub(super) fn dkim_keys(snapshot: &Snapshot, domain: &Domain) -> Result<BTreeMap<UnicodeDomain, DkimPublicKey>, Failure> {
    let of_domain = snapshot.dkim_keys.iter().filter(|((owner, _), _)| owner.domain() == domain);
    of_domain.map(|((_, selector), key)| Ok((selector.clone(), public_key(key)?))).collect()
}

/// The public half of a key.
pub(super) fn public_key(key: &DkimKey) -> Result<DkimPublicKey, Failure> {
    let bytes = match key.rsa_public_key() {
        Some(bytes) => bytes,
        None => {
            let pair = KeyPair::try_from(key.pkcs8.expose().as_slice()).map_err(|e| Failure::new("dkim key", e))?;
            pair.public_key_raw().to_vec()
        }
    };
    Ok(DkimPublicKey { algorithm: key.algorithm, bytes })
}

/// The digests of the keys that the listener `public` keeps, those to come included: of ECDSA P-256, then of RSA.
pub(super) fn host_keys(fixed: &Fixed) -> Result<Vec<[u8; 32]>, Failure> {
    let Some(listener) = fixed.settings.listeners.get("public") else { return Ok(Vec::new()) };
    let keys = listener_keys(&fixed.paths, "public", listener).map_err(Failure::Error)?;
    Ok(published(&keys))
}

/// RFC 7671 §8.1: a key has its TLSA record some time before it is used, so that nobody still has the records without it.
fn published(keys: &[HostKey]) -> Vec<[u8; 32]> {
    let of = |kind| keys.iter().filter(move |key| key.kind() == kind).map(HostKey::spki_digest);
    KeyKind::ALL.into_iter().flat_map(of).collect()
}

/// The URI of our account with the provider that the listener `public` has its certificates from; none without an account, or where
/// the provider doesn't answer, which is said.
pub(super) fn account_uri(fixed: &Fixed) -> Option<String> {
    let name = &fixed.settings.listeners.get("public")?.tls.as_ref()?.acme;
    let directory = &fixed.settings.acme.get(name)?.directory_url;
    let files = Files::new(fixed.paths.data_dir(), name);
    let tls = verified_tls(fixed);
    let found = with_resolver(|resolver| async move {
        let client = Client::new(Arc::new(resolver), Arc::new(TcpDial::default()), tls?, anywhere());
        account_url(files, directory, USER_AGENT, &client).await.map_err(|e| Failure::new("asking for the acme account", e))
    });
    found.unwrap_or_else(|e| {
        if let Failure::Error(text) = e {
            eprintln!("warning: {text}");
        }
        None
    })
}

/// Whether DNSSEC vouches for the domain. If DNS can't be asked, it doesn't.
fn is_signed(domain: &Domain) -> bool {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return false };
    runtime.block_on(async {
        let Ok(resolver) = mox_net::Resolver::system(mox_net::resolver::ResolverLimits::default()) else { return false };
        let resolver: &dyn Lookup = &resolver;
        // Only whether there is a proof counts; the zone's own name servers are always there.
        resolver.query(&format!("{}.", domain.ascii()), mox_base::RecordKind::Ns).await.is_ok_and(|answer| answer.authentic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_config::{DkimAlgorithm, DkimHash};
    use rcgen::PublicKeyData as _;

    #[test]
    fn keys_to_come_are_published() {
        let keys = [KeyKind::Rsa2048, KeyKind::EcdsaP256, KeyKind::EcdsaP256].map(|kind| HostKey::generate(kind).unwrap());
        let [rsa, now, next] = [0, 1, 2].map(|n: usize| keys[n].spki_digest());
        assert_eq!(published(&keys), [now, next, rsa]);
        assert_eq!(published(&[]), [[0; 32]; 0]);
    }

    #[test]
    fn public_halves() {
        for algorithm in [DkimAlgorithm::Ed25519, DkimAlgorithm::Rsa { bits: 2048 }] {
            let kind = if algorithm == DkimAlgorithm::Ed25519 { &rcgen::PKCS_ED25519 } else { &rcgen::PKCS_RSA_SHA256 };
            let pair = KeyPair::generate_for(kind).unwrap();
            let key = DkimKey::from_pem(&pair.serialize_pem(), DkimHash::Sha256).unwrap();
            let public = public_key(&key).unwrap();
            assert_eq!(public.algorithm, algorithm);
            if algorithm == DkimAlgorithm::Ed25519 {
                assert_eq!(public.bytes, pair.public_key_raw());
            } else {
                assert_eq!(public.bytes, pair.subject_public_key_info());
            }
        }
    }
}
