//! The registered keys of TLS client certificates, for commands on a running server.

use super::services::Shared;
use crate::ctl::{Output, TlsKeyTask};
use mox_logins::AddKeyError;
use mox_net::ClientCert;
use mox_net::pem;
use mox_store::credentials::TlsKey;
use std::fmt::Write as _;

/// Does it and says what was found.
pub(super) async fn perform(shared: &Shared, task: TlsKeyTask, out: &mut Output) -> Result<(), String> {
    let logins = &shared.logins;
    let failed = |e: mox_store::Error| e.to_string();
    match task {
        TlsKeyTask::List { account } => {
            if !account.is_empty() && shared.directory.current().account(&account).is_none() {
                return Err(format!("no such account: {account:?}"));
            }
            let account = Some(account.as_str()).filter(|a| !a.is_empty());
            let keys = logins.tls_keys(account).await.map_err(failed)?;
            let mut text = format!("# fingerprint, type, name, account, login address, no imap preauth ({})\n", keys.len());
            for (account, key) in keys {
                let TlsKey { fingerprint, kind, name, login_address, no_imap_preauth, .. } = key;
                // Writing to a String can't fail.
                let _written = writeln!(text, "{fingerprint}\t{kind}\t{name:?}\t{account}\t{login_address}\t{no_imap_preauth}");
            }
            out.write(text.as_bytes()).await
        }
        TlsKeyTask::Get { fingerprint } => {
            let (account, key) = logins.tls_key(&fingerprint).await.map_err(failed)?.ok_or("no such tls public key")?;
            let TlsKey { kind, name, login_address, no_imap_preauth, cert, .. } = key;
            let certificate = pem::encode("CERTIFICATE", &cert);
            let text = format!(
                "type: {kind}\nname: {name}\naccount: {account}\naddress: {login_address}\nno imap preauth: {no_imap_preauth}\ncertificate:\n\n{certificate}"
            );
            out.write(text.as_bytes()).await
        }
        TlsKeyTask::Add { address, name, no_imap_preauth, pem } => {
            let cert = ClientCert::from_pem(pem.as_bytes()).map_err(|e| e.to_string())?;
            let added = logins.add_tls_key(&address, &name, no_imap_preauth, &cert.der).await;
            added.map(drop).map_err(|e| match e {
                AddKeyError::Address => format!("{address}: {e}"),
                e => e.to_string(),
            })
        }
        TlsKeyTask::Remove { fingerprint } => {
            if logins.remove_tls_key(&fingerprint).await.map_err(failed)? {
                Ok(())
            } else {
                Err("no such tls public key".to_owned())
            }
        }
    }
}
