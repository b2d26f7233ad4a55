//! Reports of DMARC and TLS: reading those in files, checking where those of a domain go, and what a running server has of them.

use super::data_dir;
use super::dns::{dnssec, with_resolver};
use crate::cli::{Command, Failure, Flag, Invocation, Outcome, print};
use crate::ctl::{self, ReportTask, Request};
use mox_base::{Domain, Lookup};
use mox_delivery::dmarc::{Destination, DestinationProblem, ReportAddress, report_addresses};
use mox_mailauth::dmarc::report::{self, Feedback};
use mox_mailauth::{dmarc, tlsrpt};
use std::fmt::Write as _;
use std::io::Read as _;

/// Largest message read from standard input: what the control socket takes.
const MAX_INPUT: u64 = 900 << 10;

const HOST_REPORT: &[Flag] =
    &[Flag::bool("hostreport", "report for a host instead of a domain; accepted for scripts, the report itself tells")];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "dmarc parsereportmsg",
        params: &["messagefile ..."],
        listed: true,
        help: "Print the DMARC aggregate reports in messages.\n\n\
            Each file is a message with a report, as others send it: XML, alone or packed with gzip or zip. Prints who reports about which time, the policy \
            that was found, and for each source of mail what was done with it.",
        flags: &[],
        args: 1..=usize::MAX,
        run: parse_dmarc,
    },
    Command {
        words: "dmarc checkreportaddrs",
        params: &["domain"],
        listed: true,
        help: "Check where DMARC reports about a domain go.\n\n\
            Each address for reports in the domain's DMARC record is looked at. One in another organization gets reports only if that one says so in DNS, \
            with a record at <domain>._report._dmarc.<its domain>.",
        flags: &[],
        args: 1..=1,
        run: check_addresses,
    },
    Command {
        words: "tlsrpt parsereportmsg",
        params: &["messagefile ..."],
        listed: true,
        help: "Print the TLS reports in messages.\n\n\
            Each file is a message with a report, as others send it. The report is printed as JSON.",
        flags: &[],
        args: 1..=usize::MAX,
        run: parse_tls,
    },
    Command {
        words: "dmarcdb addreport",
        params: &["fromdomain < message"],
        listed: false,
        help: "Add the DMARC report in a message to the reports that were received.\n\n\
            The message is read from standard input, and isn't verified.",
        flags: &[],
        args: 1..=1,
        run: |i| task(i, ReportTask::AddDmarc { from_domain: i.arg(0).to_owned(), message: message()? }),
    },
    Command {
        words: "dmarcdb list",
        params: &["[domain]"],
        listed: false,
        help: "List the DMARC reports that were received, newest first, about a domain or all.",
        flags: &[],
        args: 0..=1,
        run: |i| task(i, ReportTask::ListDmarc { domain: i.arg(0).to_owned() }),
    },
    Command {
        words: "dmarcdb send",
        params: &[""],
        listed: false,
        help: "Send DMARC reports now.\n\n\
            Of all that is there to be reported, without waiting for the end of the times that domains want to hear about.",
        flags: &[],
        args: 0..=0,
        run: |i| task(i, ReportTask::SendDmarc),
    },
    Command {
        words: "tlsrptdb addreport",
        params: &["[-hostreport] fromdomain < message"],
        listed: false,
        help: "Add the TLS report in a message to the reports that were received.\n\n\
            The message is read from standard input, and isn't verified.",
        flags: HOST_REPORT,
        args: 1..=1,
        run: |i| task(i, ReportTask::AddTls { from_domain: i.arg(0).to_owned(), message: message()? }),
    },
    Command {
        words: "tlsrptdb list",
        params: &["[domain]"],
        listed: false,
        help: "List the TLS reports that were received, newest first, about a domain or all.",
        flags: &[],
        args: 0..=1,
        run: |i| task(i, ReportTask::ListTls { domain: i.arg(0).to_owned() }),
    },
    Command {
        words: "tlsrptdb send",
        params: &[""],
        listed: false,
        help: "Send TLS reports now.\n\nOf all days that weren't reported yet, today included.",
        flags: &[],
        args: 0..=0,
        run: |i| task(i, ReportTask::SendTls),
    },
];

