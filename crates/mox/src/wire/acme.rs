//! Providers of certificates from the configuration: what they are set up with, and which hosts get certificates.

use super::listeners::{Endpoint, Service};
use super::{Life, tls_policies};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mox_base::{Domain, Lookup, Secret};
use mox_config::{Dynamic, Listener, Live, Paths, Static};
use mox_net::TcpDial;
use mox_net::acme::{Acme, Challenges, ExternalAccount, Files, Metrics, Ports, Settings};
use mox_net::http::{AddressGuard, Client};
use mox_net::metrics::NetMetrics;
use mox_net::tls::{HostKey, HostKeyError, KeyKind};
use mox_store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What we call ourselves at providers.
pub(crate) const USER_AGENT: &str = concat!("mox/", env!("CARGO_PKG_VERSION"));

/// How long looking up new names may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads what providers need, while we may read keys.
///
/// # Errors
/// A text for the operator.
pub(super) fn settings(fixed: &Static, paths: &Paths, endpoints: &[Endpoint]) -> Result<BTreeMap<String, Settings>, String> {
    let mut all = BTreeMap::new();
    for (name, provider) in &fixed.acme {
        let external_account = match &provider.external_account_binding {
            None => None,
            Some(binding) => {
                let path = paths.config(&binding.key_file);
                let fault = |e: &dyn std::fmt::Display| format!("acme provider {name}: {}: {e}", path.display());
                let text = std::fs::read_to_string(&path).map_err(|e| fault(&e))?;
                let key = URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).map_err(|e| fault(&e))?;
                Some(ExternalAccount { key_id: binding.key_id.clone(), key: Secret::new(key) })
            }
        };
        let uses = |endpoint: &&Endpoint| fixed.listeners.get(&endpoint.listener).is_some_and(|l| provider_of(l) == Some(name));
        let ours = || endpoints.iter().filter(uses);
        let challenges = Challenges {
            tls: ours().any(|e| e.service == Service::Https && e.port == provider.port()),
            http: ours().any(|e| e.service == Service::Http),
        };
        let settings = Settings {
            name: name.clone(),
            directory_url: provider.directory_url.clone(),
            contact: provider.contact_email.clone(),
            renew_before: Some(provider.renew_before).filter(|before| !before.is_zero()),
            external_account,
            user_agent: USER_AGENT.to_owned(),
            files: Files::new(paths.data_dir(), name),
            host_keys: host_keys(fixed, paths, name)?,
            challenges,
        };
        all.insert(name.clone(), settings);
    }
    Ok(all)
}

/// The provider of a listener's certificates.
pub(crate) fn provider_of(listener: &Listener) -> Option<&String> {
    listener.tls.as_ref().map(|tls| &tls.acme).filter(|name| !name.is_empty())
}

/// The name of a listener's host.
pub(crate) fn hostname_of<'a>(fixed: &'a Static, listener: &'a Listener) -> &'a Domain {
    listener.hostname.as_ref().unwrap_or_else(|| fixed.hostname.domain())
}

/// The keys that hosts keep: those of a listener with that name; for our own name, failing that, those of any listener.
fn host_keys(fixed: &Static, paths: &Paths, provider: &str) -> Result<BTreeMap<String, Vec<HostKey>>, String> {
    let own = fixed.hostname.domain();
    let mut listeners: Vec<(&String, &Listener)> =
        fixed.listeners.iter().filter(|(_, l)| provider_of(l).is_some_and(|name| name == provider)).collect();
    listeners.sort_by_key(|(name, _)| *name != "public");
    let mut keys: BTreeMap<String, Vec<HostKey>> = BTreeMap::new();
    let mut others = Vec::new();
    for (name, listener) in listeners {
        let read = listener_keys(paths, name, listener)?;
        let host = hostname_of(fixed, listener);
        if host != own {
            others.extend(read.clone());
        }
        add_keys(keys.entry(host.ascii().to_owned()).or_default(), read);
    }
    add_keys(keys.entry(own.ascii().to_owned()).or_default(), others);
    Ok(keys)
}

/// Adds those of kinds that aren't there yet.
fn add_keys(keys: &mut Vec<HostKey>, more: Vec<HostKey>) {
    for key in more {
        if !keys.iter().any(|k| k.kind() == key.kind()) {
            keys.push(key);
        }
    }
}

