//! Checks of `mox.conf`.

use super::account::check_retry_intervals;
use super::{Checker, Outside};
use crate::fixed::{Acme, Static, Storage};
use crate::listener::{Listener, ListenerTls};
use crate::pem;
use crate::problem::FieldPath;
use crate::transport::{Method, Transport, TransportDirect, TransportSmtp};
use crate::value::MailboxName;
use base64::Engine as _;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Checks all of it; also completes paths of web services with their final slash.
pub(crate) fn check_static(c: &mut Checker<'_>, fixed: &mut Static, outside: &Outside<'_>) {
    if !(outside.user_known)(fixed.user()) && fixed.user().parse::<u32>().is_err() {
        c.error(&FieldPath::root("User"), format!("user {:?} doesn't exist and is no number", fixed.user()));
    }
    if let Some(ca) = fixed.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        for (i, file) in ca.cert_files.iter().enumerate() {
            let at = FieldPath::root("TLS").field("CA").field("CertFiles").item(i);
            pem_file(c, &at, file, "CERTIFICATE", "tls ca: ");
        }
    }
    if let Some(storage) = &fixed.storage {
        check_storage(c, &FieldPath::root("Storage"), storage, outside);
    }
    check_outgoing_ips(c, &FieldPath::root("OutgoingIPs"), "", &fixed.outgoing_ips);
    for (name, what, intervals) in [
        ("QueueRetryIntervals", "queue retry intervals", &fixed.queue_retry_intervals),
        ("WebhookRetryIntervals", "webhook retry intervals", &fixed.webhook_retry_intervals),
    ] {
        check_retry_intervals(c, &FieldPath::root(name), what, intervals);
    }
    for (name, acme) in &fixed.acme {
        check_acme(c, &FieldPath::root("ACME").key(name), name, acme);
    }
    check_mailboxes(c, fixed);
    for (name, transport) in &fixed.transports {
        check_transport(c, &FieldPath::root("Transports").key(name), name, transport);
    }
    let names: Vec<&String> = fixed.acme.keys().collect();
    for (name, listener) in &mut fixed.listeners {
        let at = FieldPath::root("Listeners").key(name);
        check_listener(c, &at, name, listener);
        if let Some(tls) = &listener.tls {
            check_tls(c, &at.field("TLS"), name, tls, &names, outside);
        }
        complete_paths(c, &at, name, listener);
    }
    check_ports(c, fixed);
}

fn check_storage(c: &mut Checker<'_>, at: &FieldPath, storage: &Storage, outside: &Outside<'_>) {
    let Some(postgresql) = &storage.postgresql else {
        return c.error(at, "storage: PostgreSQL is missing; without Storage, SQLite is used");
    };
    let at = at.field("PostgreSQL");
    if let Err(why) = database_url(&postgresql.url) {
        c.error(&at.field("URL"), format!("storage: {why}"));
    }
    if !outside.read_tls_keys {
        return;
    }
    if !postgresql.password_file.is_empty() {
        let path = c.paths.config(&postgresql.password_file);
        match std::fs::read_to_string(&path) {
            Ok(text) if text.lines().next().is_none_or(str::is_empty) => {
                c.error(&at.field("PasswordFile"), format!("storage: the first line of {} is empty", path.display()));
            }
            Ok(_) => {}
            Err(error) => c.error(&at.field("PasswordFile"), format!("storage: reading {}: {error}", path.display())),
        }
    }
    for (i, file) in postgresql.ca_cert_files.iter().enumerate() {
        pem_file(c, &at.field("CACertFiles").item(i), file, "CERTIFICATE", "storage: ");
    }
}

