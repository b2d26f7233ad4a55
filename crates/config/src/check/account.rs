//! Checks of an account: mailboxes, rulesets, filter, webhooks.

use super::Checker;
use crate::account::{Account, Destination, JunkFilter, Ruleset};
use crate::dynamic::Dynamic;
use crate::problem::FieldPath;
use crate::text::{DestinationKey, DurationText};
use std::time::Duration;

pub(super) fn check_account(c: &mut Checker<'_>, at: &FieldPath, name: &str, account: &Account, dynamic: &Dynamic) {
    let who = format!("account {name:?}");
    check_mailboxes(c, at, &who, account);
    if let Some(filter) = &account.junk_filter {
        check_filter(c, &at.field("JunkFilter"), &who, filter);
    }
    check_from_id(c, at, &who, account, dynamic);
    check_retry_intervals(c, &at.field("QueueRetryIntervals"), &format!("{who}: queue retry intervals"), &account.queue_retry_intervals);
    for (key, destination) in &account.destinations {
        let at = at.field("Destinations").key(&key.to_string());
        check_destination(c, &at, &format!("{who}: destination \"{key}\""), destination);
    }
}

fn check_mailboxes(c: &mut Checker<'_>, at: &FieldPath, who: &str, account: &Account) {
    if account.rejects_mailbox.as_ref().is_some_and(|m| m.is_inbox()) {
        c.error(&at.field("RejectsMailbox"), format!("{who}: RejectsMailbox can't be the Inbox"));
    }
    if let Some(mailbox) = &account.queue_dsn_mailbox
        && let Err(message) = strict_name(mailbox.as_str())
    {
        c.error(&at.field("QueueDSNMailbox"), format!("{who}: QueueDSNMailbox {:?}: {message}", mailbox.as_str()));
    }
    let Some(introbox) = &account.introbox else { return };
    let at = at.field("Introbox");
    if introbox.is_inbox() {
        c.error(&at, format!("{who}: Introbox can't be the Inbox"));
    }
    if account.rejects_mailbox.as_ref() == Some(introbox) {
        c.error(&at, format!("{who}: Introbox can't be RejectsMailbox"));
    }
    if let Err(message) = strict_name(introbox.as_str()) {
        c.error(&at, format!("{who}: Introbox {:?}: {message}", introbox.as_str()));
    }
}

/// Attempts follow each other neither at once nor after more than a week; `what` begins the message.
pub(super) fn check_retry_intervals(c: &mut Checker<'_>, at: &FieldPath, what: &str, intervals: &[DurationText]) {
    for (i, interval) in intervals.iter().enumerate() {
        if interval.duration() < Duration::from_secs(1) || interval.duration() > Duration::from_secs(7 * 24 * 3600) {
            c.error(&at.item(i), format!("{what}: must be between 1s and 168h"));
        }
    }
}

/// What a mailbox that people can create is called.
fn strict_name(name: &str) -> Result<(), &'static str> {
    if name.starts_with('#') {
        return Err("mailbox name starts with #");
    }
    if name.split('/').any(|element| matches!(element, "" | "." | "..")) {
        return Err("mailbox name has an empty element, . or ..");
    }
    if name.chars().any(|ch| ch.is_control() || matches!(ch, '\u{2028}' | '\u{2029}')) {
        return Err("mailbox name has a control character");
    }
    Ok(())
}

fn check_filter(c: &mut Checker<'_>, at: &FieldPath, who: &str, filter: &JunkFilter) {
    let params = &filter.params;
    let at = at.field("Params");
    for (field, value) in [("MaxPower", params.max_power), ("IgnoreWords", params.ignore_words)] {
        if !(0.0..=0.5).contains(&value) {
            c.error(&at.field(field), format!("{who}: junk filter: {field} {value} is not from 0 to 0.5"));
        }
    }
}

fn check_from_id(c: &mut Checker<'_>, at: &FieldPath, who: &str, account: &Account, dynamic: &Dynamic) {
    for (i, address) in account.from_id_login_addresses.iter().enumerate() {
        let at = at.field("FromIDLoginAddresses").item(i);
        let Some(domain) = dynamic.domains.get(&address.domain) else {
            c.error(&at, format!("{who}: FromID login address {address}: domain is not configured"));
            continue;
        };
        if domain.separators().is_empty() {
            c.error(&at, format!("{who}: FromID login address {address}: domain has no localpart separator"));
        }
        let wanted = domain.canonical_localpart(&address.localpart);
        let has = account.destinations.keys().any(|key| match key {
            DestinationKey::Address(a) => a.domain == address.domain && domain.canonical_localpart(&a.localpart) == wanted,
            DestinationKey::Catchall(d) => *d == address.domain,
            DestinationKey::Localpart(_) => false,
        });
        if !has {
            c.error(&at, format!("{who}: FromID login address {address} is no address of the account"));
        }
    }
}

fn check_destination(c: &mut Checker<'_>, at: &FieldPath, who: &str, destination: &Destination) {
    if destination.smtp_error.is_some() && (destination.mailbox.is_some() || !destination.rulesets.is_empty()) {
        c.error(&at.field("SMTPError"), format!("{who}: SMTPError can't be set together with Mailbox or Rulesets"));
    }
    for (i, ruleset) in destination.rulesets.iter().enumerate() {
        check_ruleset(c, &at.field("Rulesets").item(i), &format!("{who}: ruleset {}", i + 1), ruleset);
    }
}

fn check_ruleset(c: &mut Checker<'_>, at: &FieldPath, who: &str, ruleset: &Ruleset) {
    let conditions = [
        ruleset.smtp_mail_from_regexp.is_some(),
        ruleset.msg_from_regexp.is_some(),
        ruleset.verified_domain.is_some(),
        !ruleset.headers_regexp.is_empty(),
    ];
    if !conditions.contains(&true) {
        c.error(at, format!("{who}: at least one condition is needed"));
    }
    for (name, value) in &ruleset.headers_regexp {
        for pattern in [name.as_str(), value.as_str()] {
            if pattern != pattern.to_lowercase() {
                let at = at.field("HeadersRegexp").key(name.as_str());
                c.error(&at, format!("{who}: header regexp {pattern:?} must be in lower case, as headers are made for it"));
            }
        }
    }
    if ruleset.is_forward {
        let at = at.field("IsForward");
        if ruleset.smtp_mail_from_regexp.is_none() || ruleset.verified_domain.is_none() {
            c.error(&at, format!("{who}: IsForward needs SMTPMailFromRegexp and VerifiedDomain"));
        }
        if ruleset.list_allow_domain.is_some() {
            c.error(&at, format!("{who}: IsForward and ListAllowDomain can't both be set"));
        }
    }
    if ruleset.accept_rejects_to_mailbox.as_ref().is_some_and(|m| m.is_inbox()) {
        c.error(&at.field("AcceptRejectsToMailbox"), format!("{who}: AcceptRejectsToMailbox can't be the Inbox"));
    }
}