/// The keys in the files of a listener. Of each kind the first is used; further ones are to come after it, and have TLSA records already.
pub(crate) fn listener_keys(paths: &Paths, name: &str, listener: &Listener) -> Result<Vec<HostKey>, String> {
    let mut keys = Vec::new();
    let files = listener.tls.as_ref().map(|tls| tls.host_private_key_files.as_slice()).unwrap_or_default();
    for file in files {
        let path = paths.config(file);
        let text = std::fs::read_to_string(&path).map_err(|e| format!("listener {name:?}: reading {}: {e}", path.display()))?;
        match HostKey::from_pem(&text) {
            Ok(key) => keys.push(key),
            Err(error @ HostKeyError::Kind) => {
                tracing::error!(%error, listener = name, path = %path.display(), "ignoring host private key")
            }
            Err(error) => return Err(format!("listener {name:?}: {}: {error}", path.display())),
        }
    }
    let missing = KeyKind::ALL.into_iter().find(|kind| !keys.iter().any(|key: &HostKey| key.kind() == *kind));
    if let Some(missing) = missing.filter(|_| provider_of(listener).is_some() && !keys.is_empty()) {
        tracing::warn!(
            listener = name,
            %missing,
            "only one kind of host private keys is configured, certificates with the other kind get new keys"
        );
    }
    Ok(keys)
}

/// Opens the providers, with the certificates they have.
///
/// # Errors
/// A text for the operator.
pub(super) fn open(
    settings: BTreeMap<String, Settings>,
    live: &Live,
    store: &Store,
    (lookup, counted): (&Arc<dyn Lookup>, &NetMetrics),
    metrics: Metrics,
    life: &Life,
) -> Result<BTreeMap<String, Acme>, String> {
    if settings.is_empty() {
        return Ok(BTreeMap::new());
    }
    // A provider within one's own network is nothing unusual.
    let guard = AddressGuard::anywhere();
    let client = Client::new(Arc::clone(lookup), Arc::new(TcpDial::default()), tls_policies::verified_tls(live)?, guard);
    let client = client.counted(counted, "autotls");
    let ports = Ports {
        clock: Arc::clone(store.clock()),
        random: Arc::clone(store.random()),
        client,
        metrics,
        tasks: life.background.clone(),
        stop: life.stop.clone(),
    };
    Ok(settings.into_iter().map(|(name, settings)| (name, Acme::open(settings, ports.clone()))).collect())
}

/// Tells providers of the hosts of the current configuration, and looks whether new ones lead here.
pub(super) fn apply(providers: &BTreeMap<String, Acme>, fixed: &Static, dynamic: &Dynamic, lookup: &Arc<dyn Lookup>, life: &Life) {
    for (name, acme) in providers {
        let hosts = hosts(fixed, dynamic, name);
        let new = acme.allow(&hosts.allowed, &hosts.ensured);
        let Some(own) = public_addresses(fixed).filter(|_| !new.is_empty()) else { continue };
        let (lookup, stop) = (Arc::clone(lookup), life.stop.clone());
        life.background.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = tokio::time::timeout(LOOKUP_TIMEOUT, check(&lookup, &new, &own)) => {}
            }
        });
    }
}

/// The hosts that get certificates from a provider.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CertificateHosts {
    allowed: BTreeSet<Domain>,
    /// Those that don't wait until somebody asks.
    ensured: Vec<Domain>,
}

fn hosts(fixed: &Static, dynamic: &Dynamic, provider: &str) -> CertificateHosts {
    let mut hosts = CertificateHosts::default();
    let mut ensured = vec![];
    for listener in fixed.listeners.values().filter(|l| provider_of(l).is_some_and(|name| name == provider)) {
        ensured.push(fixed.hostname.domain().clone());
        ensured.extend(listener.hostname.clone());
        let autoconfig = listener.enabled_autoconfig().is_some_and(|s| !s.non_tls);
        let mtasts = listener.enabled_mtasts().is_some_and(|s| !s.non_tls);
        for (name, domain) in &dynamic.domains {
            if domain.disabled || is_reports_only(dynamic, name.domain()) {
                continue;
            }
            let below = |label: &str| Domain::parse(&format!("{label}.{}", name.domain().ascii())).ok();
            ensured.extend(below("autoconfig").filter(|_| autoconfig));
            hosts.allowed.extend(below("mta-sts").filter(|_| mtasts && domain.mtasts.is_some()));
            hosts.allowed.extend(domain.client_settings_domain.clone());
        }
        if listener.enabled_webserver(true).is_some() {
            hosts.allowed.extend(dynamic.web_domain_redirects.keys().cloned());
            hosts.allowed.extend(dynamic.web_handlers.iter().map(|handler| handler.domain.clone()));
        }
    }
    hosts.allowed.extend(ensured.iter().cloned());
    for host in ensured {
        if !hosts.ensured.contains(&host) {
            hosts.ensured.push(host);
        }
    }
    hosts
}

