//! Reports to other domains, whatever they are about: who signs them, how they are queued, and addresses that don't take them.
//!
//! Loops are impossible: mail to addresses for reports is no reason for a report (`dmarc`), its delivery is no reason for one (`tls`),
//! nobody is sent a DSN about a report, and each says that it is written by software. An address to which a report couldn't be delivered
//! gets none for some time ([`DeadAddresses`]).

use crate::signing::SharedSelectors;
use crate::spool::Spool;
use crate::submit::{Submission, SubmissionRecipient, SubmitError, Submitter, UniqueSender};
use mox_base::{Address, Clock, Domain, Path, Random, Timestamp};
use mox_message::compose::Composed;
use mox_smtp::grammar::RcptParameters;
use mox_store::directory::{POSTMASTER_SEPARATOR, SharedDirectory};
use mox_store::dmarc::DmarcStore;
use mox_store::queue::ReportKind;
use mox_store::reports::{ReportSuppressions, SuppressedAddress};
use mox_store::tls::TlsStore;
use std::sync::Arc;
use std::time::Duration;

/// How long an address gets no reports that refused one.
const REFUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long an address gets no reports whose host couldn't be reached, or didn't take one for now, again and again.
const UNREACHABLE: Duration = Duration::from_secs(3 * 24 * 3600);

/// How long reports of others are kept.
pub const KEEP_RECEIVED: Duration = Duration::from_secs(400 * 24 * 3600);

/// Who sends reports.
#[derive(Clone, Debug)]
pub struct ReportSettings {
    /// Our name.
    pub hostname: Domain,
    /// The account that they are queued for: the postmaster's.
    pub account: String,
    /// `mox/<version>`.
    pub user_agent: String,
}

/// What [`Reporter`] works with.
#[derive(Clone, Debug)]
pub struct ReporterParts {
    /// The way into the queue.
    pub submitter: Submitter,
    /// Which domains are ours.
    pub directory: SharedDirectory,
    /// How they sign.
    pub selectors: SharedSelectors,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
}

/// Puts reports into the queue. Clones are the same.
#[derive(Clone, Debug)]
pub struct Reporter {
    pub(crate) parts: ReporterParts,
    pub(crate) settings: ReportSettings,
}

/// A domain that signs reports.
#[derive(Clone, Debug)]
pub(crate) struct ReportSigner {
    pub(crate) domain: Domain,
}

/// Why there is no report now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Store(#[from] mox_store::Error),
    #[error("composing: {0}")]
    Compose(String),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// A report in its message.
pub(crate) struct Outgoing<'a> {
    pub(crate) kind: ReportKind,
    pub(crate) from: Address,
    pub(crate) to: &'a [Address],
    /// Without brackets.
    pub(crate) message_id: String,
    pub(crate) subject: String,
    pub(crate) composed: Composed,
    pub(crate) signer: Option<&'a ReportSigner>,
    pub(crate) require_tls: Option<bool>,
}

impl Reporter {
    /// With what it needs.
    pub const fn new(parts: ReporterParts, settings: ReportSettings) -> Self {
        Self { parts, settings }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// The nearest domain at or above our name that is ours, if it signs.
    pub(crate) fn signer(&self) -> Option<ReportSigner> {
        let directory = self.parts.directory.current();
        let mut name = Some(self.settings.hostname.ascii());
        while let Some(text) = name {
            if let Ok(domain) = Domain::parse_lax(text)
                && let Some(settings) = directory.domain(&domain)
            {
                self.parts.selectors.of(&domain).filter(|_| !settings.disabled)?;
                return Some(ReportSigner { domain });
            }
            name = text.split_once('.').map(|(_, parent)| parent);
        }
        None
    }

    /// A new Message-ID, without brackets.
    pub(crate) fn message_id(&self, domain: &Domain) -> String {
        format!("{:016x}{:016x}@{}", self.parts.random.u64(), self.parts.random.u64(), domain.ascii())
    }

    /// `postmaster@` a domain.
    pub(crate) fn postmaster(domain: &Domain) -> Result<Address, SendError> {
        format!("postmaster@{}", domain.ascii()).parse().map_err(|_| SendError::Compose("no address of ours".to_owned()))
    }

    /// Queues a report, to be signed when it is sent; how many entries the queue has for it.
    pub(crate) async fn queue(&self, outgoing: Outgoing<'_>) -> Result<usize, SendError> {
        let Outgoing { kind, from, to, message_id, subject, composed, signer, require_tls } = outgoing;
        let message = Spool::from(composed.bytes);
        let recipients = to.iter().map(|a| SubmissionRecipient { path: Path::from(a.clone()), parameters: RcptParameters::default() });
        let submission = Submission {
            // What comes back says by its address which report it is about, whatever else it leaves out.
            unique_sender: Some(UniqueSender::Generate { separator: POSTMASTER_SEPARATOR.to_owned() }),
            has_8bit: composed.eight_bit,
            // An address decides it, whatever the header needed.
            smtputf8: composed.smtputf8 || to.iter().any(Address::needs_smtputf8),
            require_tls,
            // By these, a bounce finds its report.
            envelope_id: Some(message_id.clone()),
            message_id: format!("<{message_id}>"),
            subject,
            sign_domain: signer.map(|signer| signer.domain.clone()),
            ..Submission::new(self.settings.account.clone(), Some(Path::from(from)), recipients.collect(), message)
        };
        Ok(self.parts.submitter.submit_report(submission, kind).await?.len())
    }

    /// Those of some addresses that take reports, as far as we know.
    pub(crate) async fn alive(&self, list: &ReportSuppressions, addresses: Vec<Address>) -> Result<Vec<Address>, mox_store::Error> {
        let dead = list.among(addresses.iter().map(ToString::to_string).collect(), self.now()).await?;
        Ok(addresses.into_iter().filter(|address| !dead.contains(&address.to_string())).collect())
    }
}

/// Remembers addresses to which reports couldn't be delivered. Clones are the same.
#[derive(Clone, Debug)]
pub struct DeadAddresses {
    dmarc: ReportSuppressions,
    tls: ReportSuppressions,
    clock: Arc<dyn Clock>,
}

impl DeadAddresses {
    /// On the lists of these stores.
    pub fn new(dmarc: &DmarcStore, tls: &TlsStore, clock: Arc<dyn Clock>) -> Self {
        Self { dmarc: dmarc.suppressions(), tls: tls.suppressions(), clock }
    }

    /// Notes that a report couldn't be delivered; nothing if it wasn't one. `refused`: trying again can't help.
    pub(crate) async fn note(&self, kind: ReportKind, recipient: &Path, refused: bool, why: &str) {
        let list = match kind {
            ReportKind::None => return,
            ReportKind::Dmarc => &self.dmarc,
            ReportKind::Tls => &self.tls,
        };
        let now = self.clock.now();
        let until = now.after(if refused { REFUSED } else { UNREACHABLE });
        let comment: String = format!("report not delivered: {why}").chars().filter(|c| !c.is_control()).take(200).collect();
        let address = recipient.to_string();
        tracing::info!(address, ?kind, until = until.rfc3339(), "no reports to this address for some time");
        if let Err(error) = list.add(SuppressedAddress { address, inserted: now, until, comment }).await {
            tracing::error!(%error, "noting an address that takes no reports");
        }
    }
}
