//! OpenDKIM verifies our signatures, and we verify its.

use crate::dkimpy::rsa_key;
use crate::ready;
use mox_base::Timestamp;
use mox_mailauth::dkim::{DkimSettings, DkimStatus};
use mox_mailauth::{Canonicalization, DkimSelector, MessageReader, Signer};
use mox_testkit::Zone;
use mox_testkit::peers::require_program;
use std::path::Path;
use std::process::Command;

/// It wants a date, and line breaks without CR in files; of white space in front of values, its way of reading files keeps none.
const MESSAGE: &str = "Received: by x\nFrom: \"A\" <a@x.example>\nTo: b@y.example,\n\tc@y.example\nSubject: two  spaces \nDate: Fri, 11 Jul 2003 21:00:37 -0700\nMessage-ID: <1@x.example>\n\n";

fn messages() -> Vec<String> {
    ["", "\n", " a \t b\n \n\n", "body\n.\n..x\n", "\n\n x\n"].map(|body| format!("{MESSAGE}{body}")).to_vec()
}

/// What it prints about a message in a file.
fn run(program: &Path, folder: &Path, config: &str, message: &str) -> String {
    let (config_file, message_file) = (folder.join("conf"), folder.join("message"));
    std::fs::write(&config_file, format!("{config}RequireSafeKeys no\n")).unwrap();
    std::fs::write(&message_file, message).unwrap();
    let output = Command::new(program).arg("-x").arg(&config_file).arg("-t").arg(&message_file).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn both_ways() {
    let Some(program) = require_program("opendkim") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (key, pem, record) = rsa_key();
    let (pem_file, keys) = (folder.path().join("key.pem"), folder.path().join("keys"));
    std::fs::write(&pem_file, pem).unwrap();
    std::fs::write(&keys, format!("rsa._domainkey.x.example {record}\n")).unwrap();
    let verifying = format!("Mode v\nTestPublicKeys {}\n", keys.display());
    let zone = Zone::new().txt("rsa._domainkey.x.example", &record);
    let domain = "x.example".parse().unwrap();
    let kinds = [("simple", Canonicalization::Simple), ("relaxed", Canonicalization::Relaxed)];
    for ((header_name, header), (body_name, body)) in kinds.iter().flat_map(|h| kinds.iter().map(move |b| (h, b))) {
        let selector = DkimSelector {
            name: "rsa".parse().unwrap(),
            key: key.clone(),
            header: *header,
            body: *body,
            headers: ["From", "To", "Cc", "Subject", "Date", "Message-Id"].map(str::to_owned).to_vec(),
            seal_headers: true,
            expiration: None,
        };
        let signing = format!(
            "Mode s\nDomain x.example\nSelector rsa\nKeyFile {}\nCanonicalization {header_name}/{body_name}\nSignatureAlgorithm rsa-sha256\n",
            pem_file.display()
        );
        for message in messages() {
            // What it verifies.
            let selectors = [selector.clone()];
            let mut signer = Signer::new(&domain, None, &selectors);
            signer.push(message.replace('\n', "\r\n").as_bytes());
            let signed = format!("{}{message}", signer.finish(Timestamp::from_secs(1_700_000_000)).unwrap().replace('\r', ""));
            let said = run(&program, folder.path(), &verifying, &signed);
            assert!(said.contains("succeeded"), "{header_name}/{body_name} {said} {signed}");
            let said = run(&program, folder.path(), &verifying, &signed.replace("two", "three"));
            assert!(said.contains("failed"), "{said}");

            // What it signs: it prints the field, behind a line of its own.
            let said = run(&program, folder.path(), &signing, &message);
            let field = said.get(said.find("DKIM-Signature:").unwrap()..).unwrap();
            let whole = format!("{}\n{message}", field.trim_end().replace('\r', "")).replace('\n', "\r\n");
            let mut reader = MessageReader::new();
            reader.push(whole.as_bytes());
            let settings = DkimSettings { now: Timestamp::from_secs(4_000_000_000), accept_top_level: None };
            let outcomes = ready(reader.finish().verify_dkim(&zone, &settings)).unwrap();
            assert_eq!(outcomes[0].status, DkimStatus::Pass, "{header_name}/{body_name} {outcomes:?} {whole}");
        }
    }
}
