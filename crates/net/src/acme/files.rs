//! Files of a provider: its account's key and the certificates, below `acme` in the data folder.
//!
//! ```text
//! <name>.key                 key of the account, PKCS #8
//! keycerts/<name>/<host>     ECDSA: private key, then certificate and chain
//! keycerts/<name>/<host>+rsa RSA
//! ```
//!
//! Go's autocert reads and writes the same, so an installation can be switched over, and back. All functions block.

use crate::tls::KeyKind;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where a provider's files are.
#[derive(Clone, Debug)]
pub struct Files {
    account: PathBuf,
    certs: PathBuf,
}

impl Files {
    /// Of a provider, by its name in the configuration, in a data folder. Nothing is made yet.
    pub fn new(data_dir: &Path, provider: &str) -> Self {
        let acme = data_dir.join("acme");
        Self { account: acme.join(format!("{provider}.key")), certs: acme.join("keycerts").join(provider) }
    }

    /// The account's key, in PEM; none if there is no account yet.
    pub(super) fn account_key(&self) -> io::Result<Option<String>> {
        found(fs::read_to_string(&self.account))
    }

    pub(super) fn write_account_key(&self, pem: &str) -> io::Result<()> {
        write(&self.account, pem.as_bytes(), 0o660)
    }

    /// Puts a key away that the provider doesn't know.
    pub(super) fn retire_account_key(&self) -> io::Result<()> {
        fs::rename(&self.account, self.account.with_extension("key.old"))
    }

    /// The key and certificate of a host, in PEM; none if there are none.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn certificate(&self, host: &str, kind: KeyKind) -> io::Result<Option<String>> {
        found(fs::read_to_string(self.path(host, kind)))
    }

    pub(super) fn write_certificate(&self, host: &str, kind: KeyKind, pem: &str) -> io::Result<()> {
        write(&self.path(host, kind), pem.as_bytes(), 0o600)
    }

    /// All there are, whatever is in them.
    pub(super) fn certificates(&self) -> io::Result<Vec<(String, KeyKind, String)>> {
        let mut all = Vec::new();
        for entry in found(fs::read_dir(&self.certs))?.into_iter().flatten() {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let (host, kind) = match name.split_once('+') {
                None => (name.as_str(), KeyKind::EcdsaP256),
                Some((host, "rsa")) => (host, KeyKind::Rsa2048),
                // Of a validation that was going on when Go's server ended.
                Some(_) => continue,
            };
            if name.starts_with('.') || !entry.file_type()?.is_file() {
                continue;
            }
            all.push((host.to_owned(), kind, fs::read_to_string(entry.path())?));
        }
        Ok(all)
    }

    fn path(&self, host: &str, kind: KeyKind) -> PathBuf {
        match kind {
            KeyKind::EcdsaP256 => self.certs.join(host),
            KeyKind::Rsa2048 => self.certs.join(format!("{host}+rsa")),
        }
    }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// All of it or nothing, also after a power failure.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(ErrorKind::InvalidInput.into()) };
    DirBuilder::new().recursive(true).mode(0o770).create(folder)?;
    let temporary = folder.join(format!(".{}.new", name.to_string_lossy()));
    let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_under_the_names_that_go_uses() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), "le");
        assert!(files.certificates().unwrap().is_empty() && files.account_key().unwrap().is_none());
        files.write_account_key("key").unwrap();
        files.write_certificate("mx.example", KeyKind::EcdsaP256, "one").unwrap();
        files.write_certificate("mx.example", KeyKind::Rsa2048, "two").unwrap();
        files.write_certificate("mx.example", KeyKind::Rsa2048, "three").unwrap();
        let at = |name: &str| fs::read_to_string(dir.path().join("acme").join(name)).unwrap();
        assert_eq!(
            (at("le.key"), at("keycerts/le/mx.example"), at("keycerts/le/mx.example+rsa")),
            ("key".into(), "one".into(), "three".into())
        );
        for transient in ["mx.example+token", "abc+http-01", ".mx.example.new"] {
            fs::write(dir.path().join("acme/keycerts/le").join(transient), "x").unwrap();
        }
        let mut all = files.certificates().unwrap();
        all.sort();
        let want = [("mx.example", KeyKind::EcdsaP256, "one"), ("mx.example", KeyKind::Rsa2048, "three")];
        assert_eq!(all, want.map(|(host, kind, text)| (host.to_owned(), kind, text.to_owned())));
        files.retire_account_key().unwrap();
        assert_eq!((at("le.key.old").as_str(), files.account_key().unwrap()), ("key", None));
    }
}
