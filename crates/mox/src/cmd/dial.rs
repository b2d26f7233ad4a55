//! Trial connections: `mox dane dial`, `mox dane dialmx`, `mox smtp dial`. What is found goes to standard error; then standard input and
//! output are the connection.

use super::dns::{USAGES, with_resolver};
use crate::cli::{Command, Failure, Flag, Invocation, Outcome};
use crate::ports::SystemRandom;
use mox_base::{Domain, Host, Lookup};
use mox_mailauth::dane as tlsa;
use mox_net::tls::{ClientTlsOptions, read_roots};
use mox_net::{ClientTls, Dial as _, Resolver, Stream, TcpDial};
use mox_probe::dane::{self, MailDomain, Ports, Verified};
use mox_probe::session::{self, Hello};
use mox_smtp::client::TlsMode;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// For each step until somebody types.
const PATIENCE: Duration = Duration::from_secs(60);

const EHLO: Flag = Flag::text("ehlohostname", "name", "our name in EHLO; default localhost");

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "dane dial",
        params: &["[-usages list] host:port"],
        listed: true,
        help: "Connect with TLS, verified by DANE.\n\n\
            Looks up the TLSA records of the server, which must be protected by DNSSEC, as must its addresses. Connects, starts TLS, and \
            compares the certificate with the records. The record that matches is printed on standard error; then standard input \
            and output are the connection.",
        flags: &[Flag::text("usages", "list", "allowed usages, separated by commas; default pkix-ta,pkix-ee,dane-ta,dane-ee")],
        args: 1..=1,
        run: dane_dial,
    },
    Command {
        words: "dane dialmx",
        params: &["[-ehlohostname name] domain [desthost]"],
        listed: true,
        help: "Connect to the mail hosts of a domain with STARTTLS, verified by DANE.\n\n\
            Goes through the mail hosts in order, as delivery does: looks up addresses and TLSA records, connects, starts TLS, and compares the \
            certificate with the records. A host without records is left out. What is found is printed on standard error; with the \
            first host that is right, standard input and output are the SMTP session. With a host as second parameter, only that one is tried.",
        flags: &[EHLO],
        args: 1..=2,
        run: dane_dial_mx,
    },
    Command {
        words: "smtp dial",
        params: &["[flags] host[:25]"],
        listed: true,
        help: "Connect to an SMTP server and say hello.\n\n\
            Reads the greeting, says EHLO, and starts TLS if the server offers it. By default certificates aren't verified, as in delivery \
            without a policy. What was agreed on is printed on standard error; then standard input and output are the SMTP session, \
            which is ready for MAIL FROM.",
        flags: &[
            EHLO,
            Flag::text("remotehostname", "name", "the server's name for TLS; default the host that is connected to"),
            Flag::bool("notls", "don't start TLS"),
            Flag::bool("forcetls", "start TLS even if it isn't offered, and fail without it"),
            Flag::bool("tlsverify", "verify the certificate"),
            Flag::text("tlscerts", "file", "authorities for -tlsverify, in PEM; default those of the system"),
            Flag::text("tlsversionmin", "version", "lowest version: tls1.0, tls1.1, tls1.2 or tls1.3; below tls1.2 means tls1.2"),
            Flag::text("tlsversionmax", "version", "highest version: tls1.2 or tls1.3"),
            Flag::text(
                "tlsciphersuites",
                "list",
                "cipher suites by their names at IANA, separated by commas; upper and lower case are the same",
            ),
            Flag::text("tlscurves", "list", "key exchange, separated by commas: curvep256, curvep384, x25519, x25519mlkem768"),
            Flag::bool("tlsnosessiontickets", "don't resume TLS sessions"),
            Flag::bool("tlsnodynamicrecordsizing", "for scripts that give it: record sizes are never dynamic"),
            Flag::text("tlsrenegotiation", "when", "for scripts that give it: never, once or always; it is always never"),
        ],
        args: 1..=1,
        run: smtp_dial,
    },
];

/// A host and a port; `default` if none is given.
fn host_port(text: &str, default: Option<u16>) -> Result<(Host, u16), Failure> {
    let bad = |e: &dyn std::fmt::Display| Failure::new(format!("parsing {text:?}"), e);
    let (host, port) = match (text.parse::<IpAddr>(), text.rsplit_once(':')) {
        (Ok(_), _) | (_, None) => (text, default.ok_or_else(|| bad(&"no port"))?),
        (_, Some((host, port))) => (host, port.parse().map_err(|e| bad(&e))?),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => Host::Ip(ip),
        Err(_) => Host::Domain(Domain::parse_lax(host).map_err(|e| bad(&e))?),
    };
    Ok((host, port))
}

