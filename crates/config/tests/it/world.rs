//! An installation in a temporary folder.

use mox_config::{Outside, Problems, Snapshot};
use std::path::PathBuf;

pub(crate) const STATIC: &str = "DataDir: ../data\nLogLevel: info\nHostname: mx.example.org\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 127.0.0.1\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\n";
pub(crate) const DYNAMIC: &str = "Domains:\n\texample.org:\n\t\tLocalpartCatchallSeparator: +\nAccounts:\n\tann:\n\t\tDomain: example.org\n\t\tDestinations:\n\t\t\tann@example.org: nil\n";
/// A key made for these tests.
const KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEzvQqUQzUcZqzuJVYJ2dr0Dgav3m3HvI6jyoNOBf0mG\n-----END PRIVATE KEY-----\n";

pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(fixed: &str, dynamic: &str) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(world.path("mox.conf"), fixed).unwrap();
        std::fs::write(world.path("domains.conf"), dynamic).unwrap();
        std::fs::write(world.path("key.pem"), KEY).unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn load(&self) -> Result<(Snapshot, Vec<String>), Problems> {
        let (_, snapshot, warnings) = mox_config::load(&self.path("mox.conf"), &outside())?;
        Ok((snapshot, warnings.iter().map(ToString::to_string).map(|w| self.short(&w)).collect()))
    }

    /// The mistakes, with file names only.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        match self.load() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(|p| self.short(&p.to_string())).collect(),
        }
    }

    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

pub(crate) fn outside() -> Outside<'static> {
    Outside { user_known: &|name| name == "mox", read_tls_keys: true }
}
