//! Flags as Go's `flag` package reads them.

use std::collections::BTreeMap;

/// A flag a command takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    /// Its name, without dash.
    pub(crate) name: &'static str,
    /// What its value is called in usage; none for a switch.
    pub(crate) value: Option<&'static str>,
    /// What it does, with its default.
    pub(crate) help: &'static str,
}

impl Flag {
    /// A flag with a value.
    pub(crate) const fn text(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value: Some(value), help }
    }

    /// A switch.
    pub(crate) const fn bool(name: &'static str, help: &'static str) -> Self {
        Self { name, value: None, help }
    }
}

/// Lists of flags one after the other; `N` is their length together.
pub(crate) const fn joined<const N: usize>(lists: &[&[Flag]]) -> [Flag; N] {
    let mut all = [Flag { name: "", value: None, help: "" }; N];
    let (mut rest, mut at) = (lists, 0);
    while let [list, others @ ..] = rest {
        let mut left = *list;
        while let [flag, following @ ..] = left {
            all[at] = *flag;
            at += 1;
            left = following;
        }
        rest = others;
    }
    assert!(at == N, "as long as all lists");
    all
}

/// The flags given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// A flag's value, none when it wasn't given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a switch is on.
    pub(crate) fn bool(&self, name: &str) -> bool {
        self.text(name).and_then(parse_bool).unwrap_or(false)
    }
}

/// An unknown flag, a missing value, a switch that isn't true or false, or a wish for help.
#[derive(Debug)]
pub(crate) struct BadFlag;

/// Splits arguments into flags and parameters; says what is wrong on standard error.
pub(crate) fn parse<'a>(known: &'static [Flag], args: &'a [String]) -> Result<(Flags, &'a [String]), BadFlag> {
    let mut given = BTreeMap::new();
    let mut rest = args;
    while let Some((arg, after)) = rest.split_first() {
        if arg == "--" {
            rest = after;
            break;
        }
        let Some(body) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|b| !b.is_empty()) else {
            break;
        };
        rest = after;
        let (name, value) = body.split_once('=').map_or((body, None), |(n, v)| (n, Some(v.to_owned())));
        let Some(flag) = known.iter().find(|f| f.name == name) else {
            if name != "h" && name != "help" {
                eprintln!("flag provided but not defined: -{name}");
            }
            return Err(BadFlag);
        };
        let value = match (flag.value, value) {
            (None, None) => "true".to_owned(),
            (None, Some(value)) if parse_bool(&value).is_none() => {
                eprintln!("invalid boolean value {value:?} for -{name}");
                return Err(BadFlag);
            }
            (_, Some(value)) => value,
            (Some(_), None) => {
                let Some((value, after)) = rest.split_first() else {
                    eprintln!("flag needs an argument: -{name}");
                    return Err(BadFlag);
                };
                rest = after;
                value.clone()
            }
        };
        given.insert(flag.name, value);
    }
    Ok((Flags(given), rest))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] = &[Flag::text("config", "file", ""), Flag::bool("now", "")];

    #[test]
    fn as_go_does() {
        // Line, -config, -now, parameters.
        type Want = Option<(Option<&'static str>, bool, &'static [&'static str])>;
        let cases: [(&str, Want); 12] = [
            ("", Some((None, false, &[]))),
            ("-now x", Some((None, true, &["x"]))),
            ("--now=false x", Some((None, false, &["x"]))),
            ("-config a -now", Some((Some("a"), true, &[]))),
            ("-config=a=b", Some((Some("a=b"), false, &[]))),
            ("-config -now", Some((Some("-now"), false, &[]))),
            ("x -now", Some((None, false, &["x", "-now"]))),
            ("-- -now", Some((None, false, &["-now"]))),
            ("- -now", Some((None, false, &["-", "-now"]))),
            ("-config", None),
            ("-other", None),
            ("-now=maybe", None),
        ];
        for (line, want) in cases {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let got = parse(KNOWN, &args).ok();
            let got = got.as_ref().map(|(f, r)| (f.text("config"), f.bool("now"), r.iter().map(String::as_str).collect::<Vec<_>>()));
            assert_eq!(got, want.map(|(c, n, r)| (c, n, r.to_vec())), "{line}");
        }
    }
}
