//! Where a PostgreSQL is, and whether connections to it are encrypted.

use super::Error;
use mox_base::Secret;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgTlsMode {
    /// Never: within a machine.
    Disable,
    /// Always, whoever the server is.
    Require,
    /// Always, with a certificate for its name from an authority that is trusted.
    VerifyFull,
}

/// A PostgreSQL's address: `postgres://user:password@host:port/database?option=value&…`.
///
/// The option `sslmode` is `disable`, `require` or `verify-full`. Without it, connections within the machine aren't encrypted, and others
/// are verified: nothing is encrypted only if possible.
#[derive(Clone)]
pub struct PgAddress {
    pub(super) config: Config,
    mode: PgTlsMode,
}

/// Without the password.
impl fmt::Debug for PgAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgAddress").field("hosts", &self.config.get_hosts()).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl PgAddress {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is malformed, or its `sslmode` isn't one of ours.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = None;
        let mut rest = Vec::new();
        for option in query.split('&').filter(|o| !o.is_empty()) {
            match option.strip_prefix("sslmode=") {
                Some("disable") => mode = Some(PgTlsMode::Disable),
                Some("require") => mode = Some(PgTlsMode::Require),
                Some("verify-full") => mode = Some(PgTlsMode::VerifyFull),
                Some(other) => return Err(Error::Address(format!("sslmode {other:?} isn't disable, require or verify-full"))),
                None => rest.push(option),
            }
        }
        let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config: Config = url.parse()?;
        if config.get_hosts().is_empty() {
            return Err(Error::Address("there is no host".to_owned()));
        }
        let mode = mode.unwrap_or(if config.get_hosts().iter().all(is_local) { PgTlsMode::Disable } else { PgTlsMode::VerifyFull });
        config.ssl_mode(if mode == PgTlsMode::Disable { SslMode::Disable } else { SslMode::Require });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        if config.get_application_name().is_none() {
            config.application_name("mox");
        }
        Ok(Self { config, mode })
    }

    /// Whether connections are encrypted.
    pub const fn tls_mode(&self) -> PgTlsMode {
        self.mode
    }

    /// Whether it has a password.
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// The address with a password.
    #[must_use]
    pub fn with_password(mut self, password: &Secret<String>) -> Self {
        self.config.password(password.expose());
        self
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_elsewhere_is_verified() {
        use PgTlsMode::{Disable, Require, VerifyFull};
        for (url, want) in [
            ("postgres://u@127.0.0.1:5433/d", Some(Disable)),
            ("postgresql://u@localhost/d?application_name=x", Some(Disable)),
            ("postgres://u@%2Fvar%2Frun%2Fpostgresql/d", Some(Disable)),
            ("postgres://u@127.0.0.1/d?sslmode=verify-full&application_name=x", Some(VerifyFull)),
            ("postgres://u@db.example/d", Some(VerifyFull)),
            ("postgres://u@db.example/d?sslmode=require", Some(Require)),
            ("postgres://u@localhost,db.example/d", Some(VerifyFull)),
            ("postgres://u@db.example/d?application_name=x&sslmode=disable", Some(Disable)),
            ("postgres://u@db.example/d?sslmode=prefer", None),
            ("postgres://u@db.example/d?nonsense=1", None),
            ("mysql://u@db.example/d", None),
            ("postgres:///d", None),
        ] {
            assert_eq!(PgAddress::parse(url).ok().map(|a| a.tls_mode()), want, "{url}");
        }
    }

    #[test]
    fn passwords_stay_secret() {
        let address = PgAddress::parse("postgres://u:hush@localhost/d").unwrap();
        assert!(address.has_password() && !format!("{address:?}").contains("hush"));
        let address = PgAddress::parse("postgres://u@localhost/d").unwrap();
        assert!(!address.has_password() && address.with_password(&Secret::new("hush".to_owned())).has_password());
    }
}
