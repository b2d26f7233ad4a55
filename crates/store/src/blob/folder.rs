//! Blobs as files below a folder.

use super::BlobStore;
use crate::db::{self, Faults, Step};
use crate::error::Error;
use mox_base::Timestamp;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Blobs as files `<first two characters of name>/<name>`, or flat as `<name>`. A file being written ends in `.new`.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Without folders below, for few and short-lived blobs.
    flat: bool,
    faults: Arc<dyn Faults>,
}

impl Folder {
    /// Blobs below a folder, which is made when first needed.
    pub fn new(root: PathBuf, faults: Arc<dyn Faults>) -> Self {
        Self { root, flat: false, faults }
    }

    /// Blobs in a folder itself, where they are few at a time, as the queue's.
    pub fn flat(root: PathBuf, faults: Arc<dyn Faults>) -> Self {
        Self { root, flat: true, faults }
    }

    fn step(&self, step: Step) -> Result<(), Error> {
        Ok(db::check(&*self.faults, step)?)
    }

    fn folder(&self, name: &str) -> PathBuf {
        if self.flat { self.root.clone() } else { self.root.join(name.get(..2).unwrap_or("__")) }
    }

    /// Makes the folder of a blob durably.
    fn make_folder(&self, folder: &Path) -> Result<(), Error> {
        if folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        sync(&self.root)?;
        if let Some(above) = self.root.parent() {
            sync(above)?;
        }
        Ok(())
    }

    fn write(&self, file: &mut File, data: &mut dyn FnMut(&mut Vec<u8>) -> Result<bool, Error>) -> Result<(), Error> {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let more = data(&mut buffer)?;
            self.step(Step::BlobWrite)?;
            file.write_all(&buffer)?;
            if !more {
                break;
            }
        }
        self.step(Step::BlobSync)?;
        Ok(file.sync_all()?)
    }
}

/// Makes what was renamed or created in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl BlobStore for Folder {
    fn put(&self, name: &str, data: &mut dyn FnMut(&mut Vec<u8>) -> Result<bool, Error>) -> Result<(), Error> {
        let folder = self.folder(name);
        self.make_folder(&folder)?;
        let unfinished = folder.join(format!("{name}.new"));
        let mut file = File::options().write(true).create_new(true).open(&unfinished)?;
        let result = self.write(&mut file, data).and_then(|()| {
            self.step(Step::BlobRename)?;
            fs::rename(&unfinished, folder.join(name))?;
            self.step(Step::BlobSyncFolder)?;
            Ok(sync(&folder)?)
        });
        if result.is_err() {
            // Whichever of them there is; what can't be deleted is an orphan, and swept.
            _ = fs::remove_file(&unfinished);
            _ = fs::remove_file(folder.join(name));
        }
        result
    }

    fn open(&self, name: &str, offset: u64) -> Result<Box<dyn Read + Send>, Error> {
        self.step(Step::BlobRead)?;
        let mut file = match File::open(self.folder(name).join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::Blob(name.to_owned(), "missing")),
            file => file?,
        };
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        self.step(Step::BlobDelete)?;
        match fs::remove_file(self.folder(name).join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => Ok(done?),
        }
    }

    fn list(&self) -> Result<Vec<(String, Timestamp)>, Error> {
        self.step(Step::BlobList)?;
        let mut names = Vec::new();
        if self.flat {
            files(&self.root, &mut names)?;
            return Ok(names);
        }
        let folders = match fs::read_dir(&self.root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(names),
            folders => folders?,
        };
        for folder in folders {
            let folder = folder?;
            if folder.file_type()?.is_dir() {
                files(&folder.path(), &mut names)?;
            }
        }
        Ok(names)
    }
}

/// The files in a folder, and when they were written. Others may be deleting some meanwhile.
fn files(folder: &Path, names: &mut Vec<(String, Timestamp)>) -> Result<(), Error> {
    let there = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    for file in there {
        let file = file?;
        let Ok(name) = file.file_name().into_string() else { continue };
        let written = match file.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            written => written?,
        };
        let age = written.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if written.is_file() {
            names.push((name, Timestamp::EPOCH.after(age)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::NoFaults;

    #[test]
    fn files_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        come_and_go(&Folder::new(dir.path().join("msg"), Arc::new(NoFaults)));
        come_and_go(&Folder::flat(dir.path().join("flat"), Arc::new(NoFaults)));
    }

    fn come_and_go(blobs: &Folder) {
        assert_eq!(blobs.list().unwrap(), []);
        let mut pieces = vec![b"one ".to_vec(), b"two".to_vec()].into_iter();
        blobs
            .put("abcd", &mut |buffer| {
                buffer.extend(pieces.next().unwrap_or_default());
                Ok(pieces.len() > 0)
            })
            .unwrap();
        let mut text = String::new();
        blobs.open("abcd", 4).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "two");
        assert_eq!(blobs.list().unwrap().into_iter().map(|f| f.0).collect::<Vec<_>>(), ["abcd"]);
        blobs.delete("abcd").unwrap();
        blobs.delete("abcd").unwrap();
        assert!(matches!(blobs.open("abcd", 0), Err(Error::Blob(_, "missing"))));
    }
}