fn ehlo(invocation: &Invocation) -> Result<Host, Failure> {
    let name = invocation.flags.text("ehlohostname").filter(|name| !name.is_empty()).unwrap_or("localhost");
    Ok(Host::Domain(name.parse().map_err(|e| Failure::new("parsing ehlo host name", e))?))
}

fn ports(resolver: Resolver) -> Result<Ports, Failure> {
    let roots = read_roots(true, &[]).map_err(|e| Failure::new("reading certificates", e))?;
    let tls = ClientTls::verified(roots).map_err(|e| Failure::new("setting up TLS", e))?;
    Ok(Ports { lookup: Arc::new(resolver), dial: Arc::new(TcpDial::default()), tls, random: Arc::new(SystemRandom) })
}

fn usages(list: &str) -> Result<Vec<u8>, Failure> {
    let number = |name: &str| {
        let known = USAGES.iter().position(|usage| *usage == name.trim()).and_then(|n| u8::try_from(n).ok());
        known.ok_or_else(|| Failure::Error(format!("unknown usage {name:?}")))
    };
    list.split(',').map(number).collect()
}

fn dane_dial(invocation: &Invocation) -> Outcome {
    let (host, port) = host_port(invocation.arg(0), None)?;
    let Host::Domain(host) = host else { return Err(Failure::Error("an address has no TLSA records, give a name".to_owned())) };
    let usages = usages(invocation.flags.text("usages").filter(|list| !list.is_empty()).unwrap_or("pkix-ta,pkix-ee,dane-ta,dane-ee"))?;
    with_resolver(|resolver| async move {
        let verified = dane::dial(&ports(resolver)?, &host, port, &usages).await;
        converse(told(verified.map_err(|e| Failure::new("dial", e))?)).await
    })
}

fn dane_dial_mx(invocation: &Invocation) -> Outcome {
    let domain = |n: usize, what: &str| invocation.arg(n).parse::<Domain>().map_err(|e| Failure::new(format!("parsing {what}"), e));
    let only = if invocation.args.len() > 1 { Some(domain(1, "destination host")?) } else { None };
    let wanted = MailDomain { domain: domain(0, "domain")?, only, ehlo: ehlo(invocation)? };
    with_resolver(|resolver| async move {
        let verified = dane::dial_mx(&ports(resolver)?, &wanted, &mut |line| eprintln!("{line}")).await;
        converse(told(verified.map_err(|e| Failure::Error(e.to_string()))?)).await
    })
}

/// Tells what TLS agreed on, and by which record.
fn told(verified: Verified) -> Stream {
    let agreed = verified.stream.tls().map(ToString::to_string).unwrap_or_default();
    match &verified.record {
        Some(record) => eprintln!("verified by tlsa record: {} ({agreed})", tlsa::text(record)),
        None => eprintln!("encrypted, not verified ({agreed})"),
    }
    verified.stream
}

fn smtp_dial(invocation: &Invocation) -> Outcome {
    let flags = &invocation.flags;
    let mode = match (flags.bool("notls"), flags.bool("forcetls")) {
        (true, true) => return Err(Failure::Error("-notls and -forcetls can't be had together".to_owned())),
        (true, false) => TlsMode::Skip,
        (false, true) => TlsMode::Required,
        (false, false) => TlsMode::Opportunistic,
    };
    let (host, port) = host_port(invocation.arg(0), Some(25))?;
    let name = flags.text("remotehostname").filter(|name| !name.is_empty()).map_or_else(
        || match &host {
            Host::Domain(domain) => domain.ascii().to_owned(),
            Host::Ip(ip) => ip.to_string(),
        },
        str::to_owned,
    );
    let tls = ClientTls::with_options(tls_options(invocation)?).map_err(|e| Failure::new("setting up TLS", e))?;
    let hello = Hello { ehlo: ehlo(invocation)?, mode, tls, name, patience: PATIENCE };
    with_resolver(|resolver| async move {
        let ips = match &host {
            Host::Ip(ip) => vec![*ip],
            Host::Domain(domain) => {
                let lookup: &dyn Lookup = &resolver;
                let name = domain.ascii();
                lookup.ips(name).await.map_err(|e| Failure::new(format!("looking up {name}"), e))?.records
            }
        };
        let mut failed = Failure::Error("no addresses".to_owned());
        for ip in ips {
            match TcpDial::default().dial(SocketAddr::new(ip, port), None).await {
                Ok(stream) => {
                    let opened = session::open(stream, &hello, Arc::new(SystemRandom)).await;
                    let stream = opened.map_err(|e| Failure::new(ip, e))?;
                    match stream.tls() {
                        Some(tls) => eprintln!("connected to {ip} with {tls}"),
                        None => eprintln!("connected to {ip} without TLS"),
                    }
                    return converse(stream).await;
                }
                Err(e) => failed = Failure::new(format!("connecting to {ip}"), e),
            }
        }
        Err(failed)
    })
}

