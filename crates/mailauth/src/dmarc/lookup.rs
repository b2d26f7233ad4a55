//! Finding the record for a domain, RFC 9989 §4.10, and whether someone takes reports for others, RFC 7489 §7.1.

use super::record::{DmarcError, DmarcRecord};
use crate::suffix::{is_public_suffix, organizational_domain};
use mox_base::{Domain, Lookup, LookupError};

/// Why there is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupProblem {
    /// Nobody published one.
    #[error("no dmarc record")]
    NotFound,
    /// Then none of them applies, RFC 9989 §4.10.
    #[error("several dmarc records")]
    Several,
    /// It can't be read.
    #[error("bad dmarc record: {0}")]
    Syntax(#[from] DmarcError),
    /// DNS failed.
    #[error("looking up dmarc record: {0}")]
    Dns(LookupError),
}

/// What was found for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmarcLookup {
    /// The record, with its text.
    pub record: Result<(DmarcRecord, String), LookupProblem>,
    /// Where it was found, or where the search ended.
    pub domain: Domain,
    /// Whether all answers were authentic.
    pub authentic: bool,
}

/// Finds the record that applies to a domain, by the walk up the tree of RFC 9989 §4.10: its own; else that of its organization; else
/// that of the registry above, if it speaks for those below it.
///
/// The walk knows the public suffix list, too: a record at a public suffix counts only if it says `psd=y`, so that a registry that
/// published one for its own mail doesn't become the organization of everybody below it.
pub async fn lookup(lookup: &dyn Lookup, from: &Domain) -> DmarcLookup {
    let mut authentic = true;
    let mut problem = LookupProblem::NotFound;
    // What the walk met last that says nothing about where the organization ends.
    let mut highest: Option<(Domain, (DmarcRecord, String))> = None;
    let mut last = from.clone();
    for name in walk(from) {
        let is_author = name == *from;
        let is_suffix = !is_author && is_public_suffix(&name);
        let (found, proven) = at(lookup, &format!("_dmarc.{}", name.ascii())).await;
        authentic &= proven;
        if !is_suffix {
            last = name.clone();
        }
        match found {
            Err(LookupProblem::NotFound) => {}
            Err(e @ (LookupProblem::Syntax(_) | LookupProblem::Dns(_))) if is_author => {
                return DmarcLookup { record: Err(e), domain: name, authentic };
            }
            Err(e @ LookupProblem::Dns(_)) => return DmarcLookup { record: Err(e), domain: name, authentic },
            // They count as none, RFC 9989 §4.10 step 2, and are told of if there are no others.
            Err(e) if !is_suffix && problem == LookupProblem::NotFound => problem = e,
            Err(_) => {}
            Ok(record) if is_author => return DmarcLookup { record: Ok(record), domain: name, authentic },
            Ok((record, text)) => match record.public_suffix {
                Some(false) if !is_suffix => return DmarcLookup { record: Ok((record, text)), domain: name, authentic },
                // The organization is the name below, and has the first word.
                Some(true) => {
                    let organization = below(from, &name);
                    let (domain, record) = match highest {
                        Some((domain, record)) if domain == organization => (domain, record),
                        _ => (name, (record, text)),
                    };
                    return DmarcLookup { record: Ok(record), domain, authentic };
                }
                _ if is_suffix => {}
                _ => highest = Some((name, (record, text))),
            },
        }
    }
    match highest {
        Some((domain, record)) => DmarcLookup { record: Ok(record), domain, authentic },
        None => DmarcLookup { record: Err(problem), domain: last, authentic },
    }
}

