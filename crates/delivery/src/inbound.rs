//! From an SMTP transaction into mailboxes: the one function through which incoming mail passes.
//!
//! `smtpd` has received a message, checked what it can check about the whole of it, and knows for each recipient what the
//! directory says. [`Inbound::deliver`] asks [`InboundDecision`] for each account that would get it, and files what is
//! accepted. When it returns, everything with [`Ok`] is durable and visible; everything else has the reply that says
//! why not. Recipients of one transaction are filed one after the other, each in its account's own transaction, which
//! deliveries of other connections share. Of a list, everybody has the message once, however often its sender has to try
//! again because not all members could get it.

mod authentication;
mod patience;
mod policy;
mod reply;
mod report_limit;
mod reports;
mod rulesets;
mod sealing;
#[cfg(test)]
mod tests;

pub use authentication::Authentication;
pub use patience::Patience;
pub use policy::ByPolicy;
pub use reply::combined_reply;
pub use reports::{ReceivedReports, ReportMetrics};
pub use rulesets::{Chosen, choose};

use self::reports::Processed;
use crate::dmarc::{Evaluations, Fate};
use crate::signing::SharedSelectors;
use crate::spool::Spool;
use crate::webhook::{ArrivalNote, Arrivals};
use mox_base::{Address, Domain, Host, Path, Timestamp};
use mox_mailauth::ReadMessage;
use mox_message::{Headers, Structure};
use mox_smtp::Reply;
use mox_store::directory::{AddressError, Alias, Directory, LocalRecipient, Recipient};
use mox_store::{Append, Delivery, Error, Filing, FilingKey, FilingMark, MailboxName, Message, SpecialUse, Store};
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

/// A message that came over SMTP, and what is known of it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The directory by which recipients were looked up.
    pub directory: Arc<Directory>,
    /// MAIL FROM, none for the null reverse-path.
    pub mail_from: Option<Path>,
    /// What the peer called itself.
    pub ehlo: Host,
    /// The peer.
    pub remote_ip: IpAddr,
    /// When the message was complete.
    pub received: Timestamp,
    /// Whether headers may be in UTF-8.
    pub smtputf8: bool,
    /// Whether REQUIRETLS was used.
    pub requiretls: bool,
    /// IANA numbers of TLS version and cipher suite, none for plain text.
    pub tls: Option<(u16, u16)>,
    /// The address in From, if there is exactly one.
    pub msg_from: Option<Address>,
    /// Domains verified by SPF or DKIM.
    pub verified_domains: Vec<Domain>,
    /// What was verified.
    pub authentication: Authentication,
    /// Trace fields common to all recipients: Received-SPF, Received.
    pub trace: Vec<u8>,
    /// The message's header section.
    pub header: Arc<[u8]>,
    /// The message.
    pub message: Spool,
    /// Its structure, if it was built while it came in.
    pub structure: Option<Structure>,
    /// The block lists that the listener asks.
    pub blocklists: Arc<[Domain]>,
    /// As it was read for verification, if it may have to be sealed.
    pub read: Option<Arc<ReadMessage>>,
    /// How long its sender may be kept waiting.
    pub patience: Patience,
}

impl Incoming {
    /// Whether software wrote it, as far as it says so, RFC 3834 §5.
    fn is_automatic(&self) -> bool {
        let says_so = |text: String| !text.trim().is_empty() && !text.trim().eq_ignore_ascii_case("no");
        self.mail_from.is_none() || Headers::new(&self.header).text("Auto-Submitted").is_some_and(says_so)
    }
}

/// A recipient of the transaction.
#[derive(Clone, Debug)]
pub struct RcptTo {
    /// The address as given.
    pub path: Path,
    /// Whom it reaches.
    pub found: Result<Recipient, AddressError>,
}

/// Why a recipient doesn't get the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the peer hears.
    pub reply: Reply,
    /// Whether the peer is to be answered slowly from now on.
    pub slow: bool,
}

impl Refusal {
    /// A refusal without further consequences.
    pub const fn new(reply: Reply) -> Self {
        Self { reply, slow: false }
    }

    fn unknown_user() -> Self {
        Self::new(Reply::new(550, (5, 1, 1), "no such user(s)"))
    }

    fn our_fault() -> Self {
        Self::new(Reply::new(451, (4, 3, 0), "error processing"))
    }

