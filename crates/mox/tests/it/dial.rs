//! `mox smtp dial` to a running server, and what the commands that look at DNS say before they ask anybody.

use crate::server::{BINARY, start};
use mox_testkit::peers::{Mox, Service};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Runs a command with standard input; its status and both outputs.
fn run(args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    command.args(args).env_remove("MOXCONF").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // What ends before it reads is judged by its outputs.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn dial(mox: &Mox, flags: &[&str]) -> (i32, String, String) {
    let server = format!("127.0.0.1:{}", mox.port(Service::Smtp));
    let args: Vec<&str> = ["smtp", "dial"].iter().chain(flags).copied().chain([server.as_str()]).collect();
    run(&args, "NOOP\r\nQUIT\r\n")
}

#[test]
fn smtp_dial() {
    let mox = start();
    let cert = mox.dir().join("localhost.crt");
    let cert = cert.to_str().unwrap();
    for (flags, agreed) in [
        (&[][..], "with TLS1.3"),
        (&["-notls"], "without TLS"),
        (&["-forcetls", "-tlsversionmax", "tls1.2"], "with TLS1.2"),
        (&["-tlsciphersuites", "tls_aes_128_gcm_sha256", "-tlscurves", "curvep256"], "with TLS1.3 TLS_AES_128_GCM_SHA256"),
        (&["-tlsverify", "-tlscerts", cert, "-remotehostname", "localhost"], "with TLS1.3"),
        (&["-tlsrenegotiation", "once", "-ehlohostname", "me.example"], "with TLS1.3"),
    ] {
        let (status, out, err) = dial(&mox, flags);
        assert_eq!(status, 0, "{flags:?}: {err}");
        assert!(err.contains(&format!("connected to 127.0.0.1 {agreed}")), "{flags:?}: {err}");
        let codes: Vec<&str> = out.lines().map(|line| &line[..4]).collect();
        assert_eq!(codes, ["250 ", "221 "], "{flags:?}: {out}");
        assert_eq!(err.contains("warning: -tlsrenegotiation is not supported"), flags.contains(&"-tlsrenegotiation"), "{err}");
    }
    for (flags, why) in [
        (&["-notls", "-forcetls"][..], "-notls and -forcetls"),
        (&["-tlsverify", "-tlscerts", cert, "-remotehostname", "other.example"], "certificate"),
        (&["-tlsversionmax", "tls1.1"], "tls1.1 is not supported"),
        (&["-tlscurves", "curve1"], "key exchange \"curve1\" is not supported; supported: "),
        (&["-tlsversionmin", "ssl3"], "unknown TLS version \"ssl3\""),
    ] {
        let (status, out, err) = dial(&mox, flags);
        assert_eq!((status, out.as_str()), (1, ""), "{flags:?}: {err}");
        assert!(err.contains(why), "{flags:?}: {err}");
    }
}

#[test]
fn what_is_given_wrongly_is_said_before_anything_is_asked() {
    for (line, why) in [
        ("dane dial -usages dane,dane-ee mx.example:25", "unknown usage \"dane\""),
        ("dane dial mx.example", "no port"),
        ("dane dial 192.0.2.1:25", "an address has no TLSA records"),
        ("dane dialmx a_b.example", "parsing domain"),
        ("rdap domainage a_b.example", "parsing domain"),
    ] {
        let (status, out, err) = run(&line.split(' ').collect::<Vec<_>>(), "");
        assert_eq!((status, out.as_str()), (1, ""), "{line}: {err}");
        assert!(err.contains(why), "{line}: {err}");
    }
    let mox = start();
    let config = mox.dir().join("mox.conf");
    let (status, _, err) = run(&["-config", config.to_str().unwrap(), "config", "dnscheck", "other.example"], "");
    assert_eq!((status, err.contains("domain other.example: no such domain")), (1, true), "{err}");
}
