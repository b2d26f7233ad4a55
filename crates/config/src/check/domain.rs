//! Checks of a domain: separators, DKIM, policies, reports.

use super::{Checker, DkimKeys};
use crate::dkim_key::{DkimAlgorithm, DkimKey};
use crate::domain::{Dkim, DkimHash, DomainConfig, ReportAddress};
use crate::dynamic::Dynamic;
use crate::fixed::Static;
use crate::problem::FieldPath;
use crate::value::UnicodeDomain;
use std::collections::BTreeSet;

pub(super) fn check_domain(
    c: &mut Checker<'_>,
    at: &FieldPath,
    name: &UnicodeDomain,
    domain: &DomainConfig,
    dynamic: &Dynamic,
    fixed: &Static,
) {
    check_separators(c, at, name, domain);
    if let Some(dkim) = &domain.dkim {
        check_dkim(c, &at.field("DKIM"), name, dkim);
    }
    for (field, report) in [("DMARC", &domain.dmarc), ("TLSRPT", &domain.tlsrpt)] {
        if let Some(report) = report {
            check_report(c, &at.field(field), &format!("domain {name}: {field}"), report, dynamic);
        }
    }
    if let Some(policy) = &domain.mtasts {
        let at = at.field("MTASTS");
        if policy.policy_id.is_empty() {
            c.error(&at.field("PolicyID"), format!("domain {name}: MTASTS: PolicyID is empty"));
        }
        if !fixed.listeners.values().any(|l| l.mtasts_https.as_ref().is_some_and(|s| s.enabled)) {
            c.error(&at, format!("domain {name}: MTASTS: no listener of mox.conf has MTASTSHTTPS enabled"));
        }
    }
}

fn check_separators(c: &mut Checker<'_>, at: &FieldPath, name: &UnicodeDomain, domain: &DomainConfig) {
    let at = at.field("LocalpartCatchallSeparators");
    if !domain.localpart_catchall_separator.is_empty() && !domain.localpart_catchall_separators.is_empty() {
        c.error(&at, format!("domain {name}: LocalpartCatchallSeparator and LocalpartCatchallSeparators can't both be set"));
    }
    let mut seen = BTreeSet::new();
    for (i, separator) in domain.localpart_catchall_separators.iter().enumerate() {
        if separator.is_empty() {
            c.error(&at.item(i), format!("domain {name}: separator is empty"));
        }
        if !seen.insert(separator) {
            c.error(&at.item(i), format!("domain {name}: duplicate separator {separator:?}"));
        }
    }
}

fn check_dkim(c: &mut Checker<'_>, at: &FieldPath, name: &UnicodeDomain, dkim: &Dkim) {
    for (i, selector) in dkim.sign.iter().enumerate() {
        if !dkim.selectors.contains_key(selector) {
            c.error(&at.field("Sign").item(i), format!("domain {name}: selector {selector} to sign with doesn't exist"));
        }
    }
    for (selector_name, selector) in &dkim.selectors {
        let at = at.field("Selectors").key(&selector_name.to_string());
        let who = format!("domain {name}: selector {selector_name}");
        if selector.hash() == DkimHash::Sha1 {
            c.warn(&at.field("Hash"), format!("{who}: sha1 is deprecated, signatures with it are not accepted by most"));
        }
        let headers = selector.headers();
        // RFC 6376 §5.4: From must be signed.
        if !headers.iter().any(|h| h.eq_ignore_ascii_case("From")) {
            c.error(&at.field("Headers"), format!("{who}: header From must be signed"));
        }
        for (i, header) in selector.headers.iter().enumerate() {
            let at = at.field("Headers").item(i);
            if ["DKIM-Signature", "Received", "Return-Path"].iter().any(|h| h.eq_ignore_ascii_case(header)) {
                c.warn(&at, format!("{who}: header {header} should not be signed, it changes on the way"));
            }
            // RFC 5322 §2.2: what a field name is made of.
            if header.is_empty() || !header.bytes().all(|b| (b'!'..=b'~').contains(&b) && b != b':') {
                c.error(&at, format!("{who}: {header:?} is no header name"));
            }
        }
    }
}

/// The least that signing takes: RFC 8301 §3.2 wants at least 1024 bits and recommends 2048, which the cryptographic library insists on.
const RSA_SIGNING_BITS: usize = 2048;

/// Reads the keys of a domain's selectors. They are read at each reload, so that a broken file is noticed by whoever
/// changes the configuration, not by the first message.
pub(super) fn read_keys(c: &mut Checker<'_>, at: &FieldPath, name: &UnicodeDomain, domain: &DomainConfig, keys: &mut DkimKeys) {
    let Some(dkim) = &domain.dkim else { return };
    for (selector_name, selector) in &dkim.selectors {
        let at = at.field("Selectors").key(&selector_name.to_string()).field("PrivateKeyFile");
        let path = c.paths.config(&selector.private_key_file);
        match DkimKey::read(&path, selector.hash()) {
            Ok(key) => {
                if let DkimAlgorithm::Rsa { bits } = key.algorithm
                    && bits < RSA_SIGNING_BITS
                {
                    let who = format!("domain {name}: selector {selector_name}: {}", path.display());
                    c.warn(&at, format!("{who}: rsa key of {bits} bits: mail isn't signed with keys of less than {RSA_SIGNING_BITS} bits"));
                }
                keys.insert((name.clone(), selector_name.clone()), key);
            }
            Err(error) => {
                let message = format!("domain {name}: selector {selector_name}: {}: {error}", path.display());
                c.error(&at, message);
            }
        }
    }
}

fn check_report(c: &mut Checker<'_>, at: &FieldPath, who: &str, report: &ReportAddress, dynamic: &Dynamic) {
    if !dynamic.accounts.contains_key(&report.account) {
        c.error(&at.field("Account"), format!("{who}: account {:?} doesn't exist", report.account));
    }
    if let Some(domain) = &report.domain
        && !dynamic.domains.contains_key(domain)
    {
        c.error(&at.field("Domain"), format!("{who}: domain {domain} is not configured"));
    }
}
