//! A PostgreSQL for tests: the one that `MOX_TEST_POSTGRES` names, or a private cluster in a temporary folder.
//!
//! The private one trades durability for speed (no fsync): what survives a crash of PostgreSQL is PostgreSQL's to prove.

use super::folder::Folder;
use super::{PATIENCE, Running, free_port, is_root, skip, user_ids, wait_until};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The variable that names a server whose databases tests may create and drop.
const VARIABLE: &str = "MOX_TEST_POSTGRES";

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    url: String,
    // In this order: the server ends before its folder is removed.
    cluster: Option<(Running, Folder)>,
}

impl Postgres {
    /// The server that `MOX_TEST_POSTGRES` names, or none after printing that a test is skipped.
    ///
    /// # Panics
    /// With `CI=true`, if the variable isn't set.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        match std::env::var(VARIABLE) {
            Ok(url) if !url.is_empty() => Some(Self { url, cluster: None }),
            _ => {
                skip("MOX_TEST_POSTGRES isn't set; try `cargo xtask services cargo test`");
                None
            }
        }
    }

    /// Starts a private cluster, as user `postgres` when started by root, which PostgreSQL refuses to run as.
    ///
    /// # Errors
    /// If PostgreSQL isn't installed or doesn't start.
    pub fn start() -> io::Result<Self> {
        Self::launch(None)
    }

    /// The same with a password and TLS only: certificate and key in PEM, for `127.0.0.1`. The URL has no password.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_tls(password: &str, cert: &str, key: &str) -> io::Result<Self> {
        Self::launch(Some(Guarded { password, cert, key }))
    }

    fn launch(guarded: Option<Guarded<'_>>) -> io::Result<Self> {
        let programs = folders().pop().ok_or_else(|| io::Error::other("PostgreSQL isn't installed"))?;
        let ids = if is_root() { Some(user_ids("postgres")?) } else { None };
        let folder = Folder::new("mox-postgres-")?;
        if let Some((user, group)) = ids {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group))?;
        }
        let data = folder.path().join("data");
        let mut initdb = command(&programs, "initdb", folder.path(), ids);
        initdb.args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        match &guarded {
            None => initdb.arg("--auth=trust"),
            Some(guarded) => {
                private(&folder.path().join("password"), guarded.password, ids)?;
                initdb.args(["--auth=scram-sha-256", "--pwfile"]).arg(folder.path().join("password"))
            }
        };
        initdb.arg("--pgdata");
        let output = initdb.arg(&data).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let mut settings =
            vec!["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300", "shared_buffers=64MB"];
        if let Some(guarded) = &guarded {
            private(&data.join("server.crt"), guarded.cert, ids)?;
            private(&data.join("server.key"), guarded.key, ids)?;
            std::fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 scram-sha-256\n")?;
            settings.push("ssl=on");
        }
        let port = free_port();
        let mut server = command(&programs, "postgres", folder.path(), ids);
        server.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"]).arg(folder.path());
        for setting in settings {
            server.args(["-c", setting]);
        }
        let log = std::fs::File::create(folder.path().join("log"))?;
        let server = Running::start(server.stdout(Stdio::null()).stderr(log))?;
        // It accepts connections before it can answer them.
        let mut ready = command(&programs, "pg_isready", folder.path(), ids);
        ready.args(["--quiet", "--host=127.0.0.1", "--port", &port.to_string()]);
        if wait_until(PATIENCE, || ready.status().is_ok_and(|s| s.success())) {
            let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
            return Ok(Self { url, cluster: Some((server, folder)) });
        }
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        Err(io::Error::other(format!("PostgreSQL doesn't start: {log}")))
    }

    /// `postgres://USER@HOST:PORT/DATABASE`, of a user who may create databases.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Who may connect to a private cluster, and how.
#[derive(Clone, Copy)]
struct Guarded<'a> {
    password: &'a str,
    cert: &'a str,
    key: &'a str,
}

/// A file for the server's user only.
fn private(path: &Path, text: &str, ids: Option<(u32, u32)>) -> io::Result<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    ids.map_or(Ok(()), |(user, group)| std::os::unix::fs::chown(path, Some(user), Some(group)))
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some((server, _)) = &mut self.cluster {
            // Immediate shutdown: nothing of it is wanted any more.
            server.end("QUIT", Duration::from_secs(10));
        }
    }
}

fn command(programs: &Path, program: &str, folder: &Path, ids: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(programs.join(program));
    command.current_dir(folder).env("LC_ALL", "C");
    if let Some((user, group)) = ids {
        command.uid(user).gid(group);
    }
    command
}

/// Folders with all of PostgreSQL's own programs, best last: where Debian keeps them, by version, else in `PATH`.
pub(super) fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = versions.map(|v| v.path().join("bin")).collect();
    debian.sort();
    folders.extend(debian);
    folders.retain(|f| ["postgres", "initdb", "pg_isready"].iter().all(|program| f.join(program).is_file()));
    folders
}
