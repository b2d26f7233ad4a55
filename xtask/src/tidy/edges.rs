//! Which crate may use which: the table of ARCHITECTURE.md, against what the manifests say.
//!
//! A new edge is a design decision: change it here and there, in a commit that says why.

use crate::metadata::Package;

/// The crate and the crates it may be built with, without the project's prefix.
const EDGES: &[(&str, &[&str])] = &[
    // Words.
    ("base", &[]),
    // Protocols: bytes, values, decisions; no I/O.
    ("message", &["base"]),
    ("sasl", &["base"]),
    ("smtp", &["base", "sasl"]),
    ("imap", &["base", "sasl", "message"]),
    ("jmap", &["base"]),
    ("mailauth", &["base", "message"]),
    ("webapi", &["base"]),
    // Services: reach the world, keep the mail, move the mail.
    ("config-derive", &[]),
    ("config", &["base", "config-derive"]),
    ("net", &["base", "mailauth"]),
    ("store", &["base", "message"]),
    ("logins", &["base", "sasl", "store", "net"]),
    ("delivery", &["base", "message", "sasl", "smtp", "mailauth", "webapi", "store", "net"]),
    ("webapi-client", &["base", "webapi", "net"]),
    ("probe", &["base", "sasl", "smtp", "mailauth", "config", "net", "delivery"]),
    // Servers: sockets and sessions.
    ("smtpd", &["base", "message", "sasl", "smtp", "mailauth", "store", "net", "logins", "delivery"]),
    ("imapd", &["base", "message", "sasl", "imap", "store", "net", "logins"]),
    ("jmapd", &["base", "message", "jmap", "store", "delivery"]),
    ("httpd", &["base", "message", "mailauth", "webapi", "config", "net", "store", "logins", "delivery", "probe", "jmap", "jmapd"]),
    // The binary wires all of them together.
    (
        "mox",
        &[
            "base",
            "message",
            "sasl",
            "smtp",
            "imap",
            "jmap",
            "mailauth",
            "webapi",
            "config",
            "net",
            "store",
            "logins",
            "delivery",
            "webapi-client",
            "probe",
            "smtpd",
            "imapd",
            "jmapd",
            "httpd",
        ],
    ),
    // Beside the server.
    ("testkit", &["base"]),
    ("xtask", &["testkit", "webapi"]),
];

/// The one crate that any crate's tests may use.
const FOR_TESTS: &str = "testkit";

pub(super) fn check(packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages {
        let name = short(&package.name);
        let Some((_, allowed)) = EDGES.iter().find(|(n, _)| *n == name) else {
            findings.push(format!("{}: {name} isn't in the map of crates", package.manifest.display()));
            continue;
        };
        for used in package.uses.iter().map(|u| short(u)).filter(|u| !allowed.contains(u)) {
            findings.push(format!("{}: {name} may not use {used}", package.manifest.display()));
        }
        let tests = package.tests_use.iter().map(|u| short(u));
        for used in tests.filter(|u| *u != FOR_TESTS && *u != name && !allowed.contains(u)) {
            findings.push(format!("{}: {name}'s tests may not use {used}", package.manifest.display()));
        }
    }
    findings
}

fn short(name: &str) -> &str {
    name.strip_prefix("mox-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[&str], tests_use: &[&str]) -> Package {
        let set = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        Package { name: name.to_owned(), manifest: "Cargo.toml".into(), uses: set(uses), tests_use: set(tests_use), features: Vec::new() }
    }

    #[test]
    fn edges_of_the_map_are_allowed() {
        let imap = package("mox-imap", &["mox-base", "mox-message"], &["mox-testkit"]);
        assert_eq!(check(&[imap]), Vec::<String>::new());
    }

    #[test]
    fn edges_sideways_and_up_are_found() {
        let imap = package("mox-imap", &["mox-smtp"], &["mox-store"]);
        let expected = ["Cargo.toml: imap may not use smtp", "Cargo.toml: imap's tests may not use store"];
        assert_eq!(check(&[imap]), expected);
    }

    #[test]
    fn unknown_crates_are_found() {
        assert_eq!(check(&[package("mox-common", &[], &[])]), ["Cargo.toml: common isn't in the map of crates"]);
    }
}
