//! Reaching the world and being reached: DNS, TLS, listening, dialling.
//!
//! [`Resolver`] is the real [`mox_base::Lookup`], validating DNSSEC itself, [`OfflineDns`] one that asks nobody. [`tls::ServerTls`] and [`tls::ClientTls`] hold what
//! handshakes need; [`Stream`] is one connection, in the clear or encrypted, to a peer over TCP or within a test's
//! [`memory::World`]. [`Listener`] and [`listen::serve`] accept connections, [`Dial`] makes them. [`http::Client`]
//! asks web servers, [`acme::Acme`] gets certificates. rustls, hickory and the socket options are known here only.

pub mod acme;
pub mod dial;
pub mod http;
pub mod limit;
pub mod listen;
pub mod memory;
pub mod metrics;
pub mod offline;
pub mod pem;
pub mod proxied;
pub mod race;
pub mod resolver;
pub mod socks;
pub mod stream;
pub mod tls;

pub use dial::{Dial, DialError, DialFuture, TcpDial};
pub use limit::{OpenLimit, RateLimit};
pub use listen::{BindError, Listener, Sockets};
pub use offline::OfflineDns;
pub use resolver::Resolver;
pub use socks::{SocksDial, SocksLogin};
pub use stream::Stream;
pub use tls::{CertificateError, ClientCert, ClientTls, HandshakeError, ServerTls, TlsInfo};
