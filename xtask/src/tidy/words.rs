//! Words that must not stay: stubs, leftovers of debugging, paths of somebody's machine, merge markers.

use super::Source;

/// A word, where it is looked for, and why it must go.
struct Word {
    text: &'static str,
    only_rust: bool,
    why: &'static str,
}

// Written in two halves, so that this table doesn't find itself.
const WORDS: &[Word] = &[
    Word { text: concat!("todo", "!("), only_rust: true, why: "a stub" },
    Word { text: concat!("unimplemented", "!("), only_rust: true, why: "a stub" },
    Word { text: concat!("dbg", "!("), only_rust: true, why: "left from debugging" },
    Word { text: concat!("/wo", "rk/"), only_rust: false, why: "a path of one machine" },
    Word { text: concat!("/ro", "ot/"), only_rust: false, why: "a path of one machine" },
    Word { text: concat!("<<<<", "<<< "), only_rust: false, why: "a merge left unfinished" },
    Word { text: concat!(">>>>", ">>> "), only_rust: false, why: "a merge left unfinished" },
];

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let rust = source.path.extension().is_some_and(|e| e == "rs");
        for (number, line) in source.text.lines().enumerate() {
            for word in WORDS.iter().filter(|w| (rust || !w.only_rust) && line.contains(w.text)) {
                findings.push(format!("{}:{}: `{}`: {}", source.path.display(), number + 1, word.text, word.why));
            }
        }
        if rust && is_module(source) && !opens_with_purpose(&source.text) {
            findings.push(format!("{}:1: doesn't open with `//!`: what is it for?", source.path.display()));
        }
    }
    findings
}

/// Files of a library or binary, as opposed to tests, which are named by what they check.
fn is_module(source: &Source) -> bool {
    let within = |folder: &str| source.path.components().any(|c| c.as_os_str() == folder);
    within("src") && !within("tests") && !source.path.ends_with("tests.rs")
}

fn opens_with_purpose(text: &str) -> bool {
    text.lines().find(|l| !l.trim().is_empty()).is_none_or(|l| l.starts_with("//!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&[Source { path: path.into(), text: text.to_owned() }]).len()
    }

    #[test]
    fn stubs_are_found_in_rust_only() {
        let stub = concat!("//! Purpose.\nfn f() { todo", "!() }\n");
        assert_eq!(found("crates/a/src/lib.rs", stub), 1);
        assert_eq!(found("docs/a.md", stub), 0);
    }

    #[test]
    fn modules_say_what_they_are_for() {
        assert_eq!(found("crates/a/src/b.rs", "use std::fmt;\n"), 1);
        assert_eq!(found("crates/a/src/b.rs", "//! Purpose.\nuse std::fmt;\n"), 0);
        assert_eq!(found("crates/a/tests/it/b.rs", "use std::fmt;\n"), 0);
        assert_eq!(found("crates/a/src/b/tests.rs", "use super::*;\n"), 0);
    }
}
