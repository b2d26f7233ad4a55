//! The IMAP service, a file per command.
