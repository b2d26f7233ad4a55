//! An internet of a test's own: a network namespace where all addresses of 9.0.0.0/8 are this machine, and of 2a09:9::/32 where the
//! system has IPv6.
//!
//! Servers in it listen on the ports that the world uses, with addresses that count as public, and tests in parallel don't
//! meet. What runs in it sees a `resolv.conf` of the test's choice. Root is needed, and Linux; tests without it are skipped.

use super::folder::Folder;
use super::{PATIENCE, Running, find_program, is_root, skip, wait_until};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Binds a `resolv.conf` over the system's, then becomes the program.
const BIND: &str = r#"mount --bind "$1" /etc/resolv.conf && shift && exec "$@""#;

/// A network; ends when the last clone is dropped. What runs in it has to end before.
#[derive(Clone, Debug)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // In this order: the namespace is given up before the folder is removed.
    holder: Running,
    folder: Folder,
}

impl Network {
    /// Makes one, or returns none after printing that a test is skipped.
    ///
    /// # Panics
    /// With `CI=true`, if it can't be made.
    #[must_use]
    pub fn require() -> Option<Self> {
        match Self::start() {
            Ok(network) => Some(network),
            Err(error) => {
                skip(&format!("no network of its own: {error}"));
                None
            }
        }
    }

    /// Makes one.
    ///
    /// # Errors
    /// If this isn't root, or the system doesn't allow it.
    pub fn start() -> io::Result<Self> {
        if !is_root() {
            return Err(io::Error::other("only root can make it"));
        }
        for program in ["ip", "unshare", "nsenter", "mount"] {
            find_program(program).ok_or_else(|| io::Error::other(format!("{program} isn't installed")))?;
        }
        let folder = Folder::new("mox-network-")?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let ready = folder.path().join("ready");
        // On the loopback interface, an address with a prefix makes all addresses of the prefix ours. It ends by itself if a test dies.
        // For IPv6 that takes a route, and leave to bind where no interface has the address.
        let script = format!(
            "ip link set lo up && ip address add 9.0.0.1/8 dev lo && \
             {{ ip -6 route add local 2a09:9::/32 dev lo && echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind || true; }} && \
             touch {} && exec sleep 900",
            ready.display()
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--", "sh", "-c", &script]).env("PATH", SYSTEM_PATH);
        let mut holder = Running::start(&mut unshare)?;
        let made = wait_until(PATIENCE, || ready.exists() || holder.ended().is_ok_and(|e| e.is_some()));
        if made && ready.exists() {
            return Ok(Self(Arc::new(Inner { holder, folder })));
        }
        Err(io::Error::other("the namespace can't be made"))
    }

    /// A folder for what runs in it, which everybody may look into.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    /// A command that runs in it; arguments can be added. `resolv_conf` is what the program finds as its name servers.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn command(&self, resolv_conf: &str, program: &Path) -> io::Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace().display())).args(["--", "unshare", "--mount", "--", "sh", "-c", BIND, "sh"]);
        command.arg(self.resolv_conf(resolv_conf)?).arg(program).env("PATH", SYSTEM_PATH);
        Ok(command)
    }

    /// The file with these contents.
    fn resolv_conf(&self, text: &str) -> io::Result<PathBuf> {
        let servers: String = text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let path = self.folder().join(format!("resolv.conf-{servers}"));
        if !path.exists() {
            // Whole at once: somebody else may need the same.
            let file = tempfile::NamedTempFile::new_in(self.folder())?;
            std::fs::write(file.path(), text)?;
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644))?;
            file.persist(&path)?;
        }
        Ok(path)
    }

    /// Does something whose sockets are in the network; sockets made there stay there.
    ///
    /// # Errors
    /// If the namespace can't be entered.
    ///
    /// # Panics
    /// If the work does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let namespace = File::open(self.namespace())?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Connects to a server in it, from an address of choice.
    ///
    /// # Errors
    /// If the server doesn't accept.
    pub fn connect_from(&self, source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.inside(|| {
            let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
            socket.bind(&source.into())?;
            socket.connect(&to.into())?;
            Ok::<_, io::Error>(TcpStream::from(socket))
        })??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    }

    /// Whether it has IPv6.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        let bound = self.inside(|| std::net::TcpListener::bind("[2a09:9::1]:0"));
        bound.is_ok_and(|bound| bound.is_ok())
    }

    /// Connects to a server in it.
    ///
    /// # Errors
    /// If the server doesn't accept.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_from(SocketAddr::from(([9, 0, 0, 1], 0)), to)
    }

    /// Waits until something accepts connections there; false if it doesn't in time.
    #[must_use]
    pub fn wait_for(&self, to: SocketAddr, patience: Duration) -> bool {
        wait_until(patience, || self.connect(to).is_ok())
    }

    fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.0.holder.id()))
    }
}

/// Where system tools are.
pub(super) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