fn tls_options(invocation: &Invocation) -> Result<ClientTlsOptions, Failure> {
    let flags = &invocation.flags;
    let text = |name: &str| flags.text(name).unwrap_or_default();
    let list = |name: &str| text(name).split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    // What the library has no equivalent for is accepted, and said.
    let unsupported = |flag: &str, why: &str| eprintln!("warning: -{flag} is not supported: {why}");
    let only_13 = match text("tlsversionmin") {
        "" | "tls1.2" => false,
        "tls1.0" | "tls1.1" => {
            unsupported("tlsversionmin", "the lowest version is tls1.2");
            false
        }
        "tls1.3" => true,
        other => return Err(Failure::Error(format!("unknown TLS version {other:?}"))),
    };
    let only_12 = match text("tlsversionmax") {
        "" | "tls1.3" => false,
        "tls1.2" => true,
        old @ ("tls1.0" | "tls1.1") => return Err(Failure::Error(format!("{old} is not supported, the lowest version is tls1.2"))),
        other => return Err(Failure::Error(format!("unknown TLS version {other:?}"))),
    };
    if only_12 && only_13 {
        return Err(Failure::Error("no version of TLS is left between -tlsversionmin and -tlsversionmax".to_owned()));
    }
    if flags.bool("tlsnodynamicrecordsizing") {
        unsupported("tlsnodynamicrecordsizing", "record sizes are never dynamic");
    }
    match text("tlsrenegotiation") {
        "" | "never" => {}
        "once" | "always" => unsupported("tlsrenegotiation", "sessions are never renegotiated"),
        other => return Err(Failure::Error(format!("unknown renegotiation {other:?}: expected never, once or always"))),
    }
    let certs = Some(text("tlscerts")).filter(|file| !file.is_empty()).map(PathBuf::from);
    let roots = if flags.bool("tlsverify") {
        Some(read_roots(certs.is_none(), certs.as_slice()).map_err(|e| Failure::new("reading certificates", e))?)
    } else {
        None
    };
    Ok(ClientTlsOptions {
        roots,
        only_13,
        only_12,
        cipher_suites: list("tlsciphersuites"),
        groups: list("tlscurves"),
        no_resumption: flags.bool("tlsnosessiontickets"),
    })
}

/// Makes standard input and output the connection, until the server closes it. The end of input is told to the server, which may have
/// something to say yet.
async fn converse(mut stream: Stream) -> Outcome {
    let mut input = Some(standard_input());
    let mut buffer = [0; 8192];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(n) if n > 0 => show(buffer.get(..n).unwrap_or_default())?,
                Ok(_) => return Ok(()),
                // A server that closes without a goodbye of TLS has closed all the same.
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(Failure::new("reading from server", e)),
            },
            bytes = next(&mut input) => match bytes {
                Some(bytes) => {
                    let written = async { stream.write_all(&bytes).await?; stream.flush().await };
                    written.await.map_err(|e| Failure::new("writing to server", e))?;
                }
                None => {
                    input = None;
                    stream.shutdown().await.map_err(|e| Failure::new("writing to server", e))?;
                }
            },
        }
    }
}

/// What the server sent, as it is.
fn show(bytes: &[u8]) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| Failure::new("writing output", e))
}

/// The next bytes; never comes back once there is no input any more.
async fn next(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

/// Standard input, read by a thread of its own: it can't be waited for otherwise, whatever it is.
fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 8192];
        while let Ok(n) = stdin.read(&mut buffer) {
            let bytes = buffer.get(..n).unwrap_or_default().to_vec();
            if n == 0 || sender.blocking_send(bytes).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        let show = |text: &str, default| host_port(text, default).map(|(host, port)| format!("{host} {port}")).ok();
        assert_eq!(show("mx.example", Some(25)).as_deref(), Some("mx.example 25"));
        assert_eq!(show("mx.example:587", Some(25)).as_deref(), Some("mx.example 587"));
        assert_eq!(show("[2001:db8::1]:26", None).as_deref(), Some("[IPv6:2001:db8::1] 26"));
        assert_eq!(show("2001:db8::1", Some(25)).as_deref(), Some("[IPv6:2001:db8::1] 25"));
        assert_eq!(show("192.0.2.1:26", None).as_deref(), Some("[192.0.2.1] 26"));
        for bad in ["mx.example", "mx.example:x", "mx.example:70000", ":25", "a b:25"] {
            assert_eq!(show(bad, None), None, "{bad}");
        }
        assert_eq!(usages("dane-ee, pkix-ta").unwrap(), [3, 0]);
        assert!(usages("dane").is_err());
    }
}
