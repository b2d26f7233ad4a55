//! Settings of features that aren't active yet: they are parsed and checked, and the server says so once each.

use crate::dynamic::Dynamic;
use crate::fixed::Static;
use crate::listener::{Listener, TlsVersion};

/// The configured features that this version doesn't act on, each as a short text for the log.
pub fn inactive_features(fixed: &Static, dynamic: &Dynamic) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut note = |name: &str, used: bool| {
        if used {
            found.push(name.to_owned());
        }
    };
    note("CheckUpdates", fixed.check_updates);
    let any = |used: &dyn Fn(&Listener) -> bool| fixed.listeners.values().any(used);
    let old_tls = "TLS.MinVersion below TLSv1.2: TLSv1.2 is the lowest";
    note(old_tls, any(&|l| l.tls.as_ref().is_some_and(|tls| tls.min_version() < TlsVersion::V1_2)));
    note("Submissions.EnabledOnHTTPS", any(&|l| l.enabled_submissions().is_some_and(|s| s.enabled_on_https)));
    note("IMAPS.EnabledOnHTTPS", any(&|l| l.enabled_imaps().is_some_and(|s| s.enabled_on_https)));
    for (index, name) in ["AccountHTTP", "AccountHTTPS", "AdminHTTP", "AdminHTTPS", "WebmailHTTP", "WebmailHTTPS"].iter().enumerate() {
        note(name, any(&|l| l.web_services().get(index).is_some_and(|(_, _, s)| s.is_some_and(|s| s.enabled))));
    }
    note("PprofHTTP", any(&|l| l.pprof_http.as_ref().is_some_and(|s| s.enabled)));
    note("AutoconfigHTTPS", any(&|l| l.autoconfig_https.as_ref().is_some_and(|s| s.enabled)));
    note("WebserverHTTP", any(&|l| l.webserver_http.as_ref().is_some_and(|s| s.enabled)));
    note("WebserverHTTPS", any(&|l| l.webserver_https.as_ref().is_some_and(|s| s.enabled)));

    let accounts = || dynamic.accounts.values();
    note("SubjectPass", accounts().any(|a| a.subject_pass.is_some()));
    note("JunkFilter", accounts().any(|a| a.junk_filter.is_some()));
    note("RejectsMailbox", accounts().any(|a| a.rejects_mailbox.is_some()));
    note("Introbox", accounts().any(|a| a.introbox.is_some()));
    let destinations = || accounts().flat_map(|a| a.destinations.values());
    let rulesets = || destinations().flat_map(|d| &d.rulesets);
    note("AcceptRejectsToMailbox", rulesets().any(|r| r.accept_rejects_to_mailbox.is_some()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sconf::parse;

    const STATIC: &str = "DataDir: ../data\nLogLevel: info\nHostname: mx.example.org\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 127.0.0.1\n\t\tSMTP:\n\t\t\tEnabled: true\n\t\tMetricsHTTP:\n\t\t\tEnabled: true\n\t\tAdminHTTP:\n\t\t\tEnabled: false\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\n";
    const DYNAMIC: &str = "Domains:\n\texample.org: nil\nAccounts:\n\tann:\n\t\tDomain: example.org\n";

    #[test]
    fn only_what_is_used_is_named() {
        let found = |fixed: &str, dynamic: &str| {
            let fixed: Static = parse("mox.conf", fixed.as_bytes()).unwrap().value;
            let dynamic: Dynamic = parse("domains.conf", dynamic.as_bytes()).unwrap().value;
            inactive_features(&fixed, &dynamic)
        };
        assert!(found(STATIC, DYNAMIC).is_empty());
        let fixed = STATIC.replace("Enabled: false", "Enabled: true");
        let dynamic = format!("{DYNAMIC}\t\tSubjectPass:\n\t\t\tPeriod: 1h\n\t\tRejectsMailbox: Rejects\n");
        assert_eq!(found(&fixed, &dynamic), ["AdminHTTP", "SubjectPass", "RejectsMailbox"]);
    }
}
