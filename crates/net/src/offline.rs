//! DNS that isn't asked of anybody: records of a zone file, and for every other name what makes mail flow.
//!
//! For testing software on one machine, where names like `example.org` either don't exist or refuse mail, or where there is no
//! network at all. Names at and below those of the file have the file's records and no others, wildcards and aliases included
//! (RFC 1034 §4.3.2, RFC 4592). Any other domain exists, at this machine, so it can receive mail, and publishes no policies; not
//! so names below `invalid` (RFC 6761 §6.4), names with an underscore, and names of addresses that aren't loopback.
//! Nothing is authentic.

use crate::resolver::record::{record, text};
use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::serialize::txt::Parser;
use mox_base::{Answer, Lookup, LookupError, LookupFuture, Record, RecordKind, reverse_name};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// As many aliases are followed.
const MAX_ALIASES: usize = 8;

/// Records of files: of those that [`RecordKind`] knows.
#[derive(Debug, Default)]
pub struct OfflineDns {
    /// By name in lower case, without trailing dot.
    names: BTreeMap<String, Vec<Record>>,
}

impl OfflineDns {
    /// Reads a master file, RFC 1035 §5. Relative names are below the root. Files can't be included.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn parse(file: &str) -> Result<Self, String> {
        // Only a default for records without one: RFC 2308 §4.
        let file = format!("$TTL 300\n{file}\n");
        let (_, sets) = Parser::new(file, None, Some(Name::root())).parse().map_err(|e| e.to_string())?;
        let mut names: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for set in sets.values() {
            let records = names.entry(text(set.name()).to_ascii_lowercase()).or_default();
            records.extend(set.records_without_rrsigs().filter_map(|r| record(&r.data)));
        }
        Ok(Self { names })
    }

    /// The records at a name: of the file, or made up.
    fn at(&self, name: &str, kind: RecordKind) -> Vec<Record> {
        let mut name = name.trim_end_matches('.').to_ascii_lowercase();
        for _ in 0..=MAX_ALIASES {
            let Some(records) = self.of_file(&name) else { return made_up(&name, kind) };
            let found: Vec<Record> = records.iter().filter(|r| kind_of(r) == kind).cloned().collect();
            let alias = records.iter().find_map(|r| if let Record::Cname(to) = r { Some(to.to_ascii_lowercase()) } else { None });
            match alias {
                Some(to) if found.is_empty() => name = to,
                _ => return found,
            }
        }
        Vec::new()
    }

    /// The file's records for a name; none if it says nothing of the name or what is above it.
    fn of_file(&self, name: &str) -> Option<&[Record]> {
        if let Some(records) = self.names.get(name) {
            return Some(records);
        }
        let parents = name.match_indices('.').filter_map(|(dot, _)| name.get(dot.saturating_add(1)..));
        for parent in parents {
            if let Some(records) = self.names.get(&format!("*.{parent}")) {
                return Some(records);
            }
            if self.exists(parent) {
                return Some(&[]);
            }
        }
        None
    }

    /// Whether a name has records, or names below it have.
    fn exists(&self, name: &str) -> bool {
        let is_top_level = !name.contains('.');
        self.names.contains_key(name)
            || !is_top_level && self.names.keys().any(|key| key.strip_suffix(name).is_some_and(|k| k.ends_with('.')))
    }
}

impl Lookup for OfflineDns {
    fn query<'a>(&'a self, name: &'a str, kind: RecordKind) -> LookupFuture<'a> {
        let records = self.at(name, kind);
        Box::pin(async move {
            if records.is_empty() {
                return Err(LookupError::NotFound { authentic: false });
            }
            Ok(Answer { records, authentic: false, ttl: Duration::ZERO })
        })
    }
}

fn made_up(name: &str, kind: RecordKind) -> Vec<Record> {
    let mut labels = name.rsplit('.');
    let loopback =
        || [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(reverse_name).iter().any(|known| known == name);
    match labels.next() {
        Some("invalid") => Vec::new(),
        Some("arpa") if kind == RecordKind::Ptr && loopback() => vec![Record::Ptr("localhost".into())],
        Some("arpa") => Vec::new(),
        _ if name.starts_with('_') || name.contains("._") => Vec::new(),
        _ => match kind {
            RecordKind::A => vec![Record::A(Ipv4Addr::LOCALHOST)],
            RecordKind::Aaaa => vec![Record::Aaaa(Ipv6Addr::LOCALHOST)],
            _ => Vec::new(),
        },
    }
}

const fn kind_of(record: &Record) -> RecordKind {
    match record {
        Record::A(_) => RecordKind::A,
        Record::Aaaa(_) => RecordKind::Aaaa,
        Record::Cname(_) => RecordKind::Cname,
        Record::Mx(_) => RecordKind::Mx,
        Record::Ns(_) => RecordKind::Ns,
        Record::Ptr(_) => RecordKind::Ptr,
        Record::Txt(_) => RecordKind::Txt,
        Record::Tlsa(_) => RecordKind::Tlsa,
        Record::Srv(_) => RecordKind::Srv,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_base::Mx;

    const FILE: &str = "
$ORIGIN shop.example.
@            MX   10 mail
mail         A    192.0.2.1
_dmarc       TXT  \"v=DMARC1; p=reject\"
www          CNAME mail
*.any        TXT  \"v=spf1 -all\"
alone.deep   A    192.0.2.2
old.example. MX   0 .
";

    #[tokio::test]
    async fn the_file_rules_its_names() {
        let zone = OfflineDns::parse(FILE).unwrap();
        let zone: &dyn Lookup = &zone;
        let mx = zone.mx("Shop.Example.").await.unwrap().records;
        assert_eq!(mx, [Mx { preference: 10, host: "mail.shop.example".into() }]);
        assert_eq!(zone.txt("_dmarc.shop.example").await.unwrap().records, [b"v=DMARC1; p=reject".to_vec()]);
        assert_eq!(zone.ips("www.shop.example").await.unwrap().records, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(zone.txt("x.y.any.shop.example").await.unwrap().records.len(), 1);
        assert!(zone.mx("old.example").await.unwrap().records[0].host.is_empty());
        for absent in ["shop.example", "nothing.shop.example", "x.deep.shop.example", "deep.shop.example"] {
            assert!(zone.query(absent, RecordKind::A).await.unwrap_err().is_not_found(), "{absent}");
        }
    }

    #[tokio::test]
    async fn other_names_can_receive_mail() {
        let zone = OfflineDns::parse(FILE).unwrap();
        let zone: &dyn Lookup = &zone;
        assert_eq!(zone.ips("example.org").await.unwrap().records.len(), 2);
        assert!(zone.mx("example.org").await.unwrap_err().is_not_found());
        assert!(zone.txt("example.org").await.unwrap_err().is_not_found());
        assert!(zone.txt("_dmarc.example.org").await.unwrap_err().is_not_found());
        assert!(zone.ips("x.invalid").await.unwrap_err().is_not_found());
        assert_eq!(zone.ptr("127.0.0.1".parse().unwrap()).await.unwrap().records, ["localhost"]);
        assert_eq!(zone.ptr("::1".parse().unwrap()).await.unwrap().records, ["localhost"]);
        assert!(zone.ptr("192.0.2.1".parse().unwrap()).await.unwrap_err().is_not_found());
        assert!(zone.ptr("2001:db8::1".parse().unwrap()).await.unwrap_err().is_not_found());
    }

    #[test]
    fn bad_files_are_refused() {
        assert!(OfflineDns::parse("a.example. MX ten b.example.").is_err());
        assert!(OfflineDns::parse("$INCLUDE other").is_err());
    }
}