/// Whether a text can be a database's URL; its driver looks more closely when it connects. The text may have a password,
/// so what is wrong is said without it.
fn database_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some(rest) = rest else { return Err("the URL must start with postgres://") };
    let (address, options) = rest.split_once('?').unwrap_or((rest, ""));
    let host = address.split('/').next().unwrap_or_default();
    if host.rsplit('@').next().is_none_or(str::is_empty) {
        return Err("the URL has no host");
    }
    match options.split('&').find_map(|option| option.strip_prefix("sslmode=")) {
        None | Some("disable" | "require" | "verify-full") => Ok(()),
        Some(_) => Err("sslmode in the URL must be disable, require or verify-full"),
    }
}

/// A PEM file with at least one block of a label (or any of those that end in it).
fn pem_file(c: &mut Checker<'_>, at: &FieldPath, file: &str, label: &str, who: &str) {
    let path = c.paths.config(file);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) => return c.error(at, format!("{who}reading {}: {error}", path.display())),
    };
    match pem::blocks(&String::from_utf8_lossy(&text)) {
        Ok(blocks) if blocks.iter().any(|b| b.label.ends_with(label)) => {}
        Ok(_) => c.error(at, format!("{who}no PEM block {label:?} in {}", path.display())),
        Err(error) => c.error(at, format!("{who}{}: {error}", path.display())),
    }
}

fn check_acme(c: &mut Checker<'_>, at: &FieldPath, name: &str, acme: &Acme) {
    if acme.directory_url.is_empty() {
        c.error(&at.field("DirectoryURL"), format!("acme provider {name}: DirectoryURL is empty"));
    }
    if acme.contact_email.is_empty() {
        c.error(&at.field("ContactEmail"), format!("acme provider {name}: ContactEmail is empty"));
    }
    let Some(binding) = &acme.external_account_binding else { return };
    let at = at.field("ExternalAccountBinding").field("KeyFile");
    let path = c.paths.config(&binding.key_file);
    match std::fs::read_to_string(&path) {
        Err(error) => c.error(&at, format!("acme provider {name}: reading {}: {error}", path.display())),
        Ok(text) => {
            if base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text.trim()).is_err() {
                c.error(&at, format!("acme provider {name}: key in {} is no raw-url base64", path.display()));
            }
        }
    }
}

fn check_mailboxes(c: &mut Checker<'_>, fixed: &Static) {
    let root = FieldPath::root("InitialMailboxes");
    if let Some(initial) = &fixed.initial_mailboxes {
        if !fixed.default_mailboxes.is_empty() {
            c.error(&FieldPath::root("DefaultMailboxes"), "DefaultMailboxes and InitialMailboxes can't both be set");
        }
        let uses = root.field("SpecialUse");
        let special = &initial.special_use;
        let named = [
            ("Sent", &special.sent),
            ("Archive", &special.archive),
            ("Trash", &special.trash),
            ("Draft", &special.draft),
            ("Junk", &special.junk),
        ];
        for (field, name) in named {
            if let Some(name) = name {
                check_initial(c, &uses.field(field), name, true);
            }
        }
        for (i, name) in initial.regular.iter().enumerate() {
            check_initial(c, &root.field("Regular").item(i), name, true);
        }
    }
    for (i, name) in fixed.default_mailboxes.iter().enumerate() {
        check_initial(c, &FieldPath::root("DefaultMailboxes").item(i), name, false);
    }
}

fn check_initial(c: &mut Checker<'_>, at: &FieldPath, name: &MailboxName, not_inbox: bool) {
    if name.as_str().contains('/') {
        c.error(at, format!("initial mailbox {name:?} can't be a child of another", name = name.as_str()));
    }
    if not_inbox && name.is_inbox() {
        c.error(at, "initial mailbox can't be the Inbox, which always exists");
    }
}

