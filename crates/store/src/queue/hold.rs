//! Hold rules: which entries aren't delivered until somebody says so.
//!
//! All given parts of a rule must match; a rule without parts matches everything. A new rule holds the entries that are
//! there, and from then on those that are added, by the same comparison. Removing it lets nothing go.

use super::add::NewEntry;
use super::{Filter, Queue};
use crate::db::{Error, Row, Tx};
use crate::params;
use mox_base::{Domain, QueueId};

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldRule {
    /// Its id; 0 for a new one.
    pub id: i64,
    /// The sender's account.
    pub account: Option<String>,
    /// The domain of MAIL FROM, without those below it.
    pub sender_domain: Option<Domain>,
    /// The domain of RCPT TO.
    pub recipient_domain: Option<Domain>,
}

impl HoldRule {
    fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        let domain = |text: &str| {
            let parsed = Some(text).filter(|t| !t.is_empty()).map(Domain::parse_lax).transpose();
            parsed.map_err(|e| Error::Corrupt(format!("hold rule: domain {text:?}: {e}")))
        };
        Ok(Self {
            id: row.int(0)?,
            account: Some(row.text(1)?.to_owned()).filter(|a| !a.is_empty()),
            sender_domain: domain(row.text(2)?)?,
            recipient_domain: domain(row.text(3)?)?,
        })
    }

    fn matches(&self, account: &str, entry: &NewEntry) -> bool {
        let sender = entry.sender.as_ref().and_then(|path| path.host.domain());
        self.account.as_ref().is_none_or(|want| want == account)
            && self.sender_domain.as_ref().is_none_or(|want| sender == Some(want))
            && self.recipient_domain.as_ref().is_none_or(|want| entry.recipient.host.domain() == Some(want))
    }
}

/// Why the server holds an entry by itself: what it needs isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// Its forced transport isn't configured.
    Transport,
    /// Its sender's domain is disabled.
    SenderDomain,
}

impl HoldReason {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::SenderDomain => "sender domain",
        }
    }

    fn from_code(code: &str) -> Self {
        if code == Self::Transport.code() { Self::Transport } else { Self::SenderDomain }
    }
}

/// An entry that the server holds by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldEntry {
    /// The entry.
    pub id: QueueId,
    /// Why.
    pub reason: HoldReason,
    /// The domain of MAIL FROM.
    pub sender_domain: Option<Domain>,
    /// The forced transport.
    pub transport: String,
}

impl HeldEntry {
    fn from_row(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: QueueId(row.int(0)?),
            reason: HoldReason::from_code(row.text(1)?),
            sender_domain: super::parse_path(row.text(2)?).and_then(|path| path.host.domain().cloned()),
            transport: row.text(3)?.to_owned(),
        })
    }
}

/// What a transaction that adds entries and one that adds a rule can't both have, on PostgreSQL.
const LOCK: i64 = 74_520_021;

/// Lets no rule be added before this transaction has committed its entries: it would neither be seen here, nor find them.
pub(super) fn share(tx: &Tx<'_>) -> Result<(), Error> {
    if tx.is_postgres() {
        tx.query(&format!("SELECT CAST(pg_advisory_xact_lock_shared({LOCK}) AS TEXT)"), &[], |_| Ok::<_, Error>(()))?;
    }
    Ok(())
}

/// The rules in force.
pub(super) struct HoldRules(Vec<HoldRule>);

impl HoldRules {
    pub(super) fn load(tx: &Tx<'_>) -> Result<Self, Error> {
        let rules =
            tx.query_all("SELECT id, account, sender_domain, recipient_domain FROM queue_hold_rule ORDER BY id", &[], HoldRule::from_row)?;
        Ok(Self(rules))
    }

    pub(super) fn hold(&self, account: &str, entry: &NewEntry) -> bool {
        self.0.iter().any(|rule| rule.matches(account, entry))
    }
}

impl Queue {
    /// All rules.
    ///
    /// # Errors
    /// The database failed.
    pub async fn hold_rules(&self) -> Result<Vec<HoldRule>, Error> {
        self.db.read(|tx| Ok(HoldRules::load(tx)?.0)).await
    }

    /// Adds a rule, and holds what it matches; its id, and how many entries it holds now.
    ///
    /// # Errors
    /// The database failed; the rule may be there, but not all entries held.
    pub async fn add_hold_rule(&self, rule: HoldRule) -> Result<(i64, u64), Error> {
        let text = |domain: &Option<Domain>| domain.as_ref().map(ToString::to_string).unwrap_or_default();
        let (account, sender, recipient) =
            (rule.account.clone().unwrap_or_default(), text(&rule.sender_domain), text(&rule.recipient_domain));
        let id = self
            .write(move |tx| {
                if tx.is_postgres() {
                    tx.query(&format!("SELECT CAST(pg_advisory_xact_lock({LOCK}) AS TEXT)"), &[], |_| Ok::<_, Error>(()))?;
                }
                let sql = "INSERT INTO queue_hold_rule (account, sender_domain, recipient_domain) VALUES ($1, $2, $3) RETURNING id";
                tx.query_row(sql, params![&account, &sender, &recipient], |row| row.int(0))
            })
            .await?;
        // Whoever adds an entry from now on sees the rule; who didn't has committed, and the entry is found here.
        let matching = Filter {
            account: rule.account,
            sender_domain: rule.sender_domain,
            recipient_domain: rule.recipient_domain,
            hold: Some(false),
            ..Filter::default()
        };
        Ok((id, self.set_hold(matching, true).await?))
    }

    /// Removes a rule; whether it was there. Held entries stay so.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove_hold_rule(&self, id: i64) -> Result<bool, Error> {
        Ok(self.write(move |tx| tx.exec("DELETE FROM queue_hold_rule WHERE id = $1", params![id])).await? > 0)
    }

    /// Entries that the server holds by itself, beyond this one, at most `limit`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn held_for_reasons(&self, after: QueueId, limit: u64) -> Result<Vec<HeldEntry>, Error> {
        self.db
            .read(move |tx| {
                let mut held = Vec::new();
                let sql = format!(
                    "SELECT id, hold_reason, sender, transport FROM queue_entry WHERE hold = 1 AND hold_reason <> '' AND id > $1 \
                     ORDER BY id LIMIT {limit}"
                );
                tx.query(&sql, params![after], |row| {
                    held.push(HeldEntry::from_row(row)?);
                    Ok::<_, Error>(())
                })?;
                Ok(held)
            })
            .await
    }
}