/// Whether a domain only has a configuration so that reports about it can go elsewhere: nobody has an address in it.
fn is_reports_only(dynamic: &Dynamic, domain: &Domain) -> bool {
    use mox_config::DestinationKey;
    let is_here = |key: &DestinationKey| match key {
        DestinationKey::Catchall(at) => at == domain,
        DestinationKey::Address(address) => address.domain == *domain,
        // Was completed when the file was loaded.
        DestinationKey::Localpart(_) => false,
    };
    let destination = dynamic.accounts.values().flat_map(|account| account.destinations.keys()).any(is_here);
    let report = dynamic.domains.iter().any(|(name, config)| {
        let reports = [&config.dmarc, &config.tlsrpt].into_iter().flatten();
        reports.map(|report| report.domain.as_ref().unwrap_or_else(|| name.domain())).any(|at| at == domain)
    });
    let alias = dynamic.domains.iter().any(|(name, config)| name.domain() == domain && !config.aliases.is_empty());
    !destination && !report && !alias
}

/// The addresses under which the world reaches us; none if the configuration doesn't say.
fn public_addresses(fixed: &Static) -> Option<Vec<IpAddr>> {
    let public = fixed.listeners.get("public")?;
    let own = if public.nat_ips.is_empty() { &public.ips } else { &public.nat_ips };
    let known = !public.ips_nated && !own.is_empty() && !own.iter().any(IpAddr::is_unspecified);
    known.then(|| own.clone())
}

/// Warns of names that lead elsewhere: the provider would ask there.
async fn check(lookup: &Arc<dyn Lookup>, names: &[Domain], own: &[IpAddr]) {
    for name in names {
        match lookup.ips(&format!("{}.", name.ascii())).await {
            Ok(answer) => {
                let elsewhere: Vec<String> = answer.records.iter().filter(|ip| !own.contains(ip)).map(ToString::to_string).collect();
                if !elsewhere.is_empty() {
                    let elsewhere = elsewhere.join(",");
                    tracing::warn!(target: "autotls", host = %name, elsewhere, "host for a certificate has addresses that aren't ours, validation may fail");
                }
            }
            Err(error) => {
                tracing::warn!(target: "autotls", host = %name, %error, "host for a certificate can't be looked up, validation may fail")
            }
        }
    }
}

