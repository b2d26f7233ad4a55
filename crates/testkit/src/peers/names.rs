//! The DNS of a [`Network`]: nsd with zones that were signed for the test, below a root of its own, and unbound.
//!
//! Every zone is delegated from the closest zone above it that is here, in the end from the root, whose key nobody but the
//! test knows. The delegation of a signed zone has a DS record, that of an unsigned one is insecure; what is delegated to
//! `nowhere.dns` gets no answers. Two unbounds resolve:
//! one validates from the root's key and is to be trusted, the other doesn't validate.

use super::{Network, PATIENCE, Running, find_program, skip};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const NSD: &str = "9.0.0.53";
const VALIDATING: &str = "9.0.0.54";
const PLAIN: &str = "9.0.0.55";
/// A name server that refuses every question.
const NOWHERE: &str = "9.0.0.56";

/// How a zone is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// Not at all.
    Unsigned,
    /// Denials by NSEC.
    Nsec,
    /// Denials by NSEC3.
    Nsec3,
    /// Years ago.
    Expired,
}

/// A zone to be.
#[derive(Clone, Debug)]
pub struct ZoneFile {
    name: String,
    signing: Signing,
    records: String,
    spoiled: Vec<(String, String)>,
}

impl ZoneFile {
    /// An empty zone. Its name has no dot at the end.
    #[must_use]
    pub fn new(name: &str, signing: Signing) -> Self {
        Self { name: name.to_owned(), signing, records: String::new(), spoiled: Vec::new() }
    }

    /// Adds a record as in a master file, RFC 1035 §5, such as `mx A 9.0.1.1`.
    #[must_use]
    pub fn with(mut self, record: &str) -> Self {
        self.records.push_str(record);
        self.records.push('\n');
        self
    }

    /// Replaces a text in the zone after it was signed, so that signatures don't fit.
    #[must_use]
    pub fn spoiled(mut self, from: &str, to: &str) -> Self {
        self.spoiled.push((from.to_owned(), to.to_owned()));
        self
    }

    fn file(&self) -> String {
        if self.name.is_empty() { "root".to_owned() } else { self.name.clone() }
    }

    fn origin(&self) -> String {
        format!("{}.", self.name)
    }

    fn is_below(&self, other: &Self) -> bool {
        self.name != other.name && (other.name.is_empty() || self.name.ends_with(&format!(".{}", other.name)))
    }
}

/// Whose word is taken for DNSSEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolving {
    /// That of a resolver which validates.
    Trusted,
    /// One's own, below the root's key; the resolver doesn't validate.
    Own,
    /// One's own, though the resolver validates: it isn't to be trusted.
    Wary,
}

impl Resolving {
    /// The contents of resolv.conf.
    #[must_use]
    pub fn resolv_conf(self) -> String {
        match self {
            Self::Trusted => format!("nameserver {VALIDATING}\noptions trust-ad edns0 timeout:5 attempts:2\n"),
            Self::Wary => format!("nameserver {VALIDATING}\noptions edns0 timeout:5 attempts:2\n"),
            Self::Own => format!("nameserver {PLAIN}\noptions edns0 timeout:5 attempts:2\n"),
        }
    }
}

/// The running servers; they end when dropped.
#[derive(Debug)]
pub struct Names {
    servers: Vec<Running>,
    folder: PathBuf,
}

impl Names {
    /// Starts them, or returns none after printing that a test is skipped.
    ///
    /// # Panics
    /// With `CI=true`, if a program isn't installed or doesn't start.
    #[must_use]
    pub fn require(network: &Network, zones: Vec<ZoneFile>) -> Option<Self> {
        match Self::start(network, zones) {
            Ok(names) => Some(names),
            Err(error) => {
                skip(&format!("no DNS: {error}"));
                None
            }
        }
    }

