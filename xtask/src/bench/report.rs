//! The table: absolute figures, ratios, and whether each budget is met.

use super::Results;
use super::rows::{Budget, Row, Unit};
use crate::{Failure, run};

/// A figure with as many digits as mean something.
pub(super) fn figure(value: f64, unit: Unit) -> String {
    let digits = match value.abs() {
        v if v < 1.0 => 3,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", unit.name())
}

/// Prints the table.
pub(super) fn print(results: &Results) {
    println!("\n{}", table(results));
}

/// Writes the table, with the machine, to `docs/benchmarks.md`.
pub(super) fn write(results: &Results, mailbox: usize, queue: usize) -> Result<(), Failure> {
    let text = format!(
        "<!-- Written by `cargo xtask bench`. Don't edit. -->\n\n\
         # Benchmarks\n\n\
         The same load over sockets, one subject after the other, in one run on one machine; the load generator shares its \
         processors. Dovecot keeps mail in mdbox, and it and Postfix have Debian's default storage settings, which are durable. \
         Messages have about 4 KB in two parts; the large mailbox has {mailbox} of them, the long queue {queue}. Times are medians, warm. Memory counts shared pages \
         once. Ratios above 1 are in our favour.\n\n\
         {}\n\n{}",
        machine(),
        table(results)
    );
    let path = run::top().join("docs/benchmarks.md");
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

const SUBJECTS: [&str; 3] = ["mox", "Dovecot", "Postfix+Dovecot"];

fn table(results: &Results) -> String {
    let mut text = String::from("| work | mox | Dovecot | Postfix+Dovecot | ratio | budget | met |\n|---|---|---|---|---|---|---|\n");
    for row in Row::ALL {
        let value = |subject| results.values.get(&(row, subject)).copied();
        if SUBJECTS.iter().all(|s| value(s).is_none()) {
            continue;
        }
        let shown = |subject| value(subject).map_or_else(|| "–".to_owned(), |v| figure(v, row.unit()));
        let ratio = |peer| Some(ratio(row.unit(), value("mox")?, value(peer)?));
        let ratios: Vec<String> = SUBJECTS.iter().skip(1).filter_map(|peer| Some(format!("{:.2}x", ratio(peer)?))).collect();
        let mut budgets = Vec::new();
        let mut met = Vec::new();
        for budget in row.budgets() {
            let (words, holds) = match *budget {
                Budget::Times(times, peer) => (format!("≥ {times}x {peer}"), ratio(peer).map(|r| r >= times)),
                Budget::AtMost(most) => (format!("≤ {}", figure(most, row.unit())), value("mox").map(|v| v <= most)),
                Budget::AtLeast(least) => (format!("≥ {}", figure(least, row.unit())), value("mox").map(|v| v >= least)),
            };
            budgets.push(words);
            met.push(holds.map_or("–", |h| if h { "yes" } else { "no" }));
        }
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            row.work(),
            shown("mox"),
            shown("Dovecot"),
            shown("Postfix+Dovecot"),
            ratios.join(", "),
            budgets.join(", "),
            met.join(", "),
        );
    }
    text
}

fn ratio(unit: Unit, ours: f64, theirs: f64) -> f64 {
    if unit.more_is_better() { ours / theirs } else { theirs / ours }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")).map_or("unknown", |l| l.trim_start_matches(['\t', ' ', ':']));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let memory = memory.unwrap_or_default() / 1_048_576;
    let kernel = read("/proc/sys/kernel/osrelease");
    // Above the number of processors, something else was running: then ratios mean more than figures, and neither means much.
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().nth(1).unwrap_or("?");
    let version = |program: &str, args: &[&str]| {
        let text = mox_testkit::peers::find_program(program).map(|p| run::stdout(run::command(&p.to_string_lossy()).args(args)));
        let text = text.and_then(Result::ok).unwrap_or_default();
        text.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit())).unwrap_or("?").to_owned()
    };
    format!(
        "Machine: {cpus} × {cpu}, {memory} GiB, Linux {}. Dovecot {}, Postfix {}, mox built with {}. Load average over the last five minutes: {load}.",
        kernel.trim(),
        version("dovecot", &["--version"]),
        version("postconf", &["-d", "-h", "mail_version"]),
        run::stdout(run::command("rustc").arg("--version")).unwrap_or_default().trim(),
    )
}
