//! The configuration of a running server: read, swapped when the file changes, edited.
//!
//! [`Live`] holds the static part and the current [`Snapshot`] of the dynamic part. Readers take a snapshot and work with
//! it; they see the old or the new configuration, never a mix. [`Live::reload`] looks whether `domains.conf` changed, and
//! [`Live::edit`] changes it: both parse and check everything first, and a configuration with mistakes never becomes
//! active nor is written. A file that someone else changed is loaded before it is edited; if it has mistakes, the edit is
//! refused rather than overwriting their work. All functions here block on files: call them off the reactor.

use crate::check::{AddressTable, Checker, DkimKeys, Outside, check_dynamic, check_static};
use crate::dynamic::Dynamic;
use crate::fixed::Static;
use crate::paths::Paths;
use crate::problem::{Problem, Problems};
use crate::rewrite::{Stamp, rewrite};
use crate::sconf::{self, Parsed, Style};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A checked dynamic configuration with what was resolved from it.
#[derive(Debug)]
pub struct Snapshot {
    /// The settings, with complete destinations.
    pub dynamic: Dynamic,
    /// The keys for DKIM signatures.
    pub dkim_keys: DkimKeys,
    /// Who has which address.
    pub addresses: AddressTable,
}

/// A checked static configuration, and where it is.
#[derive(Debug)]
pub struct Fixed {
    /// The settings.
    pub settings: Static,
    /// Where files are.
    pub paths: Paths,
}

/// Reads and checks `mox.conf`.
///
/// # Errors
/// All its mistakes.
pub fn load_static(path: &Path, outside: &Outside<'_>) -> Result<(Fixed, Vec<Problem>), Problems> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| Problems::of_file(&name, format!("reading: {error}")))?;
    let Parsed { value: mut settings } = sconf::parse::<Static>(&name, &bytes)?;
    let paths = Paths::new(path, &settings);
    let mut checker = Checker::new(&name, &paths);
    check_static(&mut checker, &mut settings, outside);
    let warnings = checker.finish(|| sconf::lines::<Static>(&name, &bytes))?;
    Ok((Fixed { settings, paths }, warnings))
}

/// Checks the text of a `domains.conf`.
///
/// # Errors
/// All its mistakes.
pub fn check_text(fixed: &Fixed, bytes: &[u8]) -> Result<(Snapshot, Vec<Problem>), Problems> {
    let name = fixed.paths.dynamic_file().display().to_string();
    let Parsed { value } = sconf::parse::<Dynamic>(&name, bytes)?;
    check(fixed, &name, bytes, value)
}

fn check(fixed: &Fixed, name: &str, bytes: &[u8], mut dynamic: Dynamic) -> Result<(Snapshot, Vec<Problem>), Problems> {
    let mut checker = Checker::new(name, &fixed.paths);
    let (dkim_keys, addresses) = check_dynamic(&mut checker, &fixed.settings, &mut dynamic);
    let warnings = checker.finish(|| sconf::lines::<Dynamic>(name, bytes))?;
    Ok((Snapshot { dynamic, dkim_keys, addresses }, warnings))
}

/// Reads and checks both files, as `config test` does.
///
/// # Errors
/// All mistakes of the first file that has any.
pub fn load(path: &Path, outside: &Outside<'_>) -> Result<(Fixed, Snapshot, Vec<Problem>), Problems> {
    let (fixed, mut warnings) = load_static(path, outside)?;
    let (snapshot, more, _stamp) = load_dynamic(&fixed)?;
    warnings.extend(more);
    Ok((fixed, snapshot, warnings))
}

fn load_dynamic(fixed: &Fixed) -> Result<(Snapshot, Vec<Problem>, Stamp), Problems> {
    let path = fixed.paths.dynamic_file();
    // The stamp first: a change while reading then shows as a change.
    let read = Stamp::of(&path).and_then(|stamp| Ok((stamp, std::fs::read(&path)?)));
    let name = path.display().to_string();
    let (stamp, bytes) = read.map_err(|error| Problems::of_file(&name, format!("reading: {error}")))?;
    let (snapshot, warnings) = check_text(fixed, &bytes)?;
    Ok((snapshot, warnings, stamp))
}

/// The configuration of a running server; see the module.
#[derive(Debug)]
pub struct Live {
    fixed: Fixed,
    current: RwLock<Arc<Snapshot>>,
    disk: Mutex<Disk>,
}

/// What is known of the file.
#[derive(Debug)]
struct Disk {
    /// The file that is active.
    active: Stamp,
    /// The file that has mistakes, so that they are reported once, with what they are.
    refused: Option<(Stamp, Problems)>,
}

