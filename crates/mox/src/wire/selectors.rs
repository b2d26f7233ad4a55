//! From the configuration to the keys with which domains sign.

use mox_base::Domain;
use mox_config::{DkimHash, DomainConfig, Selector, Snapshot, UnicodeDomain};
use mox_mailauth::{Canonicalization, DkimSelector, SigningKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The selectors with which each domain signs, and what is wrong with those that can't be used.
pub(crate) fn selectors(snapshot: &Snapshot) -> (BTreeMap<Domain, Arc<[DkimSelector]>>, Vec<String>) {
    let mut problems = Vec::new();
    // Disabled domains don't send.
    let domains = snapshot.dynamic.domains.iter().filter(|(_, config)| !config.disabled);
    let signing = domains.filter_map(|(name, config)| {
        let selectors = of_domain(snapshot, name, config, &mut problems);
        (!selectors.is_empty()).then(|| (name.domain().clone(), selectors.into()))
    });
    let signing = signing.collect();
    (signing, problems)
}

fn of_domain(snapshot: &Snapshot, name: &UnicodeDomain, config: &DomainConfig, problems: &mut Vec<String>) -> Vec<DkimSelector> {
    let Some(dkim) = &config.dkim else { return Vec::new() };
    let mut selectors = Vec::new();
    for selector_name in &dkim.sign {
        let key = snapshot.dkim_keys.get(&(name.clone(), selector_name.clone()));
        // A checked configuration has both.
        let (Some(settings), Some(key)) = (dkim.selectors.get(selector_name), key) else { continue };
        if settings.hash() == DkimHash::Sha1 {
            // RFC 8301 §3.1 forbids signing with it, and the key is the same.
            problems.push(format!(
                "domain {name}: selector {selector_name}: signing with sha256 instead of sha1, which isn't accepted any more"
            ));
        }
        match SigningKey::from_pkcs8(key.pkcs8.expose()) {
            Ok(key) => selectors.push(selector(selector_name, settings, key)),
            Err(error) => problems.push(format!("domain {name}: selector {selector_name}: not signing with it: {error}")),
        }
    }
    selectors
}

fn selector(name: &UnicodeDomain, settings: &Selector, key: SigningKey) -> DkimSelector {
    let canonicalization = |relaxed| if relaxed { Canonicalization::Relaxed } else { Canonicalization::Simple };
    DkimSelector {
        name: name.domain().clone(),
        key,
        header: canonicalization(settings.canonicalization.header_relaxed),
        body: canonicalization(settings.canonicalization.body_relaxed),
        headers: settings.headers().into_iter().map(str::to_owned).collect(),
        seal_headers: !settings.dont_seal_headers,
        expiration: settings.expiration(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::KeyPair;

    const STATIC: &str = "DataDir: ../data\nLogLevel: info\nHostname: mx.example.org\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 127.0.0.1\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\n";
    const DYNAMIC: &str = "Domains:\n\texample.org:\n\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\ta:\n\t\t\t\t\tPrivateKeyFile: ed25519.pem\n\t\t\t\t\tExpiration: 72h\n\t\t\t\tb:\n\t\t\t\t\tHash: sha1\n\t\t\t\t\tPrivateKeyFile: rsa.pem\n\t\t\t\tc:\n\t\t\t\t\tPrivateKeyFile: rsa.pem\n\t\t\tSign:\n\t\t\t\t- b\n\t\t\t\t- a\n\toff.example:\n\t\tDisabled: true\n\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\ta:\n\t\t\t\t\tPrivateKeyFile: ed25519.pem\n\t\t\tSign:\n\t\t\t\t- a\nAccounts:\n\tann:\n\t\tDomain: example.org\n";

    #[test]
    fn those_that_sign_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("mox.conf", STATIC);
        write("domains.conf", DYNAMIC);
        write("ed25519.pem", &KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem());
        write("rsa.pem", &KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem());
        let outside = mox_config::Outside { user_known: &|_| true, read_tls_keys: false };
        let (_, snapshot, _) = mox_config::load(&dir.path().join("mox.conf"), &outside).unwrap();
        let (selectors, problems) = selectors(&snapshot);
        assert_eq!(problems, ["domain example.org: selector b: signing with sha256 instead of sha1, which isn't accepted any more"]);
        assert_eq!(selectors.len(), 1, "a disabled domain doesn't sign");
        let selectors = &selectors[&Domain::parse("example.org").unwrap()];
        let summary: Vec<_> =
            selectors.iter().map(|s| (s.name.ascii(), s.key.algorithm(), s.expiration.is_some(), s.headers.len())).collect();
        assert_eq!(summary, [("b", "rsa-sha256", false, 11), ("a", "ed25519-sha256", true, 11)]);
    }
}
