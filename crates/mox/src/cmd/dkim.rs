//! `mox dkim …`: keys, their records in DNS, and signatures of messages in files.

use super::config::load;
use super::config_dns::public_key;
use super::dns::with_resolver;
use crate::cli::{Command, Failure, Invocation, Outcome, print};
use crate::ports::SystemClock;
use crate::wire::signing_selectors;
use mox_base::{Clock as _, Domain, Lookup, Timestamp};
use mox_config::{DkimAlgorithm, DkimHash, DkimKey};
use mox_mailauth::dkim::{self, DkimOutcome, DkimSettings, KeyLookup, KeyRecord};
use mox_mailauth::{DkimSelector, MessageReader, Signer};
use mox_message::{Headers, envelope};
use mox_net::pem;
use rcgen::KeyPair;
use std::io::Read as _;

/// The most characters in one string of a TXT record as printed: longer ones are hard to edit.
const TXT_STRING: usize = 100;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "dkim gened25519",
        params: &[""],
        listed: true,
        help: "Print a new Ed25519 key for signing with DKIM, as PEM.\n\n\
            Not all receivers verify signatures of this kind; use it beside an RSA key. The record for DNS is printed by \
            \"mox dkim txt\".",
        flags: &[],
        args: 0..=0,
        run: |_| generate(&rcgen::PKCS_ED25519, "ed25519"),
    },
    Command {
        words: "dkim genrsa",
        params: &[""],
        listed: true,
        help: "Print a new RSA key of 2048 bits for signing with DKIM, as PEM.\n\n\
            The record for DNS is printed by \"mox dkim txt\".",
        flags: &[],
        args: 0..=0,
        run: |_| generate(&rcgen::PKCS_RSA_SHA256, "rsa-2048"),
    },
    Command {
        words: "dkim lookup",
        params: &["selector domain"],
        listed: true,
        help: "Look up the DKIM key of a selector and print what its record says.",
        flags: &[],
        args: 2..=2,
        run: lookup,
    },
    Command {
        words: "dkim txt",
        params: &["< key.pem"],
        listed: true,
        help: "Print the TXT record for the DKIM key on standard input.\n\n\
            Replace the selector and domain in front with those that sign. The record says that the key isn't for subdomains.",
        flags: &[],
        args: 0..=0,
        run: txt,
    },
    Command {
        words: "dkim verify",
        params: &["message"],
        listed: true,
        help: "Verify the DKIM signatures of the message in a file and print what comes of each.",
        flags: &[],
        args: 1..=1,
        run: verify,
    },
    Command {
        words: "dkim sign",
        params: &["message"],
        listed: true,
        help: "Sign the message in a file with the keys of its author's domain, and print it with the signatures.\n\n\
            The message must have one address in From, at a domain of the configuration that signs.",
        flags: &[],
        args: 1..=1,
        run: sign,
    },
];

fn generate(algorithm: &'static rcgen::SignatureAlgorithm, kind: &str) -> Outcome {
    let key = KeyPair::generate_for(algorithm).map_err(|e| Failure::new("generating key", e))?;
    let block = pem::encode("PRIVATE KEY", &key.serialize_der());
    // A header of RFC 1421, as readers of PEM skip it.
    let noted = block.replacen("-----\n", &format!("-----\nNote: {kind} private key for dkim\n\n"), 1);
    print(&noted)
}

fn txt(_: &Invocation) -> Outcome {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| Failure::new("reading key", e))?;
    print(&record_line(&text)?)
}

/// The record of a key, for a zone file.
fn record_line(pem: &str) -> Result<String, Failure> {
    let key = DkimKey::from_pem(pem, DkimHash::Sha256).map_err(|e| Failure::new("parsing key", e))?;
    let public = public_key(&key)?;
    let key_type = if matches!(public.algorithm, DkimAlgorithm::Ed25519) { "ed25519" } else { "rsa" };
    let record = KeyRecord {
        hashes: Vec::new(),
        key_type: key_type.to_owned(),
        notes: String::new(),
        key: public.bytes,
        services: Vec::new(),
        flags: vec!["s".to_owned()],
    };
    let text: Vec<char> = record.to_text().chars().collect();
    let strings: Vec<String> = text.chunks(TXT_STRING).map(|chunk| format!("\"{}\"", chunk.iter().collect::<String>())).collect();
    Ok(format!("<selector>._domainkey.<your.domain.> TXT {}\n", strings.join(" ")))
}

