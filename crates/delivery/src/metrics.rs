//! What the queue counts, under the names that dashboards know.

use mox_smtp::Enhanced;
use mox_smtp::client::Replied;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

const BUCKETS: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0];

const COMMAND_BUCKETS: [f64; 13] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0];

/// Labels of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    /// `ok`, `timeout`, `canceled`, `error`.
    pub result: &'static str,
}

/// Labels of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeliveryLabels {
    /// The number of the attempt.
    pub attempt: u32,
    /// The transport's name, empty for the default.
    pub transport: String,
    /// `immediate`, `requiredstarttls`, `opportunistic`, `skip`; with `+mtasts` and `+dane` where these policies say so.
    pub tlsmode: &'static str,
    /// `ok`, `okpartial`, `timeout`, `canceled`, `temperror`, `permerror`, `error`.
    pub result: &'static str,
}

/// Labels of a command to another server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommandLabels {
    /// `ehlo`, `mailfrom`, …; `(greeting)` before any.
    pub cmd: &'static str,
    /// The code of the reply, or its class as in `500` for a code that nobody knows.
    pub code: u16,
    /// The enhanced code without its class, if it is one of those that are usual; others make what they like of it.
    pub secode: String,
}

/// How long commands to other servers take.
pub type Commands = Family<CommandLabels, Histogram, fn() -> Histogram>;

/// Labels of REQUIRETLS that couldn't be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequireTlsLabels {
    /// `nopolicy`, `norequiretls`.
    pub reason: &'static str,
}

/// Labels of what `TLS-Required: No` made us ignore.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IgnoredLabels {
    /// `mtastspolicy`, `mtastsmx`, `badtls`, `badtlsa`, `daneverification`.
    pub ignored: &'static str,
}

/// Labels of signatures.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SignLabels {
    /// `rsa`, `ed25519`.
    pub key: &'static str,
}

/// What the queue counts. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Connections made.
    pub connection: Family<ConnectionLabels, Counter>,
    /// How long attempts took.
    pub duration: Family<DeliveryLabels, Histogram>,
    /// How long commands to other servers took, until their replies.
    pub commands: Commands,
    /// Entries on hold.
    pub hold: Gauge,
    /// Hosts whose addresses were looked up.
    pub destinations: Counter,
    /// Those with authentic answers.
    pub destinations_authentic: Counter,
    /// REQUIRETLS that couldn't be had.
    pub requiretls_unsupported: Family<RequireTlsLabels, Counter>,
    /// Connections repeated without TLS.
    pub plaintext_fallback: Counter,
    /// Refusals because of the address we connected from.
    pub source_refused: Counter,
    /// Hosts with TLSA records.
    pub dane_required: Counter,
    /// Those of which none can be used.
    pub dane_unverified: Counter,
    /// TLSA records that couldn't be looked up.
    pub dane_gather_errors: Counter,
    /// Certificates compared with TLSA records.
    pub dane_verify: Counter,
    /// Those that matched none.
    pub dane_verify_errors: Counter,
    /// Policies ignored because of `TLS-Required: No`.
    pub tls_required_no: Family<IgnoredLabels, Counter>,
    /// Certificates ignored because of `TLS-Required: No`.
    pub client_tls_required_no: Family<IgnoredLabels, Counter>,
    /// DMARC reports that weren't delivered.
    pub dmarc_report_failure: Counter,
    /// DKIM signatures made.
    pub signed: Family<SignLabels, Counter>,
    /// Pauses of destinations that don't want any of our addresses.
    pub blocked: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connection: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            commands: Family::new_with_constructor(|| Histogram::new(COMMAND_BUCKETS)),
            hold: Gauge::default(),
            destinations: Counter::default(),
            destinations_authentic: Counter::default(),
            requiretls_unsupported: Family::default(),
            plaintext_fallback: Counter::default(),
            source_refused: Counter::default(),
            dane_required: Counter::default(),
            dane_unverified: Counter::default(),
            dane_gather_errors: Counter::default(),
            dane_verify: Counter::default(),
            dane_verify_errors: Counter::default(),
            tls_required_no: Family::default(),
            client_tls_required_no: Family::default(),
            dmarc_report_failure: Counter::default(),
            signed: Family::default(),
            blocked: Counter::default(),
        }
    }
}