    /// Signs the zones and starts the servers.
    ///
    /// # Errors
    /// If a program isn't installed, or doesn't like what it gets.
    pub fn start(network: &Network, mut zones: Vec<ZoneFile>) -> io::Result<Self> {
        let folder = network.folder().join("dns");
        std::fs::create_dir(&folder)?;
        zones.push(ZoneFile::new("", Signing::Nsec).with("ns.dns. A 9.0.0.53\nnowhere.dns. A 9.0.0.56"));
        let keys: Vec<Option<String>> = zones.iter().map(|zone| key(&folder, zone)).collect::<io::Result<_>>()?;
        let mut nsd_conf = nsd_server(&folder, NSD);
        for (zone, key) in zones.iter().zip(&keys) {
            let mut text = format!("$ORIGIN {}\n$TTL 5\n@ SOA ns.dns. host.dns. 1 3600 600 86400 5\n@ NS ns.dns.\n", zone.origin());
            text.push_str(&zone.records);
            for (below, key) in zones.iter().zip(&keys) {
                let parent = zones.iter().filter(|above| below.is_below(above)).max_by_key(|above| above.name.len());
                if parent.is_some_and(|parent| parent.name == zone.name) {
                    text.push_str(&format!("{} NS ns.dns.\n", below.origin()));
                    if let Some(key) = key {
                        text.push_str(&std::fs::read_to_string(folder.join(format!("{key}.ds")))?);
                    }
                }
            }
            std::fs::write(folder.join(zone.file()), text)?;
            sign(&folder, zone, key.as_deref())?;
            nsd_conf.push_str(&format!("zone:\n name: \"{}\"\n zonefile: \"{}\"\n", zone.origin(), zone.file()));
        }
        let anchor = keys.last().cloned().flatten().ok_or_else(|| io::Error::other("no key of the root"))?;
        std::fs::copy(folder.join(format!("{anchor}.key")), folder.join("anchor"))?;
        std::fs::write(folder.join("hints"), format!(". 3600 NS ns.dns.\nns.dns. 3600 A {NSD}\n"))?;
        std::fs::write(folder.join("nsd.conf"), nsd_conf)?;
        std::fs::write(folder.join("nowhere.conf"), nsd_server(&folder, NOWHERE))?;
        std::fs::write(folder.join("validating.conf"), unbound_conf(&folder, VALIDATING, "validator iterator"))?;
        std::fs::write(folder.join("plain.conf"), unbound_conf(&folder, PLAIN, "iterator"))?;
        let mut names = Self { servers: Vec::new(), folder };
        names.launch(network, "nsd", "nsd.conf", NSD)?;
        names.launch(network, "nsd", "nowhere.conf", NOWHERE)?;
        names.launch(network, "unbound", "validating.conf", VALIDATING)?;
        names.launch(network, "unbound", "plain.conf", PLAIN)?;
        Ok(names)
    }

    fn launch(&mut self, network: &Network, program: &str, config: &str, ip: &str) -> io::Result<()> {
        let path = find_program(program).ok_or_else(|| io::Error::other(format!("{program} isn't installed")))?;
        let log = self.folder.join(format!("{config}.log"));
        let out = std::fs::File::create(&log)?;
        let mut command = network.command("", &path)?;
        command.arg("-d").arg("-c").arg(self.folder.join(config)).stdout(out.try_clone()?).stderr(out);
        self.servers.push(Running::start(&mut command)?);
        let address = format!("{ip}:53").parse().map_err(io::Error::other)?;
        if network.wait_for(address, PATIENCE) {
            return Ok(());
        }
        Err(io::Error::other(format!("{program} doesn't start: {}", std::fs::read_to_string(log).unwrap_or_default())))
    }

    /// The file with the root's key.
    #[must_use]
    pub fn anchors(&self) -> PathBuf {
        self.folder.join("anchor")
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for server in &mut self.servers {
            server.end("TERM", Duration::from_secs(5));
        }
    }
}

fn nsd_server(folder: &Path, ip: &str) -> String {
    let folder = folder.display();
    format!(
        "server:\n ip-address: {ip}\n username: \"\"\n database: \"\"\n pidfile: \"\"\n xfrdfile: \"\"\n server-count: 1\n \
         zonesdir: \"{folder}\"\n zonelistfile: \"{folder}/{ip}.list\"\nremote-control:\n control-enable: no\n"
    )
}

fn unbound_conf(folder: &Path, ip: &str, modules: &str) -> String {
    let folder = folder.display();
    format!(
        "server:\n directory: \"{folder}\"\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n use-syslog: no\n logfile: \"\"\n interface: {ip}\n \
         access-control: 0.0.0.0/0 allow\n do-ip6: no\n root-hints: \"{folder}/hints\"\n trust-anchor-file: \"{folder}/anchor\"\n \
         module-config: \"{modules}\"\n ede: yes\n val-log-level: 2\n num-threads: 1\nremote-control:\n control-enable: no\n"
    )
}

/// Makes a zone's key; its name.
fn key(folder: &Path, zone: &ZoneFile) -> io::Result<Option<String>> {
    if zone.signing == Signing::Unsigned {
        return Ok(None);
    }
    let made = tool(folder, "ldns-keygen", &["-r", "/dev/urandom", "-a", "ECDSAP256SHA256", "-k", &zone.origin()])?;
    Ok(Some(made.trim().to_owned()))
}

fn sign(folder: &Path, zone: &ZoneFile, key: Option<&str>) -> io::Result<()> {
    let file = zone.file();
    if let Some(key) = key {
        let how: &[&str] = match zone.signing {
            Signing::Unsigned | Signing::Nsec => &[],
            Signing::Nsec3 => &["-n", "-t", "0"],
            Signing::Expired => &["-i", "20200101", "-e", "20200201"],
        };
        let origin = zone.origin();
        let args = [how, &["-o", &origin, "-f", &file, &file, key]].concat();
        tool(folder, "ldns-signzone", &args)?;
    }
    let mut text = std::fs::read_to_string(folder.join(&file))?;
    for (from, to) in &zone.spoiled {
        if !text.contains(from) {
            return Err(io::Error::other(format!("{from:?} isn't in the zone to be spoiled: {text}")));
        }
        text = text.replace(from, to);
    }
    std::fs::write(folder.join(file), text)
}

/// What a tool prints.
fn tool(folder: &Path, program: &str, args: &[&str]) -> io::Result<String> {
    let path = find_program(program).ok_or_else(|| io::Error::other(format!("{program} isn't installed")))?;
    let output = Command::new(path).args(args).current_dir(folder).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr))))
}
