//! Reading: a cursor over lines that notes mistakes and goes on.

use crate::problem::{FieldPath, Lines, Problem, Problems};
use crate::schema::{Field, Section};
use crate::value::Pattern;
use std::collections::HashMap;

/// More mistakes than this are not reported: the file is something else.
const MAX_PROBLEMS: usize = 100;

/// A file that was read without mistakes.
#[derive(Clone, Debug)]
pub struct Parsed<T> {
    /// Its settings.
    pub value: T,
}

/// A step from a section, list or map to what is in it.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Key(&'a str),
    Item(usize),
}

/// A line that counts: neither empty nor a comment.
struct Line<'a> {
    number: u32,
    text: &'a str,
}

/// Reads one file. The schema's types call it; see [`Value`](crate::schema::Value).
pub struct Reader<'a> {
    file: &'a str,
    lines: Vec<Line<'a>>,
    next: usize,
    /// Tabs before each line of the block being read.
    indent: usize,
    /// What stood behind the last key or dash, until it is taken.
    pending: &'a str,
    /// Whether the value being read may be a block without lines: required maps, which can become empty.
    may_be_empty: bool,
    path: Vec<Step<'a>>,
    /// Where each field stands, if that is wanted: it takes more memory than the settings.
    positions: Option<Lines>,
    problems: Vec<Problem>,
    /// Patterns compiled so far.
    patterns: HashMap<&'a str, Pattern>,
}

/// What follows a colon or dash.
enum Rest<'a> {
    Text(&'a str),
    NoSpace,
}

fn rest_of(text: &str) -> Rest<'_> {
    match text.strip_prefix(' ') {
        Some(value) => Rest::Text(value),
        None if text.is_empty() => Rest::Text(text),
        None => Rest::NoSpace,
    }
}

impl<'a> Reader<'a> {
    /// Reads a whole file.
    ///
    /// # Errors
    /// All its mistakes.
    pub fn parse<T: Section>(file: &'a str, bytes: &'a [u8]) -> Result<Parsed<T>, Problems> {
        let mut reader = Self::new(file, bytes)?;
        let value = T::read_fields(&mut reader);
        match value {
            Some(value) if reader.problems.is_empty() => Ok(Parsed { value }),
            _ => {
                if reader.problems.is_empty() {
                    reader.mistake("not readable".to_owned());
                }
                Err(Problems(reader.problems))
            }
        }
    }

    /// Where each field of a file stands.
    pub fn lines<T: Section>(file: &'a str, bytes: &'a [u8]) -> Lines {
        let Ok(mut reader) = Self::new(file, bytes) else { return Lines::default() };
        reader.positions = Some(Lines::default());
        // Only the way there is of interest.
        drop(T::read_fields(&mut reader));
        reader.positions.unwrap_or_default()
    }

