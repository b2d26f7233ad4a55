//! `mox config ensureacmehostprivatekeys`: keys that certificates from a provider keep, so that TLSA records can name them.

use super::config::load;
use crate::cli::{Command, Failure, Invocation, Outcome, print};
use crate::ports::SystemClock;
use crate::wire::{hostname_of, listener_keys, provider_of};
use mox_base::{Clock as _, Timestamp};
use mox_config::{Fixed, Listener};
use mox_net::acme::Files;
use mox_net::tls::{HostKey, KeyKind};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "config ensureacmehostprivatekeys",
    params: &[""],
    listed: true,
    help: "Write the host private keys that listeners with ACME lack.\n\n\
        A TLSA record for DANE names a host's key, which therefore should stay the same when a certificate is renewed. Listeners have these keys in HostPrivateKeyFiles, one with RSA and one with ECDSA. For each that is missing, the key of the host's current certificate is taken, or a new one is made, and written to a file in the directory hostkeys beside mox.conf.\n\n\
        The lines to add to mox.conf are printed; mox.conf isn't changed. Then restart mox, and publish the TLSA records that \"mox config dnsrecords\" prints.",
    flags: &[],
    args: 0..=0,
    run: ensure,
}];

fn ensure(invocation: &Invocation) -> Outcome {
    let (fixed, _) = load(invocation, false)?;
    let now = SystemClock::new().now();
    let mut text = String::new();
    let mut written = BTreeMap::new();
    for (name, listener) in &fixed.settings.listeners {
        let Some(provider) = provider_of(listener) else { continue };
        let files = ensure_listener(&fixed, (name, listener, provider), now, &mut written)?;
        if !files.is_empty() {
            // Writing to a string doesn't fail.
            let _ok = writeln!(text, "\nfor TLS of listener {name} in mox.conf:\n\n\tHostPrivateKeyFiles:");
            let configured = listener.tls.iter().flat_map(|tls| &tls.host_private_key_files);
            for file in configured.chain(&files) {
                let _ok = writeln!(text, "\t\t- {file}");
            }
        }
    }
    if text.is_empty() {
        return Ok(());
    }
    text.push_str(
        "\nAfter changing mox.conf, restart mox, and publish the TLSA records that \"mox config dnsrecords\" prints for the domain.\n",
    );
    print(&text)
}

/// Writes the keys that a listener lacks, unless they were for another one with the same host; gives their paths, as in the
/// configuration.
fn ensure_listener(
    fixed: &Fixed,
    (name, listener, provider): (&str, &Listener, &str),
    now: Timestamp,
    written: &mut BTreeMap<(String, KeyKind), String>,
) -> Result<Vec<String>, Failure> {
    let present = listener_keys(&fixed.paths, name, listener).map_err(Failure::Error)?;
    let host = hostname_of(&fixed.settings, listener).ascii();
    let files = Files::new(fixed.paths.data_dir(), provider);
    let mut missing = Vec::new();
    for kind in [KeyKind::Rsa2048, KeyKind::EcdsaP256].into_iter().filter(|kind| !present.iter().any(|key| key.kind() == *kind)) {
        let id = (host.to_owned(), kind);
        if let Some(file) = written.get(&id) {
            missing.push(file.clone());
            continue;
        }
        let cached = files.certificate(host, kind).map_err(|e| Failure::new(format!("certificate of {host}"), e))?;
        let key = match cached.and_then(|text| HostKey::from_pem(&text).ok()).filter(|key| key.kind() == kind) {
            Some(key) => key,
            None => HostKey::generate(kind).map_err(|e| Failure::new("generating key", e))?,
        };
        let file = format!("hostkeys/{host}.{}.{kind}.privatekey.pkcs8.pem", stamp(now));
        let path = fixed.paths.config(&file);
        write(&path, &key.pkcs8_pem()).map_err(|e| Failure::new(format!("writing {}", path.display()), e))?;
        print(&format!("wrote {}\n", path.display()))?;
        written.insert(id, file.clone());
        missing.push(file);
    }
    Ok(missing)
}

/// `20060102T150405`.
fn stamp(now: Timestamp) -> String {
    now.rfc3339().chars().take(19).filter(|c| c.is_ascii_digit() || *c == 'T').collect()
}

/// A new file that only its owner reads.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let now = Timestamp::from_civil((2026, 11, 5), (7, 8, 9), 0).unwrap();
        assert_eq!(stamp(now), "20261105T070809");
    }
}
