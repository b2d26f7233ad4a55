//! Replacing a file so that after a crash either the old or the new one is there, whole.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Tells one state of a file from another: inode, modification time in nanoseconds, size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|m| Self { inode: m.ino(), modified: (m.mtime(), m.mtime_nsec()), size: m.size() })
    }
}

/// Replaces the content of a file, keeping owner and mode, and says what its stamp is then.
pub(crate) fn rewrite(path: &Path, content: &[u8]) -> io::Result<Stamp> {
    match replace(path, content) {
        Ok(()) => {}
        // A file that is mounted by itself, or a directory in which we can't create files: the old content is lost if we
        // crash now, but the change isn't possible otherwise.
        Err(error) if cannot_replace(&error) => overwrite(path, content)?,
        Err(error) => return Err(error),
    }
    Stamp::of(path)
}

fn cannot_replace(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | CrossesDevices | ResourceBusy)
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    // Left from a crash. Edits hold a lock, so it isn't in use.
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = fill(path, temporary, content).and_then(|()| std::fs::rename(temporary, path));
    if written.is_err() {
        // The original error says more than that of removing.
        let _removed = std::fs::remove_file(temporary);
    }
    written?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn fill(path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    // Nobody else may read it before it has the mode of the original.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    if let Ok(original) = std::fs::metadata(path) {
        let ours = file.metadata()?;
        if (ours.uid(), ours.gid()) != (original.uid(), original.gid()) {
            std::os::unix::fs::fchown(&file, Some(original.uid()), Some(original.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(original.mode() & 0o7777))?;
    }
    file.write_all(content)?;
    file.sync_all()
}

fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_mode_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("domains.conf");
        std::fs::write(&path, "a long old text").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::fs::write(dir.path().join("domains.conf.new"), "left over").unwrap();
        let before = Stamp::of(&path).unwrap();
        let after = rewrite(&path, b"new").unwrap();
        assert_ne!(before, after);
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn overwriting_shortens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "a long old text").unwrap();
        overwrite(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
