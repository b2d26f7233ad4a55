//! Whatever is in a file: no panic, and what was read can be written and read again.

use mox_config::sconf::{Style, parse, write};
use mox_config::{Dynamic, Static};
use proptest::prelude::*;

/// Lines as files have them, right and wrong, in any order and depth.
fn file() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "Domains:",
        "Accounts:",
        "example.org:",
        "ann:",
        "ann:  x",
        "Domain: example.org",
        "Domain:",
        "Destinations:",
        "ann@example.org: nil",
        "@example.org: nil",
        "\"a b\"@example.org:",
        "Mailbox: Inbox",
        "Rulesets:",
        "-",
        "- x",
        "-x",
        "MsgFromRegexp: ^[a]\\d{2}$",
        "Routes:",
        "Transport: t",
        "Listeners:",
        "IPs:",
        "- ::1",
        "Hostname: é.example",
        "DataDir: x",
        "LogLevel: info",
        "Postmaster:",
        "Account: ann",
        "SubjectPass:",
        "Period: 1h",
        "JunkFilter:",
        "Threshold: 0.1",
        "Params:",
        "MaxPower: 1e-7",
        "TopWords: +3",
        "# c",
        "",
        "nil: nil",
        ":",
        ": x",
        "Aliases:",
        "team:",
        "Addresses:",
        "- ann@example.org",
        "DKIM:",
        "Selectors:",
        "Sign:",
        "PrivateKeyFile: k",
        "Expiration: 72h",
        "\r",
    ]);
    let line = (0..6usize, words).prop_map(|(indent, word)| format!("{}{word}\n", "\t".repeat(indent)));
    prop::collection::vec(line, 0..40).prop_map(|lines| lines.concat())
}

fn stable(text: &str) -> Result<(), TestCaseError> {
    if let Ok(parsed) = parse::<Dynamic>("f", text.as_bytes()) {
        for style in [Style::Plain, Style::Documented] {
            let written = write(&parsed.value, style);
            let Ok(written) = written else { continue };
            let again = parse::<Dynamic>("f", written.as_bytes());
            prop_assert!(again.is_ok(), "{written}");
            prop_assert_eq!(write(&again.unwrap().value, style).unwrap(), written);
        }
    }
    // Most aren't one; it must say so and nothing more.
    drop(parse::<Static>("f", text.as_bytes()));
    Ok(())
}

proptest! {
    #[test]
    fn lines_of_files(text in file()) {
        stable(&text)?;
        stable(&format!("Domains:\nAccounts:\n\tann:\n\t\tDomain: example.org\n{text}"))?;
    }

    #[test]
    fn any_text(text in "(?s).{0,200}") {
        stable(&text)?;
    }

    #[test]
    fn any_text_of_the_characters_that_matter(text in "[A:\t\n #\r-]{0,60}") {
        stable(&text)?;
    }

    #[test]
    fn any_pattern(pattern in "[a\\\\\\[\\]{}()0-9,^:&~<>dQEb-]{0,20}") {
        drop(mox_config::Pattern::new(&pattern));
    }

    #[test]
    fn durations(nanoseconds in 0..i64::MAX.unsigned_abs()) {
        let duration = std::time::Duration::from_nanos(nanoseconds);
        prop_assert_eq!(mox_config::duration::parse(&mox_config::duration::format(duration)), Ok(duration));
    }
}
