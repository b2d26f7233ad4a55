//! Where the store is, as `Storage` in mox.conf says: SQLite in the data directory, or a PostgreSQL.

use mox_base::Secret;
use mox_config::{Paths, Postgresql, Static};
use mox_net::ClientTls;
use mox_net::tls::read_roots;
use mox_store::Settings;
use mox_store::db::{PgAddress, PgTlsMode};
use std::path::PathBuf;

/// What the store is opened with. Reads the files with password and certificates, which only root may be able to.
///
/// # Errors
/// A text for the operator.
pub(super) fn settings(fixed: &Static, paths: &Paths) -> Result<Settings, String> {
    match fixed.storage.as_ref().and_then(|storage| storage.postgresql.as_ref()) {
        None => Ok(Settings::sqlite(paths.data_dir())),
        Some(postgresql) => postgres(postgresql, paths).map_err(|e| format!("Storage.PostgreSQL: {e}")),
    }
}

fn postgres(config: &Postgresql, paths: &Paths) -> Result<Settings, String> {
    let mut address = PgAddress::parse(&config.url).map_err(|e| e.to_string())?;
    if let Some(password) = password(config, paths)?.filter(|_| !address.has_password()) {
        address = address.with_password(&password);
    }
    let tls = match address.tls_mode() {
        PgTlsMode::Disable => None,
        PgTlsMode::Require => Some(ClientTls::opportunistic()),
        PgTlsMode::VerifyFull => {
            let files: Vec<PathBuf> = config.ca_cert_files.iter().map(|file| paths.config(file)).collect();
            let roots = read_roots(files.is_empty(), &files).map_err(|e| e.to_string())?;
            Some(ClientTls::verified(roots))
        }
    };
    let tls = tls.transpose().map_err(|e| format!("setting up TLS: {e}"))?;
    Ok(Settings::postgres(address, tls.map(|tls| tls.config()), paths.data(config.blob_dir())))
}

fn password(config: &Postgresql, paths: &Paths) -> Result<Option<Secret<String>>, String> {
    if config.password_file.is_empty() {
        return Ok(std::env::var("PGPASSWORD").ok().map(Secret::new));
    }
    let path = paths.config(&config.password_file);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("reading {}: {e}", path.display()))?;
    Ok(text.lines().next().map(|line| Secret::new(line.to_owned())))
}
