//! The HTTP server: metrics for Prometheus.
//!
//! [`Metrics`] is the registry that the rest of the server counts in; [`serve`] answers `GET /metrics` with its text and
//! `GET /` with a page that points there. Nobody is authenticated: this belongs on addresses that only monitoring reaches.
//! Limits: requests have no body and small headers, and a connection lasts as long as its requests keep coming.

mod metrics;
mod process;
mod server;

pub use metrics::{ConnectionLabels, Metrics, OpenConnection};
pub use server::serve;
