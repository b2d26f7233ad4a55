//! The file format: lines, one tab per level, `Key: value`, `- item`, `# comment`.
//!
//! The types of the schema drive both directions: a [`Reader`] is asked for the fields, items or entries that a type
//! wants, a [`Writer`] is told them. The format has no quoting and no escapes: a value is the rest of its line, and
//! can't hold a line break.

mod reader;
mod writer;

pub use reader::{Parsed, Reader};
pub use writer::{Style, Unwritable, Writer};

use crate::problem::{Lines, Problems};
use crate::schema::Section;

/// Reads a file's text. `file` is its name in messages.
///
/// # Errors
/// All mistakes of the file.
pub fn parse<T: Section>(file: &str, text: &[u8]) -> Result<Parsed<T>, Problems> {
    Reader::parse(file, text)
}

/// Where each field of a file stands, as far as it can be read.
pub fn lines<T: Section>(file: &str, text: &[u8]) -> Lines {
    Reader::lines::<T>(file, text)
}

/// Writes a file's text.
///
/// # Errors
/// When a value or key has characters that the format can't express.
pub fn write<T: Section>(value: &T, style: Style) -> Result<String, Unwritable> {
    let mut writer = Writer::new(style);
    value.write_fields(&mut writer);
    writer.finish()
}

/// An annotated empty file: every field, with its documentation.
pub fn describe<T: Section>() -> String {
    let mut writer = Writer::new(Style::Documented);
    T::describe_fields(&mut writer);
    writer.into_text()
}

#[cfg(test)]
mod tests;