fn task(invocation: &Invocation, task: ReportTask) -> Outcome {
    let mut stream = ctl::connect(&data_dir(invocation)?)?;
    ctl::request(&mut stream, &Request::Report(task), &mut std::io::stdout().lock())
}

/// A message from standard input.
fn message() -> Result<String, Failure> {
    let mut message = String::new();
    std::io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut message).map_err(|e| Failure::new("reading message", e))?;
    if u64::try_from(message.len()).unwrap_or(u64::MAX) > MAX_INPUT {
        return Err(Failure::Error(format!("message is larger than {MAX_INPUT} bytes")));
    }
    Ok(message)
}

fn parse_tls(invocation: &Invocation) -> Outcome {
    for file in &invocation.args {
        let message = std::fs::read(file).map_err(|e| Failure::new(file, e))?;
        let report = tlsrpt::read(&message).map_err(|e| Failure::new(file, e))?;
        print(&(report.to_pretty_json().map_err(|e| Failure::new(file, e))? + "\n"))?;
    }
    Ok(())
}

fn parse_dmarc(invocation: &Invocation) -> Outcome {
    for file in &invocation.args {
        let message = std::fs::read(file).map_err(|e| Failure::new(file, e))?;
        let report = report::read(&message).map_err(|e| Failure::new(file, e))?;
        print(&shown(&report))?;
    }
    Ok(())
}

/// A report for people.
fn shown(report: &Feedback) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a String can't fail. Whatever is in reports of others is shown on one line.
            let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _written = writeln!(text, "{label}: {value}");
        }
    };
    let metadata = &report.metadata;
    line("Report by", &format!("{} ({})", metadata.organization, metadata.email));
    line("More contacts", &metadata.extra_contact);
    line("Software", &metadata.generator);
    line("Report ID", &metadata.id);
    line("Period", &format!("{} to {}", metadata.begin.rfc3339(), metadata.end.rfc3339()));
    metadata.errors.iter().for_each(|error| line("Error", error));
    let published = &report.published;
    let mut policy = format!("{} p={}", published.domain, published.policy);
    let alignment = |a: Option<dmarc::Alignment>| a.map(|a| a.letter().to_owned());
    for (tag, value) in [
        ("sp", published.subdomain_policy.map(|p| p.to_string())),
        ("np", published.nonexistent_policy.map(|p| p.to_string())),
        ("adkim", alignment(published.dkim_alignment)),
        ("aspf", alignment(published.spf_alignment)),
        ("pct", published.percentage.map(|n| n.to_string())),
        ("fo", Some(published.failure_options.clone()).filter(|fo| !fo.is_empty())),
        ("t", published.testing.then(|| "y".to_owned())),
    ] {
        if let Some(value) = value {
            let _written = write!(policy, " {tag}={value}");
        }
    }
    line("Policy", &policy);
    for row in &report.rows {
        line("\nSource", &format!("{}, {} message(s)", row.source_ip, row.count));
        let outcome = |aligned: bool| if aligned { "pass" } else { "fail" };
        let (dkim, spf) = (outcome(row.dkim_aligned), outcome(row.spf_aligned));
        line("Evaluated", &format!("disposition {}, aligned dkim {dkim}, aligned spf {spf}", row.disposition.name()));
        for reason in &row.reasons {
            line("Overridden", &format!("{} {}", reason.kind, reason.comment));
        }
        line("Header from", &row.header_from);
        line("Envelope from", row.envelope_from.as_deref().unwrap_or_default());
        line("Envelope to", &row.envelope_to);
        for dkim in &row.dkim {
            line("DKIM", &format!("{} {} {} {}", dkim.result, dkim.domain, dkim.selector, dkim.human_result));
        }
        for spf in &row.spf {
            line("SPF", &format!("{} {} {} {}", spf.result, spf.domain, spf.scope, spf.human_result));
        }
    }
    text + "\n"
}

