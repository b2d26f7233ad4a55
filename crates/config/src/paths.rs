//! Where the files are.

use crate::fixed::Static;
use std::path::{Path, PathBuf};

/// The paths of an installation: everything is relative to the directory of `mox.conf`, data to `DataDir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    static_file: PathBuf,
    config_dir: PathBuf,
    data_dir: PathBuf,
}

impl Paths {
    /// Paths by the place of `mox.conf` and what it says.
    pub fn new(static_file: &Path, fixed: &Static) -> Self {
        let config_dir = static_file.parent().map_or_else(PathBuf::new, Path::to_owned);
        Self { data_dir: join(&config_dir, &fixed.data_dir), static_file: static_file.to_owned(), config_dir }
    }

    /// `mox.conf`.
    pub fn static_file(&self) -> &Path {
        &self.static_file
    }

    /// `domains.conf`.
    pub fn dynamic_file(&self) -> PathBuf {
        self.config_dir.join("domains.conf")
    }

    /// The directory of both; empty for the working directory.
    pub fn config_dir(&self) -> &Path {
        &self.config_dir
    }

    /// `DataDir`.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A path of a setting that is relative to the directory of `mox.conf`.
    pub fn config(&self, path: &str) -> PathBuf {
        join(&self.config_dir, path)
    }

    /// A path that is relative to `DataDir`.
    pub fn data(&self, path: &str) -> PathBuf {
        join(&self.data_dir, path)
    }
}

/// Joined and without `.` and `..` where they can be resolved in the text: `config/../data` is `data`.
fn join(base: &Path, path: &str) -> PathBuf {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            Component::ParentDir | Component::Normal(_) | Component::RootDir | Component::Prefix(_) => clean.push(component),
        }
    }
    if clean.as_os_str().is_empty() { PathBuf::from(".") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining() {
        for (base, path, want) in [
            ("config", "../data", "data"),
            ("config", "dkim/x.pem", "config/dkim/x.pem"),
            ("/home/mox/config", "../data", "/home/mox/data"),
            ("/c", ".", "/c"),
            ("", "../data", "../data"),
            ("config", "/var/x", "/var/x"),
            ("a/b", "../../../x", "../x"),
            ("a", "..", "."),
        ] {
            assert_eq!(join(Path::new(base), path), Path::new(want), "{base} {path}");
        }
    }
}
