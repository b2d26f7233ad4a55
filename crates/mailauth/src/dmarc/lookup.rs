//! Finding the record for a domain, RFC 7489 §6.6.3, and whether someone takes reports for others, §7.1.

use super::record::{DmarcError, DmarcRecord};
use crate::suffix::{is_public_suffix, organizational_domain};
use mox_base::{Domain, Lookup, LookupError};

/// Why there is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupProblem {
    /// Nobody published one.
    #[error("no dmarc record")]
    NotFound,
    /// RFC 7489 §6.6.3 step 5: then none applies.
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

/// Finds the record that applies to a domain: its own, else that of its organization, else that of the registry above, if it
/// speaks for those below it (RFC 9091).
pub async fn lookup(lookup: &dyn Lookup, from: &Domain) -> DmarcLookup {
    let mut authentic = true;
    let organization = organizational_domain(from);
    let registry = organization.ascii().split_once('.').and_then(|(_, parent)| Domain::parse_lax(parent).ok());
    let mut last = from.clone();
    let higher = [Some(organization).filter(|o| o != from), registry.filter(is_public_suffix)];
    for domain in [Some(from.clone())].into_iter().chain(higher).flatten() {
        let (found, proven) = at(lookup, &format!("_dmarc.{}", domain.ascii())).await;
        authentic &= proven;
        match found {
            Err(LookupProblem::NotFound) => {}
            // A registry that doesn't say that it speaks for others speaks for itself.
            Ok((record, _)) if is_public_suffix(&domain) && domain != *from && record.public_suffix != Some(true) => {}
            record => return DmarcLookup { record, domain, authentic },
        }
        if !is_public_suffix(&domain) {
            last = domain;
        }
    }
    DmarcLookup { record: Err(LookupProblem::NotFound), domain: last, authentic }
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
