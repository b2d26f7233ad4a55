//! What domains publish about TLS: `mox mtasts …`, `mox tlsrpt lookup`, `mox dane makerecord`.

use super::dns::{MATCHINGS, SELECTORS, USAGES, dnssec, with_resolver};
use crate::cli::{Command, Failure, Invocation, Outcome, print};
use mox_base::{Domain, Lookup, Tlsa};
use mox_delivery::tls::{PolicySource, WebPolicies};
use mox_mailauth::{dane, mtasts, tlsrpt};
use mox_net::http::{AddressGuard, Client};
use mox_net::tls::{TlsaSubject, read_roots};
use mox_net::{ClientTls, TcpDial};
use sha2::{Digest as _, Sha256, Sha512};
use std::sync::Arc;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "mtasts lookup",
        params: &["domain"],
        listed: true,
        help: "Look up the MTA-STS record and policy of a domain.\n\n\
            MTA-STS is how a domain says which hosts take its mail, and that they have valid certificates. Prints the DNS record, \
            then the policy that is served over HTTPS.",
        flags: &[],
        args: 1..=1,
        run: mtasts_lookup,
    },
    Command {
        words: "tlsrpt lookup",
        params: &["domain"],
        listed: true,
        help: "Look up the TLSRPT record of a domain.\n\n\
            With it, a domain says where it wants reports about TLS when mail is sent to it.",
        flags: &[],
        args: 1..=1,
        run: tlsrpt_lookup,
    },
    Command {
        words: "dane makerecord",
        params: &["usage selector matchtype [certificate.pem | publickey.pem | privatekey.pem]"],
        listed: true,
        help: "Print the data of a TLSA record for a certificate or key.\n\n\
            Usage: pkix-ta, pkix-ee, dane-ta or dane-ee, or a number. For mail, dane-ee is the one to use.\n\n\
            Selector: cert for the whole certificate, spki for its key, which stays valid when the certificate is renewed.\n\n\
            Match type: full, sha2-256 or sha2-512.\n\n\
            The first certificate or key in the file is used. For the key of a mail server, \"dane-ee spki sha2-256\" is usual, and \
            the record belongs at _25._tcp.<hostname>.",
        flags: &[],
        args: 4..=4,
        run: make_record,
    },
];

fn domain_of(invocation: &Invocation) -> Result<Domain, Failure> {
    invocation.arg(0).parse().map_err(|e| Failure::new("parsing domain", e))
}

fn mtasts_lookup(invocation: &Invocation) -> Outcome {
    let domain = domain_of(invocation)?;
    let text = with_resolver(|resolver| async move {
        let resolver: Arc<dyn Lookup> = Arc::new(resolver);
        let record = mtasts::lookup(&*resolver, &domain).await.map_err(|e| Failure::new("looking up record", e))?;
        let extensions: String = record.extensions.iter().map(|(key, value)| format!(" {key}={value};")).collect();
        print(&format!("dns record:\n_mta-sts.{}. TXT \"v=STSv1; id={};{extensions}\"\n", domain.ascii(), record.id))?;
        let roots = read_roots(true, &[]).map_err(|e| Failure::new("reading certificates", e))?;
        let tls = ClientTls::verified(roots).map_err(|e| Failure::new("setting up TLS", e))?;
        let client = Client::new(resolver, Arc::new(TcpDial::default()), tls, AddressGuard::public_only());
        let policy = WebPolicies::new(client).fetch(&domain).await.map_err(|e| Failure::new("fetching policy", e))?;
        mtasts::Policy::parse(&policy).map_err(|e| Failure::new("parsing policy", e))?;
        Ok(format!("policy:\n{}\n", String::from_utf8_lossy(&policy).trim_end()))
    })?;
    print(&text)
}

fn tlsrpt_lookup(invocation: &Invocation) -> Outcome {
    let domain = domain_of(invocation)?;
    let text = with_resolver(|resolver| async move {
        let resolver: &dyn Lookup = &resolver;
        let record = tlsrpt::lookup(resolver, &domain).await.map_err(|e| Failure::new("looking up record", e))?;
        let authentic = resolver.txt(&format!("_smtp._tls.{}", domain.ascii())).await.is_ok_and(|a| a.authentic);
        let rua: Vec<String> = record.rua.iter().map(|group| format!(" rua={};", group.join(","))).collect();
        let extensions: String = record.extensions.iter().map(|(key, value)| format!(" {key}={value};")).collect();
        let name = format!("_smtp._tls.{}.", domain.ascii());
        Ok(format!("{name} TXT \"v=TLSRPTv1;{}{extensions}\" ({})\n", rua.concat(), dnssec(authentic)))
    })?;
    print(&text)
}

fn make_record(invocation: &Invocation) -> Outcome {
    let number = |n: usize, what: &str, names: &[&str]| {
        let text = invocation.arg(n);
        if let Some(known) = names.iter().position(|name| *name == text).and_then(|n| u8::try_from(n).ok()) {
            return Ok(known);
        }
        let number: u8 = text.parse().map_err(|_| Failure::Error(format!("unknown {what} {text:?}")))?;
        if usize::from(number) >= names.len() {
            eprintln!("warning: {what} {number} has no meaning that is known here");
        }
        Ok(number)
    };
    let usage = number(0, "usage", USAGES)?;
    let selector = number(1, "selector", SELECTORS)?;
    let matching = number(2, "match type", MATCHINGS)?;
    let file = invocation.arg(3);
    let pem = std::fs::read(file).map_err(|e| Failure::new(file, e))?;
    let subject = TlsaSubject::from_pem(&pem).map_err(|e| Failure::new(file, e))?;
    print(&(dane::text(&record(usage, selector, matching, &subject)?) + "\n"))
}

fn record(usage: u8, selector: u8, matching: u8, subject: &TlsaSubject) -> Result<Tlsa, Failure> {
    let selected = match selector {
        0 => subject.certificate.as_ref().ok_or_else(|| Failure::Error("selector cert needs a certificate, not only a key".to_owned()))?,
        1 => &subject.spki,
        other => return Err(Failure::Error(format!("selector {other} isn't known, so there is nothing to select"))),
    };
    let data = match matching {
        0 => selected.clone(),
        1 => Sha256::digest(selected).to_vec(),
        2 => Sha512::digest(selected).to_vec(),
        other => return Err(Failure::Error(format!("match type {other} isn't known, so there is no data for it"))),
    };
    Ok(Tlsa { usage, selector, matching, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};

    #[test]
    fn records_of_certificates_and_keys_agree() {
        for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256] {
            let key = KeyPair::generate_for(kind).unwrap();
            let cert = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap().self_signed(&key).unwrap();
            let of_cert = TlsaSubject::from_pem(cert.pem().as_bytes()).unwrap();
            assert_eq!(of_cert.certificate.as_deref(), Some(cert.der().as_ref()));
            let of_private = TlsaSubject::from_pem(key.serialize_pem().as_bytes()).unwrap();
            let of_public = TlsaSubject::from_pem(key.public_key_pem().as_bytes()).unwrap();
            for subject in [&of_cert, &of_private, &of_public] {
                assert_eq!(subject.spki, key.subject_public_key_info());
                let record = record(3, 1, 1, subject).unwrap();
                assert!(dane::is_usable(&record) && dane::matches(&record, cert.der(), &subject.spki));
            }
            assert!(record(3, 0, 1, &of_private).is_err(), "no certificate");
            assert_eq!(record(2, 0, 2, &of_cert).unwrap().data.len(), 64);
        }
        assert!(TlsaSubject::from_pem(b"nothing").is_err());
    }
}