    fn account_full() -> Self {
        Self::new(Reply::new(452, (4, 2, 2), "account storage full"))
    }

    fn system_full() -> Self {
        Self::new(Reply::new(452, (4, 3, 1), "system storage full"))
    }

    /// For a store that failed.
    fn of(error: &Error) -> Self {
        if matches!(error, Error::Db(e) if e.is_full()) { Self::system_full() } else { Self::our_fault() }
    }
}

/// What is decided for one account.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It gets the message.
    Accept(Acceptance),
    /// It doesn't.
    Reject(Refusal),
}

/// How a message is filed.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// Into which mailbox.
    pub mailbox: String,
    /// Header fields that explain the decision, complete with CRLF; may be empty.
    pub reason: Vec<u8>,
    /// Whether a ruleset says that it was forwarded.
    pub is_forward: bool,
    /// Whether a ruleset says that it is from a mailing list.
    pub is_list: bool,
    /// Whether it is stored as read: reports that were processed.
    pub seen: bool,
}

/// What [`InboundDecision::decide`] returns.
pub type DecisionFuture<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// Decides whether an account gets a message, and where. Junk filtering, reputation and rate limits will come here.
pub trait InboundDecision: Send + Sync + fmt::Debug {
    /// For the account and destination of `recipient`, reached as `rcpt_to` (an alias, for members).
    fn decide<'a>(&'a self, incoming: &'a Incoming, rcpt_to: &'a Path, recipient: &'a LocalRecipient) -> DecisionFuture<'a>;
}

/// Accepts everything, into the mailbox that the destination's rulesets choose.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptAll;

impl InboundDecision for AcceptAll {
    fn decide<'a>(&'a self, incoming: &'a Incoming, _rcpt_to: &'a Path, recipient: &'a LocalRecipient) -> DecisionFuture<'a> {
        let chosen = choose(&recipient.destination, incoming);
        let acceptance =
            Acceptance { mailbox: chosen.mailbox, reason: Vec::new(), is_forward: chosen.is_forward, is_list: chosen.is_list, seen: false };
        Box::pin(std::future::ready(Verdict::Accept(acceptance)))
    }
}

/// Files incoming mail.
#[derive(Clone, Debug)]
pub struct Inbound {
    store: Store,
    decision: Arc<dyn InboundDecision>,
    arrivals: Option<Arrivals>,
    selectors: SharedSelectors,
    evaluations: Option<Arc<Evaluations>>,
    reports: Option<ReceivedReports>,
}

/// What distinguishes a copy of a message to a list.
#[derive(Clone, Debug)]
struct Passed<'a> {
    filing: FilingMark,
    /// The fields of ARC.
    seal: &'a str,
}

/// Whether an account's copy was filed.
enum Filed {
    Yes,
    AccountFull,
    Failed(Refusal),
}

impl Inbound {
    /// Files into a store what is accepted.
    pub fn new(store: Store, decision: Arc<dyn InboundDecision>) -> Self {
        Self { store, decision, arrivals: None, selectors: SharedSelectors::default(), evaluations: None, reports: None }
    }

    /// With webhooks about what arrives.
    #[must_use]
    pub fn with_arrivals(self, arrivals: Arrivals) -> Self {
        Self { arrivals: Some(arrivals), ..self }
    }

    /// With keys to seal what is passed on to the members of lists.
    #[must_use]
    pub fn with_seals(self, selectors: SharedSelectors) -> Self {
        Self { selectors, ..self }
    }

    /// With reports to the domains that mail claims to be from.
    #[must_use]
    pub fn with_evaluations(self, evaluations: Arc<Evaluations>) -> Self {
        Self { evaluations: Some(evaluations), ..self }
    }

    /// With an eye on reports of others.
    #[must_use]
    pub fn with_reports(self, reports: ReceivedReports) -> Self {
        Self { reports: Some(reports), ..self }
    }

