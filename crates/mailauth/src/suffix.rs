//! Where domains are registered: the public suffix list, and organizational domains by it, RFC 7489 §3.2.
//!
//! Only the part of the list that speaks of registries counts, not that in which companies list names below which their customers
//! have theirs (RFC 7489, erratum 6729): mail from such a customer is authenticated by the company.

use mox_base::Domain;

/// The name below which this one is registered; the domain itself if it is such a name.
pub fn organizational_domain(domain: &Domain) -> Domain {
    let name = domain.ascii();
    let suffix = public_suffix(name);
    let Some(before) = name.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')) else { return domain.clone() };
    let label = before.rsplit_once('.').map_or(before, |(_, label)| label);
    Domain::parse_lax(&format!("{label}.{suffix}")).unwrap_or_else(|_| domain.clone())
}

/// Whether names are registered below it, so that nobody can speak for all of it.
pub fn is_public_suffix(domain: &Domain) -> bool {
    let name = domain.ascii();
    public_suffix(name).len() >= name.len()
}

fn public_suffix(name: &str) -> &str {
    let mut from = name;
    loop {
        let Some(suffix) = psl::suffix(from.as_bytes()) else { return last_label(name) };
        let len = suffix.as_bytes().len();
        let text = from.get(from.len().saturating_sub(len)..).unwrap_or(from);
        match suffix.typ() {
            Some(psl::Type::Icann) => return text,
            // The longest rule is a company's: every other one that matches has fewer labels.
            Some(psl::Type::Private) => match text.split_once('.') {
                Some((_, rest)) => from = rest,
                None => return text,
            },
            None => return last_label(name),
        }
    }
}

/// Without a rule, the last label is the suffix.
fn last_label(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, label)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organizations() {
        for (name, want) in [
            ("a.b.example.com", "example.com"),
            ("example.com", "example.com"),
            ("com", "com"),
            ("a.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            // A wildcard, and an exception from one.
            ("a.b.c.ck", "b.c.ck"),
            ("a.www.ck", "www.ck"),
            // A company's.
            ("a.b.github.io", "github.io"),
            ("x.s3.amazonaws.com", "amazonaws.com"),
            ("a.x.example", "x.example"),
            ("localhost", "localhost"),
            ("a.食狮.公司.cn", "食狮.公司.cn"),
        ] {
            let d = |s| Domain::parse(s).unwrap();
            assert_eq!(organizational_domain(&d(name)), d(want), "{name}");
        }
    }

    #[test]
    fn suffixes() {
        for (name, want) in [("com", true), ("co.uk", true), ("x.ck", true), ("www.ck", false), ("github.io", false), ("localhost", true)] {
            assert_eq!(is_public_suffix(&Domain::parse(name).unwrap()), want, "{name}");
        }
    }
}
