//! How commands talk to a running server: a socket in its data folder.
//!
//! Who may connect is decided by the folder's permissions: root and the server's user. The server greets with
//! [`GREETING`]; a client of another version stops there. Then, for each command, the client sends a [`Request`] as JSON behind its length, and the
//! server answers with [`Frame`]s: output as it comes, and at the end success or an error text.
//! Limits: a request has at most 1 MiB, a frame 64 KiB.

mod api_keys;
mod client;
mod config;
mod queue;
mod reports;
mod server;
mod tls_keys;
mod webhook;

pub(crate) use api_keys::ApiKeyTask;
pub(crate) use client::{connect, request, send};
pub(crate) use config::ConfigEdit;
pub(crate) use queue::{QueueAction, QueueFilter, QueueSort, QueueTask};
pub(crate) use reports::ReportTask;
pub(crate) use server::{Handler, Output, serve};
pub(crate) use tls_keys::TlsKeyTask;
pub(crate) use webhook::{WebhookFilter, WebhookSort, WebhookTask};

use serde::{Deserialize, Serialize};

/// What the server says first; the number changes when the framing or a request changes incompatibly.
const GREETING: &[u8] = b"mox-ctl 1\n";

/// Largest request.
const MAX_REQUEST: usize = 1 << 20;

/// Largest frame.
const MAX_FRAME: usize = 64 << 10;

/// A command for the server.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    /// Shut down; answered by the connection's end.
    Stop,
    /// Set an account's password.
    SetAccountPassword {
        /// Name of the account.
        account: String,
        /// The password as typed.
        password: String,
    },
    /// List log levels.
    LogLevels,
    /// Set a log level.
    SetLogLevel {
        /// Package; empty for the default.
        package: String,
        /// Level; empty to remove the package's.
        level: String,
    },
    /// Look into the queue or change it.
    Queue {
        /// Which entries.
        filter: QueueFilter,
        /// What to do.
        action: QueueAction,
    },
    /// Do something else with the queue.
    QueueTask(QueueTask),
    /// Look at webhooks or change them.
    Webhook(WebhookTask),
    /// Change the configuration.
    Config {
        /// How.
        edit: ConfigEdit,
    },
    /// Do something with keys of TLS client certificates.
    TlsKeys(TlsKeyTask),
    /// Do something with API keys.
    ApiKeys(ApiKeyTask),
    /// Do something with reports.
    Report(ReportTask),
    /// Print a message of the queue.
    QueueDump {
        /// Its entry.
        id: i64,
    },
}

impl Request {
    /// Its name, for the log. Parameters are never logged.
    const fn name(&self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::SetAccountPassword { .. } => "setaccountpassword",
            Self::LogLevels => "loglevels",
            Self::SetLogLevel { .. } => "setloglevels",
            Self::Queue { action, .. } => action.name(),
            Self::QueueTask(task) => task.name(),
            Self::Webhook(task) => task.name(),
            Self::Config { .. } => "config",
            Self::TlsKeys(task) => task.name(),
            Self::ApiKeys(task) => task.name(),
            Self::Report(task) => task.name(),
            Self::QueueDump { .. } => "queuedump",
        }
    }
}

/// A part of an answer: its kind, its length (32 bits, big endian), its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// For the client's standard output.
    Output,
    /// Why it failed; the last frame.
    Error,
    /// It is done; the last frame.
    Done,
}

impl Frame {
    const fn byte(self) -> u8 {
        match self {
            Self::Output => b'o',
            Self::Error => b'e',
            Self::Done => b'd',
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'o' => Some(Self::Output),
            b'e' => Some(Self::Error),
            b'd' => Some(Self::Done),
            _ => None,
        }
    }
}

/// The socket in a data folder.
pub(crate) fn socket_path(data_dir: &std::path::Path) -> std::path::PathBuf {
    data_dir.join("ctl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    struct Parrot;

    impl Handler for Parrot {
        fn handle<'a>(&'a self, request: Request, out: &'a mut Output) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
            Box::pin(async move {
                match request {
                    Request::SetLogLevel { level, .. } => Err(format!("no {level}")),
                    request => out.write(request.name().repeat(20_000).as_bytes()).await,
                }
            })
        }
    }

    #[tokio::test]
    async fn output_and_errors_arrive_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        serve(dir.path(), Arc::new(Parrot), tracker.clone(), stop.clone()).await.unwrap();
        let path = dir.path().to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = connect(&path).unwrap();
            let mut out = Vec::new();
            request(&mut stream, &Request::LogLevels, &mut out).unwrap();
            let refused = Request::SetLogLevel { package: String::new(), level: "bogus".to_owned() };
            // One connection carries several commands.
            let refused = request(&mut stream, &refused, &mut Vec::new());
            (out, refused)
        });
        let (out, refused) = asked.await.unwrap();
        assert_eq!(out, "loglevels".repeat(20_000).into_bytes());
        assert!(matches!(refused, Err(crate::cli::Failure::Error(text)) if text == "no bogus"));
        stop.cancel();
        tracker.close();
        tracker.wait().await;
        assert!(connect(dir.path()).is_err(), "socket left behind");
    }
}
