//! The fields that say how a message came here: `Received`, and `Authentication-Results` with what is known so far.

use crate::connection::Connection;
use crate::dns::Iprev;
use mox_base::Path;
use mox_mailauth::results::dnssec_remark;
use mox_message::compose::{AuthMethod, AuthProperty, AuthResults, Received, ReceivedFrom, ReceivedProtocol, ReceivedTls};
use mox_smtp::server::Envelope;

impl Connection {
    /// `Received`; `recipient` where there is one that may be shown.
    pub(crate) fn received_field(&self, envelope: &Envelope, smtputf8: bool, recipient: Option<&Path>) -> String {
        let tls = self.stream.tls();
        let reverse = self.iprev.as_ref().and_then(|iprev| iprev.name.as_deref()).map(clean);
        let from = if self.is_submission() {
            ReceivedFrom::Submission
        } else {
            ReceivedFrom::Client { helo: &envelope.hello.name, ip: self.remote_ip(), reverse: reverse.as_deref() }
        };
        Received {
            from,
            by: &self.service.settings.hostname,
            by_ip: Some(self.stream.local_addr().ip()),
            protocol: ReceivedProtocol {
                extended: envelope.hello.extended,
                smtputf8,
                tls: tls.is_some(),
                authenticated: self.login.is_some(),
            },
            require_tls: envelope.mail.parameters.requiretls,
            id: &self.id,
            tls: tls.map(|tls| ReceivedTls { version: tls.version, suite: &tls.cipher, group: &tls.group }),
            recipient,
            priority: envelope.mail.parameters.priority,
            date: self.service.clock.now(),
        }
        .to_field()
    }

    fn results(&self, smtputf8: bool, methods: Vec<AuthMethod>) -> String {
        let hostname = &self.service.settings.hostname;
        let comment = if smtputf8 && hostname.is_internationalized() { hostname.ascii().to_owned() } else { String::new() };
        AuthResults { hostname: hostname.for_smtputf8(smtputf8).to_owned(), comment, methods }.to_field()
    }

    /// What the reverse lookup of the client found.
    pub(crate) fn iprev_method(&self, iprev: &Iprev) -> AuthMethod {
        AuthMethod {
            method: "iprev".to_owned(),
            result: iprev.result.name().to_owned(),
            comment: dnssec_remark(iprev.authentic).to_owned(),
            properties: vec![AuthProperty::new("policy", "iprev", &self.remote_ip().to_string())],
            ..AuthMethod::default()
        }
    }

    /// What was verified about a submitted message: who sent it.
    pub(crate) fn submission_results(&self, mail_from: Option<&Path>, smtputf8: bool) -> String {
        let from = mail_from.map(|path| path.for_smtputf8(smtputf8)).unwrap_or_default();
        let method = AuthMethod {
            method: "auth".to_owned(),
            result: "pass".to_owned(),
            properties: vec![AuthProperty::address("smtp", "mailfrom", &from)],
            ..AuthMethod::default()
        };
        self.results(smtputf8, vec![method])
    }
}

/// A name from DNS can hold anything.
fn clean(name: &str) -> String {
    let name = name.trim_end_matches('.');
    name.chars().filter(|c| c.is_ascii_graphic() && !"()\\<>\";".contains(*c)).take(255).collect()
}

/// IANA's numbers of the version and cipher suite, as the store keeps them.
pub(crate) fn tls_numbers(tls: &mox_net::TlsInfo) -> (u16, u16) {
    let version = if tls.version == "TLS1.3" { 0x0304 } else { 0x0303 };
    let suite = match tls.cipher.as_str() {
        "TLS_AES_128_GCM_SHA256" => 0x1301,
        "TLS_AES_256_GCM_SHA384" => 0x1302,
        "TLS_CHACHA20_POLY1305_SHA256" => 0x1303,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => 0xc02b,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => 0xc02c,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => 0xc02f,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => 0xc030,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => 0xcca8,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => 0xcca9,
        // Others aren't spoken by our TLS.
        _ => 0,
    };
    (version, suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_dns_are_cleaned() {
        assert_eq!(clean("mail.x.example."), "mail.x.example");
        assert_eq!(clean("evil) by (x.example\r\nX: y"), "evilbyx.exampleX:y");
    }
}
