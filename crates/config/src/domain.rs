//! Domains in `domains.conf`: DKIM, policies, reports, aliases.

use crate::choice::choices;
use crate::dynamic::Route;
use crate::schema::Section;
use crate::text::{DurationText, MxPattern};
use crate::value::{AsciiLocalpart, MailboxName, UnicodeDomain};
use mox_base::{Address, Domain, Localpart};
use std::collections::BTreeMap;
use std::time::Duration;

/// A domain for which mail is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct DomainConfig {
    /// Don't accept mail for the domain for now, nor send mail from it, nor get certificates for it. Logging in with its
    /// addresses is possible.
    #[config(optional)]
    pub disabled: bool,
    /// Free text.
    #[config(optional)]
    pub description: String,
    /// Host name for the settings of mail clients, e.g. mail.example.org, so that users keep their settings when mail
    /// moves to another machine. It must point to this machine.
    #[config(optional)]
    pub client_settings_domain: Option<Domain>,
    /// Where localparts end for delivery: with + as separator, ann+shop@example.org is delivered to ann@example.org.
    #[config(optional)]
    pub localpart_catchall_separator: String,
    /// As LocalpartCatchallSeparator, for several separators. The first is used to make unique addresses.
    #[config(optional)]
    pub localpart_catchall_separators: Vec<String>,
    /// Upper and lower case of localparts make a difference.
    #[config(optional)]
    pub localpart_case_sensitive: bool,
    /// Signatures under outgoing mail.
    #[config(optional, name = "DKIM")]
    pub dkim: Option<Dkim>,
    /// Where reports about mail from this domain go, see RFC 7489.
    #[config(optional, name = "DMARC")]
    pub dmarc: Option<ReportAddress>,
    /// Policy that tells other servers to deliver with verified TLS, see RFC 8461.
    #[config(optional, name = "MTASTS")]
    pub mtasts: Option<MtaSts>,
    /// Where reports about TLS connections for this domain go, see RFC 8460.
    #[config(optional, name = "TLSRPT")]
    pub tlsrpt: Option<ReportAddress>,
    /// Routes for messages sent from this domain, after those of the account and before the global ones.
    #[config(optional)]
    pub routes: Vec<Route>,
    /// Addresses that deliver to several addresses. The name of an entry is the localpart.
    #[config(optional)]
    pub aliases: BTreeMap<Localpart, Alias>,
}

impl DomainConfig {
    /// The separators, from whichever of the two fields has them.
    pub fn separators(&self) -> Vec<&str> {
        if self.localpart_catchall_separator.is_empty() {
            self.localpart_catchall_separators.iter().map(String::as_str).collect()
        } else {
            vec![&self.localpart_catchall_separator]
        }
    }

    /// The form of a localpart under which addresses of this domain are compared: lower case unless case-sensitive, cut at
    /// a separator, with addresses for reports kept whole.
    pub fn canonical_localpart(&self, localpart: &Localpart) -> Localpart {
        let localpart = self.folded(localpart);
        let separators = self.separators();
        for report in self.report_localparts() {
            let report = self.folded(report);
            let rest = localpart.as_str().strip_prefix(report.as_str());
            if rest.is_some_and(|rest| rest.is_empty() || separators.iter().any(|s| rest.starts_with(s))) {
                return report;
            }
        }
        let mut text = localpart.as_str();
        for separator in separators {
            if let Some((before, _)) = text.split_once(separator) {
                text = before;
            }
        }
        // A part of a valid localpart is valid.
        Localpart::from_decoded(text).unwrap_or(localpart)
    }

    /// A localpart in the case in which addresses of this domain are compared.
    pub fn folded(&self, localpart: &Localpart) -> Localpart {
        if self.localpart_case_sensitive { localpart.clone() } else { localpart.to_lowercase() }
    }

    fn report_localparts(&self) -> impl Iterator<Item = &Localpart> {
        [&self.dmarc, &self.tlsrpt].into_iter().flatten().map(|report| report.localpart())
    }
}

/// Signatures of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Dkim {
    /// Keys, by selector: the key's DNS record is at selector._domainkey.domain.
    pub selectors: BTreeMap<UnicodeDomain, Selector>,
    /// Selectors to sign with. More than one makes more than one signature.
    #[config(optional)]
    pub sign: Vec<UnicodeDomain>,
}