fn check_addresses(invocation: &Invocation) -> Outcome {
    let domain: Domain = invocation.arg(0).parse().map_err(|e| Failure::new("parsing domain", e))?;
    let text = with_resolver(|resolver| async move { checked(&resolver, &domain).await })?;
    print(&text)
}

async fn checked(resolver: &dyn Lookup, domain: &Domain) -> Result<String, Failure> {
    let found = dmarc::lookup(resolver, domain).await;
    let authentic = found.authentic;
    let (record, txt) = found.record.map_err(|e| Failure::new("looking up record", e))?;
    let mut text = format!("dmarc record at _dmarc.{}. ({}): {txt}\n", found.domain.ascii(), dnssec(authentic));
    for (kind, uris) in [("aggregate", &record.aggregate_reports), ("failure", &record.failure_reports)] {
        if uris.is_empty() {
            let _written = writeln!(text, "no addresses for {kind} reports");
        }
        for ReportAddress { uri, found: destination } in report_addresses(resolver, &found.domain, uris).await {
            let verdict = match destination {
                Ok(Destination { own: true, .. }) => "pass, in the same organization".to_owned(),
                Ok(Destination { addresses, records, .. }) => {
                    let to: Vec<String> = addresses.iter().map(|(address, _)| address.to_string()).collect();
                    format!("pass, reports go to {}, by the record(s) {records:?}", to.join(", "))
                }
                Err(DestinationProblem::Scheme) => "skipped, not a mail address".to_owned(),
                Err(problem) => format!("fail: {problem}"),
            };
            let _written = writeln!(text, "- {kind} reports, {}: {verdict}", uri.uri);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_testkit::Zone;

    #[tokio::test]
    async fn where_reports_of_a_domain_go() {
        let record = "v=DMARC1;p=none;rua=mailto:a@x.example,mailto:b@y.example,mailto:c@z.example;ruf=https://x.example/";
        let zone = Zone::new().txt("_dmarc.x.example", record).txt("x.example._report._dmarc.y.example", "v=DMARC1");
        let domain = "sub.x.example".parse().unwrap();
        let text = checked(&zone, &domain).await.map_err(|_| "failed").unwrap();
        let want = [
            &format!("dmarc record at _dmarc.x.example. (without dnssec): {record}"),
            "- aggregate reports, mailto:a@x.example: pass, in the same organization",
            "- aggregate reports, mailto:b@y.example: pass, reports go to b@y.example, by the record(s) [\"v=DMARC1\"]",
            "- aggregate reports, mailto:c@z.example: fail: z.example does not accept reports about the domain: no dmarc record",
            "- failure reports, https://x.example/: skipped, not a mail address",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn reports_for_people() {
        let xml = "<feedback><report_metadata><org_name>R</org_name><email>r@r.example</email><report_id>1</report_id>\
            <date_range><begin>0</begin><end>3599</end></date_range></report_metadata>\
            <policy_published><domain>x.example</domain><p>reject</p><pct>50</pct></policy_published>\
            <record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated><disposition>reject</disposition>\
            <dkim>fail</dkim><spf>pass</spf></policy_evaluated></row><identifiers><header_from>x.example</header_from></identifiers>\
            <auth_results><spf><domain>x.example</domain><result>pass</result></spf></auth_results></record></feedback>";
        let text = shown(&Feedback::from_xml(xml.as_bytes()).unwrap());
        assert_eq!(
            text,
            "Report by: R (r@r.example)\nReport ID: 1\nPeriod: 1970-01-01T00:00:00Z to 1970-01-01T00:59:59Z\nPolicy: x.example p=reject pct=50\n\n\
             Source: 192.0.2.1, 2 message(s)\nEvaluated: disposition reject, aligned dkim fail, aligned spf pass\nHeader from: x.example\n\
             SPF: pass x.example  \n\n"
        );
    }
}