/// Counters of certificates.
pub(super) fn metrics(registry: &mut prometheus_client::registry::Registry) -> Metrics {
    let metrics = Metrics::default();
    metrics.register(registry);
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_config::sconf::parse;

    const STATIC: &str = "DataDir: ../data\nLogLevel: info\nHostname: mail.example.org\nACME:\n\tle:\n\t\tDirectoryURL: https://ca.example/dir\n\t\tContactEmail: ann@example.org\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 192.0.2.1\n\t\tTLS:\n\t\t\tACME: le\n\t\tAutoconfigHTTPS:\n\t\t\tEnabled: true\n\t\tMTASTSHTTPS:\n\t\t\tEnabled: true\n\t\tWebserverHTTPS:\n\t\t\tEnabled: true\n\tother:\n\t\tIPs:\n\t\t\t- 192.0.2.2\n\t\tHostname: other.example.org\n\t\tTLS:\n\t\t\tACME: le\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\n";
    const DYNAMIC: &str = "Domains:\n\texample.org:\n\t\tClientSettingsDomain: imap.example.org\n\t\tMTASTS:\n\t\t\tPolicyID: 1\n\t\t\tMode: testing\n\t\t\tMaxAge: 1h\n\tplain.example: nil\n\tdisabled.example:\n\t\tDisabled: true\n\treports.example: nil\nAccounts:\n\tann:\n\t\tDomain: example.org\n\t\tDestinations:\n\t\t\tann@example.org: nil\n\t\t\t@plain.example: nil\n\t\t\tann@disabled.example: nil\nWebDomainRedirects:\n\told.example: example.org\n";

    fn of(fixed: &str) -> (Vec<String>, Vec<String>) {
        let fixed: Static = parse("mox.conf", fixed.as_bytes()).unwrap().value;
        let dynamic: Dynamic = parse("domains.conf", DYNAMIC.as_bytes()).unwrap().value;
        let hosts = hosts(&fixed, &dynamic, "le");
        let names = |hosts: Vec<&Domain>| hosts.into_iter().map(ToString::to_string).collect();
        (names(hosts.allowed.iter().collect()), names(hosts.ensured.iter().collect()))
    }

    #[test]
    fn hosts_that_get_certificates() {
        let (mut allowed, ensured) = of(STATIC);
        allowed.sort();
        let mut want = vec![
            "mail.example.org",
            "other.example.org",
            "autoconfig.example.org",
            "autoconfig.plain.example",
            "mta-sts.example.org",
            "imap.example.org",
            "old.example",
        ];
        want.sort_unstable();
        assert_eq!(allowed, want);
        assert_eq!(
            ensured,
            ["mail.example.org", "other.example.org", "autoconfig.example.org", "autoconfig.plain.example"].map(|host| host)
        );
        // Behind a proxy that does TLS, and without a web server, these names are no business of ours.
        let plain = STATIC.replace(
            "\t\t\tEnabled: true\n\t\tMTASTSHTTPS:\n\t\t\tEnabled: true\n\t\tWebserverHTTPS:\n\t\t\tEnabled: true\n",
            "\t\t\tEnabled: true\n\t\t\tNonTLS: true\n\t\tMTASTSHTTPS:\n\t\t\tEnabled: true\n\t\t\tNonTLS: true\n",
        );
        let (mut allowed, ensured) = of(&plain);
        allowed.sort();
        assert_eq!(allowed, ["imap.example.org", "mail.example.org", "other.example.org"]);
        assert_eq!(ensured, ["mail.example.org", "other.example.org"]);
        // Another provider has nothing to do with it.
        assert_eq!(of(&STATIC.replace("ACME: le", "ACME: zz")).0, Vec::<String>::new());
    }

    #[test]
    fn keys_belong_to_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, kind| {
            let key = HostKey::generate(kind).unwrap();
            std::fs::write(dir.path().join(name), key.pkcs8_pem()).unwrap();
            key.spki_digest()
        };
        let (public, other) = (
            write("public.pem", KeyKind::EcdsaP256),
            [write("other-ec.pem", KeyKind::EcdsaP256), write("other-rsa.pem", KeyKind::Rsa2048)],
        );
        let text = STATIC
            .replace("192.0.2.1\n\t\tTLS:\n\t\t\tACME: le\n", "192.0.2.1\n\t\tTLS:\n\t\t\tACME: le\n\t\t\tHostPrivateKeyFiles:\n\t\t\t\t- public.pem\n")
            .replace(
                "other.example.org\n\t\tTLS:\n\t\t\tACME: le\n",
                "other.example.org\n\t\tTLS:\n\t\t\tACME: le\n\t\t\tHostPrivateKeyFiles:\n\t\t\t\t- other-ec.pem\n\t\t\t\t- other-rsa.pem\n",
            );
        let fixed: Static = parse("mox.conf", text.as_bytes()).unwrap().value;
        let paths = Paths::new(&dir.path().join("mox.conf"), &fixed);
        let keys = host_keys(&fixed, &paths, "le").unwrap();
        let digests = |host: &str| keys[host].iter().map(HostKey::spki_digest).collect::<Vec<_>>();
        // Our own name has the key of its listener, and for the kind that it lacks another listener's.
        assert_eq!(digests("mail.example.org"), [public, other[1]]);
        assert_eq!(digests("other.example.org"), other);
        // A key to come changes nothing yet; once it is the first, it is used.
        let next = write("next.pem", KeyKind::EcdsaP256);
        for (order, want) in [(["public", "next"], public), (["next", "public"], next)] {
            let files = order.map(|name| format!("\t\t\t\t- {name}.pem\n")).concat();
            let fixed: Static = parse("mox.conf", text.replace("\t\t\t\t- public.pem\n", &files).as_bytes()).unwrap().value;
            assert_eq!(host_keys(&fixed, &paths, "le").unwrap()["mail.example.org"][0].spki_digest(), want);
            assert_eq!(listener_keys(&paths, "public", &fixed.listeners["public"]).unwrap().len(), 2);
        }
        std::fs::write(dir.path().join("public.pem"), "nothing").unwrap();
        assert!(host_keys(&fixed, &paths, "le").is_err());
    }
}
