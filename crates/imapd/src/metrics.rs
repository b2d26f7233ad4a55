//! What is counted. The binary gives an implementation that exports it.

use std::time::Duration;

/// How a command ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandResult {
    /// `ok`.
    Ok,
    /// `badsyntax`.
    BadSyntax,
    /// `usererror`.
    UserError,
    /// `servererror`.
    ServerError,
    /// `ioerror`.
    IoError,
    /// `panic`.
    Panic,
}

impl CommandResult {
    /// The label's value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadSyntax => "badsyntax",
            Self::UserError => "usererror",
            Self::ServerError => "servererror",
            Self::IoError => "ioerror",
            Self::Panic => "panic",
        }
    }
}

/// A receiver of events that are counted.
pub trait Metrics: Send + Sync + std::fmt::Debug {
    /// `mox_imap_connection_total`, by service: `imap` or `imaps`.
    fn connection(&self, service: &'static str);
    /// `mox_imap_command_duration_seconds`, by command and result.
    fn command(&self, command: &'static str, result: CommandResult, duration: Duration);
    /// `mox_panic_total` with pkg `imapserver`.
    fn panic(&self);
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMetrics;

impl Metrics for NoMetrics {
    fn connection(&self, _: &'static str) {}
    fn command(&self, _: &'static str, _: CommandResult, _: Duration) {}
    fn panic(&self) {}
}
