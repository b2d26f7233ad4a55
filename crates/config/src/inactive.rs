//! Settings of features that aren't active yet: they are parsed and checked, and the server says so once each.

use crate::dynamic::Dynamic;
use crate::fixed::Static;
use crate::listener::Listener;
use crate::transport::{Method, Transport};

/// The configured features that this version doesn't act on, each as a short text for the log.
pub fn inactive_features(fixed: &Static, dynamic: &Dynamic) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut note = |name: &str, used: bool| {
        if used {
            found.push(name.to_owned());
        }
    };
    note("CheckUpdates", fixed.check_updates);
    let socks = |transport: &Transport| matches!(transport.method(), Method::Socks(_));
    note("Transports with Socks: messages routed to them wait", fixed.transports.values().any(socks));
    note("ACME", !fixed.acme.is_empty());
    note("HostTLSRPT: processing of reports", fixed.host_tlsrpt.is_some());
    let any = |used: &dyn Fn(&Listener) -> bool| fixed.listeners.values().any(used);
    note("SMTP.DNSBLs", any(&|l| l.enabled_smtp().is_some_and(|s| !s.dnsbls.is_empty())));
    note("Submissions.EnabledOnHTTPS", any(&|l| l.enabled_submissions().is_some_and(|s| s.enabled_on_https)));
    note("IMAPS.EnabledOnHTTPS", any(&|l| l.enabled_imaps().is_some_and(|s| s.enabled_on_https)));
    for (index, name) in
        ["AccountHTTP", "AccountHTTPS", "AdminHTTP", "AdminHTTPS", "WebmailHTTP", "WebmailHTTPS", "WebAPIHTTP", "WebAPIHTTPS"]
            .iter()
            .enumerate()
    {
        note(name, any(&|l| l.web_services().get(index).is_some_and(|(_, _, s)| s.is_some_and(|s| s.enabled))));
    }
    note("PprofHTTP", any(&|l| l.pprof_http.as_ref().is_some_and(|s| s.enabled)));
    note("AutoconfigHTTPS", any(&|l| l.autoconfig_https.as_ref().is_some_and(|s| s.enabled)));
    note("MTASTSHTTPS", any(&|l| l.mtasts_https.as_ref().is_some_and(|s| s.enabled)));
    note("WebserverHTTP", any(&|l| l.webserver_http.as_ref().is_some_and(|s| s.enabled)));
    note("WebserverHTTPS", any(&|l| l.webserver_https.as_ref().is_some_and(|s| s.enabled)));

    note("DMARC: processing of reports", dynamic.domains.values().any(|d| d.dmarc.is_some()));
    note("TLSRPT: processing of reports", dynamic.domains.values().any(|d| d.tlsrpt.is_some()));
    note("MTASTS", dynamic.domains.values().any(|d| d.mtasts.is_some()));
    note("MonitorDNSBLs", !dynamic.monitor_dnsbls.is_empty());
    let accounts = || dynamic.accounts.values();
    note("OutgoingWebhook", accounts().any(|a| a.outgoing_webhook.is_some()));
    note("IncomingWebhook", accounts().any(|a| a.incoming_webhook.is_some()));
    note("FromIDLoginAddresses", accounts().any(|a| !a.from_id_login_addresses.is_empty()));
    note("SubjectPass", accounts().any(|a| a.subject_pass.is_some()));
    note("JunkFilter", accounts().any(|a| a.junk_filter.is_some()));
    found
}
