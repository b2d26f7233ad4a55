//! `mox rdap domainage`: since when a domain is registered.

use super::dns::with_resolver;
use crate::cli::{Command, Failure, Invocation, Outcome, print};
use crate::ports::SystemClock;
use mox_base::{Clock as _, Domain};
use mox_mailauth::suffix::organizational_domain;
use mox_net::http::{AddressGuard, Client};
use mox_net::tls::read_roots;
use mox_net::{ClientTls, TcpDial};
use mox_probe::rdap;
use std::sync::Arc;

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "rdap domainage",
    params: &["domain"],
    listed: true,
    help: "Print how long ago a domain was registered.\n\n\
        Asks the registry of the domain, with RDAP, for its latest registration. Of a name below a registered domain, the registered \
        domain counts. Others distrust mail of domains that were registered only some weeks ago. Not all registries have RDAP.",
    flags: &[],
    args: 1..=1,
    run: domain_age,
}];

fn domain_age(invocation: &Invocation) -> Outcome {
    let domain: Domain = invocation.arg(0).parse().map_err(|e| Failure::new("parsing domain", e))?;
    let domain = organizational_domain(&domain);
    let roots = read_roots(true, &[]).map_err(|e| Failure::new("reading certificates", e))?;
    let tls = ClientTls::verified(roots).map_err(|e| Failure::new("setting up TLS", e))?;
    let text = with_resolver(|resolver| async move {
        let client = Client::new(Arc::new(resolver), Arc::new(TcpDial::default()), tls, AddressGuard::public_only());
        let now = SystemClock::new().now();
        let registered = rdap::registered(&client, rdap::BOOTSTRAP, &domain, now).await;
        Ok(rdap::age(registered.map_err(|e| Failure::new("looking up domain in rdap", e))?, now))
    })?;
    print(&format!("{text}\n"))
}