/// A key for signatures.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct Selector {
    /// sha256, the default, or sha1, which is deprecated and not accepted by most.
    #[config(optional)]
    pub hash: Option<DkimHash>,
    /// Which changes on the way a signature survives. Default: none.
    #[config(optional)]
    pub canonicalization: Canonicalization,
    /// Header fields to sign. From must be among them. Default: From, To, Cc, Bcc, Reply-To, References, In-Reply-To,
    /// Subject, Date, Message-Id, Content-Type.
    #[config(optional)]
    pub headers: Vec<String>,
    /// Allow that signed header fields are added later. By default the signature breaks then.
    #[config(optional)]
    pub dont_seal_headers: bool,
    /// How long a signature is valid, e.g. 72h. Default: for ever.
    #[config(optional)]
    pub expiration: Option<DurationText>,
    /// File with the private key in PEM, either RSA of at least 2048 bits or Ed25519. Relative to the directory of mox.conf. RSA
    /// keys from 1024 bits on are read, with a warning, but don't sign: receivers may refuse them.
    pub private_key_file: String,
}

/// The header fields that are signed by default.
pub const DEFAULT_DKIM_HEADERS: [&str; 11] =
    ["From", "To", "Cc", "Bcc", "Reply-To", "References", "In-Reply-To", "Subject", "Date", "Message-Id", "Content-Type"];

impl Selector {
    /// The hash.
    pub fn hash(&self) -> DkimHash {
        self.hash.unwrap_or(DkimHash::Sha256)
    }

    /// The header fields to sign.
    pub fn headers(&self) -> Vec<&str> {
        if self.headers.is_empty() { DEFAULT_DKIM_HEADERS.to_vec() } else { self.headers.iter().map(String::as_str).collect() }
    }

    /// How long a signature is valid.
    pub fn expiration(&self) -> Option<Duration> {
        self.expiration.as_ref().map(DurationText::duration).filter(|d| !d.is_zero())
    }
}

choices! {
    /// The hash of a DKIM signature.
    pub enum DkimHash {
        /// RFC 6376 §3.3.2.
        Sha256 = "sha256",
        /// Forbidden for signers by RFC 8301 §3.1.
        Sha1 = "sha1",
    }
}

/// RFC 6376 §3.4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Section)]
pub struct Canonicalization {
    /// Changes of white space and case of names in the header don't matter.
    pub header_relaxed: bool,
    /// Changes of white space in the body don't matter.
    pub body_relaxed: bool,
}

/// Where reports go.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct ReportAddress {
    /// Localpart of the address, e.g. dmarcreports or tlsreports. ASCII only.
    pub localpart: AsciiLocalpart,
    /// Another of our domains, for reports about this domain. It needs a DNS record that allows that. Default: this domain.
    #[config(optional)]
    pub domain: Option<Domain>,
    /// Account that gets the reports.
    pub account: String,
    /// Mailbox in that account, e.g. DMARC or TLSRPT.
    pub mailbox: MailboxName,
}

impl ReportAddress {
    /// The localpart.
    pub const fn localpart(&self) -> &Localpart {
        self.localpart.localpart()
    }
}

/// Policy for incoming mail.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct MtaSts {
    /// Id of the policy, which must change when the policy changes. Also in the DNS record _mta-sts.
    #[config(name = "PolicyID")]
    pub policy_id: String,
    /// enforce, testing (only report) or none.
    pub mode: MtaStsMode,
    /// How long other servers keep the policy, e.g. 24h while trying, weeks later.
    pub max_age: Duration,
    /// Host names that mail may be delivered to, as in the MX records; *.example.org is any host of it. Default: the
    /// Hostname.
    #[config(optional, name = "MX")]
    pub mx: Vec<MxPattern>,
}

choices! {
    /// RFC 8461 §5.
    pub enum MtaStsMode {
        /// Don't deliver without verified TLS.
        Enforce = "enforce",
        /// Report, but deliver.
        Testing = "testing",
        /// No policy.
        None = "none",
    }
}

/// An address that delivers to several.
#[derive(Clone, Debug, PartialEq, Eq, Section)]
pub struct Alias {
    /// Members: addresses of accounts of this server.
    pub addresses: Vec<Address>,
    /// Anyone may send to it. By default members only, by their verified From address.
    #[config(optional)]
    pub post_public: bool,
    /// Members can see the members.
    #[config(optional)]
    pub list_members: bool,
    /// Members may send with the alias as From address.
    #[config(optional)]
    pub allow_msg_from: bool,
}
