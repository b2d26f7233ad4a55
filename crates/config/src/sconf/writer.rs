//! Writing: values, with or without their documentation.

use crate::schema::{Field, Value};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without comments: what the server writes.
    Plain,
    /// With the documentation of the fields that are there.
    Documented,
}

/// A value or key that the format can't express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't be written to a configuration file: line break, or a key that is empty or has a colon or surrounding space")]
pub struct Unwritable(String);

/// Width of documentation in bytes, without `# ` and indentation.
const WIDTH: usize = 80;

/// Writes one file. The schema's types call it; see [`Value`].
#[derive(Debug)]
pub struct Writer {
    style: Style,
    out: String,
    indent: usize,
    unwritable: Option<Unwritable>,
}

impl Writer {
    /// An empty file.
    pub const fn new(style: Style) -> Self {
        Self { style, out: String::new(), indent: 0, unwritable: None }
    }

    /// The text.
    ///
    /// # Errors
    /// The first value that couldn't be written.
    pub fn finish(self) -> Result<String, Unwritable> {
        match self.unwritable {
            None => Ok(self.out),
            Some(error) => Err(error),
        }
    }

    /// The text, of a description, which can always be written.
    pub(super) fn into_text(self) -> String {
        self.out
    }

    /// Writes a field, unless it is optional and zero.
    pub fn field<T: Value>(&mut self, field: &Field, value: &T) {
        if field.optional && value.is_zero() {
            return;
        }
        self.document(field);
        self.start(field.name);
        value.write(self);
    }

    /// Writes a field's shape.
    pub fn describe_field<T: Value>(&mut self, field: &Field) {
        self.document(field);
        self.start(field.name);
        T::describe(self);
    }

    /// Writes a map's entry.
    pub fn entry(&mut self, key: &str, value: impl FnOnce(&mut Self)) {
        if key.is_empty() || key.trim() != key || key.contains([':', '\n', '\r']) {
            self.refuse(key);
        }
        self.start(key);
        value(self);
    }

    /// Writes a list's item.
    pub fn item(&mut self, value: impl FnOnce(&mut Self)) {
        self.tabs();
        self.out.push('-');
        value(self);
    }

    /// Writes a block one level deeper.
    pub fn nested(&mut self, block: impl FnOnce(&mut Self)) {
        self.out.push('\n');
        self.indent += 1;
        block(self);
        self.indent -= 1;
    }

    /// Writes a value on the line of its key.
    pub fn scalar(&mut self, text: &str) {
        if text.contains(['\n', '\r']) {
            self.refuse(text);
        }
        self.out.push(' ');
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn refuse(&mut self, text: &str) {
        self.unwritable.get_or_insert_with(|| Unwritable(text.to_owned()));
    }

    fn tabs(&mut self) {
        self.out.extend(std::iter::repeat_n('\t', self.indent));
    }

    fn start(&mut self, key: &str) {
        self.tabs();
        self.out.push_str(key);
        self.out.push(':');
    }

    fn document(&mut self, field: &Field) {
        if self.style == Style::Plain || (field.doc.is_empty() && !field.optional) {
            return;
        }
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        let optional = if !field.optional {
            ""
        } else if field.doc.is_empty() {
            "(optional)"
        } else {
            " (optional)"
        };
        let text = format!("{}{optional}", field.doc);
        for (i, section) in text.split("\n\n\n").enumerate() {
            if i > 0 {
                self.out.push_str("\n\n");
            }
            for line in wrap(section) {
                self.tabs();
                self.out.push('#');
                if !line.is_empty() {
                    self.out.push(' ');
                    self.out.push_str(&line);
                }
                self.out.push('\n');
            }
        }
    }
}

/// Paragraphs as lines of at most [`WIDTH`] bytes; an empty line between paragraphs. A line that starts with a number and
/// a dot starts a line of its own.
fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut fresh = true;
    for source in text.split('\n') {
        if source.is_empty() {
            lines.push(String::new());
            fresh = true;
            continue;
        }
        if is_numbered(source) {
            fresh = true;
        }
        for word in source.split(' ').filter(|w| !w.is_empty()) {
            match lines.last_mut() {
                Some(line) if !fresh && line.len() + 1 + word.len() <= WIDTH => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
            fresh = false;
        }
    }
    lines
}

fn is_numbered(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < line.len() && rest.starts_with(". ")
}
