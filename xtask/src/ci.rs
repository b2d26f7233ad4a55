//! Everything that must hold before a change lands, in one command.
//!
//! Steps run in order, cheap ones first, and all of them even if one fails, so that one run shows everything. Counts come
//! from the test runner's own summary; a test that reports itself as ignored or skipped fails the run, because a check
//! that isn't made must not look like one that passed.

use crate::{Failure, deny, docs, metadata, run, services, tidy};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Tests counted over all runs of the test runner.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Passed, but only when run again.
    flaky: u64,
}

/// Who runs the tests, and so whose closing line counts: what a failed test printed has libtest's lines in it, too.
#[derive(Clone, Copy)]
enum Runner {
    Nextest,
    Libtest,
}

#[derive(Default)]
struct Report {
    steps: Vec<(String, Duration, Option<Failure>)>,
    tests: Count,
}

impl Report {
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<(), Failure>) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let failure = work().err();
        let took = start.elapsed();
        match &failure {
            None => println!("== {name}: ok, {:.1} s", took.as_secs_f64()),
            Some(failure) => println!("{failure}\n== {name}: FAILED, {:.1} s", took.as_secs_f64()),
        }
        let passed = failure.is_none();
        self.steps.push((name.to_owned(), took, failure));
        passed
    }

    fn finish(self) -> Result<(), Failure> {
        let total: Duration = self.steps.iter().map(|(_, took, _)| *took).sum();
        println!("\n== summary");
        for (name, took, failure) in &self.steps {
            println!("{:>8.1} s  {}  {name}", took.as_secs_f64(), if failure.is_some() { "FAILED" } else { "ok    " });
        }
        println!("{:>8.1} s  in all", total.as_secs_f64());
        let failed_steps = self.steps.iter().filter(|(_, _, failure)| failure.is_some()).count();
        let failed = self.tests.failed.max(u64::from(failed_steps > 0));
        println!("{} passed, {failed} failed", self.tests.passed);
        if self.tests.flaky > 0 {
            println!(
                "{} of them only when run again, see FLAKY above: a bug of the test or of what it tests, to be mended",
                self.tests.flaky
            );
        }
        if failed == 0 { Ok(()) } else { Err(format!("{failed_steps} of {} steps failed", self.steps.len())) }
    }
}

/// Runs all steps.
pub(crate) fn ci() -> Result<(), Failure> {
    let mut report = Report::default();
    report.step("packages", services::install);
    report.step("format", || run::run(run::cargo().args(["fmt", "--all", "--check"])));
    report.step("tidy", tidy::tidy);
    report.step("deny", deny::deny);
    report.step("clippy", || {
        let args = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
        run::run(run::cargo().args(args))
    });
    report.step("features", each_feature_alone);
    let mut started = None;
    report.step("services", || {
        started = Some(services::Services::start()?);
        Ok(())
    });
    if let Some(services) = &started {
        let mut tests = Count::default();
        report.step("test", || test(services, &mut tests));
        report.step("doctests", || {
            let mut command = run::cargo();
            command.args(["test", "--workspace", "--doc", "--locked", "--quiet"]);
            counted(services, command, Runner::Libtest, &mut tests)
        });
        report.tests = tests;
    }
    report.step("docs", || docs::docs(docs::Mode::Check));
    report.finish()
}

/// Unit, integration and outside tests, with nextest if it is installed.
fn test(services: &services::Services, tests: &mut Count) -> Result<(), Failure> {
    let nextest = run::output(run::cargo().args(["nextest", "--version"])).is_ok_and(|o| o.status.success());
    let mut command = run::cargo();
    let runner = if nextest {
        command.args(["nextest", "run", "--workspace", "--locked", "--run-ignored", "all", "--no-fail-fast"]);
        Runner::Nextest
    } else {
        command.args(["test", "--workspace", "--all-targets", "--locked", "--no-fail-fast", "--", "--include-ignored"]);
        Runner::Libtest
    };
    counted(services, command, runner, tests)
}

/// Features choose what is compiled in; each must build without the others.
fn each_feature_alone() -> Result<(), Failure> {
    for package in metadata::packages()? {
        // The alone-ness of a single feature is what `--all-targets` of clippy has just built.
        for feature in package.features.iter().filter(|_| package.features.len() > 1) {
            println!("{} with {feature} alone", package.name);
            let args = ["check", "--quiet", "--locked", "--package", &package.name, "--no-default-features", "--features"];
            run::run(run::cargo().args(args).arg(feature))?;
        }
    }
    Ok(())
}

/// Runs a test runner, showing what it prints and counting what it says.
fn counted(services: &services::Services, mut command: Command, runner: Runner, tests: &mut Count) -> Result<(), Failure> {
    services.tell(&mut command);
    command.env("CI", "true").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let count = std::thread::scope(|scope| {
        let err = scope.spawn(|| err.map(|e| echo(e, runner, |line| eprintln!("{line}"))));
        let mut count = out.map(|o| echo(o, runner, |line| println!("{line}"))).unwrap_or_default();
        if let Ok(Some(more)) = err.join() {
            count.add(more);
        }
        count
    });
    let status = child.wait().map_err(|e| e.to_string())?;
    tests.add(count);
    if !status.success() {
        return Err(format!("{} tests failed ({status})", count.failed));
    }
    if count.ignored > 0 {
        return Err(format!("{} tests were ignored: here everything has to run", count.ignored));
    }
    Ok(())
}

fn echo(stream: impl Read, runner: Runner, show: impl Fn(&str)) -> Count {
    let mut count = Count::default();
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        show(&line);
        count.add(summary(runner, &line).unwrap_or_default());
    }
    count
}

impl Count {
    fn add(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.ignored += more.ignored;
        self.flaky += more.flaky;
    }
}

/// Reads the closing line of the runner.
fn summary(runner: Runner, line: &str) -> Option<Count> {
    let line = line.trim();
    let counts = match runner {
        Runner::Libtest => line.strip_prefix("test result: ")?.split_once(". ")?.1,
        Runner::Nextest => line.strip_prefix("Summary [")?.split_once("run: ")?.1,
    };
    let mut count = Count::default();
    for part in counts.split([';', ',', '(', ')']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(what)) = (words.next(), words.next()) else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match what {
            "passed" => count.passed += number,
            "failed" => count.failed += number,
            "timed" => count.failed += number, // “2 timed out”
            "flaky" => count.flaky += number,
            "ignored" | "skipped" => count.ignored += number,
            _ => {}
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners() {
        use Runner::{Libtest, Nextest};
        for (runner, line, (passed, failed, ignored, flaky)) in [
            (Nextest, "     Summary [   0.022s] 9 tests run: 9 passed, 0 skipped", (9, 0, 0, 0)),
            (Nextest, "     Summary [  1.0s] 9 tests run: 9 passed (2 slow, 1 flaky), 0 skipped", (9, 0, 0, 1)),
            (Nextest, "     Summary [  12.0s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 2 skipped", (10, 2, 2, 0)),
            (Libtest, "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s", (5, 0, 1, 0)),
            (Libtest, "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s", (5, 2, 0, 0)),
        ] {
            assert_eq!(summary(runner, line), Some(Count { passed, failed, ignored, flaky }), "{line}");
        }
        assert_eq!(summary(Nextest, "running 5 tests"), None);
        assert_eq!(summary(Nextest, "test result: FAILED. 0 passed; 1 failed; 0 ignored"), None, "a failed test's own");
    }
}
