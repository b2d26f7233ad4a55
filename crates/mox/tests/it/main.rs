//! The built server from outside, with real clients and real peers, as its users meet it.
//!
//! Each test starts its own `mox localserve` in a temporary folder, on free ports. Clients are programs that people use;
//! where a test needs exact bytes it uses the small clients of `mox_testkit::peers`, which share no code with the server.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in tests, helpers included")]
#![expect(clippy::disallowed_methods, reason = "other programs run in real time")]

mod acme;
mod clients;
mod config;
mod config_edit;
mod dial;
mod dialing;
mod dsn;
mod hostile;
mod kill;
mod kill_alias;
mod localserve;
mod metrics;
mod network;
mod network_reports;
mod next_hops;
mod octets;
mod peers;
mod postgres;
mod probe;
mod proxied;
mod queue;
mod reports;
mod send;
mod server;
mod shutdown;
mod tls_login;
mod walkthrough;
mod webapi;
mod webapi_batch;
mod webapi_client;
mod webapi_contract;
mod webapi_http;
mod webapi_keys;
mod webapi_lists;
mod webapi_once;
mod webhook_kill;
mod webhook_tls;
