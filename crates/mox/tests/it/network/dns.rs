//! What the resolver makes of zones that are signed, unsigned, wrongly signed and signed long ago.

use crate::server::BINARY;
use mox_testkit::peers::{Names, Network, Resolving, Signing, ZoneFile};
use std::path::Path;

/// The last line of what `mox dns lookup` prints, errors included.
fn lookup(network: &Network, names: &Names, resolving: Resolving, words: &str) -> String {
    let mut command = network.command(&resolving.resolv_conf(), Path::new(BINARY)).unwrap();
    command.args(["dns", "lookup"]).args(words.split(' ')).env("MOX_DNS_ANCHORS", names.anchors());
    let output = command.output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    String::from_utf8(text).unwrap().trim_end().replace("\n- ", " ")
}

#[test]
fn both_back_ends_know_what_dnssec_vouches_for() {
    let Some(network) = Network::require() else { return };
    let zones = vec![
        ZoneFile::new("secure.example", Signing::Nsec)
            .with("@ MX 10 mx")
            .with("mx A 9.0.1.1")
            .with("alias CNAME mx")
            .with("long CNAME alias")
            .with("away CNAME mx.plain.example.")
            .with("*.wild TXT \"w\"")
            .with("lame NS nowhere.dns.")
            .with("big TXT \"one\"\nbig TXT \"two\""),
        ZoneFile::new("sub.secure.example", Signing::Nsec3)
            .with("@ A 9.0.1.2")
            .with("alias CNAME mx.secure.example.")
            .with("*.wild TXT \"w\""),
        ZoneFile::new("plain.example", Signing::Unsigned).with("mx A 9.0.1.3").with("alias CNAME mx.secure.example."),
        ZoneFile::new("bogus.example", Signing::Nsec).with("@ A 9.0.1.4").with("@ TXT \"right\"").spoiled("9.0.1.4", "9.0.1.5"),
        ZoneFile::new("expired.example", Signing::Expired).with("@ A 9.0.1.6"),
    ];
    let Some(names) = Names::require(&network, zones) else { return };
    let mut wrong = Vec::new();
    for (words, want) in [
        ("mx secure.example", "mx records (1, with dnssec): mx.secure.example., preference 10"),
        ("a mx.secure.example", "a records (1, with dnssec): 9.0.1.1"),
        ("a alias.secure.example", "a records (1, with dnssec): 9.0.1.1"),
        ("a long.secure.example", "a records (1, with dnssec): 9.0.1.1"),
        ("cname long.secure.example", "alias.secure.example. (with dnssec)"),
        ("a away.secure.example", "a records (1, without dnssec): 9.0.1.3"),
        ("txt any.wild.secure.example", "txt records (1, with dnssec): \"w\""),
        ("a sub.secure.example", "a records (1, with dnssec): 9.0.1.2"),
        ("a alias.sub.secure.example", "a records (1, with dnssec): 9.0.1.1"),
        ("a mx.plain.example", "a records (1, without dnssec): 9.0.1.3"),
        ("a alias.plain.example", "a records (1, without dnssec): 9.0.1.1"),
        ("a none.secure.example", "no such record (authentic) (with dnssec)"),
        ("mx mx.secure.example", "no such record (authentic) (with dnssec)"),
        ("mx alias.secure.example", "no such record (authentic) (with dnssec)"),
        ("a none.sub.secure.example", "no such record (authentic) (with dnssec)"),
        ("mx sub.secure.example", "no such record (authentic) (with dnssec)"),
        ("a none.plain.example", "no such record (without dnssec)"),
        ("mx mx.plain.example", "no such record (without dnssec)"),
        ("mx away.secure.example", "no such record (without dnssec)"),
        ("mx alias.plain.example", "no such record (without dnssec)"),
        ("txt any.wild.sub.secure.example", "txt records (1, with dnssec): \"w\""),
        ("a none", "no such record (authentic) (with dnssec)"),
        ("a bogus.example", "DNSSEC validation failed: extended error 6 (DNSSEC bogus)"),
        ("txt bogus.example", "txt records (1, with dnssec): \"right\""),
        ("a expired.example", "DNSSEC validation failed: extended error 7 (signature expired)"),
        ("mx expired.example", "DNSSEC validation failed: extended error "),
        ("a x.lame.secure.example", "temporary DNS failure"),
    ] {
        for resolving in [Resolving::Trusted, Resolving::Own, Resolving::Wary] {
            let got = lookup(&network, &names, resolving, words);
            // From a resolver that validates, too, nothing bogus gets through.
            let kept_back =
                resolving == Resolving::Wary && want.starts_with("DNSSEC validation failed") && got.contains("temporary DNS failure");
            if !got.contains(want) && !kept_back {
                wrong.push(format!("{resolving:?}, {words}: {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
