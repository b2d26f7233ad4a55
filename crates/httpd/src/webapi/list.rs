//! Lists of mailboxes and of the messages in them.

use super::Call;
use super::change::{FLAGS, parse_flags};
use super::read::MAX_HEADER;
use mox_base::{MessageId, Uid};
use mox_delivery::content::{Content, message};
use mox_store::account::Columns;
use mox_store::{Account, Error as StoreError, Mailbox, SpecialUse, UidSet, View};
use mox_webapi::listing::{MailboxEntry, MailboxListResponse, MessageEntry, MessageListRequest, MessageListResponse};
use mox_webapi::{Empty, Error, ErrorCode};

/// Messages in a page: usually, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;

impl Call {
    pub(super) async fn mailbox_list(&self, _: Empty) -> Result<MailboxListResponse, Error> {
        let mailboxes = self.account().await?.mailboxes();
        let mut mailboxes: Vec<MailboxEntry> = mailboxes.iter().map(|mailbox| mailbox_entry(mailbox)).collect();
        mailboxes.sort_by(|a, b| (a.name != INBOX, &a.name).cmp(&(b.name != INBOX, &b.name)));
        Ok(MailboxListResponse { mailboxes })
    }

    pub(super) async fn message_list(&self, request: MessageListRequest) -> Result<MessageListResponse, Error> {
        let account = self.account().await?;
        let name = if request.mailbox_name.is_empty() { INBOX } else { &request.mailbox_name };
        let no_mailbox = || self.message_error("listing messages", &StoreError::NoMailbox);
        let mailbox = account.mailboxes().by_name(name).map(|m| m.id).ok_or_else(no_mailbox)?;
        let view = account.view(mailbox).await.map_err(|e| self.message_error("reading mailbox", &e))?;
        let limit = usize::try_from(request.limit).ok().filter(|n| *n > 0).unwrap_or(PAGE).min(MAX_PAGE);
        let (uids, more) = page(&matching(&view, &request)?, &request, limit);
        let mut messages = Vec::with_capacity(uids.len());
        for uid in &uids {
            // Removed meanwhile by somebody else: not there any more.
            messages.extend(self.message_entry(&account, &view, *uid).await?);
        }
        let next_uid = uids.last().filter(|_| more).map_or(0, |uid| i64::from(uid.get()));
        Ok(MessageListResponse { messages, next_uid })
    }

    async fn message_entry(&self, account: &Account, view: &View, uid: Uid) -> Result<Option<MessageEntry>, Error> {
        let mailbox = view.mailbox().id;
        let read = account.read(move |tx| {
            let mut id = None;
            tx.fetch_rows(mailbox, &UidSet::from(uid), Columns::STATE, |row| {
                id = Some(row.id()?);
                Ok::<_, StoreError>(true)
            })?;
            let Some(id) = id else { return Ok(None) };
            let facts = match tx.facts(id) {
                Err(StoreError::NoMessage) => return Ok(None),
                facts => facts?,
            };
            let structure = tx.structure(id)?;
            let header = structure.root().header.clone();
            let mut bytes = Vec::new();
            tx.message_bytes(id, header.start..header.end.min(MAX_HEADER), &mut bytes)?;
            Ok::<_, StoreError>(Some((id, facts, message(&bytes, &structure, &Content::default()))))
        });
        let Some((MessageId(msg_id), facts, message)) = read.await.map_err(|e| self.message_error("reading message", &e))? else {
            return Ok(None);
        };
        let received = facts.received.into();
        let meta = match self.meta(account, facts).await {
            Err(error) if error.code == ErrorCode::MessageNotFound => return Ok(None),
            meta => meta?,
        };
        Ok(Some(MessageEntry { msg_id, uid: uid.get().into(), received, message, meta }))
    }
}

const INBOX: &str = "Inbox";

fn mailbox_entry(mailbox: &Mailbox) -> MailboxEntry {
    let roles = [
        (SpecialUse::ARCHIVE, "\\Archive"),
        (SpecialUse::DRAFTS, "\\Drafts"),
        (SpecialUse::JUNK, "\\Junk"),
        (SpecialUse::SENT, "\\Sent"),
        (SpecialUse::TRASH, "\\Trash"),
    ];
    MailboxEntry {
        name: mailbox.name.to_string(),
        special_use: roles.iter().filter(|(role, _)| mailbox.special_use.has(*role)).map(|(_, name)| (*name).to_owned()).collect(),
        total: mailbox.counts.messages.into(),
        unseen: mailbox.counts.unseen.into(),
        size: i64::try_from(mailbox.counts.size.0).unwrap_or(i64::MAX),
        uid_next: mailbox.uidnext.get().into(),
    }
}

/// The messages with and without the flags that are asked for.
fn matching(view: &View, request: &MessageListRequest) -> Result<UidSet, Error> {
    let mut uids = view.uids();
    for (words, wanted) in [(&request.flags, true), (&request.not_flags, false)] {
        let (flags, keywords) = parse_flags(words)?;
        let by_flag = FLAGS.iter().filter(|(_, flag)| flags.has(*flag)).map(|(_, flag)| view.with_flag(*flag));
        let by_keyword = keywords.iter().map(|keyword| view.with_keyword(keyword.as_str()));
        for those in by_flag.chain(by_keyword) {
            uids = if wanted { &uids & &those } else { &uids - &those };
        }
    }
    Ok(uids)
}

/// The UIDs of a page, and whether there are more.
fn page(uids: &UidSet, request: &MessageListRequest, limit: usize) -> (Vec<Uid>, bool) {
    let after = u32::try_from(request.after_uid).unwrap_or(u32::MAX);
    let wanted = |uid: &Uid| request.after_uid == 0 || if request.newest_first { uid.get() < after } else { uid.get() > after };
    let mut wanted = uids.iter().filter(wanted);
    if request.newest_first {
        let all: Vec<Uid> = wanted.collect();
        (all.iter().rev().take(limit).copied().collect(), all.len() > limit)
    } else {
        (wanted.by_ref().take(limit).collect(), wanted.next().is_some())
    }
}
