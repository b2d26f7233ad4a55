//! The HTTP server (1.1, and 2 over TLS): routes by host and path, limits, compression, access log; metrics for Prometheus; the webapi;
//! policies of MTA-STS, and answers to providers of certificates.
//!
//! [`Metrics`] is the registry that the rest of the server counts in. A [`Server`] is shared by all ports; a [`Site`] is what one
//! port serves: a [`Router`] with services, each a [`Handler`] at a path. Limits: the size of a request's head, the time for it and
//! for taking the answer, requests and connections of a client; services limit what they read of bodies.

mod access;
mod body;
mod compress;
mod h2;
mod limits;
mod metrics;
mod pace;
mod process;
mod request;
mod router;
mod scrape;
mod server;
#[cfg(test)]
mod tests;
pub mod webapi;
mod wellknown;

pub use body::Body;
pub use limits::Limits;
pub use metrics::{ConnectionLabels, Metrics, OpenConnection};
pub use request::{Peer, Request};
pub use router::{Answering, Class, ClientNames, Handler, Hosts, Route, Router};
pub use scrape::Scrape;
pub use server::{Server, Site};
pub use wellknown::{ACME_PATH, AcmeHttp, MTA_STS_PATH, MtaSts, ServedPolicy};
