//! DNS as localserve sees it when it checks mail: its own domains are set up as real ones would be, so that its own mail is
//! authenticated, and names at `localhost` aren't asked of the internet (RFC 6761 §6.3).

use mox_base::{Answer, Domain, Lookup, LookupError, LookupFuture, Record, RecordKind};
use mox_delivery::signing::SharedSelectors;
use mox_store::directory::Directory;
use std::sync::Arc;
use std::time::Duration;

/// Who may send for our domains: whoever is on this machine.
const SPF: &str = "v=spf1 ip4:127.0.0.1/8 ip6:::1 ~all";

#[derive(Debug)]
pub(crate) struct LocalDns<'a> {
    pub(crate) real: &'a dyn Lookup,
    pub(crate) directory: &'a Directory,
    pub(crate) selectors: &'a SharedSelectors,
    /// Whether the client is on this machine; then our domains have a record for SPF.
    pub(crate) loopback: bool,
}

impl LocalDns<'_> {
    /// What our domains publish there.
    fn ours(&self, name: &str) -> Option<String> {
        if let Ok(domain) = name.parse::<Domain>()
            && self.loopback
            && self.directory.is_local(&domain)
        {
            return Some(SPF.to_owned());
        }
        let (selector, domain) = name.split_once("._domainkey.")?;
        let (selector, domain) = (Domain::parse_lax(selector).ok()?, domain.parse().ok()?);
        let selectors: Arc<[_]> = self.selectors.of(&domain)?;
        let key = selectors.iter().find(|s| s.name == selector)?.key.public_record()?;
        Some(key.to_text())
    }
}

impl Lookup for LocalDns<'_> {
    fn query<'a>(&'a self, name: &'a str, kind: RecordKind) -> LookupFuture<'a> {
        let plain = name.trim_end_matches('.').to_ascii_lowercase();
        if kind == RecordKind::Txt
            && let Some(text) = self.ours(&plain)
        {
            let records = vec![Record::Txt(text.into_bytes())];
            return Box::pin(std::future::ready(Ok(Answer { records, authentic: false, ttl: Duration::ZERO })));
        }
        if plain == "localhost" || plain.ends_with(".localhost") {
            return Box::pin(std::future::ready(Err(LookupError::NotFound { authentic: false })));
        }
        self.real.query(name, kind)
    }
}