fn lookup(invocation: &Invocation) -> Outcome {
    let selector = Domain::parse_lax(invocation.arg(0)).map_err(|e| Failure::new("parsing selector", e))?;
    let domain = invocation.arg(1).parse().map_err(|e| Failure::new("parsing domain", e))?;
    let found = with_resolver(|resolver| async move { Ok(dkim::lookup_key(&resolver as &dyn Lookup, &selector, &domain).await) })?;
    let (text, failure) = shown(&found);
    print(&text)?;
    failure.map_or(Ok(()), Err)
}

/// What was found, and how the command ends.
fn shown(found: &KeyLookup) -> (String, Option<Failure>) {
    let signed = format!("dnssec-signed: {}\n", if found.authentic { "yes" } else { "no" });
    let (record, text) = match &found.record {
        Ok(found) => found,
        Err(e) => {
            let status = match e {
                dkim::KeyError::NotFound | dkim::KeyError::Syntax(_) => "permerror",
                dkim::KeyError::Dns(_) | dkim::KeyError::NotDkim | dkim::KeyError::Several => "temperror",
            };
            return (format!("status: {status}\n{signed}"), Some(Failure::Error(e.to_string())));
        }
    };
    let list = |values: &[String]| values.join(" ");
    let key = match record.rsa_bits() {
        _ if record.key.is_empty() => "revoked".to_owned(),
        Some(bits) => format!("{bits} bit rsa"),
        None => format!("{} bytes {}", record.key.len(), record.key_type),
    };
    let fields = [
        ("version", "DKIM1".to_owned()),
        ("hashes", list(&record.hashes)),
        ("key", key),
        ("notes", record.notes.clone()),
        ("services", list(&record.services)),
        ("flags", list(&record.flags)),
    ];
    let fields: String = fields.iter().map(|(name, value)| format!("\t{name}: {value}\n")).collect();
    (format!("TXT record: {text}\n{signed}record:\n{fields}"), None)
}

fn read(file: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map(crlf).map_err(|e| Failure::new(file, e))
}

/// A message as it goes over the wire: files mostly have only LF.
pub(super) fn crlf(message: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    let mut before = 0;
    for byte in message {
        if byte == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        before = byte;
    }
    out
}

fn verify(invocation: &Invocation) -> Outcome {
    let message = read(invocation.arg(0))?;
    let now = SystemClock::new().now();
    let text = with_resolver(|resolver| async move { verified(&resolver, &message, now).await })?;
    print(&text)
}

async fn verified(lookup: &dyn Lookup, message: &[u8], now: Timestamp) -> Result<String, Failure> {
    let outcomes = signatures(lookup, message, now).await?;
    if outcomes.is_empty() {
        return Ok("no dkim signatures\n".to_owned());
    }
    Ok(outcomes.iter().map(|(outcome, header)| described(outcome, header)).collect())
}

/// What comes of each signature, with its field.
pub(super) async fn signatures(lookup: &dyn Lookup, message: &[u8], now: Timestamp) -> Result<Vec<(DkimOutcome, String)>, Failure> {
    let mut reader = MessageReader::new();
    reader.push(message);
    let settings = DkimSettings { now, accept_top_level: None };
    let read = reader.finish();
    let outcomes = read.verify_dkim(lookup, &settings).await.map_err(|e| Failure::new("verifying", e))?;
    let headers = Headers::new(read.header());
    let fields = headers.all("DKIM-Signature").map(|field| String::from_utf8_lossy(field.raw).replace('\r', ""));
    Ok(outcomes.into_iter().zip(fields).collect())
}

fn described(outcome: &DkimOutcome, header: &str) -> String {
    let error = outcome.problem.as_ref().map(|problem| format!("error: {problem}\n")).unwrap_or_default();
    let record = outcome.record.as_ref().map(|(_, text)| format!("record: {text}\n")).unwrap_or_default();
    format!("status: {} ({})\n{error}{record}header: {header}", outcome.status, super::dns::dnssec(outcome.authentic))
}

fn sign(invocation: &Invocation) -> Outcome {
    let message = read(invocation.arg(0))?;
    let (_, snapshot) = load(invocation, false)?;
    let (selectors, problems) = signing_selectors(&snapshot);
    for problem in problems {
        eprintln!("warning: {problem}");
    }
    let author = envelope::author(&Headers::new(&message)).map_err(|e| Failure::new("from header", e))?;
    if !snapshot.dynamic.domains.contains_key(&author.domain) {
        return Err(Failure::Error(format!("domain {} isn't configured", author.domain)));
    }
    let Some(selectors) = selectors.get(&author.domain) else {
        return Err(Failure::Error(format!("domain {} doesn't sign", author.domain)));
    };
    let mut out = std::io::stdout().lock();
    let signatures = signed(&message, &author.domain, selectors, SystemClock::new().now())?;
    std::io::Write::write_all(&mut out, &[signatures.as_bytes(), &message].concat()).map_err(|e| Failure::new("writing output", e))
}

