use super::*;
use crate::schema::Section;
use crate::{Dynamic, LogLevel};
use std::collections::BTreeMap;
use std::time::Duration;

/// One of everything.
#[derive(Debug, PartialEq, Section)]
struct Sample {
    /// A text that is longer than the width of a line, so that its documentation has to be wrapped somewhere near here.
    /// 1. First.
    /// 2. Second.
    ///
    /// Another paragraph.
    text: String,
    /// Flag.
    #[config(optional)]
    flag: bool,
    /// Number.
    #[config(optional)]
    number: i64,
    /// Fraction.
    #[config(optional)]
    fraction: f64,
    /// Time.
    #[config(optional)]
    time: Option<Duration>,
    /// List.
    #[config(optional)]
    list: Vec<String>,
    /// Map.
    #[config(optional)]
    map: BTreeMap<String, Inner>,
    /// Section.
    #[config(optional)]
    inner: Option<Inner>,
    /// Sections.
    #[config(optional)]
    inners: Vec<Inner>,
}

/// Nested.
#[derive(Debug, Default, PartialEq, Section)]
struct Inner {
    /// Level.
    #[config(optional)]
    level: Option<LogLevel>,
    /// Words.
    #[config(optional)]
    words: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Section)]
struct Strict {
    /// Needed.
    needed: bool,
    /// Also needed.
    also: Vec<Strict2>,
}

#[derive(Debug, PartialEq, Section)]
struct Strict2 {
    /// Needed.
    a: String,
}