    /// Delivers to recipients; an outcome for each, in order.
    pub async fn deliver(&self, incoming: &Incoming, recipients: &[RcptTo]) -> Vec<Result<(), Refusal>> {
        let mut outcomes: Vec<Option<Result<(), Refusal>>> = vec![None; recipients.len()];
        let mut waited = false;
        // Accounts first, so that members of aliases who are recipients themselves have their copy.
        for aliases in [false, true] {
            for (slot, rcpt) in outcomes.iter_mut().zip(recipients) {
                match &rcpt.found {
                    Ok(Recipient::Account(recipient)) if !aliases => {
                        *slot = Some(self.to_account(incoming, rcpt, recipient, &mut waited).await)
                    }
                    Ok(Recipient::Alias(alias)) if aliases => {
                        *slot = Some(self.to_alias(incoming, rcpt, alias, recipients, &mut waited).await)
                    }
                    Ok(_) => {}
                    Err(AddressError::DomainDisabled) => {
                        *slot = Some(Err(Refusal::new(Reply::new(450, (4, 2, 1), "recipient domain temporarily disabled"))));
                    }
                    Err(AddressError::DomainNotFound | AddressError::AddressNotFound) => *slot = Some(Err(Refusal::unknown_user())),
                }
            }
        }
        let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(Refusal::our_fault()))).collect::<Vec<_>>();
        self.note_for_reports(incoming, recipients, &outcomes);
        outcomes
    }

    async fn to_account(&self, incoming: &Incoming, rcpt: &RcptTo, recipient: &LocalRecipient, waited: &mut bool) -> Result<(), Refusal> {
        let mut acceptance = match self.decision.decide(incoming, &rcpt.path, recipient).await {
            Verdict::Reject(refusal) => return Err(refusal),
            Verdict::Accept(acceptance) => acceptance,
        };
        if let Some((reports, kind)) = self.reports.as_ref().zip(recipient.destination.reports) {
            match reports.process(incoming, kind).await {
                Ok(Processed::Kept) => {
                    acceptance.seen = true;
                    acceptance.reason = b"X-Mox-Reason: reporting;\r\n".to_vec();
                }
                Ok(Processed::Unusable(field)) => acceptance.reason.extend_from_slice(field.as_bytes()),
                Ok(Processed::Refused(refusal)) => return Err(refusal),
                Err(error) => {
                    tracing::error!(%error, "keeping a report");
                    return Err(Refusal::of(&error));
                }
            }
        }
        self.wait_for_stranger(incoming, recipient, &acceptance, waited).await;
        match self.file(incoming, &rcpt.path, &rcpt.path, recipient, &acceptance, None).await {
            Filed::Yes => Ok(()),
            Filed::AccountFull => Err(Refusal::account_full()),
            Filed::Failed(refusal) => Err(refusal),
        }
    }

    /// Notes what became of a message, for reports to the domain in its From. What the sender will send again for lack of space or
    /// by a fault of ours isn't told of yet.
    fn note_for_reports(&self, incoming: &Incoming, recipients: &[RcptTo], outcomes: &[Result<(), Refusal>]) {
        let Some(evaluations) = &self.evaluations else { return };
        let told = |outcome: &Result<(), Refusal>| outcome.as_ref().err().is_none_or(|refusal| refusal.reply.is_permanent());
        let chosen: Vec<(&RcptTo, &LocalRecipient, bool)> = recipients
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| told(outcome))
            .filter_map(|(rcpt, outcome)| match &rcpt.found {
                Ok(Recipient::Account(recipient)) => Some((rcpt, recipient, outcome.is_err())),
                Ok(Recipient::Alias(alias)) => Some((rcpt, &alias.members.first()?.recipient, outcome.is_err())),
                Err(_) => None,
            })
            .collect();
        let ours: Vec<_> = chosen.iter().map(|(_, recipient, _)| choose(&recipient.destination, incoming)).collect();
        let fates = chosen.iter().zip(&ours).filter_map(|((rcpt, recipient, refused), chosen)| {
            Some(Fate {
                envelope_to: rcpt.path.host.domain()?.ascii(),
                chosen,
                refused: *refused,
                // A report, or an answer to one of ours, must cause no report.
                optional: recipient.destination.reports.is_some()
                    || incoming.directory.postmaster_id(&rcpt.path).is_some()
                    || (incoming.directory.is_postmaster(&rcpt.path) && incoming.is_automatic()),
            })
        });
        evaluations.note(incoming, &fates.collect::<Vec<_>>());
    }

    /// If any member accepts, all get it; else the first one's refusal is the answer.
    async fn to_alias(
        &self,
        incoming: &Incoming,
        rcpt: &RcptTo,
        alias: &Alias,
        recipients: &[RcptTo],
        waited: &mut bool,
    ) -> Result<(), Refusal> {
        let from = incoming.msg_from.as_ref().map(|from| incoming.directory.canonical(from));
        if !may_post(alias, from.as_ref()) {
            return Err(Refusal::new(Reply::new(550, (5, 7, 2), "not allowed to send to destination")));
        }
        let mut refusal = None;
        let mut verdicts = Vec::with_capacity(alias.members.len());
        for member in &alias.members {
            let verdict = self.decision.decide(incoming, &rcpt.path, &member.recipient).await;
            if let Verdict::Reject(r) = &verdict {
                refusal.get_or_insert_with(|| r.clone());
            }
            verdicts.push((member, verdict));
        }
        if let Some(refusal) = refusal
            && !verdicts.iter().any(|(_, v)| matches!(v, Verdict::Accept(_)))
        {
            return Err(refusal);
        }
        // For a list, what its first member to accept knows of the author counts.
        if let Some((member, acceptance)) = verdicts.iter().find_map(|(member, verdict)| match verdict {
            Verdict::Accept(acceptance) => Some((member, acceptance)),
            Verdict::Reject(_) => None,
        }) {
            self.wait_for_stranger(incoming, &member.recipient, acceptance, waited).await;
        }
        let explicit = |address: &Address| {
            let mut given = recipients.iter().filter_map(|r| r.path.address());
            given.any(|given| incoming.directory.canonical(&given) == *address)
        };
        let filing = match self.begin_filing(incoming, rcpt).await {
            Ok(filing) => filing,
            Err(e) => {
                tracing::error!(alias = %alias.address, error = %e, "beginning delivery to an alias");
                return Err(Refusal::of(&e));
            }
        };
        let seal = sealing::sealed(incoming, &self.selectors, &alias.address.domain, self.store.clock().now());
        let passed = Passed { filing: filing.mark(), seal: &seal };
        let (mut filed, mut full, mut failed) = (false, false, None);
        for (member, verdict) in verdicts {
            // Who has a copy already, or wrote it, needs no other.
            if from.as_ref() == Some(&member.address) || explicit(&member.address) {
                continue;
            }
            let acceptance = match verdict {
                Verdict::Accept(acceptance) => acceptance,
                Verdict::Reject(_) => plain_acceptance(incoming, &member.recipient),
            };
            let delivered_to = Path::from(member.address.clone());
            match self.file(incoming, &rcpt.path, &delivered_to, &member.recipient, &acceptance, Some(&passed)).await {
                Filed::Yes => filed = true,
                Filed::AccountFull => full = true,
                Filed::Failed(refusal) => failed = failed.or(Some(refusal)),
            }
        }
        // The others have it, and get no other when the sender tries again for whom we failed.
        if let Some(refusal) = failed {
            return Err(refusal);
        }
        filing.finish();
        if full && !filed { Err(Refusal::account_full()) } else { Ok(()) }
    }

    /// One delivery to an alias, also over several attempts of the sender: the same bytes with the same envelope.
    async fn begin_filing(&self, incoming: &Incoming, rcpt: &RcptTo) -> Result<Filing, Error> {
        let sender = incoming.mail_from.as_ref().map(Path::to_string).unwrap_or_default();
        let recipient = rcpt.path.to_string();
        let mut message = incoming.message.reader();
        self.store.begin_filing(move || Ok(FilingKey::of(&[&sender, &recipient], &mut message)?)).await
    }

    async fn file(
        &self,
        incoming: &Incoming,
        rcpt_to: &Path,
        delivered_to: &Path,
        recipient: &LocalRecipient,
        how: &Acceptance,
        passed: Option<&Passed<'_>>,
    ) -> Filed {
        match self.try_file(incoming, rcpt_to, delivered_to, recipient, how, passed).await {
            Ok(()) => Filed::Yes,
            Err(Error::OverQuota) => {
                tracing::info!(account = recipient.account.name, "message refused, account is full");
                Filed::AccountFull
            }
            Err(e) => {
                tracing::error!(account = recipient.account.name, mailbox = how.mailbox, error = %e, "delivering to mailbox");
                Filed::Failed(Refusal::of(&e))
            }
        }
    }

    async fn try_file(
        &self,
        incoming: &Incoming,
        rcpt_to: &Path,
        delivered_to: &Path,
        recipient: &LocalRecipient,
        how: &Acceptance,
        passed: Option<&Passed<'_>>,
    ) -> Result<(), Error> {
        let account = self.store.account(&recipient.account.name).await?;
        account.configure(&recipient.account);
        let message = Message {
            prefix: prefix(incoming, delivered_to, how, passed.map_or("", |passed| passed.seal)),
            content: incoming.message.content()?,
            structure: incoming.structure.clone(),
            hash: None,
        };
        let mailbox = MailboxName::parse(&how.mailbox)?;
        let facts = delivery(incoming, rcpt_to, how);
        let note = self.arrivals.as_ref().and_then(|_| ArrivalNote::of(incoming, rcpt_to, recipient, &facts, &how.mailbox));
        let append = Append {
            flags: if how.seen { mox_store::Flags::SEEN } else { mox_store::Flags::default() },
            received: Some(incoming.received),
            delivery: Some(Box::new(facts)),
            ..Append::default()
        };
        let noted = note.is_some();
        let member = passed.map(|passed| (passed.filing, delivered_to.to_string()));
        let author = incoming.msg_from.clone().map(|author| (author, incoming.author_is_verified()));
        account
            .write_message(message, move |tx, prepared| {
                if let Some((filing, member)) = &member
                    && !tx.file_once(*filing, member)?
                {
                    return Ok(());
                }
                let mailbox = tx.ensure_mailbox(&mailbox, SpecialUse::NONE)?;
                let added = tx.add(mailbox.mailbox.id, prepared, &append)?;
                if let Some((author, verified)) = &author {
                    tx.note_author(author, *verified)?;
                }
                match &note {
                    Some(note) => tx.note_arrival(added.id, note),
                    None => Ok(()),
                }
            })
            .await?;
        if let Some(arrivals) = self.arrivals.as_ref().filter(|_| noted) {
            arrivals.wake(&recipient.account.name);
        }
        Ok(())
    }
}

