//! The files of a new `localserve` folder.

use super::accounts::Accounts;
use super::{ADMIN_PASSWORD, PASSWORD};
use crate::cli::{Failure, Outcome};
use crate::cmd::passwords::write_admin_password;
use crate::ports::{SystemClock, SystemRandom};
use mox_base::{Clock, Random};
use mox_config::schema::Section;
use mox_config::sconf::{self, Style};
use mox_config::{Dynamic, Static};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Writes the configuration, keys and passwords; not the account's data.
pub(super) fn write(dir: &Path, ip: Option<IpAddr>, port_base: u16, accounts: &Accounts) -> Outcome {
    debug_assert!(PASSWORD.len() >= 8 && ADMIN_PASSWORD.len() >= 8);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o770)
        .create(dir)
        .map_err(|e| Failure::new(format!("creating {}", dir.display()), e))?;
    let ips = ip.map_or_else(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], |ip| vec![ip]);

    let (cert, key) = certificate(&ips)?;
    file(dir, "localhost.key", 0o660, key.as_bytes())?;
    file(dir, "localhost.crt", 0o660, cert.as_bytes())?;

    let dkim = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(|e| Failure::new("generating DKIM key", e))?;
    file(dir, "dkim.localserve.privatekey.pkcs8.pem", 0o660, dkim.serialize_pem().as_bytes())?;

    let mut received_id = [0; 24];
    SystemRandom.fill(&mut received_id);
    file(dir, "receivedid.key", 0o640, &received_id)?;

    write_admin_password(&dir.join("adminpasswd"), ADMIN_PASSWORD)?;
    config::<Static>(dir, "mox.conf", &static_config(&ips, port_base))?;
    config::<Dynamic>(dir, "domains.conf", &dynamic_config(accounts))
}

