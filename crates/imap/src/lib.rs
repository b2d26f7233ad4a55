//! The IMAP protocol without sockets: grammar, responses, server session, test client.
