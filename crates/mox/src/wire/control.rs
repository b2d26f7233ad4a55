//! What a running server does on behalf of commands.

use super::services::Shared;
use crate::ctl::{Handler, Output, Request};
use mox_base::Secret;
use mox_config::LogLevel;
use mox_delivery::outbound::Runner;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Carries out what comes over the control socket.
pub(super) struct Control {
    pub(super) services: Arc<Shared>,
    pub(super) runner: Runner,
    pub(super) stop: mpsc::Sender<()>,
}

impl Handler for Control {
    fn handle<'a>(&'a self, request: Request, out: &'a mut Output) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            match request {
                Request::Stop => {
                    // Full when someone else asked already.
                    let _asked = self.stop.try_send(());
                    out.closed().await;
                    Ok(())
                }
                Request::SetAccountPassword { account, password } => {
                    let set = self.services.logins.set_password(&account, &Secret::new(password)).await;
                    set.map_err(|e| e.to_string())
                }
                Request::LogLevels => out.write(self.services.log.levels.list().as_bytes()).await,
                Request::Queue { filter, action } => super::queue::act(&self.services, &self.runner, filter, action, out).await,
                Request::QueueTask(task) => super::queue::tasks::perform(&self.services, task, out).await,
                Request::Webhook(task) => super::webhooks::perform(&self.services, task, out).await,
                Request::Config { edit } => super::config_edit::edit(&self.services, &self.runner, edit).await,
                Request::TlsKeys(task) => super::tls_keys::perform(&self.services, task, out).await,
                Request::ApiKeys(task) => super::api_keys::perform(&self.services, task, out).await,
                Request::Report(task) => super::reports::perform(&self.services, task, out).await,
                Request::QueueDump { id } => super::queue::dump(&self.services, id, out).await,
                Request::SetLogLevel { package, level } => {
                    let level = Some(level.as_str()).filter(|l| !l.is_empty()).map(str::parse::<LogLevel>).transpose();
                    let level = level.map_err(|_| "bad level".to_owned())?;
                    if package.is_empty() && level.is_none() {
                        return Err("bad level".to_owned());
                    }
                    self.services.log.levels.set(&package, level);
                    Ok(())
                }
            }
        })
    }
}
