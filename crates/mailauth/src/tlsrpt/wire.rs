//! Reports as JSON, RFC 8460 §4.4. Lists are never null when written, and may be missing when read.

use super::report::Report;
use super::result::{FailureDetail, PolicyKind, PolicyOf, PolicyResult, ResultType};
use mox_base::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct WireReport {
    #[serde(default)]
    organization_name: String,
    date_range: DateRange,
    #[serde(default)]
    contact_info: String,
    #[serde(default)]
    report_id: String,
    #[serde(default, deserialize_with = "or_default")]
    policies: Vec<Policies>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DateRange {
    start_datetime: String,
    end_datetime: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Policies {
    policy: Policy,
    summary: Summary,
    #[serde(default, deserialize_with = "or_default")]
    failure_details: Vec<Failure>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Policy {
    #[serde(default)]
    policy_type: String,
    #[serde(default, deserialize_with = "one_or_many")]
    policy_string: Vec<String>,
    #[serde(default)]
    policy_domain: String,
    #[serde(default, deserialize_with = "one_or_many")]
    mx_host: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Summary {
    #[serde(default)]
    total_successful_session_count: u64,
    #[serde(default)]
    total_failure_session_count: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Failure {
    #[serde(default)]
    result_type: String,
    #[serde(default)]
    sending_mta_ip: String,
    #[serde(default)]
    receiving_mx_hostname: String,
    #[serde(default)]
    receiving_mx_helo: String,
    #[serde(default)]
    receiving_ip: String,
    #[serde(default)]
    failed_session_count: u64,
    #[serde(default)]
    additional_information: String,
    #[serde(default)]
    failure_reason_code: String,
}

/// `null` for a list.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Senders in the wild write a single string where the RFC has a list.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
        Null(()),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(one) => vec![one],
        Either::Many(many) => many,
        Either::Null(()) => Vec::new(),
    })
}

/// Results as a JSON list, for keeping.
pub fn results_to_json(results: &[PolicyResult]) -> String {
    let policies: Vec<Policies> = results.iter().map(Policies::of).collect();
    serde_json::to_string(&policies).unwrap_or_default()
}

/// Results from a JSON list; none when it isn't one.
pub fn results_from_json(json: &str) -> Option<Vec<PolicyResult>> {
    let policies: Vec<Policies> = serde_json::from_str(json).ok()?;
    Some(policies.into_iter().map(Policies::into_result).collect())
}

impl Policies {
    fn of(p: &PolicyResult) -> Self {
        Self {
            policy: Policy {
                policy_type: p.policy.kind.word().to_owned(),
                policy_string: p.policy.strings.clone(),
                policy_domain: p.policy.domain.clone(),
                mx_host: p.policy.mx_hosts.clone(),
            },
            summary: Summary { total_successful_session_count: p.success, total_failure_session_count: p.failure },
            failure_details: p.details.iter().map(Failure::of).collect(),
        }
    }

    fn into_result(self) -> PolicyResult {
        PolicyResult {
            policy: PolicyOf {
                kind: PolicyKind::from(self.policy.policy_type.as_str()),
                strings: self.policy.policy_string,
                domain: self.policy.policy_domain,
                mx_hosts: self.policy.mx_host,
            },
            success: self.summary.total_successful_session_count,
            failure: self.summary.total_failure_session_count,
            details: self.failure_details.into_iter().map(Failure::into_detail).collect(),
        }
    }
}

impl WireReport {
    pub(super) fn of(report: &Report) -> Self {
        let policies = report.policies.iter().map(Policies::of);
        Self {
            organization_name: report.organization.clone(),
            date_range: DateRange { start_datetime: report.begin.rfc3339(), end_datetime: report.end.rfc3339() },
            contact_info: report.contact.clone(),
            report_id: report.id.clone(),
            policies: policies.collect(),
        }
    }

    pub(super) fn into_report(self) -> Option<Report> {
        let policies = self.policies.into_iter().map(Policies::into_result);
        Some(Report {
            organization: self.organization_name,
            begin: date_time(&self.date_range.start_datetime)?,
            end: date_time(&self.date_range.end_datetime)?,
            contact: self.contact_info,
            id: self.report_id,
            policies: policies.collect(),
        })
    }
}

/// RFC 3339; Microsoft leaves the zone out, meaning UTC.
fn date_time(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text).or_else(|| Timestamp::parse_rfc3339(&format!("{text}Z")))
}

impl Failure {
    fn of(detail: &FailureDetail) -> Self {
        Self {
            result_type: detail.result.word().to_owned(),
            sending_mta_ip: detail.sending_ip.clone(),
            receiving_mx_hostname: detail.mx_hostname.clone(),
            receiving_mx_helo: detail.mx_helo.clone(),
            receiving_ip: detail.receiving_ip.clone(),
            failed_session_count: detail.sessions,
            additional_information: detail.information.clone(),
            failure_reason_code: detail.reason.clone(),
        }
    }

    fn into_detail(self) -> FailureDetail {
        FailureDetail {
            result: ResultType::from(self.result_type.as_str()),
            sending_ip: self.sending_mta_ip,
            mx_hostname: self.receiving_mx_hostname,
            mx_helo: self.receiving_mx_helo,
            receiving_ip: self.receiving_ip,
            sessions: self.failed_session_count,
            information: self.additional_information,
            reason: self.failure_reason_code,
        }
    }
}
