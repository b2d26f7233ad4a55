//! From the configuration to the store's directory of addresses.

use mox_base::{Address, ByteSize, Domain, Secret};
use mox_config::{Account, AsciiText, DomainConfig, DurationText, Pattern, Snapshot, Static};
use mox_store::directory::{
    AccountSettings, AliasSettings, AutomaticJunkFlags, Destination, DestinationKey, Directory, DirectoryError, DomainSettings,
    HeaderPattern, HostTlsReports, MailboxOf, OutgoingWebhook, ReportAddress, Ruleset, Settings, SmtpError, SmtpErrorKind, WebhookTarget,
};

/// The directory of a configuration. With `everything`, all addresses of all domains that nobody has are that address'.
///
/// # Errors
/// When the configuration contradicts itself; one that was checked doesn't.
pub(super) fn directory(fixed: &Static, snapshot: &Snapshot, everything: Option<Address>) -> Result<Directory, DirectoryError> {
    Directory::new(settings(fixed, snapshot, everything))
}

fn settings(fixed: &Static, snapshot: &Snapshot, everything: Option<Address>) -> Settings {
    let with_smtp = fixed.listeners.values().filter(|listener| listener.enabled_smtp().is_some());
    Settings {
        hostname: fixed.hostname.domain().clone(),
        listener_hostnames: with_smtp.filter_map(|listener| listener.hostname.clone()).collect(),
        postmaster: mailbox_of(&fixed.postmaster.account, fixed.postmaster.mailbox.as_str()),
        host_tls_reports: fixed.host_tlsrpt.as_ref().map(|reports| HostTlsReports {
            localpart: reports.localpart().clone(),
            to: mailbox_of(&reports.account, reports.mailbox.as_str()),
        }),
        domains: snapshot.dynamic.domains.iter().map(|(name, config)| domain(name.domain(), config)).collect(),
        accounts: snapshot.dynamic.accounts.iter().map(|(name, config)| account(fixed, name, config)).collect(),
        everything,
    }
}

fn mailbox_of(account: &str, mailbox: &str) -> MailboxOf {
    MailboxOf { account: account.to_owned(), mailbox: mailbox.to_owned() }
}

fn domain(name: &Domain, config: &DomainConfig) -> DomainSettings {
    let report = |report: &mox_config::ReportAddress| ReportAddress {
        localpart: report.localpart().clone(),
        domain: report.domain.as_ref().unwrap_or(name).clone(),
        to: mailbox_of(&report.account, report.mailbox.as_str()),
    };
    let alias = |(localpart, alias): (&mox_base::Localpart, &mox_config::Alias)| AliasSettings {
        localpart: localpart.clone(),
        members: alias.addresses.clone(),
        post_public: alias.post_public,
        list_members: alias.list_members,
        allow_msg_from: alias.allow_msg_from,
    };
    DomainSettings {
        domain: name.clone(),
        disabled: config.disabled,
        separators: config.separators().into_iter().map(str::to_owned).collect(),
        case_sensitive: config.localpart_case_sensitive,
        dmarc_reports: config.dmarc.as_ref().map(report),
        tls_reports: config.tlsrpt.as_ref().map(report),
        aliases: config.aliases.iter().map(alias).collect(),
    }
}

fn account(fixed: &Static, name: &str, config: &Account) -> (AccountSettings, Vec<(DestinationKey, Destination)>) {
    let settings = AccountSettings {
        name: name.to_owned(),
        login_disabled: config.login_disabled.as_ref().map(text),
        full_name: non_empty(&config.full_name),
        domain: config.domain.clone(),
        quota: config.quota(fixed.quota_message_size).map(ByteSize),
        rejects_mailbox: config.rejects_mailbox.as_ref().map(ToString::to_string),
        keep_rejects: config.keep_rejects,
        introbox: config.introbox.as_ref().map(ToString::to_string),
        automatic_junk_flags: config.automatic_junk_flags.as_ref().filter(|flags| flags.enabled).map(|flags| AutomaticJunkFlags {
            junk: flags.junk_mailbox_regexp.as_ref().map(Pattern::to_regex),
            neutral: flags.neutral_mailbox_regexp.as_ref().map(Pattern::to_regex),
            not_junk: flags.not_junk_mailbox_regexp.as_ref().map(Pattern::to_regex),
        }),
        max_outgoing_messages_per_day: config.max_outgoing_messages_per_day(),
        max_first_time_recipients_per_day: config.max_first_time_recipients_per_day(),
        queue_max_messages: config.queue_max_messages,
        queue_max_size: config.queue_max_size,
        queue_retry_intervals: config.queue_retry_intervals.iter().map(DurationText::duration).collect(),
        queue_dsn_mailbox: config.queue_dsn_mailbox.as_ref().map_or_else(|| "Inbox".to_owned(), ToString::to_string),
        suppression_period: config.suppression_period,
        no_first_time_sender_delay: config.no_first_time_sender_delay,
        no_custom_password: config.no_custom_password,
        imap_capabilities_disabled: config.imap_capabilities_disabled.clone(),
        from_id_login_addresses: config.from_id_login_addresses.clone(),
        keep_retired_messages: config.keep_retired_message_period,
        keep_retired_webhooks: config.keep_retired_webhook_period,
        outgoing_webhook: config.outgoing_webhook.as_ref().map(|hook| OutgoingWebhook {
            target: webhook_target(hook.url.as_str(), hook.authorization.as_ref(), hook.secret.as_ref()),
            // The names are the same, a test says.
            events: hook.events.iter().filter_map(|event| event.name().parse().ok()).collect(),
        }),
        incoming_webhook: config
            .incoming_webhook
            .as_ref()
            .map(|hook| webhook_target(hook.url.as_str(), hook.authorization.as_ref(), hook.secret.as_ref())),
    };
    let destinations = config.destinations.iter().filter_map(|(key, config)| Some((destination_key(key)?, destination(config))));
    (settings, destinations.collect())
}