fn check_transport(c: &mut Checker<'_>, at: &FieldPath, name: &str, transport: &Transport) {
    let methods = transport.methods();
    if methods.len() > 1 {
        c.error(at, format!("transport {name}: only one method can be set, not {}", methods.len()));
    }
    for method in methods {
        match method {
            Method::Submissions(smtp) => {
                let at = at.field("Submissions");
                if smtp.starttls_insecure_skip_verify || smtp.no_starttls {
                    c.error(&at, format!("transport {name}: STARTTLS settings make no sense with Submissions"));
                }
                check_smtp_transport(c, &at, name, smtp);
            }
            Method::Submission(smtp) => check_smtp_transport(c, &at.field("Submission"), name, smtp),
            Method::Smtp(smtp) => {
                let at = at.field("SMTP");
                if smtp.srv {
                    c.error(&at.field("SRV"), format!("transport {name}: SRV records exist for Submissions and Submission only"));
                }
                check_smtp_transport(c, &at, name, smtp);
            }
            Method::Socks(socks) => {
                let at = at.field("Socks");
                let port = socks.address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
                if !port.is_some_and(|p| p.parse::<u16>().is_ok_and(|p| p > 0)) {
                    c.error(&at.field("Address"), format!("transport {name}: address {:?} is not host:port", socks.address));
                }
                if let Some(auth) = &socks.auth {
                    let at = at.field("Auth");
                    for (field, value) in [("Username", &auth.username), ("Password", auth.password.expose())] {
                        // RFC 1929 §2.
                        if !(1..=255).contains(&value.len()) {
                            c.error(&at.field(field), format!("transport {name}: {field} must have 1 to 255 bytes"));
                        }
                    }
                }
            }
            Method::Direct(direct) => check_direct_transport(c, &at.field("Direct"), name, direct),
            Method::Fail(fail) if !(400..600).contains(&fail.code()) => {
                let at = at.field("Fail").field("SMTPCode");
                c.error(&at, format!("transport {name}: SMTPCode {} is not from 400 to 599", fail.code()));
            }
            Method::Normal | Method::Fail(_) => {}
        }
    }
}

fn check_direct_transport(c: &mut Checker<'_>, at: &FieldPath, name: &str, direct: &TransportDirect) {
    if direct.disable_ipv4 && direct.disable_ipv6 {
        c.error(at, format!("transport {name}: IPv4 and IPv6 can't both be disabled"));
    }
    check_outgoing_ips(c, &at.field("OutgoingIPs"), &format!("transport {name}: "), &direct.outgoing_ips);
    for (i, ip) in direct.outgoing_ips.iter().enumerate() {
        if if ip.is_ipv4() { direct.disable_ipv4 } else { direct.disable_ipv6 } {
            c.error(&at.field("OutgoingIPs").item(i), format!("transport {name}: {ip} is of a disabled family"));
        }
    }
}

fn check_outgoing_ips(c: &mut Checker<'_>, at: &FieldPath, prefix: &str, ips: &[IpAddr]) {
    for (i, ip) in ips.iter().enumerate() {
        if ip.is_unspecified() || ip.is_multicast() {
            c.error(&at.item(i), format!("{prefix}{ip} is no address to connect from"));
        }
        if ips.iter().take(i).any(|before| before == ip) {
            c.error(&at.item(i), format!("{prefix}duplicate address {ip}"));
        }
    }
}

fn check_smtp_transport(c: &mut Checker<'_>, at: &FieldPath, name: &str, smtp: &TransportSmtp) {
    if smtp.srv && smtp.port != 0 {
        c.error(&at.field("Port"), format!("transport {name}: the port comes from SRV records"));
    }
    let Some(auth) = &smtp.auth else { return };
    for (i, mechanism) in auth.mechanisms.iter().enumerate() {
        if auth.mechanisms.iter().take(i).any(|m| m == mechanism) {
            let at = at.field("Auth").field("Mechanisms").item(i);
            c.error(&at, format!("transport {name}: duplicate mechanism {}", mechanism.name()));
        }
    }
}

