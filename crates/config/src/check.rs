//! Validation across fields: what types alone can't say. All problems are collected, each with its line.
//!
//! `fixed` checks `mox.conf`; `dynamic`, `domain`, `account` and `web` check `domains.conf` against it; `addresses`
//! resolves who has which address. What is wrong but can be lived with is a warning.

mod account;
mod addresses;
mod domain;
mod dynamic;
mod fixed;
mod web;

pub(crate) use addresses::canonical;
pub use addresses::{AddressTable, Owner};
pub(crate) use dynamic::{account_name, check_dynamic};
pub(crate) use fixed::check_static;

use crate::dkim_key::DkimKey;
use crate::paths::Paths;
use crate::problem::{FieldPath, Lines, Problem, Problems};
use crate::value::UnicodeDomain;
use std::collections::BTreeMap;

/// What checking asks of the world besides files.
pub struct Outside<'a> {
    /// Whether the system knows a user of this name.
    pub user_known: &'a dyn Fn(&str) -> bool,
    /// Whether certificates and keys of TLS are looked at: when serving and for `config test`.
    pub read_tls_keys: bool,
}

/// Private keys by domain and selector.
pub type DkimKeys = BTreeMap<(UnicodeDomain, UnicodeDomain), DkimKey>;

/// Collects what is wrong with one file.
pub(crate) struct Checker<'a> {
    file: &'a str,
    pub(crate) paths: &'a Paths,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(crate) const fn new(file: &'a str, paths: &'a Paths) -> Self {
        Self { file, paths, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Something that can't be used.
    pub(crate) fn error(&mut self, at: &FieldPath, message: impl Into<String>) {
        let problem = self.problem(at, message.into());
        self.problems.push(problem);
    }

    /// Something that probably isn't meant.
    pub(crate) fn warn(&mut self, at: &FieldPath, message: impl Into<String>) {
        let problem = self.problem(at, message.into());
        self.warnings.push(problem);
    }

    fn problem(&self, at: &FieldPath, message: String) -> Problem {
        Problem { file: self.file.to_owned(), line: None, field: at.clone(), message }
    }

    /// The warnings. `lines` says where things stand; it is asked only if there is something to say.
    ///
    /// # Errors
    /// The errors, if there are any. Both in the order of the file.
    pub(crate) fn finish(mut self, lines: impl FnOnce() -> Lines) -> Result<Vec<Problem>, Problems> {
        if !self.problems.is_empty() || !self.warnings.is_empty() {
            let lines = lines();
            for found in [&mut self.problems, &mut self.warnings] {
                found.iter_mut().for_each(|problem| problem.line = lines.line(&problem.field));
                found.sort_by_key(|problem| problem.line);
            }
        }
        Problems(self.problems).into_result().map(|()| self.warnings)
    }
}
