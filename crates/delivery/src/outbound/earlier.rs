//! Whether an attempt that was cut short had delivered its message.
//!
//! When the server ends between another host's 250 and the record of it, nobody can tell, and the message is sent again,
//! RFC 5321 §6.1. Not so for our own mailboxes: there we can look. A copy is found by its Message-ID, and is the same if
//! it was delivered to the same address and has the same bytes, our own trace fields among them, behind what delivery
//! put in front. Where only some of a list's members have it, it is sent again, and delivery leaves those out
//! (`store::filing`).

use super::Inner;
use mox_base::{Address, ByteSize, MessageId, Path};
use mox_message::ident::canonical_message_id;
use mox_message::{Headers, envelope};
use mox_store::directory::Recipient;
use mox_store::queue::{Entry, QueuedMessage};
use mox_store::{Account, Columns, Error};

/// Where From is looked for.
const MAX_HEADER: usize = 256 << 10;

/// Whether all accounts that an entry reaches have the message.
pub(super) async fn is_in_mailbox(inner: &Inner, entry: &Entry, message: &QueuedMessage) -> Result<bool, Error> {
    let Ok(message_id) = canonical_message_id(&message.message_id) else { return Ok(false) };
    let targets = match inner.directory.current().recipient(&entry.recipient) {
        Ok(Recipient::Account(recipient)) => vec![(recipient.account.name.clone(), entry.recipient.clone())],
        Ok(Recipient::Alias(alias)) => {
            // A member who wrote it got none.
            let author = author(inner, message).await?.map(|author| inner.directory.current().canonical(&author));
            let members = alias.members.iter().filter(|m| author.as_ref() != Some(&m.address));
            members.map(|m| (m.recipient.account.name.clone(), Path::from(m.address.clone()))).collect()
        }
        Err(_) => return Ok(false),
    };
    for (name, delivered_to) in targets {
        let account = inner.store.account(&name).await?;
        if !has(inner, &account, &message_id, &delivered_to, message).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The address in From, if there is exactly one.
async fn author(inner: &Inner, message: &QueuedMessage) -> Result<Option<Address>, Error> {
    let mut header = message.prefix.clone();
    if let Some(mut body) = inner.queue.open_body(message.id).await? {
        while header.len() < MAX_HEADER && !header.windows(4).any(|w| w == b"\r\n\r\n") {
            let chunk = body.next_chunk().await?;
            if chunk.is_empty() {
                break;
            }
            header.extend_from_slice(&chunk);
        }
    }
    Ok(envelope::author(&Headers::new(&header)).ok())
}

async fn has(inner: &Inner, account: &Account, message_id: &str, delivered_to: &Path, message: &QueuedMessage) -> Result<bool, Error> {
    let wanted = message_id.to_owned();
    let mailboxes: Vec<_> = account.mailboxes().iter().map(|m| m.id).collect();
    let found: Vec<(MessageId, ByteSize)> = account
        .read(move |tx| {
            let mut found = Vec::new();
            for mailbox in mailboxes {
                let uids = tx.by_message_id(mailbox, &wanted)?;
                tx.fetch_rows(mailbox, &uids, Columns::default(), |row| {
                    found.push((row.id()?, row.size()?));
                    Ok::<_, Error>(true)
                })?;
            }
            Ok::<_, Error>(found)
        })
        .await?;
    for (id, size) in found {
        if is_same(inner, account, id, size, delivered_to, message).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn is_same(
    inner: &Inner,
    account: &Account,
    id: MessageId,
    size: ByteSize,
    to: &Path,
    message: &QueuedMessage,
) -> Result<bool, Error> {
    let Some(front) = size.0.checked_sub(message.size.0) else { return Ok(false) };
    let trace = part(account, id, 0, front).await?;
    let is_for = |address: String| {
        let line = format!("Delivered-To: {address}").into_bytes();
        trace.split(|b| *b == b'\n').any(|l| l.strip_suffix(b"\r") == Some(line.as_slice()))
    };
    if !is_for(to.for_smtputf8(false)) && !is_for(to.for_smtputf8(true)) {
        return Ok(false);
    }
    let Some(mut body) = inner.queue.open_body(message.id).await? else { return Ok(false) };
    let (mut at, mut chunk) = (front, message.prefix.clone());
    loop {
        let end = at.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if part(account, id, at, end).await? != chunk {
            return Ok(false);
        }
        at = end;
        chunk = body.next_chunk().await?;
        if chunk.is_empty() {
            return Ok(at == size.0);
        }
    }
}

async fn part(account: &Account, id: MessageId, from: u64, to: u64) -> Result<Vec<u8>, Error> {
    account
        .read(move |tx| {
            let mut bytes = Vec::new();
            tx.message_bytes(id, from..to, &mut bytes)?;
            Ok::<_, Error>(bytes)
        })
        .await
}
