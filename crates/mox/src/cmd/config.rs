//! `mox config …`: checking the configuration, and printing what it can be. None of these needs a running server, and
//! none changes anything.

use crate::cli::{Command, Failure, Invocation, Outcome, print};
use crate::wire::listener_keys;
use mox_config::examples::{EXAMPLES, example};
use mox_config::{Dynamic, Fixed, Outside, Snapshot, Static, Submit, sconf};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "config test",
        params: &[""],
        listed: true,
        help: "Check the configuration files.\n\n\
            Both mox.conf and domains.conf are read and checked, with the keys and certificates they name. \
            Prints \"config OK\", or each mistake with its file and line. Nothing is changed.",
        flags: &[],
        args: 0..=0,
        run: test,
    },
    Command {
        words: "config describe-static",
        params: &[""],
        listed: true,
        help: "Print an annotated empty mox.conf.\n\n\
            Every setting is there, with its documentation. It is a template, not a valid configuration: settings that are \
            optional should be removed or filled in.",
        flags: &[],
        args: 0..=0,
        run: |_| print(&sconf::describe::<Static>()),
    },
    Command {
        words: "config describe-domains",
        params: &[""],
        listed: true,
        help: "Print an annotated empty domains.conf.\n\n\
            Every setting is there, with its documentation. It is a template, not a valid configuration: settings that are \
            optional should be removed or filled in.",
        flags: &[],
        args: 0..=0,
        run: |_| print(&sconf::describe::<Dynamic>()),
    },
    Command {
        words: "config describe-sendmail",
        params: &[""],
        listed: true,
        help: "Print an annotated empty configuration for use as sendmail.\n\n\
            The file is /etc/moxsubmit.conf, read when mox is called as sendmail. Store it readable only for those who may send.",
        flags: &[],
        args: 0..=0,
        run: |_| print(&sconf::describe::<Submit>()),
    },
    Command {
        words: "config printservice",
        params: &[""],
        listed: true,
        help: "Print a systemd unit for mox in the current directory.\n\n\
            Write it to mox.service and enable it with systemctl. The service can only write to config and data in its directory.",
        flags: &[],
        args: 0..=0,
        run: print_service,
    },
    Command {
        words: "config example",
        params: &["[name]"],
        listed: true,
        help: "List examples of configuration, or print one.\n\n\
            Without a name, the names are printed, one on each line.",
        flags: &[],
        args: 0..=1,
        run: print_example,
    },
];

/// Whether the system has a user of this name.
pub(crate) fn user_known(name: &str) -> bool {
    matches!(nix::unistd::User::from_name(name), Ok(Some(_)))
}

/// Reads and checks both files; what only looks wrong goes to standard error.
pub(super) fn load(invocation: &Invocation, read_tls_keys: bool) -> Result<(Fixed, Snapshot), Failure> {
    let path = &invocation.globals.config;
    let outside = Outside { user_known: &user_known, read_tls_keys };
    let (fixed, snapshot, warnings) = mox_config::load(path, &outside).map_err(|problems| {
        let missing = !path.exists() && std::env::var_os("MOXCONF").is_none();
        let hint = if missing { " (hint: use mox -config ... or set MOXCONF=...)" } else { "" };
        Failure::Error(format!("{problems}{hint}"))
    })?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    Ok((fixed, snapshot))
}

fn test(invocation: &Invocation) -> Outcome {
    let (fixed, _) = load(invocation, true)?;
    let mistakes = check_certificates(&fixed);
    if mistakes.is_empty() {
        return print("config OK\n");
    }
    let heading = if mistakes.len() > 1 { "multiple errors:\n" } else { "" };
    Err(Failure::Error(format!("{heading}{}", mistakes.join("\n"))))
}

/// Loads the certificates as serving does: keys must belong to them.
fn check_certificates(fixed: &Fixed) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (name, listener) in &fixed.settings.listeners {
        mistakes.extend(listener_keys(&fixed.paths, name, listener).err());
        for pair in listener.tls.iter().flat_map(|tls| &tls.key_certs) {
            let (cert, key) = (fixed.paths.config(&pair.cert_file), fixed.paths.config(&pair.key_file));
            if let Err(error) = mox_net::tls::KeyCert::read(&cert, &key) {
                mistakes.push(format!("listener {name}: certificate {}: {error}", cert.display()));
            }
        }
    }
    mistakes
}

fn print_service(_: &Invocation) -> Outcome {
    let dir = std::env::current_dir().map_err(|e| Failure::new("current directory", e))?;
    print(&include_str!("mox.service").replace("/home/mox", &dir.display().to_string()))
}

fn print_example(invocation: &Invocation) -> Outcome {
    if invocation.args.is_empty() {
        let names: String = EXAMPLES.iter().map(|example| format!("{}\n", example.name)).collect();
        return print(&names);
    }
    match example(invocation.arg(0)) {
        Some(example) => print(&example.text()),
        None => Err(Failure::Error("not found".to_owned())),
    }
}
