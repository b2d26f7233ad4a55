//! The API keys of accounts, for commands on a running server.

use super::services::Shared;
use crate::ctl::{ApiKeyTask, Output};
use mox_base::{Address, Timestamp};
use mox_logins::{AddApiKeyError, WantedApiKey};
use mox_store::credentials::ApiKey;
use mox_webapi::scope;
use std::fmt::Write as _;

/// Does it and says what was found.
pub(super) async fn perform(shared: &Shared, task: ApiKeyTask, out: &mut Output) -> Result<(), String> {
    let logins = &shared.logins;
    let failed = |e: mox_store::Error| e.to_string();
    match task {
        ApiKeyTask::List { account } => {
            if !account.is_empty() && shared.directory.current().account(&account).is_none() {
                return Err(format!("no such account: {account:?}"));
            }
            let keys = logins.api_keys(Some(account.as_str()).filter(|a| !a.is_empty())).await.map_err(failed)?;
            let mut text = format!("# id, name, account, scope, from, created, expires, last used ({})\n", keys.len());
            for (account, key) in keys {
                // Writing to a String can't fail.
                let _written = writeln!(text, "{}", line(&account, &key));
            }
            out.write(text.as_bytes()).await
        }
        ApiKeyTask::Add { account, name, scopes, from, lifetime } => {
            if let Some(word) = scopes.iter().find(|word| !scope::is_known(word)) {
                let known: Vec<&str> = scope::Scope::ALL.iter().map(|scope| scope.as_str()).collect();
                return Err(format!("{word:?} is neither a method nor one of the scopes {}", known.join(", ")));
            }
            let from = Some(from).filter(|from| !from.is_empty()).map(|from| from.parse::<Address>().map_err(|e| format!("{from}: {e}")));
            let now = shared.store.clock().now();
            let expires = lifetime.map(|micros| Timestamp::from_micros(now.micros().saturating_add(micros)));
            let wanted = WantedApiKey { account: account.clone(), name, scopes, from: from.transpose()?, expires };
            let (key, text) = logins.add_api_key(wanted).await.map_err(|e| match e {
                AddApiKeyError::Account => format!("{e}: {account:?}"),
                e => e.to_string(),
            })?;
            tracing::info!(account, id = key.id, name = key.name, "api key added");
            out.write(format!("{}\n", text.expose()).as_bytes()).await
        }
        ApiKeyTask::Remove { id } => {
            if logins.remove_api_key(&id).await.map_err(failed)? {
                Ok(())
            } else {
                Err("no such api key".to_owned())
            }
        }
    }
}

fn line(account: &str, key: &ApiKey) -> String {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), Timestamp::rfc3339);
    let ApiKey { id, name, scopes, from, created, expires, used, .. } = key;
    let scopes = if scopes.is_empty() { "all".to_owned() } else { scopes.join(",") };
    let from = from.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    format!("{id}\t{name:?}\t{account}\t{scopes}\t{from}\t{}\t{}\t{}", created.rfc3339(), time(*expires), time(*used))
}