fn file(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> Outcome {
    let path = dir.join(name);
    let write = || {
        let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(mode).open(&path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e: std::io::Error| Failure::new(format!("writing {}", path.display()), e))
}

/// Writes a configuration with its documentation.
fn config<T: Section>(dir: &Path, name: &str, text: &str) -> Outcome {
    let parsed = sconf::parse::<T>(name, text.as_bytes()).map_err(|e| Failure::new("generated configuration", e))?;
    let documented = sconf::write(&parsed.value, Style::Documented).map_err(|e| Failure::new("generated configuration", e))?;
    file(dir, name, 0o660, documented.as_bytes())
}

/// A certificate for this machine and its key, in PEM.
fn certificate(ips: &[IpAddr]) -> Result<(String, String), Failure> {
    let make = || {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        // With its addresses, clients that were told 127.0.0.1 can verify it too.
        params.subject_alt_names.extend(ips.iter().copied().filter(|ip| !ip.is_unspecified()).map(SanType::IpAddress));
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "mox localserve");
        name.push(DnType::CommonName, "localhost");
        params.distinguished_name = name;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = SystemClock::new().now();
        let (year, month, day) = now.before(Duration::from_secs(3600)).date();
        params.not_before = rcgen::date_time_ymd(year, month, day);
        let (year, month, day) = now.after(Duration::from_secs(4 * 365 * 24 * 3600)).date();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        Ok::<_, rcgen::Error>((params.self_signed(&key)?.pem(), key.serialize_pem()))
    };
    make().map_err(|e| Failure::new("making certificate", e))
}

fn static_config(ips: &[IpAddr], port_base: u16) -> String {
    let ips: String = ips.iter().map(|ip| format!("\t\t\t- {ip}\n")).collect();
    let port = |regular: u16| port_base.saturating_add(regular);
    format!(
        "DataDir: .
LogLevel: debug
User: {user}
Hostname: localhost
Pedantic: true
TLS:
	CA:
		AdditionalToSystem: true
		CertFiles:
			- localhost.crt
AdminPasswordFile: adminpasswd
Listeners:
	local:
		IPs:
{ips}		TLS:
			KeyCerts:
				-
					CertFile: localhost.crt
					KeyFile: localhost.key
		SMTP:
			Enabled: true
			Port: {smtp}
		Submission:
			Enabled: true
			Port: {submission}
			NoRequireSTARTTLS: true
		Submissions:
			Enabled: true
			Port: {submissions}
		IMAP:
			Enabled: true
			Port: {imap}
			NoRequireSTARTTLS: true
		IMAPS:
			Enabled: true
			Port: {imaps}
		WebAPIHTTP:
			Enabled: true
			Port: {http}
			Path: /webapi/
		WebAPIHTTPS:
			Enabled: true
			Port: {https}
			Path: /webapi/
		MetricsHTTP:
			Enabled: true
			Port: {metrics}
Postmaster:
	Account: mox
	Mailbox: Inbox
",
        user = nix::unistd::getuid(),
        smtp = port(25),
        submission = port(587),
        submissions = port(465),
        imap = port(143),
        imaps = port(993),
        http = port(80),
        https = port(443),
        metrics = port(81),
    )
}

fn dynamic_config(accounts: &Accounts) -> String {
    format!(
        "Domains:
	localhost:
{DOMAIN_SETTINGS}{domains}Accounts:
	mox:
		Domain: localhost
		Destinations:
			mox@localhost: nil
{ACCOUNT_SETTINGS}{entries}",
        domains = accounts.domains(),
        entries = accounts.entries(),
    )
}

/// A domain's settings: all share one key.
pub(super) const DOMAIN_SETTINGS: &str = "		LocalpartCatchallSeparator: +
		DKIM:
			Selectors:
				localserve:
					Expiration: 72h
					PrivateKeyFile: dkim.localserve.privatekey.pkcs8.pem
			Sign:
				- localserve
";

/// An account's settings, but for its addresses.
pub(super) const ACCOUNT_SETTINGS: &str = "		KeepRetiredMessagePeriod: 72h0m0s
		KeepRetiredWebhookPeriod: 72h0m0s
		RejectsMailbox: Rejects
		AutomaticJunkFlags:
			Enabled: true
			JunkMailboxRegexp: ^(junk|spam)
			NeutralMailboxRegexp: ^(inbox|introbox|neutral|postmaster|dmarc|tlsrpt|rejects)
		JunkFilter:
			Threshold: 0.95
			Params:
				Onegrams: true
				MaxPower: 0.01
				TopWords: 10
				IgnoreWords: 0.1
				RareWords: 2
		NoFirstTimeSenderDelay: true
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_parse_and_say_what_they_should() {
        let ips = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let accounts = Accounts::parse("ann@shop.example,bob@localhost").unwrap();
        let fixed = sconf::parse::<Static>("mox.conf", static_config(&ips, 1000).as_bytes()).unwrap().value;
        let endpoints = crate::wire::endpoints(&fixed);
        let ports: Vec<u16> = endpoints.iter().filter(|e| e.addr.is_ipv4()).map(|e| e.addr.port()).collect();
        assert_eq!(ports, [1025, 1587, 1465, 1143, 1993, 1080, 1443, 1081]);
        assert_eq!(endpoints.len(), 16);
        let dynamic = sconf::parse::<Dynamic>("domains.conf", dynamic_config(&accounts).as_bytes()).unwrap().value;
        assert_eq!((dynamic.domains.len(), dynamic.accounts.len()), (2, 3));
        let text = sconf::write(&dynamic, Style::Documented).unwrap();
        assert_eq!(sconf::parse::<Dynamic>("domains.conf", text.as_bytes()).unwrap().value, dynamic);
    }

    #[test]
    fn certificate_fits_its_key_and_names() {
        let (cert, key) = certificate(&[Ipv4Addr::LOCALHOST.into()]).unwrap();
        let pair = mox_net::tls::KeyCert::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(pair.names(), ["localhost"]);
    }
}
