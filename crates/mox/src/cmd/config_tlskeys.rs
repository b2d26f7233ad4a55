//! `mox config tlspubkey …`: keys of TLS client certificates that log in without a password.

use crate::cli::{Command, Failure, Flag, Invocation, Outcome};
use crate::ctl::{self, Request, TlsKeyTask};
use crate::ports::{SystemClock, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mox_base::{Clock as _, Random as _};
use mox_net::ClientCert;
use mox_net::pem;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SerialNumber};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

/// Largest certificate read from standard input.
const MAX_INPUT: u64 = 256 << 10;

const ADD_FLAGS: &[Flag] = &[Flag::bool(
    "no-imap-preauth",
    "connections with the certificate start without a login, for clients that don't understand one; they log in with the mechanism EXTERNAL",
)];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "config tlspubkey list",
        params: &["[account]"],
        listed: true,
        help: "List the TLS public keys that can log in.\n\n\
            A client that shows a certificate with a registered key is logged in to the account of the key, for IMAP and submission. \
            Each line has a key's fingerprint, its type, its name, the account, the login address, and whether IMAP connections with it start without a login.",
        flags: &[],
        args: 0..=1,
        run: |i| task(i, TlsKeyTask::List { account: i.arg(0).to_owned() }),
    },
    Command {
        words: "config tlspubkey get",
        params: &["fingerprint"],
        listed: true,
        help: "Print a TLS public key, with the certificate it was registered with.\n\nThe fingerprint is as \"mox config tlspubkey list\" prints it.",
        flags: &[],
        args: 1..=1,
        run: |i| task(i, TlsKeyTask::Get { fingerprint: i.arg(0).to_owned() }),
    },
    Command {
        words: "config tlspubkey add",
        params: &["[-no-imap-preauth] address [name] < cert.pem"],
        listed: true,
        help: "Register the public key of a TLS client certificate, for logging in with an address.\n\n\
            The certificate is read from standard input, in PEM. Only its key counts: who issued it and until when it is valid does not matter. \
            Without a name, the key goes by the common name of the certificate, or by its serial number. Keys can be RSA with at least 2048 bits, ECDSA, or Ed25519.",
        flags: ADD_FLAGS,
        args: 1..=2,
        run: add,
    },
    Command {
        words: "config tlspubkey rm",
        params: &["fingerprint"],
        listed: true,
        help: "Remove a TLS public key.\n\nNobody can log in with it any more. Connections that are logged in stay.",
        flags: &[],
        args: 1..=1,
        run: |i| task(i, TlsKeyTask::Remove { fingerprint: i.arg(0).to_owned() }),
    },
    Command {
        words: "config tlspubkey gen",
        params: &["stem"],
        listed: true,
        help: "Generate a key and a certificate for logging in with TLS.\n\n\
            Three files are written, their names starting with stem and the time: the Ed25519 private key, a certificate for it, and both in one file. \
            They are for the client; the certificate is also what \"mox config tlspubkey add\" reads. \
            The names of the files, the seed of the key and its fingerprint are printed to standard error. No server is needed.",
        flags: &[],
        args: 1..=1,
        run: generate,
    },
];

fn task(invocation: &Invocation, task: TlsKeyTask) -> Outcome {
    let mut stream = ctl::connect(&super::data_dir(invocation)?)?;
    ctl::request(&mut stream, &Request::TlsKeys(task), &mut std::io::stdout())
}

fn add(invocation: &Invocation) -> Outcome {
    let mut pem = String::new();
    let read = std::io::stdin().lock().take(MAX_INPUT).read_to_string(&mut pem);
    read.map_err(|e| Failure::new("reading certificate from standard input", e))?;
    // What is wrong with it can be said without a server.
    ClientCert::from_pem(pem.as_bytes()).and_then(|cert| cert.key_kind()).map_err(|e| Failure::new("certificate", e))?;
    let (address, name) = (invocation.arg(0).to_owned(), invocation.arg(1).to_owned());
    task(invocation, TlsKeyTask::Add { address, name, no_imap_preauth: invocation.flags.bool("no-imap-preauth"), pem })
}

fn generate(invocation: &Invocation) -> Outcome {
    let failed = |e: &dyn std::fmt::Display| Failure::new("generating certificate", e);
    let mut seed = [0; 32];
    SystemRandom.fill(&mut seed);
    let key_der = ed25519_pkcs8(&seed);
    let key = KeyPair::try_from(key_der.as_slice()).map_err(|e| failed(&e))?;
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(|e| failed(&e))?;
    params.distinguished_name = DistinguishedName::new();
    let now = SystemClock::new().now();
    params.serial_number = Some(SerialNumber::from(u64::try_from(now.micros()).unwrap_or_default()));
    let cert = params.self_signed(&key).map_err(|e| failed(&e))?;
    let (key_pem, cert_pem) = (pem::encode("PRIVATE KEY", &key_der), pem::encode("CERTIFICATE", cert.der()));
    let fingerprint = ClientCert::from_der(cert.der()).map_err(|e| failed(&e))?.fingerprint;

    // `2026-11-25T15:04:05Z` without seconds and punctuation.
    let time: String = now.rfc3339().chars().filter(char::is_ascii_digit).take(12).collect();
    let stem = format!("{}.{time}", invocation.arg(0));
    for (name, contents) in [
        (format!("{stem}.ed25519privatekey.pkcs8.pem"), key_pem.clone()),
        (format!("{stem}.certificate.pem"), cert_pem.clone()),
        (format!("{stem}.ed25519privatekey-certificate.pem"), key_pem + &cert_pem),
    ] {
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&name);
        file.and_then(|mut file| file.write_all(contents.as_bytes())).map_err(|e| Failure::new(format!("writing {name}"), e))?;
        eprintln!("wrote {name}");
    }
    eprintln!("seed of the key: {}", URL_SAFE_NO_PAD.encode(seed));
    eprintln!("fingerprint: {fingerprint}");
    Ok(())
}

/// A private key as RFC 8410 §7 has it, in the first version of PKCS #8: older libraries don't read the second, with the public key in it.
fn ed25519_pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    let mut der = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend_from_slice(seed);
    der
}
