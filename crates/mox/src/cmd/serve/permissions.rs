//! Owners and modes of our folders, repaired at start, since wrong ones are the commonest mistake of an installation.

use mox_config::Paths;
use nix::unistd::{Gid, Uid, chown};
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const ROOT: u32 = 0;
const SETGID: u32 = 0o2000;

/// What a file should be like.
#[derive(Clone, Copy)]
struct Want {
    uid: u32,
    gid: u32,
    mode: u32,
}

/// Repairs the working directory, the folders of configuration and data, and what is known in the first.
///
/// # Errors
/// When one of the folders isn't there. That something can't be repaired is logged only.
pub(super) fn repair(paths: &Paths, uid: Uid, gid: Gid) -> io::Result<()> {
    let ours = Want { uid: uid.as_raw(), gid: ROOT, mode: 0o750 | SETGID };
    fix(Path::new("."), Want { uid: ROOT, gid: gid.as_raw(), mode: 0o751 })?;
    let config = if paths.config_dir().as_os_str().is_empty() { Path::new(".") } else { paths.config_dir() };
    for dir in [config, paths.data_dir()] {
        if fix(dir, ours)? {
            below(dir, ours);
        }
    }
    for (name, want) in
        [("mox", Want { uid: ROOT, gid: gid.as_raw(), mode: 0o750 }), ("mox.service", Want { uid: ROOT, gid: ROOT, mode: 0o644 })]
    {
        let path = Path::new(name);
        if path.is_file() {
            fix(path, want)?;
        }
    }
    Ok(())
}

/// Gives a file its owner and mode; says whether that needed a change.
fn fix(path: &Path, want: Want) -> io::Result<bool> {
    let found = fs::symlink_metadata(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    let changed = !is(&found, want);
    if changed {
        tracing::info!(path = %path.display(), uid = want.uid, gid = want.gid, mode = format_args!("{:o}", want.mode), "fixing owner and mode");
        let done = chown(path, Some(Uid::from_raw(want.uid)), Some(Gid::from_raw(want.gid)))
            .map_err(io::Error::from)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(want.mode)));
        if let Err(error) = done {
            tracing::error!(%error, path = %path.display(), "fixing owner and mode");
        }
    }
    Ok(changed)
}

fn is(found: &Metadata, want: Want) -> bool {
    found.uid() == want.uid && found.gid() == want.gid && found.mode() & 0o7777 == want.mode
}

/// Repairs everything in a folder. Symbolic links aren't followed: their target might be someone else's.
fn below(dir: &Path, folder: Want) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(%error, path = %dir.display(), "fixing owner and mode");
            return;
        }
    };
    for entry in entries.flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        let want = if kind.is_dir() { folder } else { Want { mode: 0o640, ..folder } };
        if kind.is_symlink() {
            continue;
        }
        if let Err(error) = fix(&path, want) {
            tracing::error!(%error, "fixing owner and mode");
        }
        if kind.is_dir() {
            below(&path, folder);
        }
    }
}
