//! A private Pebble, the test authority of Let's Encrypt, with a name server that has every name on loopback.
//!
//! It speaks HTTPS with a certificate of its own, to be trusted by whoever asks it, and validates at ports of choice. It forgets
//! everything when it ends.

use super::folder::Folder;
use super::{PATIENCE, Running, find_program, free_port, skip, wait_for_port};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How a Pebble differs from others.
#[derive(Clone, Debug)]
pub struct PebbleOptions {
    /// Where it asks for answers over HTTP.
    pub http_port: u16,
    /// Where it asks for answers over TLS.
    pub tls_port: u16,
    /// How long its certificates are valid, in seconds.
    pub validity: u32,
    /// An external account that new accounts have to be tied to: its name, and its key in base64url.
    pub external_account: Option<(String, String)>,
    /// A domain whose names it refuses.
    pub blocked: Option<String>,
}

impl PebbleOptions {
    /// With certificates for 90 days.
    #[must_use]
    pub const fn new(http_port: u16, tls_port: u16) -> Self {
        Self { http_port, tls_port, validity: 90 * 24 * 3600, external_account: None, blocked: None }
    }
}

/// A running Pebble; ends when dropped.
#[derive(Debug)]
pub struct Pebble {
    port: u16,
    management: u16,
    dns: u16,
    // In this order: the servers end before their folder is removed.
    server: Option<Running>,
    _names: Running,
    folder: Folder,
}

impl Pebble {
    /// Starts one, or returns none after printing that a test is skipped.
    ///
    /// # Panics
    /// With `CI=true`, if it isn't installed or doesn't start.
    #[must_use]
    pub fn require(options: &PebbleOptions) -> Option<Self> {
        match Self::start(options) {
            Ok(pebble) => Some(pebble),
            Err(error) => {
                skip(&format!("no Pebble: {error}"));
                None
            }
        }
    }

    /// Starts one in a new temporary folder.
    ///
    /// # Errors
    /// If it isn't installed or doesn't start.
    pub fn start(options: &PebbleOptions) -> io::Result<Self> {
        let folder = Folder::new("mox-pebble-")?;
        let (port, management, dns) = (free_port(), free_port(), free_port());
        make_certificate(&folder)?;
        std::fs::write(folder.path().join("pebble.json"), configuration(&folder, port, management, options))?;
        let mut names = Command::new(program("pebble-challtestsrv")?);
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        names.args(["-dns01", &format!("127.0.0.1:{dns}"), "-management", &format!("127.0.0.1:{}", free_port())]);
        let names = Running::start(names.stdout(Stdio::null()).stderr(log(&folder, "names.log")?))?;
        if !wait_for_port(dns, PATIENCE) {
            return Err(io::Error::other("its name server doesn't start"));
        }
        let mut pebble = Self { port, management, dns, server: None, _names: names, folder };
        pebble.resume()?;
        Ok(pebble)
    }

    /// The URL of its directory.
    #[must_use]
    pub fn directory_url(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// The file with the certificate it speaks HTTPS with, in PEM.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("https.pem")
    }

    /// The root of the certificates it issues, in PEM. Another one after each start.
    ///
    /// # Errors
    /// If it can't be asked.
    pub fn root(&self) -> io::Result<String> {
        let mut curl = Command::new(program("curl")?);
        curl.args(["--silent", "--fail", "--cacert"]).arg(self.ca_file());
        let output = curl.arg(format!("https://localhost:{}/roots/0", self.management)).output()?;
        if !output.status.success() {
            return Err(io::Error::other("asking Pebble for its root"));
        }
        String::from_utf8(output.stdout).map_err(io::Error::other)
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub fn stop(&mut self) -> io::Result<()> {
        self.server.take().map_or(Ok(()), |mut server| server.kill())
    }

    /// Starts it again, knowing nobody.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn resume(&mut self) -> io::Result<()> {
        let mut pebble = Command::new(program("pebble")?);
        pebble.arg("-config").arg(self.folder.path().join("pebble.json")).arg("-dnsserver").arg(format!("127.0.0.1:{}", self.dns));
        // No pauses before it asks. It goes on refusing some nonces, as it does by default.
        pebble.env("PEBBLE_VA_NOSLEEP", "1").current_dir(self.folder.path());
        let output = log(&self.folder, "pebble.log")?;
        self.server = Some(Running::start(pebble.stdout(output.try_clone()?).stderr(output))?);
        if wait_for_port(self.port, PATIENCE) {
            return Ok(());
        }
        Err(io::Error::other(format!("it doesn't start: {}", self.log())))
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("pebble.log")).unwrap_or_default()
    }
}

fn program(name: &str) -> io::Result<PathBuf> {
    find_program(name).ok_or_else(|| io::Error::other(format!("{name} isn't installed")))
}

fn log(folder: &Folder, name: &str) -> io::Result<std::fs::File> {
    std::fs::File::options().create(true).append(true).open(folder.path().join(name))
}

/// A certificate for `localhost` that trusts itself.
fn make_certificate(folder: &Folder) -> io::Result<()> {
    const CONFIGURATION: &str = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n[name]\nCN = Pebble of a test\n\
        [extensions]\nsubjectAltName = DNS:localhost, IP:127.0.0.1\nbasicConstraints = critical, CA:FALSE\nextendedKeyUsage = serverAuth\n";
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("openssl.conf"), CONFIGURATION)?;
    let mut openssl = Command::new(program("openssl")?);
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-config"]);
    let output = openssl.arg(at("openssl.conf")).arg("-keyout").arg(at("https.key")).arg("-out").arg(at("https.pem")).output()?;
    if output.status.success() { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())) }
}

fn configuration(folder: &Folder, port: u16, management: u16, options: &PebbleOptions) -> String {
    let folder = folder.path().display();
    let PebbleOptions { http_port, tls_port, validity, external_account, blocked } = options;
    let (required, keys) = match external_account {
        None => (false, String::new()),
        Some((id, key)) => (true, format!("\"{id}\": \"{key}\"")),
    };
    let blocked = blocked.as_ref().map(|domain| format!("\"{domain}\"")).unwrap_or_default();
    format!(
        r#"{{"pebble": {{
            "listenAddress": "127.0.0.1:{port}",
            "managementListenAddress": "127.0.0.1:{management}",
            "certificate": "{folder}/https.pem",
            "privateKey": "{folder}/https.key",
            "httpPort": {http_port},
            "tlsPort": {tls_port},
            "ocspResponderURL": "",
            "certificateValidityPeriod": {validity},
            "domainBlocklist": [{blocked}],
            "externalAccountBindingRequired": {required},
            "externalAccountMACKeys": {{{keys}}}
        }}}}"#
    )
}
