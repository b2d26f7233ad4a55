//! Hold rules and suppression lists, for commands on a running server.

use super::retired;
use crate::ctl::{Output, QueueTask};
use crate::wire::services::Shared;
use mox_base::{Address, Domain, Path};
use mox_store::queue::suppression::{NewSuppression, SuppressError, Suppression};
use mox_store::queue::{HoldRule, Queue};

/// Suppressed addresses printed from one look into the database.
const PAGE: u64 = 1000;

/// Does it and says what was done.
pub(in crate::wire) async fn perform(shared: &Shared, task: QueueTask, out: &mut Output) -> Result<(), String> {
    let queue = &shared.queue;
    let failed = |e: mox_store::db::Error| e.to_string();
    match task {
        QueueTask::RetiredPrint(id) => retired::print(queue, id, out).await,
        QueueTask::HoldRulesList => {
            let rules = queue.hold_rules().await.map_err(failed)?;
            let lines: String = rules.iter().map(rule_line).collect();
            out.write(format!("hold rules:\n{}", if lines.is_empty() { "(none)\n" } else { &lines }).as_bytes()).await
        }
        QueueTask::HoldRulesAdd { account, sender_domain, recipient_domain } => {
            let domain = |what: &str, text: &str| {
                let parsed = Some(text).filter(|t| !t.is_empty()).map(str::parse::<Domain>).transpose();
                parsed.map_err(|e| format!("parsing {what} domain: {e}"))
            };
            let rule = HoldRule {
                id: 0,
                account: Some(account).filter(|a| !a.is_empty()),
                sender_domain: domain("sender", &sender_domain)?,
                recipient_domain: domain("recipient", &recipient_domain)?,
            };
            let (id, held) = queue.add_hold_rule(rule).await.map_err(failed)?;
            tracing::info!(id, held, "hold rule added");
            Ok(())
        }
        QueueTask::HoldRulesRemove(id) => {
            if queue.remove_hold_rule(id).await.map_err(failed)? {
                Ok(())
            } else {
                Err("no such hold rule".to_owned())
            }
        }
        QueueTask::SuppressList { account } => suppress_list(queue, account, out).await,
        QueueTask::SuppressAdd { account, address } => {
            if shared.directory.current().account(&account).is_none() {
                return Err(format!("no such account: {account:?}"));
            }
            let new = NewSuppression { account, address: path(&address)?, manual: true, reason: "added through mox cli".to_owned() };
            match queue.suppress(new, shared.store.clock().now()).await {
                Ok(_) => Ok(()),
                Err(e @ SuppressError::Exists) => Err(e.to_string()),
                Err(SuppressError::Store(e)) => Err(failed(e)),
            }
        }
        QueueTask::SuppressRemove { account, address } => {
            let removed = queue.unsuppress(account, path(&address)?).await.map_err(failed)?;
            if removed { Ok(()) } else { Err("address is not on the suppression list".to_owned()) }
        }
        QueueTask::SuppressLookup { account, address } => {
            let account = Some(account).filter(|a| !a.is_empty());
            let found = queue.suppression(account, path(&address)?).await.map_err(failed)?;
            out.write(found.map_or_else(|| "not present\n".to_owned(), |s| present(&s)).as_bytes()).await
        }
    }
}

fn path(text: &str) -> Result<Path, String> {
    text.parse::<Address>().map(Path::from).map_err(|e| format!("parsing address: {e}"))
}

fn rule_line(rule: &HoldRule) -> String {
    let part = |name: &str, value: Option<String>| value.map(|value| format!("{name} {value:?}"));
    let domain = |domain: &Option<Domain>| domain.as_ref().map(ToString::to_string);
    let parts: Vec<String> = [
        part("account", rule.account.clone()),
        part("sender domain", domain(&rule.sender_domain)),
        part("recipient domain", domain(&rule.recipient_domain)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let what = if parts.is_empty() { "all messages".to_owned() } else { parts.join(", ") };
    format!("id {}: {what}\n", rule.id)
}

async fn suppress_list(queue: &Queue, account: String, out: &mut Output) -> Result<(), String> {
    let account = Some(account).filter(|a| !a.is_empty());
    out.write(b"account\taddress\tmanual\ttime added\tbase address\treason\n").await?;
    let (mut after, mut any) = (None, false);
    loop {
        let page = queue.suppressions(account.clone(), after, PAGE).await.map_err(|e| e.to_string())?;
        let Some(last) = page.last() else { break };
        any = true;
        after = Some((last.account.clone(), last.base_address.clone()));
        let lines: String = page.iter().map(suppression_line).collect();
        out.write(lines.as_bytes()).await?;
    }
    if any { Ok(()) } else { out.write(b"(none)\n").await }
}

fn suppression_line(s: &Suppression) -> String {
    let manual = if s.manual { "Yes" } else { "No" };
    let created = super::whole_seconds(s.created).rfc3339();
    format!("{:?}\t{:?}\t{manual}\t{created}\t{:?}\t{:?}\n", s.account, s.original_address, s.base_address, s.reason)
}

fn present(s: &Suppression) -> String {
    let manual = if s.manual { "yes" } else { "no" };
    let created = super::whole_seconds(s.created).rfc3339();
    format!("present\nadded: {created}\nmanual: {manual}\nbase address: {}\nreason: {:?}\n", s.base_address, s.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_say_what_they_match() {
        let rule = HoldRule { id: 3, ..HoldRule::default() };
        assert_eq!(rule_line(&rule), "id 3: all messages\n");
        let rule = HoldRule {
            account: Some("ann".to_owned()),
            sender_domain: "a.example".parse().ok(),
            recipient_domain: "bücher.example".parse().ok(),
            ..rule
        };
        assert_eq!(rule_line(&rule), "id 3: account \"ann\", sender domain \"a.example\", recipient domain \"bücher.example\"\n");
    }
}
