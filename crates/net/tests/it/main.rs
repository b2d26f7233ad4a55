//! Connections, TLS and the resolver, over loopback and in memory.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is a failed test")]

mod acme;
mod dane;
mod http;
mod resolver;
mod serving;
mod tls;