    fn new(file: &'a str, bytes: &'a [u8]) -> Result<Self, Problems> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes.get(..error.valid_up_to()).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
            Problems(vec![Problem {
                file: file.to_owned(),
                line: u32::try_from(line).ok().and_then(|l| l.checked_add(1)),
                field: FieldPath::default(),
                message: "not valid UTF-8".to_owned(),
            }])
        })?;
        let lines = (1u32..)
            .zip(text.split('\n'))
            .filter(|(_, text)| !text.is_empty() && !text.trim_start().starts_with('#'))
            .map(|(number, text)| Line { number, text })
            .collect();
        Ok(Self {
            file,
            lines,
            next: 0,
            indent: 0,
            pending: "",
            may_be_empty: false,
            path: Vec::new(),
            positions: None,
            problems: Vec::new(),
            patterns: HashMap::new(),
        })
    }

    /// Where we are.
    fn path(&self) -> FieldPath {
        self.path.iter().fold(FieldPath::default(), |path, step| match step {
            Step::Field(name) => path.field(name),
            Step::Key(key) => path.key(key),
            Step::Item(index) => path.item(*index),
        })
    }

    /// Notes a mistake at the last line that was read.
    pub fn mistake(&mut self, message: String) {
        let line = self.next.checked_sub(1).and_then(|i| self.lines.get(i)).map(|l| l.number);
        self.mistake_at(line.or(Some(1)), message);
    }

    fn mistake_at(&mut self, line: Option<u32>, message: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { file: self.file.to_owned(), line, field: self.path(), message });
        }
    }

    /// The next line of the current block without its indentation.
    fn line(&mut self) -> Option<&'a str> {
        let text = self.lines.get(self.next)?.text;
        let rest = strip_tabs(text, self.indent)?;
        self.next += 1;
        Some(rest)
    }

    /// Passes over lines that are deeper than the current block: what belongs to a line that wasn't understood.
    fn skip_deeper(&mut self) {
        while self.lines.get(self.next).is_some_and(|l| strip_tabs(l.text, self.indent + 1).is_some()) {
            self.next += 1;
        }
    }

    /// Splits `Key: value`, noting what is wrong. The value becomes pending.
    fn key(&mut self, line: &'a str) -> Option<&'a str> {
        let Some((key, rest)) = line.split_once(':') else {
            let hint = if line.trim().is_empty() { " (stray whitespace)" } else { "" };
            self.mistake(format!("missing colon in line {line:?}{hint}"));
            self.skip_deeper();
            return None;
        };
        let Rest::Text(value) = rest_of(rest) else {
            self.mistake(format!("missing space after colon in line {line:?}"));
            self.skip_deeper();
            return None;
        };
        if key.is_empty() {
            self.mistake(format!("empty key in line {line:?}"));
            self.skip_deeper();
            return None;
        }
        self.pending = value;
        Some(key)
    }

    /// Reads the fields of a struct until the block ends; `read` is called with the index of each.
    pub fn fields(&mut self, fields: &[Field], mut read: impl FnMut(&mut Self, usize)) {
        let mut seen = vec![false; fields.len()];
        while let Some(line) = self.line() {
            let Some(key) = self.key(line) else { continue };
            let Some(index) = fields.iter().position(|f| f.name == key) else {
                let hint = if key.trim() == key { "" } else { " (wrong indentation? whitespace around the key)" };
                self.mistake(format!("unknown key {key:?}{hint}"));
                self.skip_deeper();
                continue;
            };
            if seen.get(index).copied().unwrap_or(false) {
                self.mistake(format!("duplicate key {key:?}"));
                self.skip_deeper();
                continue;
            }
            if let Some(slot) = seen.get_mut(index) {
                *slot = true;
            }
            let required = fields.get(index).is_some_and(|f| !f.optional);
            self.below(Step::Field(key), |reader| {
                reader.may_be_empty = required;
                read(reader, index);
                reader.may_be_empty = false;
            });
        }
        for (field, seen) in fields.iter().zip(seen) {
            if !field.optional && !seen {
                // The block is known to be complete at the line after it.
                let line = self.lines.get(self.next).or(self.lines.last()).map_or(1, |l| l.number);
                self.mistake_at(Some(line), format!("missing required key {:?}", field.name));
            }
        }
    }

    /// Reads the items of a list; `read` says whether it went well. Returns whether all did.
    pub fn items(&mut self, mut read: impl FnMut(&mut Self) -> bool) -> bool {
        let mut complete = true;
        let mut index = 0;
        while let Some(line) = self.line() {
            let Some(rest) = line.strip_prefix('-') else {
                self.mistake(format!("expected item (\"- …\"), got {line:?}"));
                self.skip_deeper();
                complete = false;
                continue;
            };
            let Rest::Text(value) = rest_of(rest) else {
                self.mistake(format!("missing space after - in line {line:?}"));
                self.skip_deeper();
                complete = false;
                continue;
            };
            self.pending = value;
            self.below(Step::Item(index), |reader| complete &= read(reader));
            index += 1;
        }
        complete
    }

    /// Reads the entries of a map, given their key's text; `read` says whether it went well. Returns whether all did.
    pub fn entries(&mut self, mut read: impl FnMut(&mut Self, &str) -> bool) -> bool {
        if self.may_be_empty && self.pending.is_empty() && !self.deeper_follows() {
            return true;
        }
        let entries = self.nested(|reader| {
            let mut complete = true;
            while let Some(line) = reader.line() {
                let Some(key) = reader.key(line) else {
                    complete = false;
                    continue;
                };
                if key.trim() != key {
                    reader.mistake(format!("whitespace around key {key:?} (wrong indentation?)"));
                    reader.skip_deeper();
                    complete = false;
                    continue;
                }
                reader.below(Step::Key(key), |reader| {
                    reader.may_be_empty = false;
                    if !read(reader, key) {
                        // The block of a key that isn't understood.
                        reader.skip_deeper();
                        complete = false;
                    }
                });
            }
            Some(complete)
        });
        entries.unwrap_or(false)
    }

    /// A map entry's value: its zero if it says `nil`.
    pub fn nil_or<T>(&mut self, zero: fn() -> Option<T>, read: fn(&mut Self) -> Option<T>) -> Option<T> {
        if self.pending != "nil" {
            return read(self);
        }
        let value = zero();
        if value.is_none() {
            self.mistake("nil is not possible here, there are required fields".to_owned());
        }
        value
    }

    fn below(&mut self, step: Step<'a>, read: impl FnOnce(&mut Self)) {
        self.path.push(step);
        if let Some(mut positions) = self.positions.take() {
            let line = self.next.checked_sub(1).and_then(|i| self.lines.get(i)).map_or(0, |l| l.number);
            positions.note(self.path(), line);
            self.positions = Some(positions);
        }
        read(self);
        self.path.pop();
        self.pending = "";
    }

    fn deeper_follows(&self) -> bool {
        self.lines.get(self.next).is_some_and(|l| strip_tabs(l.text, self.indent + 1).is_some())
    }

    /// Reads a block one level deeper, which must have at least one line.
    pub fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if !self.pending.is_empty() {
            self.mistake(format!("expected indent: an indented block on the next lines, not {:?}", self.pending));
            self.skip_deeper();
            return None;
        }
        if !self.deeper_follows() {
            let line = self.lines.get(self.next).or(self.lines.last()).map(|l| l.number);
            self.mistake_at(line, "expected indent: an indented block".to_owned());
            return None;
        }
        self.indent += 1;
        let value = read(self);
        self.indent -= 1;
        value
    }

    /// Reads a value on one line.
    pub fn scalar<T>(&mut self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(self.pending) {
            Ok(value) => Some(value),
            Err(message) => {
                let hint = if self.pending.ends_with('\r') { " (the file has CRLF line ends)" } else { "" };
                self.mistake(format!("parsing {}: {message}{hint}", self.path()));
                None
            }
        }
    }

    /// Reads a regular expression.
    pub fn pattern(&mut self) -> Option<Pattern> {
        if let Some(pattern) = self.patterns.get(self.pending) {
            return Some(pattern.clone());
        }
        let pattern = self.scalar(Pattern::new)?;
        self.patterns.insert(self.pending, pattern.clone());
        Some(pattern)
    }

    /// Whether the pending value is the empty text.
    pub fn take_empty(&mut self) -> bool {
        self.pending.is_empty()
    }
}

fn strip_tabs(text: &str, count: usize) -> Option<&str> {
    let (tabs, rest) = text.split_at_checked(count)?;
    tabs.bytes().all(|b| b == b'\t').then_some(rest)
}
