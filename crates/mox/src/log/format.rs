//! How a line looks.

use super::Format;
use mox_config::LogLevel;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};

/// What an event or span has recorded.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    message: String,
    error: Option<String>,
    /// Packages further in than the target's.
    packages: Vec<String>,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "error" | "err" => self.error = Some(value),
            "pkg" => self.packages.push(value),
            name => match self.others.iter_mut().find(|(n, _)| *n == name) {
                // A span's field recorded again, such as the user once known.
                Some((_, old)) => *old = value,
                None => self.others.push((name, value)),
            },
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let text = if field.name() == "cid" { format!("{value:x}") } else { value.to_string() };
        self.add(field, text);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        let text = if field.name() == "cid" { format!("{value:x}") } else { value.to_string() };
        self.add(field, text);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.to_string());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            let cause = error.to_string();
            // Many errors show their cause themselves.
            if !text.contains(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
            source = error.source();
        }
        self.add(field, text);
    }
}

/// A line in the making: the event's fields first, then those of the spans around it, innermost first.
pub(super) struct Line {
    format: Format,
    level: LogLevel,
    fields: Fields,
    packages: Vec<String>,
}

impl Line {
    pub(super) fn new(format: Format, level: LogLevel, package: &str) -> Self {
        Self { format, level, fields: Fields::default(), packages: vec![package.to_owned()] }
    }

    pub(super) fn add(&mut self, fields: Fields) {
        let all = &mut self.fields;
        if all.message.is_empty() {
            all.message = fields.message;
        }
        all.error = all.error.take().or(fields.error);
        self.packages.extend(fields.packages);
        for (name, value) in fields.others {
            if !all.others.iter().any(|(n, _)| *n == name) {
                all.others.push((name, value));
            }
        }
    }

    /// The line, with its end.
    pub(super) fn finish(self) -> String {
        let Self { format, level, fields, packages } = self;
        let mut out = String::with_capacity(160);
        // Writing to a string doesn't fail.
        let _ok = match format {
            Format::Logfmt => logfmt(&mut out, level, &fields, &packages),
            Format::Command => command(&mut out, level, &fields, &packages),
        };
        out.push('\n');
        out
    }
}

fn logfmt(out: &mut String, level: LogLevel, fields: &Fields, packages: &[String]) -> fmt::Result {
    write!(out, "l={} m=", level.name())?;
    quoted(out, &fields.message);
    if let Some(error) = &fields.error {
        out.push_str(" err=");
        value(out, error);
    }
    for package in packages {
        out.push_str(" pkg=");
        value(out, package);
    }
    for (name, text) in &fields.others {
        write!(out, " {name}=")?;
        value(out, text);
    }
    Ok(())
}

fn command(out: &mut String, level: LogLevel, fields: &Fields, packages: &[String]) -> fmt::Result {
    // No control characters of others on the operator's terminal.
    write!(out, "{}: ", level.name())?;
    plain(out, &fields.message);
    if let Some(error) = &fields.error {
        out.push_str(": ");
        plain(out, error);
    }
    for package in packages {
        write!(out, "; pkg={package}")?;
    }
    for (name, text) in &fields.others {
        write!(out, "; {name}=")?;
        value(out, text);
    }
    Ok(())
}

/// A value, quoted where a parser would be misled without.
fn value(out: &mut String, text: &str) {
    let quote = |c: char| c <= ' ' || c == '"' || c == '\\' || c == '=' || c >= '\u{7f}';
    if text.is_empty() || text.contains(quote) { quoted(out, text) } else { out.push_str(text) }
}

/// A text in quotes, with escapes as in Go.
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => escaped(out, c),
        }
    }
    out.push('"');
}

fn plain(out: &mut String, text: &str) {
    text.chars().for_each(|c| escaped(out, c));
}

fn escaped(out: &mut String, c: char) {
    // Bidirectional controls would let a stranger's text rearrange the operator's line.
    let confusing = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let n = u32::from(c);
    let _ok = match c {
        c if c.is_control() && n < 0x80 => write!(out, "\\x{n:02x}"),
        c if c.is_control() || confusing => write!(out, "\\u{n:04x}"),
        c => write!(out, "{c}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format) -> String {
        let mut line = Line::new(format, LogLevel::Error, "autotls");
        line.add(Fields {
            message: "requesting \"certificate\"\r\nl=print".into(),
            error: Some("acme: no".into()),
            packages: Vec::new(),
            others: vec![("servername", "mail.example.com".into()), ("user", String::new()), ("text", "a=b".into())],
        });
        line.add(Fields { others: vec![("cid", "19e1c0ffee1".into()), ("user", "outer".into())], ..Fields::default() });
        line.finish()
    }

    #[test]
    fn as_operators_know_it() {
        assert_eq!(
            line(Format::Logfmt),
            "l=error m=\"requesting \\\"certificate\\\"\\r\\nl=print\" err=\"acme: no\" pkg=autotls servername=mail.example.com user=\"\" text=\"a=b\" cid=19e1c0ffee1\n"
        );
        assert_eq!(
            line(Format::Command),
            "error: requesting \"certificate\"\\x0d\\x0al=print: acme: no; pkg=autotls; servername=mail.example.com; user=\"\"; text=\"a=b\"; cid=19e1c0ffee1\n"
        );
    }
}
