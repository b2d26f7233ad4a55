//! What a client may cost.

use std::time::Duration;

/// Limits, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a command line before its line end. RFC 5321 §4.5.3.1.4 wants 512, and extensions add to it.
    pub line: usize,
    /// Octets of a line with SASL data, RFC 4954 §4.
    pub auth_line: usize,
    /// Recipients of a transaction; RFC 5321 §4.5.3.1.8 wants at least 100.
    pub recipients: usize,
    /// Octets beyond the largest message that are read and dropped, so that the client hears that it is too large.
    pub drain: u64,
    /// Wrong commands in a connection before it is closed.
    pub bad_commands: u32,
    /// Commands after which no message came before the connection is closed.
    pub chatter: u32,
    /// Refused messages, with none accepted, after which a client is taken for a guesser.
    pub bad_messages: u32,
    /// How long to wait for a command, RFC 5321 §4.5.3.2.7.
    pub command_timeout: Duration,
    /// How long to wait for a piece of message data. RFC 5321 §4.5.3.2.5 lets clients wait 3 minutes to send one.
    pub data_timeout: Duration,
    /// How long receiving and delivering one message may take.
    pub message_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 2048,
            auth_line: 12288,
            recipients: 1000,
            drain: 64 << 20,
            bad_commands: 50,
            chatter: 1000,
            bad_messages: 10,
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(180),
            message_timeout: Duration::from_secs(30 * 60),
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A command.
    Command,
    /// A line of an authentication exchange.
    Auth,
    /// Message data.
    Data,
}

impl Limits {
    /// How long to wait in a phase.
    pub const fn timeout(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Command | Phase::Auth => self.command_timeout,
            Phase::Data => self.data_timeout,
        }
    }
}
