//! Which lines are written.

use mox_config::LogLevel;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use tracing::Metadata;
use tracing::metadata::LevelFilter;

/// The levels in effect: a default and one for each package that has its own.
#[derive(Debug)]
pub(crate) struct Levels(RwLock<Table>);

#[derive(Clone, Debug)]
struct Table {
    default: LogLevel,
    packages: BTreeMap<String, LogLevel>,
}

/// Our modules and the packages that their lines belong to; the first that fits. Package names are those that
/// configurations know.
const PACKAGES: &[(&str, &str)] = &[
    ("mox_smtpd", "smtpserver"),
    ("mox_imapd", "imapserver"),
    ("mox_delivery::inbound", "smtpserver"),
    ("mox_delivery::dmarc", "dmarcdb"),
    ("mox_delivery::tls::report", "tlsrptsend"),
    ("mox_delivery::client", "smtpclient"),
    ("mox_delivery::smtp", "smtpclient"),
    ("mox_delivery", "queue"),
    ("mox_store", "store"),
    ("mox_logins", "store"),
    ("mox_probe::dnsbl", "dnsbl"),
    ("mox_net::resolver", "dns"),
    ("mox_net::acme", "autotls"),
    ("mox_net", "net"),
    ("mox_mailauth::dkim", "dkim"),
    ("mox_mailauth::spf", "spf"),
    ("mox_mailauth::dmarc", "dmarc"),
    ("mox_mailauth", "mailauth"),
    ("mox_message", "message"),
    ("mox_httpd::webapi", "webapi"),
    ("mox_httpd", "http"),
    ("mox_config", "config"),
    ("mox::ctl", "ctl"),
    ("mox::cmd::serve", "serve"),
    ("mox::cmd::localserve", "localserve"),
    ("mox", "mox"),
];

/// Packages that only some lines of a module name.
const MORE: &[&str] = &["net/http"];

/// The package a line belongs to; none for other people's crates, whose lines aren't for operators.
pub(super) fn package(metadata: &Metadata<'_>) -> Option<&'static str> {
    package_of(metadata.target())
}

fn package_of(target: &str) -> Option<&'static str> {
    let module = |name: &str| target == name || target.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"));
    if let Some((_, package)) = PACKAGES.iter().find(|(name, _)| module(name)) {
        return Some(package);
    }
    // No line of ours goes nowhere.
    if target.starts_with("mox_") {
        return Some("mox");
    }
    // A target that was given explicitly.
    let explicit = target.split(':').next().unwrap_or_default();
    PACKAGES.iter().map(|(_, package)| package).chain(MORE).copied().find(|p| *p == explicit)
}

/// The level of a line.
pub(super) fn level(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        tracing::Level::ERROR => LogLevel::Error,
        tracing::Level::WARN => LogLevel::Warn,
        tracing::Level::INFO => LogLevel::Info,
        tracing::Level::DEBUG => LogLevel::Debug,
        tracing::Level::TRACE if metadata.target().ends_with(":auth") => LogLevel::TraceAuth,
        tracing::Level::TRACE if metadata.target().ends_with(":data") => LogLevel::TraceData,
        tracing::Level::TRACE => LogLevel::Trace,
    }
}

impl Levels {
    pub(super) fn new(default: LogLevel) -> Self {
        Self(RwLock::new(Table { default, packages: BTreeMap::new() }))
    }

    fn table(&self) -> Table {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
        tracing::callsite::rebuild_interest_cache();
    }

    /// Whether a line is written.
    pub(super) fn shows(&self, metadata: &Metadata<'_>) -> bool {
        let Some(package) = package(metadata) else { return false };
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        level(metadata) <= table.packages.get(package).copied().unwrap_or(table.default)
    }

    /// The most that any package shows.
    pub(super) fn widest(&self) -> LevelFilter {
        let table = self.table();
        let widest = table.packages.values().copied().fold(table.default, LogLevel::max);
        match widest {
            LogLevel::Print | LogLevel::Fatal | LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace | LogLevel::TraceAuth | LogLevel::TraceData => LevelFilter::TRACE,
        }
    }

    /// Sets all levels.
    pub(crate) fn replace(&self, default: LogLevel, packages: BTreeMap<String, LogLevel>) {
        self.change(|table| *table = Table { default, packages });
    }

    /// Sets a package's level, or removes it; the default's when the package is empty.
    pub(crate) fn set(&self, package: &str, level: Option<LogLevel>) {
        self.change(|table| match level {
            Some(level) if package.is_empty() => table.default = level,
            Some(level) => {
                table.packages.insert(package.to_owned(), level);
            }
            None => {
                table.packages.remove(package);
            }
        });
    }

    /// Lines `(default): level` and `package: level`, sorted.
    pub(crate) fn list(&self) -> String {
        let table = self.table();
        let mut text = format!("(default): {}\n", table.default.name());
        for (package, level) in &table.packages {
            text.push_str(&format!("{package}: {}\n", level.name()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the webapi and of HTTP connections, of logins and of block lists went nowhere.
    #[test]
    fn lines_belong_to_packages() {
        for (target, package) in [
            ("mox_net::acme::run", "autotls"),
            ("autotls", "autotls"),
            ("webapi", "webapi"),
            ("mox_httpd::webapi::send", "webapi"),
            ("net/http", "net/http"),
            ("mox_httpd::server", "http"),
            ("smtpserver:auth", "smtpserver"),
            ("store", "store"),
            ("mox_logins::logins", "store"),
            ("mox_probe::dnsbl", "dnsbl"),
            ("mox_some_new_crate", "mox"),
        ] {
            assert_eq!(package_of(target), Some(package), "{target}");
        }
        assert_eq!(package_of("hyper::proto"), None);
    }

    #[test]
    fn lists_and_changes() {
        let levels = Levels::new(LogLevel::Info);
        levels.set("smtpserver", Some(LogLevel::TraceAuth));
        levels.set("", Some(LogLevel::Error));
        assert_eq!(levels.list(), "(default): error\nsmtpserver: traceauth\n");
        assert_eq!(levels.widest(), LevelFilter::TRACE);
        levels.set("smtpserver", None);
        assert_eq!(levels.list(), "(default): error\n");
    }
}