fn mistakes<T: Section + std::fmt::Debug>(text: &str) -> Vec<String> {
    match parse::<T>("f", text.as_bytes()) {
        Ok(parsed) => panic!("accepted as {:?}", parsed.value),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn reads_what_it_writes() {
    let text = "Text: a: b # c\nFlag: true\nNumber: -3\nFraction: 0.950000\nTime: 1h30m0s\nList:\n\t- one\n\t- \nMap:\n\ta: nil\n\tb:\n\t\tLevel: info\nInner:\n\tWords:\n\t\tx: 1\n\t\ty: \nInners:\n\t-\n\t\tLevel: debug\n\t-\n\t\tLevel: warn\n";
    let sample = parse::<Sample>("f", text.as_bytes()).unwrap().value;
    assert_eq!(sample.text, "a: b # c");
    assert_eq!(sample.list, ["one", ""]);
    assert_eq!(write(&sample, Style::Plain).unwrap(), text);
}

#[test]
fn comments_and_empty_lines_are_ignored() {
    let text = "# c\n\n \t # deep\nInner:\n# between\n\n\tLevel: info\nText:\n";
    let sample = parse::<Sample>("f", text.as_bytes()).unwrap().value;
    assert_eq!((sample.text.as_str(), sample.inner.unwrap().level), ("", Some(LogLevel::Info)));
    assert!(parse::<Sample>("f", b"Text: x").is_ok(), "the last line end may be missing");
}

#[test]
fn nil_is_the_zero_of_a_map_entry() {
    let text = "Text: nil\nInner:\n\tWords:\n\t\tx: nil\nMap:\n\ta: nil\n";
    let sample = parse::<Sample>("f", text.as_bytes()).unwrap().value;
    assert_eq!(sample.text, "nil");
    assert_eq!(sample.inner.unwrap().words["x"], "");
    assert_eq!(sample.map["a"], Inner::default());
}

#[test]
fn all_mistakes_are_reported_with_their_line() {
    let text = "Text: a\nText: b\nFlag:true\nNumber: 1x\nWrong: x\n\tdeeper: y\n\t\nTime: 1d\nList: []\nMap:\n\t: x\n\ta:\n\t\tLevel: loud\nInner:\nInners:\n\tx: y\n\t-z\n";
    assert_eq!(
        mistakes::<Sample>(text),
        [
            "f:2: duplicate key \"Text\"",
            "f:3: missing space after colon in line \"Flag:true\"",
            "f:4: parsing Number: expected an integer from -9223372036854775808 to 9223372036854775807, not \"1x\"",
            "f:5: unknown key \"Wrong\"",
            "f:8: parsing Time: expected a duration like 1h30m or 15s (units ns, us, ms, s, m, h): \"1d\"",
            "f:9: expected indent: an indented block on the next lines, not \"[]\"",
            "f:11: empty key in line \": x\"",
            "f:13: parsing Map[a].Level: unknown log level \"loud\"",
            "f:15: expected indent: an indented block",
            "f:16: expected item (\"- …\"), got \"x: y\"",
            "f:17: missing space after - in line \"-z\"",
        ]
    );
}

#[test]
fn whitespace_is_explained() {
    assert_eq!(mistakes::<Sample>("Text: a\n\t\n"), ["f:2: missing colon in line \"\\t\" (stray whitespace)"]);
    assert_eq!(
        mistakes::<Sample>("    Text: a\nText: b\n"),
        ["f:1: unknown key \"    Text\" (wrong indentation? whitespace around the key)"]
    );
    assert_eq!(mistakes::<Sample>("Text: a\nMap:\n\t\ta: nil\n"), ["f:3: whitespace around key \"\\ta\" (wrong indentation?)"]);
    assert_eq!(
        mistakes::<Sample>("Text: a\nFlag: true\r\n"),
        ["f:2: parsing Flag: expected true or false, not \"true\\r\" (the file has CRLF line ends)"]
    );
}

#[test]
fn missing_fields_are_reported_after_their_block() {
    assert_eq!(
        mistakes::<Strict>("also:\n"),
        ["f:1: unknown key \"also\"", "f:1: missing required key \"Needed\"", "f:1: missing required key \"Also\""]
    );
    assert_eq!(mistakes::<Strict>("Also:\n\t-\n\t\tA: x\n\t-\n\t\t# none\n\nNeeded: true\n"), ["f:7: expected indent: an indented block"]);
    assert_eq!(mistakes::<Strict>("Also:\n\t-\n\t\tA: x\n"), ["f:3: missing required key \"Needed\""]);
    assert_eq!(mistakes::<Sample>(""), ["f:1: missing required key \"Text\""]);
}

#[test]
fn bytes_that_are_no_text() {
    assert_eq!(mistakes::<Sample>("Text: a\n# \u{0}\u{fffd}\nX: y\n").len(), 1);
    let problems = parse::<Sample>("f", b"Text: a\nFlag: \xff\n").unwrap_err();
    assert_eq!(problems.to_string(), "f:2: not valid UTF-8");
}

#[test]
fn a_required_map_can_be_empty() {
    let dynamic = parse::<Dynamic>("f", b"Domains:\nAccounts:\n").unwrap().value;
    assert_eq!(dynamic, Dynamic::default());
    assert_eq!(write(&dynamic, Style::Plain).unwrap(), "Domains:\nAccounts:\n");
}

#[test]
fn line_breaks_cannot_be_written() {
    let mut sample = parse::<Sample>("f", b"Text: x\n").unwrap().value;
    sample.text = "a\nFlag: true".to_owned();
    assert!(write(&sample, Style::Plain).is_err());
    sample.text = "x".to_owned();
    for key in ["", "a:b", " a", "a\nb"] {
        sample.map = BTreeMap::from([(key.to_owned(), Inner::default())]);
        assert!(write(&sample, Style::Plain).is_err(), "{key:?}");
    }
}

#[test]
fn documented() {
    let sample = parse::<Sample>("f", b"Text: x\nMap:\n\ta:\n\t\tLevel: info\n").unwrap().value;
    assert_eq!(
        write(&sample, Style::Documented).unwrap(),
        "# A text that is longer than the width of a line, so that its documentation has to\n# be wrapped somewhere near here.\n# 1. First.\n# 2. Second.\n#\n# Another paragraph.\nText: x\n\n# Map. (optional)\nMap:\n\ta:\n\n\t\t# Level. (optional)\n\t\tLevel: info\n"
    );
    let described = describe::<Sample>();
    assert!(described.ends_with(
        "\n# Time. (optional)\nTime: 0s\n\n# List. (optional)\nList:\n\t- \n\n# Map. (optional)\nMap:\n\tx:\n\n\t\t# Level. (optional)\n\t\tLevel: \n\n\t\t# Words. (optional)\n\t\tWords:\n\t\t\tx: \n\n# Section. (optional)\nInner:\n\n\t# Level. (optional)\n\tLevel: \n\n\t# Words. (optional)\n\tWords:\n\t\tx: \n\n# Sections. (optional)\nInners:\n\t-\n\n\t\t# Level. (optional)\n\t\tLevel: \n\n\t\t# Words. (optional)\n\t\tWords:\n\t\t\tx: \n"
    ), "{described}");
}