/// The domain of the organization that a domain belongs to, for comparing domains: where records on the way up from it say so by
/// `psd`, RFC 9989 §4.10.2; else by the public suffix list. What DNS fails to tell leaves it to the list.
pub(super) async fn organization(lookup: &dyn Lookup, domain: &Domain) -> Domain {
    let listed = organizational_domain(domain);
    for name in walk(domain).into_iter().take_while(|name| name.is_within(&listed)) {
        match at(lookup, &format!("_dmarc.{}", name.ascii())).await {
            (Ok((DmarcRecord { public_suffix: Some(false), .. }, _)), _) => return name,
            (Ok((DmarcRecord { public_suffix: Some(true), .. }, _)), _) if name != *domain => return below(domain, &name),
            // A registry's own mail.
            (Ok((DmarcRecord { public_suffix: Some(true), .. }, _)), _) => return name,
            _ => {}
        }
    }
    listed
}

/// The names to be asked, RFC 9989 §4.10: the domain, and those above it, of at most seven labels.
fn walk(domain: &Domain) -> Vec<Domain> {
    const MOST_LABELS: usize = 7;
    let labels = |domain: &Domain| domain.ascii().split('.').count();
    let parent = |domain: &Domain| domain.ascii().split_once('.').and_then(|(_, parent)| Domain::parse_lax(parent).ok());
    let above = std::iter::successors(parent(domain), parent).filter(|name| labels(name) <= MOST_LABELS);
    std::iter::once(domain.clone()).chain(above).collect()
}

/// The name on the way from a domain up to another that is directly below that.
fn below(domain: &Domain, above: &Domain) -> Domain {
    let parent = |domain: &Domain| domain.ascii().split_once('.').and_then(|(_, parent)| Domain::parse_lax(parent).ok());
    let mut names = std::iter::successors(Some(domain.clone()), parent);
    names.find(|name| parent(name).as_ref() == Some(above)).unwrap_or_else(|| domain.clone())
}

async fn at(lookup: &dyn Lookup, name: &str) -> (Result<(DmarcRecord, String), LookupProblem>, bool) {
    let (texts, authentic) = match texts(lookup, name).await {
        Ok(found) => found,
        Err((problem, authentic)) => return (Err(problem), authentic),
    };
    let found = match texts.as_slice() {
        [] => Err(LookupProblem::NotFound),
        [text] => DmarcRecord::parse(text).map(|record| (record, text.clone())).map_err(LookupProblem::from),
        _ => Err(LookupProblem::Several),
    };
    (found, authentic)
}

/// The texts at a name that are meant to be DMARC records.
async fn texts(lookup: &dyn Lookup, name: &str) -> Result<(Vec<String>, bool), (LookupProblem, bool)> {
    match lookup.txt(name).await {
        Ok(answer) => {
            let texts = answer.records.iter().map(|t| String::from_utf8_lossy(t).into_owned());
            Ok((texts.filter(|t| DmarcRecord::is_meant(t)).collect(), answer.authentic))
        }
        Err(LookupError::NotFound { authentic }) => Err((LookupProblem::NotFound, authentic)),
        Err(LookupError::BadName(_)) => Err((LookupProblem::NotFound, false)),
        Err(e) => Err((LookupProblem::Dns(e), false)),
    }
}

/// Whether a host takes the reports of a domain of another organization, RFC 7489 §7.1: the records in which it says so, with their
/// texts, and whether they were authentic.
///
/// # Errors
/// It doesn't say so, or DNS failed.
pub async fn report_destination(
    lookup: &dyn Lookup,
    policy_domain: &Domain,
    destination: &Domain,
) -> (Result<Vec<(DmarcRecord, String)>, LookupProblem>, bool) {
    let name = format!("{}._report._dmarc.{}", policy_domain.ascii(), destination.ascii());
    let (texts, authentic) = match texts(lookup, &name).await {
        Ok(found) => found,
        Err((problem, authentic)) => return (Err(problem), authentic),
    };
    // RFC 9990 §4 step 6: what can't be read is as if it weren't there.
    let (mut records, mut problem) = (Vec::new(), LookupProblem::NotFound);
    for text in texts {
        match DmarcRecord::parse_report_record(&text) {
            Ok(record) => records.push((record, text)),
            Err(e) => problem = e.into(),
        }
    }
    (if records.is_empty() { Err(problem) } else { Ok(records) }, authentic)
}