fn check_listener(c: &mut Checker<'_>, at: &FieldPath, name: &str, listener: &Listener) {
    if listener.ips.is_empty() {
        c.error(&at.field("IPs"), format!("listener {name}: no IPs"));
    }
    if listener.ips_nated && !listener.nat_ips.is_empty() {
        c.error(&at.field("IPsNATed"), format!("listener {name}: IPsNATed and NATIPs can't both be set"));
    }
    for (i, ip) in listener.nat_ips.iter().enumerate() {
        if ip.is_unspecified() || ip.is_loopback() {
            c.error(&at.field("NATIPs").item(i), format!("listener {name}: {ip} is no public address"));
        }
    }
    if listener.tls.is_none() {
        let needing = services_needing_tls(listener);
        if !needing.is_empty() {
            c.error(at, format!("listener {name}: without TLS, these services are not possible: {}", needing.join(", ")));
        }
    }
    if let (Some(autoconfig), Some(mtasts)) = (&listener.autoconfig_https, &listener.mtasts_https)
        && autoconfig.enabled
        && mtasts.enabled
        && autoconfig.port() == mtasts.port()
        && autoconfig.non_tls != mtasts.non_tls
    {
        let message = format!("listener {name}: AutoconfigHTTPS and MTASTSHTTPS on port {} must agree in NonTLS", mtasts.port());
        c.error(&at.field("MTASTSHTTPS"), message);
    }
}

fn services_needing_tls(listener: &Listener) -> Vec<&'static str> {
    let mut needing = Vec::new();
    let mut need = |name, needed| {
        if needed {
            needing.push(name);
        }
    };
    need("IMAPS", listener.enabled_imaps().is_some());
    need("SMTP without NoSTARTTLS", listener.enabled_smtp().is_some_and(|s| !s.no_starttls));
    need("Submissions", listener.enabled_submissions().is_some());
    need("Submission without NoRequireSTARTTLS", listener.enabled_submission().is_some_and(|s| !s.no_require_starttls));
    for (name, tls, service) in listener.web_services() {
        need(name, tls && service.is_some_and(|s| s.enabled));
    }
    let policy = [("AutoconfigHTTPS without NonTLS", &listener.autoconfig_https), ("MTASTSHTTPS without NonTLS", &listener.mtasts_https)];
    for (name, service) in policy {
        need(name, service.as_ref().is_some_and(|s| s.enabled && !s.non_tls));
    }
    need("WebserverHTTPS", listener.webserver_https.as_ref().is_some_and(|s| s.enabled));
    needing
}

fn check_tls(c: &mut Checker<'_>, at: &FieldPath, name: &str, tls: &ListenerTls, acme: &[&String], outside: &Outside<'_>) {
    match (tls.acme.is_empty(), tls.key_certs.is_empty()) {
        (true, true) => c.error(at, format!("listener {name}: TLS needs ACME or KeyCerts")),
        (false, false) => c.error(at, format!("listener {name}: ACME and KeyCerts can't both be set")),
        (false, true) if !acme.contains(&&tls.acme) => {
            c.error(&at.field("ACME"), format!("listener {name}: unknown ACME provider {:?}", tls.acme));
        }
        (false, true) | (true, false) => {}
    }
    if !outside.read_tls_keys {
        return;
    }
    let who = format!("listener {name}: ");
    for (i, pair) in tls.key_certs.iter().enumerate() {
        let at = at.field("KeyCerts").item(i);
        pem_file(c, &at.field("CertFile"), &pair.cert_file, "CERTIFICATE", &who);
        pem_file(c, &at.field("KeyFile"), &pair.key_file, "PRIVATE KEY", &who);
    }
    for (i, file) in tls.host_private_key_files.iter().enumerate() {
        pem_file(c, &at.field("HostPrivateKeyFiles").item(i), file, "PRIVATE KEY", &who);
    }
}