/// Who may post: anyone if public; members; and with the alias as sender, whoever may use that.
fn may_post(alias: &Alias, from: Option<&Address>) -> bool {
    alias.post_public
        || from.is_some_and(|from| alias.members.iter().any(|m| m.address == *from) || (alias.allow_msg_from && *from == alias.address))
}

/// A member that would have refused gets the message with the others, where its rules put it.
fn plain_acceptance(incoming: &Incoming, recipient: &LocalRecipient) -> Acceptance {
    let chosen = choose(&recipient.destination, incoming);
    Acceptance { mailbox: chosen.mailbox, reason: Vec::new(), is_forward: chosen.is_forward, is_list: chosen.is_list, seen: false }
}

/// What is put before the message, newest first.
fn prefix(incoming: &Incoming, delivered_to: &Path, how: &Acceptance, seal: &str) -> Vec<u8> {
    let return_path = incoming.mail_from.as_ref().map(|p| p.for_smtputf8(false)).unwrap_or_default();
    let delivered_to = delivered_to.for_smtputf8(incoming.smtputf8);
    let mut prefix = how.reason.clone();
    prefix.extend_from_slice(format!("Delivered-To: {delivered_to}\r\nReturn-Path: <{return_path}>\r\n").as_bytes());
    prefix.extend_from_slice(seal.as_bytes());
    prefix.extend_from_slice(incoming.authentication.field(incoming, how).as_bytes());
    prefix.extend_from_slice(&incoming.trace);
    prefix
}

fn delivery(incoming: &Incoming, rcpt_to: &Path, how: &Acceptance) -> Delivery {
    let tls = incoming.tls;
    let mut delivery = Delivery {
        // Of forwarded mail, the forwarder's address and name tell nothing about the sender.
        remote_ip: Some(incoming.remote_ip).filter(|_| !how.is_forward),
        ehlo: incoming.ehlo.domain().filter(|_| !how.is_forward).map(|d| d.unicode().to_owned()),
        mail_from: incoming.mail_from.as_ref().filter(|_| !how.is_forward).map(Path::to_string),
        rcpt_to: Some(rcpt_to.to_string()),
        tls_version: Some(tls.map_or(1, |(version, _)| version)),
        tls_cipher: tls.map(|(_, cipher)| cipher),
        requiretls: incoming.requiretls,
        is_forward: how.is_forward,
        is_list: how.is_list,
        ..Delivery::default()
    };
    incoming.authentication.keep(incoming, how, &mut delivery);
    delivery
}