fn signed(message: &[u8], domain: &Domain, selectors: &[DkimSelector], now: Timestamp) -> Result<String, Failure> {
    let mut signer = Signer::new(domain, None, selectors);
    signer.push(message);
    signer.finish(now).map_err(|e| Failure::new("signing", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_mailauth::{Canonicalization, SigningKey};
    use mox_testkit::Zone;

    fn generated(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
        KeyPair::generate_for(algorithm).unwrap().serialize_pem()
    }

    /// The strings of a printed record, as DNS joins them.
    fn joined(line: &str) -> String {
        line.split('"').skip(1).step_by(2).collect()
    }

    #[test]
    fn records_of_keys() {
        for (algorithm, strings) in [(&rcgen::PKCS_ED25519, 1), (&rcgen::PKCS_RSA_SHA256, 5)] {
            let pem = generated(algorithm);
            let noted = pem.replacen("-----\n", "-----\nNote: x\n\n", 1).replace("\r\n", "\n");
            for pem in [&pem, &noted] {
                let line = record_line(pem).unwrap();
                assert!(line.starts_with("<selector>._domainkey.<your.domain.> TXT \"v=DKIM1;"), "{line}");
                assert_eq!(line.matches('"').count(), 2 * strings, "{line}");
                assert!(line.split('"').all(|string| string.len() <= TXT_STRING));
                let record = KeyRecord::parse(&joined(&line)).unwrap();
                assert!(record.has_flag("s"));
                let key = DkimKey::from_pem(pem, DkimHash::Sha256).unwrap();
                assert_eq!(record.key, SigningKey::from_pkcs8(key.pkcs8.expose()).unwrap().public_record().unwrap().key);
            }
        }
        assert!(record_line("nothing").is_err());
    }

    #[tokio::test]
    async fn what_is_signed_verifies() {
        let pem = generated(&rcgen::PKCS_ED25519);
        let key = DkimKey::from_pem(&pem, DkimHash::Sha256).unwrap();
        let selector = DkimSelector {
            name: "sel".parse().unwrap(),
            key: SigningKey::from_pkcs8(key.pkcs8.expose()).unwrap(),
            header: Canonicalization::Simple,
            body: Canonicalization::Simple,
            headers: ["From", "Subject"].map(str::to_owned).to_vec(),
            seal_headers: true,
            expiration: None,
        };
        let message = crlf(b"From: a@x.example\nSubject: hi\r\n\nbody\n".to_vec());
        assert_eq!(message, b"From: a@x.example\r\nSubject: hi\r\n\r\nbody\r\n");
        let (domain, now) = ("x.example".parse().unwrap(), Timestamp::from_secs(1_700_000_000));
        let signature = signed(&message, &domain, &[selector], now).unwrap();
        let record = joined(&record_line(&pem).unwrap());
        let zone = Zone::new().txt("sel._domainkey.x.example", &record);
        let whole = [signature.as_bytes(), &message].concat();
        let text = verified(&zone, &whole, now).await.unwrap();
        assert_eq!(text, format!("status: pass (without dnssec)\nrecord: {record}\nheader: {}", signature.replace('\r', "")));
        let text = verified(&Zone::new(), &whole, now).await.unwrap();
        assert!(text.starts_with("status: permerror (without dnssec)\nerror: no dkim key record\nheader: DKIM-Signature:"), "{text}");
        assert_eq!(verified(&zone, &message, now).await.unwrap(), "no dkim signatures\n");

        let selector = "sel".parse().unwrap();
        let found = dkim::lookup_key(&zone as &dyn Lookup, &selector, &domain).await;
        let fields = "\tversion: DKIM1\n\thashes: \n\tkey: 32 bytes ed25519\n\tnotes: \n\tservices: \n\tflags: s\n";
        let (text, failure) = shown(&found);
        assert_eq!(text, format!("TXT record: {record}\ndnssec-signed: no\nrecord:\n{fields}"));
        assert!(failure.is_none());
        let (text, failure) = shown(&dkim::lookup_key(&Zone::new().signed() as &dyn Lookup, &selector, &domain).await);
        assert_eq!((text.as_str(), failure.is_some()), ("status: permerror\ndnssec-signed: yes\n", true));
    }
}
