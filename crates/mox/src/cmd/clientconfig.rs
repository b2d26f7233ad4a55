//! `mox clientconfig`: what users of a domain enter into their mail clients.

use super::config::load;
use crate::cli::{Command, Failure, Invocation, Outcome, print};
use mox_base::Domain;
use mox_config::client_services;

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "clientconfig",
    params: &["domain"],
    listed: true,
    help: "Print the settings of mail clients for a domain.\n\n\
        Hosts and ports for sending and reading mail, by the configuration of listeners, and how TLS is used with them. The user name is \
        an address of the account.",
    flags: &[],
    args: 1..=1,
    run: client_config,
}];

const AUTHENTICATION: &str = "\nUser name is the full email address. Let mail clients use the first of these that they know for logging in:\n\
    \tSCRAM-SHA-256-PLUS, SCRAM-SHA-1-PLUS, SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5\n\
    They don't show the password to the server; with -PLUS, nobody in between can take part. Others are safe with TLS only.\n";

fn client_config(invocation: &Invocation) -> Outcome {
    let (fixed, snapshot) = load(invocation, false)?;
    let name: Domain = invocation.arg(0).parse().map_err(|e| Failure::new("parsing domain", e))?;
    let domain = snapshot.dynamic.domains.get(&name).ok_or_else(|| Failure::Error(format!("domain {name}: no such domain")))?;
    let row = |protocol: &str, host: &str, port: &str, listener: &str, note: &str| {
        format!("{protocol:<20} {host:<30} {port:<5} {listener:<15} {note}\n")
    };
    let mut text = row("Protocol", "Host", "Port", "Listener", "Note");
    for service in client_services(&fixed.settings, domain) {
        let (host, port) = (service.host.to_string(), service.port.to_string());
        text.push_str(&row(service.protocol.name(), &host, &port, &service.listener, service.tls.note()));
    }
    print(&(text + AUTHENTICATION))
}
