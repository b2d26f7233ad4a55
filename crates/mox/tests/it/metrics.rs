//! What monitoring sees: every metric under the name, type and labels that dashboards and alerts were made for.

use crate::server::{BINARY, PATIENCE, await_messages, imap, message, smtp, start, submission};
use crate::webapi_http::call;
use mox_testkit::peers::{ImapClient, Mox, Service, SmtpClient, require_program, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

/// Name, type, and names of labels of what a mail server without web pages and junk filter has to count.
const METRICS: &[(&str, &str, &str)] = &[
    ("mox_authentication_ratelimited_total", "counter", "kind"),
    ("mox_authentication_total", "counter", "kind result variant"),
    ("mox_autotls_cert_request_errors_total", "counter", ""),
    ("mox_autotls_certput_total", "counter", ""),
    ("mox_autotls_missing_servername_total", "counter", ""),
    ("mox_autotls_unknown_servername_total", "counter", ""),
    ("mox_build_info", "gauge", "version"),
    ("mox_connections_count", "gauge", "listener protocol"),
    ("mox_dane_verify_errors_total", "counter", ""),
    ("mox_dane_verify_total", "counter", ""),
    ("mox_dkim_sign_total", "counter", "key"),
    ("mox_dkim_verify_duration_seconds", "histogram", "algorithm status"),
    ("mox_dmarc_verify_duration_seconds", "histogram", "reject status use"),
    ("mox_dmarcdb_dkim_result_total", "counter", "result"),
    ("mox_dmarcdb_policy_evaluated_total", "counter", "disposition dkim domain spf"),
    ("mox_dmarcdb_report_error_total", "counter", ""),
    ("mox_dmarcdb_report_queued_total", "counter", ""),
    ("mox_dmarcdb_spf_result_total", "counter", "result"),
    ("mox_dns_lookup_duration_seconds", "histogram", "pkg result type"),
    ("mox_dnsbl_ips_success", "gauge", "ip zone"),
    ("mox_dnsbl_lookup_duration_seconds", "histogram", "status zone"),
    ("mox_httpclient_request_duration_seconds", "histogram", "code method pkg result"),
    ("mox_httpserver_request_duration_seconds", "histogram", "code handler method proto"),
    ("mox_httpserver_response_duration_seconds", "histogram", "code handler method proto"),
    ("mox_imap_command_duration_seconds", "histogram", "cmd result"),
    ("mox_imap_connection_total", "counter", "service"),
    // A histogram despite its name.
    ("mox_iprev_lookup_total", "histogram", "status"),
    ("mox_logging_level_error_total", "counter", ""),
    ("mox_logging_level_info_total", "counter", ""),
    ("mox_logging_level_warn_total", "counter", ""),
    ("mox_mtasts_get_duration_seconds", "histogram", "result"),
    ("mox_mtastsdb_get_total", "counter", "result"),
    ("mox_panic_total", "counter", "pkg"),
    ("mox_queue_connection_total", "counter", "result"),
    ("mox_queue_delivery_duration_seconds", "histogram", "attempt result tlsmode transport"),
    ("mox_queue_destination_dane_gathertlsa_errors_total", "counter", ""),
    ("mox_queue_destination_dane_required_total", "counter", ""),
    ("mox_queue_destination_dane_starttlsunverified_total", "counter", ""),
    ("mox_queue_destinations_authentic_total", "counter", ""),
    ("mox_queue_destinations_total", "counter", ""),
    ("mox_queue_dmarcreport_failure_total", "counter", ""),
    ("mox_queue_hold", "gauge", ""),
    ("mox_queue_plaintext_fallback_total", "counter", ""),
    ("mox_queue_requiretls_unsupported_total", "counter", "reason"),
    ("mox_queue_tlsrequiredno_ignored_total", "counter", "ignored"),
    ("mox_smtpclient_command_duration_seconds", "histogram", "cmd code secode"),
    ("mox_smtpclient_tlsrequiredno_ignored_total", "counter", "ignored"),
    ("mox_smtpserver_command_duration_seconds", "histogram", "cmd code ecode kind"),
    ("mox_smtpserver_connection_total", "counter", "kind"),
    ("mox_smtpserver_delivery_starttls_errors_total", "counter", "reason"),
    ("mox_smtpserver_delivery_starttls_total", "counter", ""),
    ("mox_smtpserver_delivery_total", "counter", "reason result"),
    ("mox_smtpserver_errors_total", "counter", "error"),
    ("mox_smtpserver_submission_total", "counter", "result"),
    ("mox_spf_verify_duration_seconds", "histogram", "status"),
    ("mox_tls_certificate_expiry_timestamp_seconds", "gauge", "name source"),
    ("mox_tlsrpt_lookup_duration_seconds", "histogram", "result"),
    ("mox_tlsrptdb_session_total", "counter", "type"),
    ("mox_tlsrptsend_report_error_total", "counter", ""),
    ("mox_tlsrptsend_report_queued_total", "counter", ""),
    ("mox_webapi_duration_seconds", "histogram", "method"),
    ("mox_webapi_errors_total", "counter", "error"),
    ("mox_webapi_results_total", "counter", "method result"),
    ("mox_webapi_submission_total", "counter", "result"),
    ("mox_webhook_request_duration_seconds", "histogram", ""),
    ("mox_webhook_results_total", "counter", "code"),
    ("process_cpu_seconds_total", "counter", ""),
    ("process_max_fds", "gauge", ""),
    ("process_open_fds", "gauge", ""),
    ("process_resident_memory_bytes", "gauge", ""),
    ("process_start_time_seconds", "gauge", ""),
    ("process_virtual_memory_bytes", "gauge", ""),
    ("process_virtual_memory_max_bytes", "gauge", ""),
    ("promhttp_metric_handler_requests_in_flight", "gauge", ""),
    ("promhttp_metric_handler_requests_total", "counter", "code"),
];

/// Upper bounds of the buckets of histograms, as recording rules name them.
const SHORT: &str = "0.001 0.005 0.01 0.05 0.1 0.5 1 5 10 20";
const COARSE: &str = "0.01 0.05 0.1 0.5 1 5 10 20";

fn bounds(name: &str) -> String {
    match name {
        "mox_dns_lookup_duration_seconds" | "mox_iprev_lookup_total" | "mox_tlsrpt_lookup_duration_seconds" => format!("{SHORT} 30"),
        "mox_httpserver_request_duration_seconds"
        | "mox_httpserver_response_duration_seconds"
        | "mox_smtpclient_command_duration_seconds"
        | "mox_smtpserver_command_duration_seconds" => format!("{SHORT} 30 60 120"),
        "mox_mtasts_get_duration_seconds" => COARSE.to_owned(),
        "mox_httpclient_request_duration_seconds" | "mox_webapi_duration_seconds" | "mox_webhook_request_duration_seconds" => {
            format!("{COARSE} 30")
        }
        "mox_queue_delivery_duration_seconds" => format!("{COARSE} 30 60 120"),
        _ => SHORT.to_owned(),
    }
}

/// One line with a value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A scrape, read as strictly as Prometheus reads it.
pub(crate) struct Scrape {
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
    text: String,
}

impl Scrape {
    /// From an answer to `GET /metrics`.
    #[track_caller]
    pub(crate) fn of_answer(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").expect(answer);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        Self::parse(body)
    }

    #[track_caller]
    fn parse(text: &str) -> Self {
        let mut scrape = Self { types: BTreeMap::new(), samples: Vec::new(), text: text.to_owned() };
        let mut helped = BTreeSet::new();
        assert!(text.ends_with('\n'), "the last line has no end");
        for line in text.lines() {
            if let Some(about) = line.strip_prefix("# HELP ") {
                let (name, help) = about.split_once(' ').expect(line);
                assert!(helped.insert(name.to_owned()), "twice: {line}");
                assert!(!help.is_empty() && !help.ends_with("..") && help.trim() == help, "{line}");
            } else if let Some(about) = line.strip_prefix("# TYPE ") {
                let (name, kind) = about.split_once(' ').expect(line);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(scrape.types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            } else {
                scrape.samples.push(sample(line).unwrap_or_else(|| panic!("not a sample: {line}")));
            }
        }
        for name in scrape.types.keys() {
            assert!(helped.contains(name), "{name} isn't described");
        }
        scrape
    }

    /// The metric that a sample belongs to.
    fn metric<'a>(&self, sample: &'a Sample) -> &'a str {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| sample.name.strip_suffix(end));
        of_histogram.filter(|name| self.types.get(*name).is_some_and(|kind| kind == "histogram")).unwrap_or(&sample.name)
    }

    /// Checks names, types, labels and buckets against [`METRICS`].
    #[track_caller]
    pub(crate) fn check(&self) {
        let known: BTreeMap<&str, (&str, &str)> = METRICS.iter().map(|(name, kind, labels)| (*name, (*kind, *labels))).collect();
        let mut wrong = Vec::new();
        for (name, (kind, labels)) in &known {
            match self.types.get(*name) {
                // Of what has labels there is nothing to see before the first event, as in mox in Go.
                None if !labels.is_empty() => {}
                None => wrong.push(format!("{name} is missing")),
                Some(found) if found != kind => wrong.push(format!("{name} is a {found}, not a {kind}")),
                Some(_) => {}
            }
        }
        let mut buckets: BTreeMap<(String, String), Vec<(String, f64)>> = BTreeMap::new();
        for sample in &self.samples {
            let name = self.metric(sample);
            if !self.types.contains_key(name) {
                wrong.push(format!("{} has no type", sample.name));
            }
            let le = sample.labels.get("le");
            let labels: Vec<&str> = sample.labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            if let Some((_, want)) = known.get(name)
                && labels.join(" ") != *want
            {
                wrong.push(format!("{} has the labels {labels:?}, not {want:?}", sample.name));
            }
            if let Some(le) = le {
                let others: Vec<String> = sample.labels.iter().filter(|(k, _)| *k != "le").map(|(k, v)| format!("{k}={v}")).collect();
                buckets.entry((name.to_owned(), others.join(","))).or_default().push((le.clone(), sample.value));
            }
        }
        for ((name, labels), found) in buckets {
            let edges: Vec<&str> = found.iter().map(|(le, _)| le.as_str()).collect();
            if known.contains_key(name.as_str()) && edges.join(" ") != bounds(&name) + " +Inf" {
                wrong.push(format!("{name} has the buckets {edges:?}"));
            }
            if !found.is_sorted_by(|a, b| a.1 <= b.1) {
                wrong.push(format!("{name}{{{labels}}} isn't cumulative"));
            }
        }
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), self.text);
    }

    /// The sum of the samples of a name that have all of these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample| labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value));
        self.samples.iter().filter(|sample| sample.name == name && has(sample)).map(|sample| sample.value).sum()
    }

    /// Those of these that nothing was counted of: a name, and labels as `label=value`.
    pub(crate) fn missing<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        let counted = |wanted: &&&str| {
            let mut words = wanted.split(' ');
            let name = words.next().unwrap_or_default();
            let labels: Vec<(&str, &str)> = words.map(|word| word.split_once('=').unwrap()).collect();
            self.value(name, &labels) > 0.0
        };
        wanted.iter().filter(|wanted| !counted(wanted)).copied().collect()
    }
}

