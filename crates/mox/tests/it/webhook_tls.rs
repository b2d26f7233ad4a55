//! Webhooks over HTTPS: receivers are known by the system's certificates and by those that are configured, and by no others.

use crate::server::{BINARY, PATIENCE};
use crate::webapi_http::ok;
use mox_testkit::peers::{Mox, Service, wait_until};
use std::path::Path;

/// A server whose webhooks go to its own HTTPS port, which answers a POST to the list of methods with 200. Its certificate is its own.
fn start_told(trusting: bool) -> Mox {
    let mut mox = Mox::start_with(Path::new(BINARY), |dir| {
        let path = dir.join("mox.conf");
        let text = std::fs::read_to_string(&path)?;
        let text = if trusting { text } else { text.replacen("\t\t\t- localhost.crt\n", "", 1).replacen("\t\tCertFiles:\n", "", 1) };
        std::fs::write(path, text)
    })
    .unwrap();
    let url = format!("https://localhost:{}/webapi/v0/", mox.port(Service::Https));
    mox.kill().unwrap();
    let path = mox.dir().join("domains.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\tmox:\n", &format!("\tmox:\n\t\tOutgoingWebhook:\n\t\t\tURL: {url}\n"), 1)).unwrap();
    mox.resume().unwrap();
    mox
}

fn listed(mox: &Mox, args: &[&str]) -> String {
    String::from_utf8(mox.command(args).unwrap().stdout).unwrap()
}

#[test]
fn a_configured_authority_is_trusted_and_a_stranger_is_not() {
    for trusting in [true, false] {
        let mox = start_told(trusting);
        ok(&mox, "Send", r#"{"To":[{"Address":"mox@localhost"}],"Text":"x"}"#);
        let (args, part): (&[&str], _) =
            if trusting { (&["queue", "webhook", "retired", "list"], " success ") } else { (&["queue", "webhook", "list"], "certificate") };
        let mut text = String::new();
        let seen = wait_until(PATIENCE, || {
            text = listed(&mox, args);
            text.contains(part)
        });
        assert!(seen, "{trusting}: {text}");
    }
}
