//! The SMTP protocol without sockets: commands, replies, server and client sessions.
