//! `docs/limits.md`, the list of limits: each row names where its limit is and the tests that fail without it. Both must exist.
//!
//! A row's last two columns are read. In them, between backticks: a file below `crates/`, or `crate: test` for a test's name,
//! or `crate: name.txt` for a transcript of that crate's tests.

use super::Source;
use std::path::Path;

/// The list.
const FILE: &str = "docs/limits.md";

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let Some(list) = sources.iter().find(|s| s.path == Path::new(FILE)) else {
        return vec![format!("{FILE}: there is no list of limits")];
    };
    let mut findings = Vec::new();
    let mut rows = 0;
    for (number, line) in list.text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [.., place, tests] = columns.as_slice() else { continue };
        // The head of a table, and the line below it.
        if *tests == "test" || tests.starts_with('-') {
            continue;
        }
        rows += 1;
        let mut fault = |what: String| findings.push(format!("{FILE}:{}: {what}", number + 1));
        let (places, tests) = (quoted(place), quoted(tests));
        if places.is_empty() {
            fault("doesn't say where the limit is".to_owned());
        }
        if tests.is_empty() {
            fault("names no test".to_owned());
        }
        for file in places.into_iter().filter(|file| !exists(sources, file)) {
            fault(format!("{file} isn't there"));
        }
        for test in tests {
            match test.split_once(": ") {
                Some((krate, name)) if has_test(sources, krate, name) => {}
                Some(_) => fault(format!("there is no test {test}")),
                None => fault(format!("{test}: a test is `crate: name`")),
            }
        }
    }
    if rows == 0 {
        findings.push(format!("{FILE}: no rows"));
    }
    findings
}

/// What stands between backticks.
fn quoted(column: &str) -> Vec<&str> {
    column.split('`').skip(1).step_by(2).collect()
}

fn exists(sources: &[Source], file: &str) -> bool {
    let path = Path::new("crates").join(file);
    sources.iter().any(|s| s.path == path)
}

fn has_test(sources: &[Source], krate: &str, name: &str) -> bool {
    let mut files = sources.iter().filter(|s| s.path.starts_with(Path::new("crates").join(krate)));
    if name.ends_with(".txt") {
        return files.any(|s| s.path.components().any(|c| c.as_os_str() == "transcripts") && s.path.ends_with(name));
    }
    let function = format!("fn {name}(");
    files.filter(|s| s.path.extension().is_some_and(|e| e == "rs")).any(|s| s.text.contains(&function))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.to_owned() }
    }

    fn found(row: &str) -> Vec<String> {
        let list = format!("Text.\n\n| limit | number | place | test |\n|---|---|---|---|\n{row}\n");
        check(&[
            source(FILE, &list),
            source("crates/smtp/src/limits.rs", "pub fn line() {}"),
            source("crates/smtp/tests/it/main.rs", "    fn lines_end() {}"),
            source("crates/smtp/tests/transcripts/server/limits.txt", "C: NOOP"),
        ])
    }

    #[test]
    fn rows_name_what_is_there() {
        assert_eq!(found("| line | 1 | `smtp/src/limits.rs` | `smtp: lines_end`, `smtp: server/limits.txt` |"), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_found() {
        for (row, finding) in [
            ("| a | 1 | `smtp/src/other.rs` | `smtp: lines_end` |", "docs/limits.md:5: smtp/src/other.rs isn't there"),
            ("| a | 1 | `smtp/src/limits.rs` | `smtp: lines` |", "docs/limits.md:5: there is no test smtp: lines"),
            ("| a | 1 | `smtp/src/limits.rs` | `imap: lines_end` |", "docs/limits.md:5: there is no test imap: lines_end"),
            ("| a | 1 | `smtp/src/limits.rs` | `smtp: server/mail.txt` |", "docs/limits.md:5: there is no test smtp: server/mail.txt"),
            ("| a | 1 | `smtp/src/limits.rs` | lines_end |", "docs/limits.md:5: names no test"),
            ("| a | 1 | somewhere | `smtp: lines_end` |", "docs/limits.md:5: doesn't say where the limit is"),
            ("", "docs/limits.md: no rows"),
        ] {
            assert_eq!(found(row), [finding], "{row}");
        }
        assert_eq!(check(&[]), ["docs/limits.md: there is no list of limits"]);
    }
}
