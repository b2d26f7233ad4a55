//! What every package's manifest must say: what it is, and that the workspace's lints hold in it.

use crate::metadata::Package;

pub(super) fn check(packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages {
        let path = package.manifest.display();
        let text = match std::fs::read_to_string(&package.manifest) {
            Ok(text) => text,
            Err(error) => {
                findings.push(format!("{path}: {error}"));
                continue;
            }
        };
        findings.extend(faults(&text).into_iter().map(|fault| format!("{path}: {fault}")));
    }
    findings
}

fn faults(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = match manifest.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![error.to_string()],
    };
    let mut faults = Vec::new();
    let description = manifest.get("package").and_then(|p| p.get("description"));
    if description.and_then(toml::Value::as_str).is_none_or(|d| d.trim().is_empty()) {
        faults.push("no description".to_owned());
    }
    let lints = manifest.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool);
    if lints != Some(true) {
        faults.push("no `lints.workspace = true`".to_owned());
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else {
            continue;
        };
        for (name, dependency) in dependencies {
            if dependency.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                faults.push(format!("{name} isn't `workspace = true`: versions are declared once, with what they are for"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_manifest_has_no_faults() {
        let manifest = "[package]\ndescription = \"Words.\"\n[lints]\nworkspace = true\n[dependencies]\nbytes.workspace = true\n";
        assert_eq!(faults(manifest), Vec::<String>::new());
    }

    #[test]
    fn missing_description_lints_and_shared_versions_are_found() {
        let faults = faults("[package]\nname = \"x\"\n[dependencies]\nbytes = \"1\"\n");
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
