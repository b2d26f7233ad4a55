//! Licences, banned crates and sources of everything that is linked, after `deny.toml`.
//!
//! The file is `cargo deny`'s, so that tool can be used on top (it also knows advisories, for which it needs the network).
//! This check needs cargo alone and takes a second. It looks at what cargo would build for this platform: a crate that
//! only stands in the lock file because of a feature nobody enables isn't linked and isn't checked.

use crate::{Failure, run};
use std::collections::{BTreeMap, BTreeSet};

/// Checks all dependencies.
pub(crate) fn deny() -> Result<(), Failure> {
    let text = std::fs::read_to_string(run::top().join("deny.toml")).map_err(|e| format!("deny.toml: {e}"))?;
    let rules = Rules::parse(&text)?;
    let tree = ["tree", "--workspace", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}\t{l}"];
    let listing = run::stdout(run::cargo().args(tree))?;
    let linked = linked(&listing);
    let mut findings: Vec<String> = linked.iter().filter_map(|l| rules.fault(l)).collect();
    for (name, versions) in several_versions(&linked) {
        println!("note: {name} is built in several versions: {}", versions.join(", "));
    }
    if let Ok(lock) = std::fs::read_to_string(run::top().join("Cargo.lock")) {
        findings.extend(foreign_sources(&lock));
    }
    if findings.is_empty() {
        println!("deny: {} packages, nothing found", linked.len());
        return Ok(());
    }
    Err(format!("{}\ndeny: {} findings", findings.join("\n"), findings.len()))
}

struct Rules {
    licences: BTreeSet<String>,
    /// Banned crates and why.
    banned: BTreeMap<String, String>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Linked {
    name: String,
    version: String,
    licence: String,
}

impl Rules {
    fn parse(text: &str) -> Result<Self, Failure> {
        let file: toml::Table = text.parse().map_err(|e| format!("deny.toml: {e}"))?;
        let list = |section: &str, key: &str| {
            let value = file.get(section).and_then(|s| s.get(key)).and_then(toml::Value::as_array);
            value.cloned().ok_or_else(|| format!("deny.toml: no list {section}.{key}"))
        };
        let text = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let licences = list("licenses", "allow")?.iter().map(|l| text(Some(l))).collect();
        let banned = list("bans", "deny")?.iter().map(|b| (text(b.get("crate")), text(b.get("reason")))).collect();
        Ok(Self { licences, banned })
    }

    fn fault(&self, linked: &Linked) -> Option<String> {
        let Linked { name, version, licence } = linked;
        if let Some(reason) = self.banned.get(name) {
            return Some(format!("{name} {version} is banned: {reason}"));
        }
        (!self.allows(licence)).then(|| format!("{name} {version}: licence `{licence}` isn't allowed"))
    }

    /// Evaluates an SPDX expression: `OR` of `AND` of licences and parentheses; `/` is the old spelling of `OR`.
    fn allows(&self, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let mut words = spaced.split_whitespace().peekable();
        let allowed = self.any_of(&mut words);
        allowed && words.next().is_none()
    }

    fn any_of<'a>(&self, words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
        let mut allowed = self.all_of(words);
        while words.next_if_eq(&"OR").is_some() {
            allowed |= self.all_of(words);
        }
        allowed
    }

    fn all_of<'a>(&self, words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
        let mut allowed = self.one(words);
        while words.next_if_eq(&"AND").is_some() {
            allowed &= self.one(words);
        }
        allowed
    }

    fn one<'a>(&self, words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
        let Some(word) = words.next() else {
            return false;
        };
        if word == "(" {
            let allowed = self.any_of(words);
            return words.next_if_eq(&")").is_some() && allowed;
        }
        let licence = match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
            Some(exception) => format!("{word} WITH {exception}"),
            None => word.to_owned(),
        };
        self.licences.contains(&licence)
    }
}

/// Parses lines such as `bytes v1.10.1<tab>MIT`, which cargo repeats for every edge.
fn linked(listing: &str) -> BTreeSet<Linked> {
    let mut linked = BTreeSet::new();
    for line in listing.lines() {
        let Some((package, licence)) = line.split_once('\t') else {
            continue;
        };
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let licence = licence.trim_end_matches("(*)").trim().to_owned();
        linked.insert(Linked { name: name.to_owned(), version: version.to_owned(), licence });
    }
    linked
}

fn several_versions(linked: &BTreeSet<Linked>) -> Vec<(&str, Vec<&str>)> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for l in linked {
        versions.entry(&l.name).or_default().push(&l.version);
    }
    versions.into_iter().filter(|(_, v)| v.len() > 1).collect()
}

/// Everything locked comes from the workspace or the public registry.
fn foreign_sources(lock: &str) -> Vec<String> {
    let sources = lock.lines().filter_map(|l| l.strip_prefix("source = "));
    let foreign: BTreeSet<&str> = sources.filter(|s| !s.starts_with("\"registry+") && !s.starts_with("\"sparse+")).collect();
    foreign.into_iter().map(|s| format!("Cargo.lock: source {s} isn't a registry")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let text = r#"
            [licenses]
            allow = ["MIT", "ISC", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
            [bans]
            deny = [{ crate = "ring", reason = "one provider" }]
        "#;
        Rules::parse(text).unwrap()
    }

    #[test]
    fn licence_expressions() {
        let rules = rules();
        for (expression, allowed) in [
            ("MIT", true),
            ("MIT/GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("ISC AND (GPL-3.0 OR MIT)", true),
            ("(GPL-3.0 OR MIT) AND OpenSSL", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
            ("", false),
            ("MIT )", false),
        ] {
            assert_eq!(rules.allows(expression), allowed, "{expression}");
        }
    }

    #[test]
    fn banned_crates_are_named_with_the_reason() {
        let linked = linked("ring v0.17.14\tApache-2.0 AND ISC\nbytes v1.2.3\tMIT (*)\n");
        let faults: Vec<_> = linked.iter().filter_map(|l| rules().fault(l)).collect();
        assert_eq!(faults, ["ring v0.17.14 is banned: one provider"]);
    }

    #[test]
    fn git_sources_are_found() {
        let lock = "source = \"registry+https://example.org/index\"\nsource = \"git+https://example.org/x\"\n";
        assert_eq!(foreign_sources(lock).len(), 1);
    }
}