/// What a look at the file found.
#[derive(Debug)]
pub enum Reload {
    /// Nothing new.
    Unchanged,
    /// A new configuration is active.
    Swapped {
        /// The configuration.
        snapshot: Arc<Snapshot>,
        /// What looks wrong in it.
        warnings: Vec<Problem>,
    },
    /// The file has mistakes, the old configuration stays. Said once for each change of the file.
    Refused(Problems),
}

/// Why an edit failed.
#[derive(Debug, thiserror::Error)]
pub enum EditError<E> {
    /// The change itself isn't possible.
    #[error(transparent)]
    Change(E),
    /// The configuration would have mistakes.
    #[error("config error: {}", .0.joined())]
    Invalid(Problems),
    /// Someone changed the file, and it has mistakes, which have to be mended first.
    #[error("domains.conf was changed and has mistakes, not overwriting it: {}", .0.joined())]
    Disk(Problems),
    /// A value that the format can't express.
    #[error(transparent)]
    Unwritable(#[from] sconf::Unwritable),
    /// The written text doesn't read back as what was meant. A bug of ours; nothing was written.
    #[error("configuration would not read back as it was meant")]
    Inconsistent,
    /// The file can't be written.
    #[error("writing domains.conf: {0}")]
    Write(std::io::Error),
}

impl Live {
    /// Reads and checks both files.
    ///
    /// # Errors
    /// All mistakes of the first file that has any.
    pub fn open(path: &Path, outside: &Outside<'_>) -> Result<(Self, Vec<Problem>), Problems> {
        let (fixed, mut warnings) = load_static(path, outside)?;
        let (snapshot, more, stamp) = load_dynamic(&fixed)?;
        warnings.extend(more);
        let live = Self { fixed, current: RwLock::new(Arc::new(snapshot)), disk: Mutex::new(Disk { active: stamp, refused: None }) };
        Ok((live, warnings))
    }

    /// The static settings.
    pub const fn settings(&self) -> &Static {
        &self.fixed.settings
    }

    /// Where files are.
    pub const fn paths(&self) -> &Paths {
        &self.fixed.paths
    }

    /// The dynamic configuration as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The mistakes of the file on disk, if it has any and therefore isn't active.
    pub fn refused(&self) -> Option<Problems> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.refused.as_ref().map(|(_, problems)| problems.clone())
    }

    /// Looks whether `domains.conf` changed, and if so makes it active.
    pub fn reload(&self) -> Reload {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        self.reload_locked(&mut disk)
    }

    fn reload_locked(&self, disk: &mut Disk) -> Reload {
        let path = self.fixed.paths.dynamic_file();
        let stamp = Stamp::of(&path).unwrap_or_default();
        if stamp == disk.active {
            // Also after a bad edit was undone.
            disk.refused = None;
            return Reload::Unchanged;
        }
        if disk.refused.as_ref().is_some_and(|(refused, _)| *refused == stamp) {
            return Reload::Unchanged;
        }
        match load_dynamic(&self.fixed) {
            Ok((snapshot, warnings, stamp)) => {
                *disk = Disk { active: stamp, refused: None };
                Reload::Swapped { snapshot: self.swap(snapshot), warnings }
            }
            Err(problems) => {
                disk.refused = Some((stamp, problems.clone()));
                Reload::Refused(problems)
            }
        }
    }

    fn swap(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&snapshot);
        snapshot
    }

    /// Changes the dynamic configuration: a copy is changed, checked, written and made active.
    ///
    /// # Errors
    /// See [`EditError`]. File and memory are then as they were.
    pub fn edit<E>(&self, change: impl FnOnce(&mut Dynamic) -> Result<(), E>) -> Result<Arc<Snapshot>, EditError<E>> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Reload::Refused(problems) = self.reload_locked(&mut disk) {
            return Err(EditError::Disk(problems));
        }
        if let Some((_, problems)) = &disk.refused {
            return Err(EditError::Disk(problems.clone()));
        }
        let mut dynamic = self.snapshot().dynamic.clone();
        change(&mut dynamic).map_err(EditError::Change)?;
        let path = self.fixed.paths.dynamic_file();
        let name = path.display().to_string();
        let text = sconf::write(&dynamic, Style::Plain)?;
        // What becomes active is what will be read after a restart. Compared as text: explicit zeros aren't written.
        let Parsed { value } = sconf::parse::<Dynamic>(&name, text.as_bytes()).map_err(|_| EditError::Inconsistent)?;
        if sconf::write(&value, Style::Plain)? != text {
            return Err(EditError::Inconsistent);
        }
        let (snapshot, _warnings) = check(&self.fixed, &name, text.as_bytes(), value).map_err(EditError::Invalid)?;
        let stamp = rewrite(&path, text.as_bytes()).map_err(EditError::Write)?;
        *disk = Disk { active: stamp, refused: None };
        Ok(self.swap(snapshot))
    }
}
