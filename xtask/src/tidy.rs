//! Checks of the source that no compiler makes: which crate may use which, how long files are, words that must not stay, limits
//! without a test.
//!
//! All findings are reported before it fails, each as `file:line: what`, so that one run is enough.

mod edges;
mod limits;
mod manifests;
mod words;

use crate::{Failure, metadata, run};
use std::path::PathBuf;

/// Files longer than this need a look for the second idea in them.
const LONG: usize = 500;
/// Files longer than this fail.
const TOO_LONG: usize = 900;

/// A tracked file and its lines' text.
pub(crate) struct Source {
    /// Relative to the top of the work tree.
    path: PathBuf,
    text: String,
}

/// Runs all checks.
pub(crate) fn tidy() -> Result<(), Failure> {
    let packages = metadata::packages()?;
    let sources = sources()?;
    let mut findings = edges::check(&packages);
    findings.extend(manifests::check(&packages));
    findings.extend(words::check(&sources));
    findings.extend(limits::check(&sources));
    findings.extend(lengths(&sources));
    if findings.is_empty() {
        println!("tidy: {} packages, {} files, nothing found", packages.len(), sources.len());
        return Ok(());
    }
    Err(format!("{}\ntidy: {} findings", findings.join("\n"), findings.len()))
}

/// Every text file that git knows or would add.
fn sources() -> Result<Vec<Source>, Failure> {
    let listing = run::stdout(run::command("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let mut sources = Vec::new();
    for path in listing.split('\0').filter(|p| !p.is_empty()) {
        // A binary file, or one deleted in the work tree but not yet in the index, has no lines to check.
        if let Ok(text) = std::fs::read_to_string(run::top().join(path)) {
            sources.push(Source { path: path.into(), text });
        }
    }
    Ok(sources)
}

fn lengths(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|s| s.path.extension().is_some_and(|e| e == "rs")) {
        let lines = source.text.lines().count();
        if lines > TOO_LONG {
            findings.push(format!("{}: {lines} lines, more than {TOO_LONG}: split it", source.path.display()));
        } else if lines > LONG {
            println!("note: {}: {lines} lines; is there a second idea in it?", source.path.display());
        }
    }
    findings
}
