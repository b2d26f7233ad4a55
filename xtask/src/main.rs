//! The project's own tasks, run as `cargo xtask NAME`.
//!
//! `ci` is exactly what continuous integration runs; the other tasks are its steps, to be run alone, and the benchmark.
//! Everything here drives other programs (cargo, git, the built server, its peers) and reports; nothing is linked into the server.

#![expect(clippy::print_stdout, reason = "a command-line tool talks on standard output")]
#![expect(clippy::disallowed_methods, reason = "steps and benchmarks are timed with the real clock")]

mod bench;
mod ci;
mod deny;
mod docs;
mod metadata;
mod run;
mod services;
mod tidy;

use std::process::ExitCode;

/// What went wrong, in words for the person at the terminal.
type Failure = String;

const USAGE: &str = "\
usage: cargo xtask TASK

  ci             everything continuous integration checks, in order
  tidy           crate edges, file lengths, forbidden words, manifests
  deny           licences, banned crates and sources of all dependencies
  docs [--check] write (or compare) the generated manuals in docs/
  bench [OPTIONS] measure the server, Dovecot and Postfix with the same load: --quick, --only mox|peers,
                 --binary FILE, --rows NAME,..; writes docs/benchmarks.md when it measures everything
  services CMD.. run CMD with the services that tests want (PostgreSQL) started and in its environment
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["ci"] => ci::ci(),
        ["tidy"] => tidy::tidy(),
        ["deny"] => deny::deny(),
        ["docs"] => docs::docs(docs::Mode::Write),
        ["docs", "--check"] => docs::docs(docs::Mode::Check),
        ["bench", options @ ..] => bench::bench(options),
        ["services", command @ ..] if !command.is_empty() => services::run_with_services(command),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
