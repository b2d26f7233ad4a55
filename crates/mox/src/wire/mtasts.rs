//! Policies of MTA-STS that we serve for our domains.

use mox_base::Domain;
use mox_config::{Dynamic, MtaStsMode, Static};
use mox_httpd::ServedPolicy;
use mox_mailauth::mtasts::{Mode, Pattern, Policy};
use std::collections::BTreeMap;

/// The policies, as they are served.
pub(super) fn policies(fixed: &Static, dynamic: &Dynamic) -> BTreeMap<Domain, ServedPolicy> {
    let with_policy = dynamic.domains.iter().filter_map(|(name, domain)| Some((name.domain(), domain.mtasts.as_ref()?)));
    let served = |config: &mox_config::MtaSts| {
        let pattern = |mx: &mox_config::MxPattern| match mx.wildcard {
            true => Pattern::Below(mx.domain.clone()),
            false => Pattern::Host(mx.domain.clone()),
        };
        let mode = match config.mode {
            MtaStsMode::Enforce => Mode::Enforce,
            MtaStsMode::Testing => Mode::Testing,
            MtaStsMode::None => Mode::None,
        };
        let mut mx: Vec<Pattern> = config.mx.iter().map(pattern).collect();
        if mx.is_empty() {
            mx.push(Pattern::Host(fixed.hostname.domain().clone()));
        }
        let policy = Policy { mode, max_age: config.max_age, mx, extensions: Vec::new() };
        ServedPolicy { id: config.policy_id.clone(), text: policy.to_string() }
    };
    with_policy.map(|(name, config)| (name.clone(), served(config))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_config::sconf::parse;

    #[test]
    fn as_configured_or_with_our_own_name() {
        let fixed = "DataDir: ../data\nLogLevel: info\nHostname: mail.example.org\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 192.0.2.1\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\n";
        let policy = |id: &str| format!("\t\tMTASTS:\n\t\t\tPolicyID: {id}\n\t\t\tMode: enforce\n\t\t\tMaxAge: 24h\n");
        let dynamic = format!(
            "Domains:\n\texample.org:\n{}\tbücher.example:\n{}\t\t\tMX:\n\t\t\t\t- mail.example.com\n\t\t\t\t- *.mx.bücher.example\n\tnone.example: nil\nAccounts:\n\tann:\n\t\tDomain: example.org\n",
            policy("1"),
            policy("2")
        );
        let fixed: Static = parse("mox.conf", fixed.as_bytes()).unwrap().value;
        let dynamic: Dynamic = parse("domains.conf", dynamic.as_bytes()).unwrap().value;
        let policies = policies(&fixed, &dynamic);
        let of = |name: &str| policies.get(&name.parse::<Domain>().unwrap()).map(|policy| (policy.id.as_str(), policy.text.as_str()));
        assert_eq!(of("example.org"), Some(("1", "version: STSv1\nmode: enforce\nmax_age: 86400\nmx: mail.example.org\n")));
        let want = "version: STSv1\nmode: enforce\nmax_age: 86400\nmx: mail.example.com\nmx: *.mx.xn--bcher-kva.example\n";
        assert_eq!(of("bücher.example"), Some(("2", want)));
        assert_eq!(of("none.example"), None);
    }
}
