//! What cargo knows about the workspace: its packages, the edges between them, their features.

use crate::{Failure, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A package of the workspace, as `cargo metadata` tells it.
pub(crate) struct Package {
    /// Name with prefix, as in the manifest: `mox-imap`.
    pub(crate) name: String,
    /// Where its `Cargo.toml` is.
    pub(crate) manifest: PathBuf,
    /// Workspace packages it is built with: normal and build dependencies.
    pub(crate) uses: BTreeSet<String>,
    /// Workspace packages its tests use on top of that.
    pub(crate) tests_use: BTreeSet<String>,
    /// Its features but `default`.
    pub(crate) features: Vec<String>,
}

/// The workspace's packages, by name.
pub(crate) fn packages() -> Result<Vec<Package>, Failure> {
    let text = run::stdout(run::cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = list(&metadata, "packages");
    let names: BTreeSet<&str> = packages.iter().map(|p| text_of(p, "name")).collect();
    let mut found: Vec<Package> = packages.iter().map(|p| package(p, &names)).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn package(package: &Value, names: &BTreeSet<&str>) -> Package {
    let (mut uses, mut tests_use) = (BTreeSet::new(), BTreeSet::new());
    for dependency in list(package, "dependencies") {
        let name = text_of(dependency, "name");
        if names.contains(name) {
            let kind = if text_of(dependency, "kind") == "dev" { &mut tests_use } else { &mut uses };
            kind.insert(name.to_owned());
        }
    }
    let features = package.get("features").and_then(Value::as_object).map(|f| f.keys().cloned().collect());
    let mut features: Vec<String> = features.unwrap_or_default();
    features.retain(|f| f != "default");
    Package {
        name: text_of(package, "name").to_owned(),
        manifest: PathBuf::from(text_of(package, "manifest_path")),
        uses,
        tests_use,
        features,
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