fn complete_paths(c: &mut Checker<'_>, at: &FieldPath, name: &str, listener: &mut Listener) {
    let services = [
        ("AccountHTTP", &mut listener.account_http),
        ("AccountHTTPS", &mut listener.account_https),
        ("AdminHTTP", &mut listener.admin_http),
        ("AdminHTTPS", &mut listener.admin_https),
        ("WebmailHTTP", &mut listener.webmail_http),
        ("WebmailHTTPS", &mut listener.webmail_https),
        ("WebAPIHTTP", &mut listener.webapi_http),
        ("WebAPIHTTPS", &mut listener.webapi_https),
    ];
    for (field, service) in services {
        let Some(service) = service.as_mut().filter(|s| !s.path.is_empty()) else { continue };
        let at = at.field(field).field("Path");
        if !service.path.starts_with('/') {
            c.error(&at, format!("listener {name}: {field}: path {:?} must start with a slash", service.path));
        } else if !service.path.ends_with('/') {
            c.warn(&at, format!("listener {name}: {field}: path {:?} should end with a slash, adding it", service.path));
            service.path.push('/');
        }
    }
}

/// What a port speaks; only services of the same HTTP kind can share one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http,
    Https,
    Other,
}

/// The ports that a listener binds, with the field of the service.
fn ports(listener: &Listener) -> Vec<(u16, Speaks, &'static str)> {
    let mut ports = Vec::new();
    ports.extend(listener.enabled_smtp().map(|s| (s.port(), Speaks::Other, "SMTP")));
    ports.extend(listener.enabled_submission().map(|s| (s.port(), Speaks::Other, "Submission")));
    ports.extend(listener.enabled_submissions().map(|s| (s.port(), Speaks::Other, "Submissions")));
    ports.extend(listener.enabled_imap().map(|s| (s.port(), Speaks::Other, "IMAP")));
    ports.extend(listener.enabled_imaps().map(|s| (s.port(), Speaks::Other, "IMAPS")));
    let kind = |tls| if tls { Speaks::Https } else { Speaks::Http };
    for (field, tls, service) in listener.web_services() {
        ports.extend(service.filter(|s| s.enabled).map(|s| (s.port(tls), kind(tls), field)));
    }
    ports.extend(listener.enabled_metrics().map(|s| (s.metrics_port(), Speaks::Http, "MetricsHTTP")));
    let pprof = listener.pprof_http.as_ref().filter(|s| s.enabled);
    ports.extend(pprof.map(|s| (s.pprof_port(), Speaks::Other, "PprofHTTP")));
    for (field, service) in [("AutoconfigHTTPS", &listener.autoconfig_https), ("MTASTSHTTPS", &listener.mtasts_https)] {
        ports.extend(service.as_ref().filter(|s| s.enabled).map(|s| (s.port(), kind(!s.non_tls), field)));
    }
    let web = [("WebserverHTTP", false, &listener.webserver_http), ("WebserverHTTPS", true, &listener.webserver_https)];
    for (field, tls, service) in web {
        ports.extend(service.as_ref().filter(|s| s.enabled).map(|s| (s.port(tls), kind(tls), field)));
    }
    ports
}

/// No two sockets on one address and port.
fn check_ports(c: &mut Checker<'_>, fixed: &Static) {
    let mut bound: BTreeMap<(IpAddr, u16), (String, Speaks, &'static str)> = BTreeMap::new();
    for (name, listener) in &fixed.listeners {
        for (port, speaks, field) in ports(listener) {
            for ip in &listener.ips {
                let at = FieldPath::root("Listeners").key(name).field(field);
                let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let taken = bound.iter().find(|((other, other_port), _)| {
                    let overlaps = other == ip || *other == any || (*ip == any && other.is_ipv4() == ip.is_ipv4());
                    *other_port == port && overlaps
                });
                match taken {
                    None => {
                        bound.insert((*ip, port), (name.clone(), speaks, field));
                    }
                    // One listener's HTTP services share a socket.
                    Some((_, (owner, spoken, _))) if owner == name && *spoken == speaks && speaks != Speaks::Other => {}
                    Some((_, (owner, _, service))) => {
                        let service = *service;
                        let message = format!("listener {name}: {field}: port {port} on {ip} is taken by {service} of listener {owner}");
                        c.error(&at, message);
                    }
                }
            }
        }
    }
}