/// `name{label="value",…} number`, with escapes in values.
fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        while !inside.starts_with('}') {
            let (label, after) = inside.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        _ => return None,
                    }),
                    (_, c) => value.push(c),
                }
            };
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            let after = &after[end + 1..];
            inside = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &inside[1..];
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    is_name(name).then(|| Sample { name: name.to_owned(), labels, value })
}

pub(crate) const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn scrape(mox: &Mox) -> Scrape {
    let mut stream = TcpStream::connect(("127.0.0.1", mox.port(Service::Metrics))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(GET.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Scrape::of_answer(&answer)
}

#[track_caller]
fn await_counted(mox: &Mox, wanted: &[&str]) -> Scrape {
    let mut last = scrape(mox);
    let counted = wait_until(PATIENCE, || {
        last = scrape(mox);
        last.missing(wanted).is_empty()
    });
    assert!(counted, "nothing was counted of {:#?} in\n{}", last.missing(wanted), last.text);
    last
}

#[test]
fn all_are_there_from_the_start() {
    for mox in [start(), Mox::serve_with(Path::new(BINARY), |_| Ok(())).unwrap()] {
        let scrape = scrape(&mox);
        scrape.check();
        // Series that alerts watch for an increase are there before the first event.
        for pkg in ["ctl", "import", "serve", "imapserver", "mtastsdb", "queue", "smtpclient", "smtpserver", "dkimverify", "spfverify"] {
            let line = format!("mox_panic_total{{pkg=\"{pkg}\"}} 0");
            assert!(scrape.text.lines().any(|l| l == line), "{line}");
        }
        assert_eq!(scrape.value("promhttp_metric_handler_requests_in_flight", &[]), 1.0);
        assert_eq!(scrape.value("mox_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    }
}

#[test]
fn what_happens_is_counted() {
    let mox = start();
    // Mail from the world, to somebody and to nobody, in the clear and with TLS.
    assert_eq!(smtp(&mox).send("x@example.org", &["mox@localhost"], &message("incoming")).unwrap().code, 250);
    assert_eq!(smtp(&mox).send("x@example.org", &["x550@example.org"], &message("refused")).unwrap().code, 550);
    let mut client = smtp(&mox);
    client.command("EHLO x.example").unwrap();
    assert_eq!(client.command("XYZZY \"\\").unwrap().code, 500);
    // Mail from the user, which goes out over the queue and comes in again.
    let mut client = SmtpClient::smtp(mox.port(Service::Submission)).unwrap();
    assert!(client.login(Mox::USER, "wrong password").is_err());
    assert!(submission(&mox).send("mox@localhost", &["mox@localhost"], &message("submitted")).unwrap().is_ok());
    assert!(!submission(&mox).send("mox@localhost", &["y@example.org"], b"From: <z@example.org>\r\n\r\n").unwrap().is_ok());
    assert_eq!(call(&mox, "Send", r#"{"To":[{"Address":"mox@localhost"}],"Subject":"s","Text":"t"}"#).status, 200);
    assert_eq!(call(&mox, "Send", r#"{"From":[{"Address":"z@example.org"}],"To":[{"Address":"mox@localhost"}],"Text":"t"}"#).status, 400);
    // Some of it waits.
    assert!(mox.command(&["queue", "holdrules", "add", "-recipientdom", "held.example"]).unwrap().status.success());
    assert_eq!(call(&mox, "Send", r#"{"To":[{"Address":"x@held.example"}],"Subject":"s","Text":"t"}"#).status, 200);
    // Reading.
    let mut reader = imap(&mox);
    await_messages(&mut reader, "Inbox", 3);
    assert!(reader.ok("FETCH 0 FLAGS").is_err());
    assert!(ImapClient::login(mox.port(Service::Imap), Mox::USER, "wrong password").is_err());
    // A login is recorded with what the client says it is, or without when it goes.
    drop(reader);
    let _open = imap(&mox);
    await_counted(
        &mox,
        &[
            "mox_authentication_total kind=imap variant=login result=badpassword",
            "mox_authentication_total kind=imap variant=login result=ok",
            "mox_authentication_total kind=submission result=badpassword",
            "mox_authentication_total kind=submission result=ok",
            "mox_authentication_total kind=webapi variant=httpbasic result=ok",
            "mox_connections_count protocol=imap listener=local",
            "mox_dkim_sign_total key=ed25519",
            "mox_httpserver_request_duration_seconds_count handler=webapi proto=http method=post code=200",
            "mox_httpserver_response_duration_seconds_count handler=webapi proto=http method=post code=400",
            "mox_imap_command_duration_seconds_count cmd=select result=ok",
            "mox_imap_command_duration_seconds_count result=badsyntax",
            "mox_imap_connection_total service=imap",
            "mox_iprev_lookup_total_count",
            "mox_logging_level_info_total",
            "mox_queue_connection_total result=ok",
            "mox_queue_delivery_duration_seconds_count attempt=1 result=ok",
            "mox_queue_hold",
            "mox_smtpclient_command_duration_seconds_count cmd=mailfrom code=250 secode=1.0",
            "mox_smtpclient_command_duration_seconds_count cmd=(greeting) code=220",
            "mox_smtpclient_command_duration_seconds_count cmd=quit code=221",
            "mox_smtpserver_command_duration_seconds_count kind=smtp cmd=mail code=250",
            "mox_smtpserver_command_duration_seconds_count kind=submission cmd=auth code=235",
            "mox_smtpserver_connection_total kind=smtp",
            "mox_smtpserver_connection_total kind=submission",
            "mox_smtpserver_delivery_total result=delivered",
            "mox_smtpserver_submission_total result=badfrom",
            "mox_smtpserver_submission_total result=ok",
            "mox_spf_verify_duration_seconds_count",
            "mox_tls_certificate_expiry_timestamp_seconds",
            "mox_webapi_duration_seconds_count method=Send",
            "mox_webapi_results_total method=Send result=badFrom",
            "mox_webapi_results_total method=Send result=ok",
            "mox_webapi_submission_total result=badfrom",
            "mox_webapi_submission_total result=ok",
            "process_open_fds",
            "promhttp_metric_handler_requests_total code=200",
        ],
    )
    .check();
}

#[test]
fn handshakes_of_incoming_mail_are_counted() {
    let Some(openssl) = require_program("openssl") else { return };
    let mox = start();
    let mut command = std::process::Command::new(openssl);
    command.args(["s_client", "-starttls", "smtp", "-connect", &format!("127.0.0.1:{}", mox.port(Service::Smtp))]);
    let shown = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("BEGIN CERTIFICATE"));
    // And one that isn't.
    let mut client = smtp(&mox);
    client.command("EHLO x.example").unwrap();
    assert_eq!(client.command("STARTTLS").unwrap().code, 220);
    client.write(b"EHLO still here\r\n").unwrap();
    await_counted(&mox, &["mox_smtpserver_delivery_starttls_total", "mox_smtpserver_delivery_starttls_errors_total"]).check();
}
