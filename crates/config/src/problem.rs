//! What is wrong with a configuration: all of it, each with its place.

use std::collections::HashMap;
use std::fmt;

/// The path of a field in a file: `Accounts[ann].Destinations[ann@example.org].Mailbox`, held as segments so that keys
/// with dots and brackets stay unambiguous.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(String);

// Separates segments; neither keys nor field names can hold a line break.
const SEPARATOR: char = '\n';

impl FieldPath {
    /// A top-level field.
    pub fn root(name: &str) -> Self {
        Self::default().field(name)
    }

    /// A field of the struct at this path.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        Self(format!("{}{SEPARATOR}.{name}", self.0))
    }

    /// An entry of the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}{SEPARATOR}[{key}]", self.0))
    }

    /// An item of the list at this path, counted from 0.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        Self(format!("{}{SEPARATOR}[{index}]", self.0))
    }

    /// The path of the struct, map or list that holds this.
    pub fn parent(&self) -> Option<Self> {
        self.0.rfind(SEPARATOR).map(|at| Self(self.0.get(..at).unwrap_or_default().to_owned()))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.split(SEPARATOR).collect::<String>();
        if text.starts_with('.') {
            text.remove(0);
        }
        f.write_str(&text)
    }
}

/// Where fields stand in a file.
#[derive(Clone, Debug, Default)]
pub struct Lines(HashMap<FieldPath, u32>);

impl Lines {
    /// Notes the line of a field.
    pub(crate) fn note(&mut self, path: FieldPath, line: u32) {
        self.0.insert(path, line);
    }

    /// The line of a field, or of what is nearest around it when it isn't in the file.
    pub fn line(&self, path: &FieldPath) -> Option<u32> {
        let mut path = path.clone();
        loop {
            if let Some(line) = self.0.get(&path) {
                return Some(*line);
            }
            path = path.parent()?;
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named to us.
    pub file: String,
    /// The line, counted from 1; none when it concerns the whole file.
    pub line: Option<u32>,
    /// The field.
    pub field: FieldPath,
    /// What is wrong, naming the object (`account "ann": …`).
    pub message: String,
}

/// `file:line: message`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// All that is wrong. Never empty when it is returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// A single problem that concerns a whole file.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self(vec![Problem { file: file.to_owned(), line: None, field: FieldPath::default(), message: message.into() }])
    }

    /// `Ok` if nothing is wrong.
    ///
    /// # Errors
    /// Itself, if something is.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The messages joined as the answer of an operation that was refused: `first; second`.
    pub fn joined(&self) -> String {
        self.0.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// One problem on one line; several below a heading.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 1 {
            f.write_str("multiple errors:\n")?;
        }
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
