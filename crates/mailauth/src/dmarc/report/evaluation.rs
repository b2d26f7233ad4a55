//! From what was found about one message to its row.

use super::{Disposition, DkimAuth, Published, Reason, Row, SpfAuth};
use crate::dkim::DkimStatus;
use crate::dmarc::{DmarcOutcome, DmarcRecord, Findings};
use crate::spf::Identity;
use crate::suffix::organizational_domain;
use mox_base::Domain;
use std::net::IpAddr;

/// A message, for recipients in one domain, and what was found about it.
#[derive(Clone, Debug)]
pub struct Evaluated<'a> {
    /// The address that it came from.
    pub source_ip: IpAddr,
    /// What SPF and DKIM found.
    pub findings: Findings<'a>,
    /// What DMARC made of it.
    pub outcome: &'a DmarcOutcome,
    /// What happened to it.
    pub disposition: Disposition,
    /// Why that isn't what the policy wants.
    pub reasons: Vec<Reason>,
    /// The recipients' domain, in A-labels.
    pub envelope_to: String,
    /// The domain of MAIL FROM in A-labels, empty for the null reverse-path.
    pub envelope_from: String,
}

impl Evaluated<'_> {
    /// The row for it.
    pub fn row(&self) -> Row {
        let Findings { from, spf, dkim } = self.findings;
        let organization = organizational_domain(from);
        // Who else signed is none of the author's domain's business.
        let own = dkim.iter().filter_map(|d| Some((d.status, d.signature.as_ref()?)));
        let mut own: Vec<_> = own.filter(|(_, signature)| organizational_domain(&signature.domain) == organization).collect();
        // RFC 9990 §3.1.3: what passes comes first, and of that what is strictly aligned.
        own.sort_by_key(|(status, signature)| (*status != DkimStatus::Pass, signature.domain != *from));
        let dkim = own.into_iter().map(|(status, signature)| DkimAuth {
            domain: signature.domain.ascii().to_owned(),
            selector: signature.selector.ascii().to_owned(),
            result: status.name().to_owned(),
            human_result: String::new(),
        });
        let spf = spf.and_then(|spf| {
            let scope = match spf.identity {
                Identity::MailFrom => "mfrom",
                Identity::Helo => "helo",
            };
            Some(SpfAuth {
                domain: spf.domain.as_ref()?.ascii().to_owned(),
                scope: scope.to_owned(),
                result: spf.result.name().to_owned(),
                human_result: String::new(),
            })
        });
        Row {
            source_ip: self.source_ip.to_canonical().to_string(),
            count: 1,
            disposition: self.disposition,
            dkim_aligned: self.outcome.dkim_aligned,
            spf_aligned: self.outcome.spf_aligned,
            reasons: self.reasons.clone(),
            envelope_to: self.envelope_to.clone(),
            envelope_from: Some(self.envelope_from.clone()),
            header_from: from.ascii().to_owned(),
            dkim: dkim.collect(),
            spf: spf.into_iter().collect(),
        }
    }
}

impl Published {
    /// Of a record that was found at a domain.
    pub fn of(domain: &Domain, record: &DmarcRecord) -> Self {
        Self {
            domain: domain.ascii().to_owned(),
            dkim_alignment: Some(record.dkim_alignment),
            spf_alignment: Some(record.spf_alignment),
            policy: record.policy,
            subdomain_policy: Some(record.subdomain_policy.unwrap_or(record.policy)),
            nonexistent_policy: record.nonexistent_policy,
            percentage: Some(record.percentage),
            failure_options: record.failure_options.join(":"),
            testing: record.testing,
        }
    }
}

/// Hours that reports are about: those of a record's `ri`, but so that a whole number of intervals makes a day.
pub fn interval_hours(report_interval: u32) -> u8 {
    let hours = report_interval.div_ceil(3600);
    [24, 12, 8, 6, 4, 3, 2].into_iter().find(|n| u32::from(*n) <= hours).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dkim::{DkimOutcome, Signature};
    use crate::dmarc::{Policy, timed_out};
    use crate::spf::{SpfOutcome, SpfResult};

    #[test]
    fn intervals() {
        for (ri, want) in [(0, 1), (1, 1), (3600, 1), (3601, 2), (7200, 2), (5 * 3600, 4), (86_400, 24), (43_201, 12), (604_800, 24)] {
            assert_eq!(interval_hours(ri), want, "{ri}");
        }
    }

    #[test]
    fn a_row() {
        let domain = |name: &str| name.parse::<Domain>().unwrap();
        let dkim = |status, name: &str| {
            let signature = Signature {
                algorithm: "rsa-sha256".to_owned(),
                signature: vec![1],
                body_hash: vec![1],
                canonicalization: None,
                domain: domain(name),
                selector: domain("s"),
                identity: None,
                headers: vec!["From".to_owned()],
                length: None,
                query_methods: vec![],
                signed_at: None,
                expires: None,
            };
            DkimOutcome { status, signature: Some(signature), record: None, authentic: false, problem: None }
        };
        let dkim = [
            dkim(DkimStatus::Fail, "a.x.example"),
            dkim(DkimStatus::Pass, "x.example"),
            dkim(DkimStatus::Pass, "a.x.example"),
            dkim(DkimStatus::Pass, "forwarder.example"),
        ];
        let spf = SpfOutcome {
            result: SpfResult::Softfail,
            identity: Identity::Helo,
            domain: Some(domain("mail.x.example")),
            mechanism: None,
            problem: None,
            explanation: None,
            authentic: false,
        };
        let from = domain("a.x.example");
        let outcome = DmarcOutcome { dkim_aligned: true, ..timed_out(&from) };
        let row = Evaluated {
            source_ip: "::ffff:192.0.2.1".parse().unwrap(),
            findings: Findings { from: &from, spf: Some(&spf), dkim: &dkim },
            outcome: &outcome,
            disposition: Disposition::None,
            reasons: vec![],
            envelope_to: "r.example".to_owned(),
            envelope_from: String::new(),
        }
        .row();
        assert_eq!(row.source_ip, "192.0.2.1");
        let dkim: Vec<_> = row.dkim.iter().map(|d| format!("{} {}", d.domain, d.result)).collect();
        assert_eq!(dkim, ["a.x.example pass", "x.example pass", "a.x.example fail"]);
        assert_eq!((row.spf[0].scope.as_str(), row.spf[0].result.as_str()), ("helo", "softfail"));

        let record = DmarcRecord::parse("v=DMARC1;p=reject;aspf=s;fo=1:d;t=y").unwrap();
        let published = Published::of(&from, &record);
        assert_eq!(published.subdomain_policy, Some(Policy::Reject));
        assert!(published.to_xml().contains("<fo>1:d</fo>\n  <testing>y</testing>"), "{}", published.to_xml());
    }
}
