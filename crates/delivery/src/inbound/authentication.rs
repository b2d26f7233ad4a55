//! What was verified about an incoming message, and what is kept and told of it.

use super::{Acceptance, Incoming};
use mox_base::Domain;
use mox_mailauth::arc::ArcOutcome;
use mox_mailauth::dkim::DkimOutcome;
use mox_mailauth::dmarc::{DmarcOutcome, Findings, Validation, validation};
use mox_mailauth::results::dmarc_method;
use mox_mailauth::spf::{Identity, SpfOutcome, SpfResult};
use mox_message::compose::{AuthMethod, AuthResults};
use mox_store::Delivery;

/// Results of SPF, DKIM, DMARC and the like.
#[derive(Clone, Debug, Default)]
pub struct Authentication {
    /// All but DMARC, as they are written down; if empty, nothing is.
    pub methods: Vec<AuthMethod>,
    /// SPF, if it was checked.
    pub spf: Option<SpfOutcome>,
    /// Each signature.
    pub dkim: Vec<DkimOutcome>,
    /// What earlier handlers found, if it was checked.
    pub arc: Option<ArcOutcome>,
    /// DMARC, if the message has one author.
    pub dmarc: Option<DmarcOutcome>,
}

impl Authentication {
    /// The domains that vouch for the message: by SPF, or by signature. Each once.
    pub fn verified_domains(&self) -> Vec<Domain> {
        let spf = self.spf.as_ref().filter(|spf| spf.result == SpfResult::Pass && spf.identity == Identity::MailFrom);
        let mut domains: Vec<Domain> = Vec::new();
        for domain in spf.and_then(|spf| spf.domain.as_ref()).into_iter().chain(self.dkim.iter().filter_map(DkimOutcome::verified_domain)) {
            if !domains.contains(domain) {
                domains.push(domain.clone());
            }
        }
        domains
    }

    /// How surely the message is from the domain in its From.
    pub fn from_validation(&self, from: Option<&Domain>) -> Validation {
        match (from, &self.dmarc) {
            (Some(from), Some(dmarc)) => validation(&Findings { from, spf: self.spf.as_ref(), dkim: &self.dkim }, dmarc.result),
            _ => Validation::None,
        }
    }

    /// `Authentication-Results` for an account that gets the message: why DMARC's policy wasn't applied depends on its rules.
    pub(super) fn field(&self, incoming: &Incoming, how: &Acceptance) -> String {
        if self.methods.is_empty() {
            return String::new();
        }
        let with_record = self.dmarc.as_ref().filter(|dmarc| dmarc.record.is_some());
        let sampled_out = with_record.is_some_and(|dmarc| !dmarc.apply);
        let tested = with_record.is_some_and(|dmarc| dmarc.apply && dmarc.disposition() != dmarc.policy);
        let reasons =
            [(how.is_list, "mailing_list"), (how.is_forward, "forwarded"), (sampled_out, "sampled_out"), (tested, "policy_test_mode")];
        let overrides: Vec<&str> = reasons.iter().filter(|(holds, _)| *holds && with_record.is_some()).map(|(_, name)| *name).collect();
        let from = incoming.msg_from.as_ref().map(|from| &from.domain);
        let dmarc = dmarc_method(self.dmarc.as_ref().zip(from), &overrides, incoming.smtputf8);
        let hostname = incoming.directory.hostname();
        let comment = if incoming.smtputf8 && hostname.is_internationalized() { hostname.ascii().to_owned() } else { String::new() };
        let mut methods = self.methods.clone();
        methods.push(dmarc);
        AuthResults { hostname: hostname.for_smtputf8(incoming.smtputf8).to_owned(), comment, methods }.to_field()
    }

    /// What is stored with the message, for reputation and rules.
    pub(super) fn keep(&self, incoming: &Incoming, how: &Acceptance, delivery: &mut Delivery) {
        if let Some(spf) = &self.spf {
            let result = Some(spf_code(spf.result));
            match spf.identity {
                Identity::MailFrom => delivery.mail_from_validation = result,
                // Of forwarded mail, the forwarder's name tells nothing about the sender.
                Identity::Helo if how.is_forward => {}
                Identity::Helo => delivery.ehlo_validation = result,
            }
        }
        delivery.msg_from_validation =
            self.dmarc.as_ref().map(|_| match self.from_validation(incoming.msg_from.as_ref().map(|from| &from.domain)) {
                Validation::Strict => 1,
                Validation::Dmarc => 2,
                Validation::Relaxed => 3,
                Validation::None => 10,
            });
        let mut domains: Vec<String> = Vec::new();
        for domain in self.dkim.iter().filter_map(DkimOutcome::verified_domain) {
            let name = domain.unicode().to_owned();
            if !domains.contains(&name) {
                domains.push(name);
            }
        }
        delivery.dkim_domains = domains;
    }
}

const fn spf_code(result: SpfResult) -> u8 {
    match result {
        SpfResult::Pass => 4,
        SpfResult::Neutral => 5,
        SpfResult::Temperror => 6,
        SpfResult::Permerror => 7,
        SpfResult::Fail => 8,
        SpfResult::Softfail => 9,
        SpfResult::None => 10,
    }
}