impl Metrics {
    /// Makes a registry show them. The registry appends `_total` to counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mox_queue_connection", "Connections to next hops, by result", self.connection.clone());
        registry.register("mox_queue_delivery_duration_seconds", "Duration of delivery attempts", self.duration.clone());
        registry.register("mox_smtpclient_command_duration_seconds", "Commands to other servers and their duration", self.commands.clone());
        registry.register("mox_queue_hold", "Entries of the queue on hold", self.hold.clone());
        registry.register("mox_queue_destinations", "Lookups of hosts", self.destinations.clone());
        registry.register(
            "mox_queue_destinations_authentic",
            "Lookups of hosts with authentic answers",
            self.destinations_authentic.clone(),
        );
        registry.register(
            "mox_queue_requiretls_unsupported",
            "Attempts that needed REQUIRETLS and could not have it",
            self.requiretls_unsupported.clone(),
        );
        registry.register(
            "mox_queue_plaintext_fallback",
            "Connections repeated without TLS after it failed",
            self.plaintext_fallback.clone(),
        );
        for (name, help, counter) in [
            ("mox_queue_source_refused", "Refusals because the address we connected from is in a block list", &self.source_refused),
            ("mox_queue_destination_dane_required", "Hosts with TLSA records", &self.dane_required),
            ("mox_queue_destination_dane_starttlsunverified", "Hosts with TLSA records that cannot be used", &self.dane_unverified),
            ("mox_queue_destination_dane_gathertlsa_errors", "Failed lookups of TLSA records", &self.dane_gather_errors),
            ("mox_dane_verify", "Certificates compared with TLSA records", &self.dane_verify),
            ("mox_dane_verify_errors", "Certificates that match no TLSA record", &self.dane_verify_errors),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "mox_queue_tlsrequiredno_ignored",
            "Policies that were ignored because the message says TLS-Required: No",
            self.tls_required_no.clone(),
        );
        registry.register(
            "mox_smtpclient_tlsrequiredno_ignored",
            "Certificates that were accepted because the message says TLS-Required: No",
            self.client_tls_required_no.clone(),
        );
        registry.register("mox_dkim_sign", "DKIM signatures made, by kind of key", self.signed.clone());
        registry.register(
            "mox_queue_blocked",
            "Destinations left alone because they say that the address we connect from is in a block list",
            self.blocked.clone(),
        );
        registry.register("mox_queue_dmarcreport_failure", "DMARC reports that could not be delivered", self.dmarc_report_failure.clone());
    }

    pub(crate) fn connected(&self, result: &'static str) {
        self.connection.get_or_create(&ConnectionLabels { result }).inc();
    }
}

/// The highest detail of each subject that is registered, RFC 3463 §3 and RFC 5248.
const DETAILS: [u16; 8] = [0, 10, 4, 5, 7, 6, 10, 30];

/// Codes that servers use, RFC 5321 §4.2 and its extensions.
const CODES: [u16; 37] = [
    211, 214, 220, 221, 235, 250, 251, 252, 334, 354, 421, 430, 432, 450, 451, 452, 454, 455, 500, 501, 502, 503, 504, 521, 523, 530, 534,
    535, 538, 541, 550, 551, 552, 553, 554, 555, 556,
];

/// Counts the replies to commands that were sent at some time.
pub(crate) fn answered(commands: &Commands, replies: Vec<Replied>, took: Duration) {
    for replied in replies {
        let usual =
            replied.enhanced.filter(|Enhanced(_, subject, detail)| DETAILS.get(usize::from(*subject)).is_some_and(|most| detail <= most));
        let secode = usual.map(Enhanced::without_class).unwrap_or_default();
        let code = if CODES.contains(&replied.code) { replied.code } else { replied.code / 100 * 100 };
        let labels = CommandLabels { cmd: replied.stage.name(), code, secode };
        commands.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_smtp::client::Stage;

    /// Another server chooses its codes, but not how much memory we need for them.
    #[test]
    fn codes_of_others_have_bounds() {
        let commands = Metrics::default().commands;
        for n in 0..1000 {
            let (code, enhanced) = (500 + n % 100, Some(Enhanced(5, n, n)));
            answered(&commands, vec![Replied { stage: Stage::Rcpt, code, enhanced }], Duration::from_millis(3));
            answered(&commands, vec![Replied { stage: Stage::Data, code: 550, enhanced }], Duration::from_millis(3));
        }
        let mut registry = Registry::default();
        registry.register("mox_x", "x", commands);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let kinds: Vec<&str> = text.lines().filter(|l| l.starts_with("mox_x_count")).collect();
        assert!(kinds.len() < 40, "{text}");
        for (cmd, code, secode, count) in
            [("data", 550, "7.7", 1), ("data", 550, "", 992), ("rcptto", 521, "", 10), ("rcptto", 504, "4.4", 1)]
        {
            let want = format!("mox_x_count{{cmd=\"{cmd}\",code=\"{code}\",secode=\"{secode}\"}} {count}");
            assert!(kinds.contains(&want.as_str()), "{want} in {kinds:?}");
        }
    }
}
