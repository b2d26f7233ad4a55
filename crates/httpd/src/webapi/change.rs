//! Changing stored messages.

use super::Call;
use mox_base::MessageId;
use mox_store::{Error as StoreError, FlagChange, FlagOp, Flags, Keyword, UidSet};
use mox_webapi::{Empty, Error, ErrorCode, MessageFlagsRequest, MessageMoveRequest, MessageRequest};

/// The ten flags in the order and form in which they are shown.
pub(super) const FLAGS: [(&str, Flags); 10] = [
    ("$forwarded", Flags::FORWARDED),
    ("$junk", Flags::JUNK),
    ("$mdnsent", Flags::MDNSENT),
    ("$notjunk", Flags::NOTJUNK),
    ("$phishing", Flags::PHISHING),
    ("\\answered", Flags::ANSWERED),
    ("\\deleted", Flags::DELETED),
    ("\\draft", Flags::DRAFT),
    ("\\flagged", Flags::FLAGGED),
    ("\\seen", Flags::SEEN),
];

impl Call {
    pub(super) async fn message_delete(&self, request: MessageRequest) -> Result<Empty, Error> {
        let account = self.account().await?;
        let changed = account.write(move |tx| {
            let facts = tx.reader().facts(MessageId(request.msg_id))?;
            tx.expunge(facts.mailbox, &UidSet::from(facts.uid))?;
            Ok(Empty {})
        });
        changed.await.map_err(|e| self.message_error("removing message", &e))
    }

    pub(super) async fn message_flags(&self, op: FlagOp, request: MessageFlagsRequest) -> Result<Empty, Error> {
        let (flags, keywords) = parse_flags(&request.flags)?;
        let change = FlagChange { op, flags, keywords };
        let account = self.account().await?;
        let changed = account.write(move |tx| {
            let facts = tx.reader().facts(MessageId(request.msg_id))?;
            tx.store_flags(facts.mailbox, &UidSet::from(facts.uid), &change, None)?;
            Ok(Empty {})
        });
        changed.await.map_err(|e| self.message_error("changing flags", &e))
    }

    pub(super) async fn message_move(&self, request: MessageMoveRequest) -> Result<Empty, Error> {
        let account = self.account().await?;
        let changed = account.write(move |tx| {
            let facts = tx.reader().facts(MessageId(request.msg_id))?;
            let to = tx.mailboxes().by_name(&request.dest_mailbox_name).map(|m| m.id).ok_or(StoreError::NoMailbox)?;
            if to == facts.mailbox {
                return Err(StoreError::SameMailbox);
            }
            tx.move_messages(facts.mailbox, &UidSet::from(facts.uid), to)?;
            Ok(Empty {})
        });
        changed.await.map_err(|e| self.message_error("moving message", &e))
    }

    /// What a failed operation on a message means to the client.
    pub(super) fn message_error(&self, doing: &str, error: &StoreError) -> Error {
        match error {
            StoreError::NoMessage => Error::new(ErrorCode::MessageNotFound, "message not found"),
            StoreError::NoMailbox => Error::user("no such mailbox"),
            StoreError::SameMailbox => Error::user("message is in that mailbox already"),
            StoreError::TooManyKeywords
            | StoreError::TooManyMailboxes
            | StoreError::OverQuota
            | StoreError::NoUids
            | StoreError::Keyword(_) => Error::user(error.to_string()),
            StoreError::Db(_)
            | StoreError::NoAccount
            | StoreError::AccountName
            | StoreError::MailboxExists
            | StoreError::HasChildren
            | StoreError::Inbox
            | StoreError::Name(_)
            | StoreError::NotSubscribed
            | StoreError::Blob(_, _) => self.server(doing, error),
        }
    }
}

/// Flags and keywords in any case.
pub(super) fn parse_flags(texts: &[String]) -> Result<(Flags, Vec<Keyword>), Error> {
    let mut flags = Flags::NONE;
    let mut keywords = Vec::new();
    for text in texts {
        if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            flags = flags | *flag;
        } else {
            let keyword = Keyword::parse(text).map_err(|_| Error::user(format!("{text:?} is no flag or keyword")))?;
            if !keywords.contains(&keyword) {
                keywords.push(keyword);
            }
        }
    }
    Ok((flags, keywords))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_keywords() {
        let texts = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        let (flags, keywords) = parse_flags(&texts(&["\\SEEN", "$Junk", "Work", "work"])).unwrap();
        assert_eq!(flags, Flags::SEEN | Flags::JUNK);
        assert_eq!(keywords.iter().map(Keyword::as_str).collect::<Vec<_>>(), ["work"]);
        for bad in ["", "a b", "\\recent", "\\other", "a(b", "ä", "a]"] {
            assert_eq!(parse_flags(&texts(&[bad])).unwrap_err().code, ErrorCode::User, "{bad}");
        }
    }
}