fn webhook_target(url: &str, authorization: Option<&Secret<String>>, secret: Option<&Secret<String>>) -> WebhookTarget {
    let given = |text: Option<&Secret<String>>| text.filter(|text| !text.expose().is_empty()).cloned();
    WebhookTarget { url: url.to_owned(), authorization: given(authorization), secret: given(secret) }
}

fn destination_key(key: &mox_config::DestinationKey) -> Option<DestinationKey> {
    match key {
        mox_config::DestinationKey::Address(address) => Some(DestinationKey::Address(address.clone())),
        mox_config::DestinationKey::Catchall(domain) => Some(DestinationKey::CatchAll(domain.clone())),
        // Made an address when the file was loaded.
        mox_config::DestinationKey::Localpart(_) => None,
    }
}

fn destination(config: &mox_config::Destination) -> Destination {
    Destination {
        mailbox: config.mailbox().to_owned(),
        rulesets: config.rulesets.iter().map(ruleset).collect(),
        smtp_error: config.smtp_error.as_ref().map(|error| SmtpError {
            kind: if error.permanent { SmtpErrorKind::Permanent } else { SmtpErrorKind::Temporary },
            text: error.message.as_ref().map(text),
        }),
        message_auth_required: config.message_auth_required_smtp_error.as_ref().map(text),
        full_name: non_empty(&config.full_name),
        reports: None,
    }
}

fn ruleset(config: &mox_config::Ruleset) -> Ruleset {
    let headers = config.headers_regexp.iter();
    Ruleset {
        smtp_mail_from: config.smtp_mail_from_regexp.as_ref().map(Pattern::to_regex),
        msg_from: config.msg_from_regexp.as_ref().map(Pattern::to_regex),
        verified_domain: config.verified_domain.clone(),
        headers: headers.map(|(name, value)| HeaderPattern { name: name.to_regex(), value: value.to_regex() }).collect(),
        is_forward: config.is_forward,
        list_allow_domain: config.list_allow_domain.clone(),
        accept_rejects_to_mailbox: config.accept_rejects_to_mailbox.as_ref().map(ToString::to_string),
        mailbox: config.mailbox.to_string(),
        comment: config.comment.clone(),
    }
}

fn text(text: &AsciiText) -> String {
    text.as_str().to_owned()
}

fn non_empty(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_base::Path;
    use mox_store::directory::Recipient;

    const STATIC: &str = "DataDir: ../data\nLogLevel: info\nHostname: mx.example.org\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 127.0.0.1\n\t\tHostname: listener.example.org\n\t\tSMTP:\n\t\t\tEnabled: true\n\t\t\tNoSTARTTLS: true\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\nQuotaMessageSize: 1000\n";
    const DYNAMIC: &str = "Domains:\n\texample.org:\n\t\tLocalpartCatchallSeparator: +\n\t\tDMARC:\n\t\t\tLocalpart: dmarc\n\t\t\tAccount: ann\n\t\t\tMailbox: DMARC\n\t\tAliases:\n\t\t\tteam:\n\t\t\t\tAddresses:\n\t\t\t\t\t- ann@example.org\nAccounts:\n\tann:\n\t\tDomain: example.org\n\t\tDestinations:\n\t\t\tann@example.org:\n\t\t\t\tMailbox: Ann\n\t\t\tgone@example.org:\n\t\t\t\tSMTPError: 550 gone\n";

    fn directory_of(everything: Option<&str>) -> Directory {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mox.conf");
        std::fs::write(&path, STATIC).unwrap();
        std::fs::write(dir.path().join("domains.conf"), DYNAMIC).unwrap();
        let outside = mox_config::Outside { user_known: &|_| true, read_tls_keys: false };
        let (fixed, snapshot, _) = mox_config::load(&path, &outside).unwrap();
        directory(&fixed.settings, &snapshot, everything.map(|a| a.parse().unwrap())).unwrap()
    }

    #[test]
    fn addresses_lead_where_the_files_say() {
        let directory = directory_of(None);
        for (address, want) in [
            ("Ann+x@example.org", Some("Ann")),
            ("dmarc@example.org", Some("DMARC")),
            ("postmaster@listener.example.org", Some("Postmaster")),
            ("postmaster@example.org", Some("Postmaster")),
            ("team@example.org", Some("1 members")),
            ("x@example.org", None),
        ] {
            let path = Path::from(address.parse::<Address>().unwrap());
            let mailbox = match directory.recipient(&path) {
                Ok(Recipient::Account(recipient)) => Some(recipient.destination.mailbox.clone()),
                Ok(Recipient::Alias(alias)) => Some(format!("{} members", alias.members.len())),
                Err(_) => None,
            };
            assert_eq!(mailbox.as_deref(), want, "{address}");
        }
        assert_eq!(directory.account("ann").unwrap().quota, Some(ByteSize(1000)));
    }

    #[test]
    fn webhook_events_have_the_same_names() {
        for event in mox_config::OutgoingEvent::ALL {
            assert!(event.name().parse::<mox_store::webhook::Event>().is_ok(), "{}", event.name());
        }
    }

    #[test]
    fn localserve_takes_everything() {
        let directory = directory_of(Some("ann@example.org"));
        let path = Path::from("anyone@anywhere.example".parse::<Address>().unwrap());
        assert!(matches!(directory.recipient(&path), Ok(Recipient::Account(r)) if r.account.name == "ann"));
    }
}
