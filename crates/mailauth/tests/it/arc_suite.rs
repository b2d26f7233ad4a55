//! The validation tests of the ValiMail ARC test suite, read where it lies.

use mox_mailauth::MessageReader;
use mox_testkit::Zone;
use mox_testkit::peers::require_data;
use std::collections::BTreeMap;
use yaml_rust2::YamlLoader;

/// The suite with numbers behind names of tests that it has used before: its YAML repeats some.
fn with_unique_names(text: &str) -> String {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let unique = |line: &str, n: usize| if n > 1 { format!("{}_{n}:\n", line.trim_end_matches(':')) } else { format!("{line}\n") };
    let is_name = |line: &str| line.starts_with("  ") && !line.starts_with("   ") && line.ends_with(':');
    text.lines()
        .map(|line| {
            let n = seen.entry(line).and_modify(|n| *n += 1).or_insert(1);
            unique(line, if is_name(line) { *n } else { 1 })
        })
        .collect()
}

/// Where we say `fail`, and the suite `pass`: a signature of no header field at all, which the grammar of RFC 6376 §3.5 doesn't allow.
/// Whoever has one such set could put it on any message with the same body.
const STRICTER: [&str; 1] = ["ams_fields_h_empty"];

#[test]
fn validation() {
    let Some(folder) = require_data("arc") else { return };
    let text = std::fs::read_to_string(folder.join("arc-draft-validation-tests.yml")).unwrap();
    let mut failures = Vec::new();
    let mut count = 0;
    for scenario in YamlLoader::load_from_str(&with_unique_names(&text)).unwrap() {
        let Some(tests) = scenario["tests"].as_hash() else { continue };
        let mut zone = Zone::new();
        for (name, record) in scenario["txt-records"].as_hash().unwrap() {
            zone = zone.txt(name.as_str().unwrap(), record.as_str().unwrap());
        }
        for (name, test) in tests {
            count += 1;
            let message = test["message"].as_str().unwrap_or_default().replace('\n', "\r\n");
            let mut reader = MessageReader::new();
            message.as_bytes().chunks(100).for_each(|piece| reader.push(piece));
            let outcome = crate::ready(reader.finish().verify_arc(&zone));
            let wanted = test["cv"].as_str().unwrap_or_default().to_lowercase();
            // Where the suite has no result, a seal says itself that the chain is broken.
            let wanted = if wanted.is_empty() { "fail".to_owned() } else { wanted };
            let wanted = if STRICTER.contains(&name.as_str().unwrap()) { "fail".to_owned() } else { wanted };
            if outcome.status.name() != wanted {
                failures.push(format!("{}: want {wanted}, got {outcome:?}", name.as_str().unwrap()));
            }
        }
    }
    assert!(count > 150, "only {count} tests");
    assert!(failures.is_empty(), "{} of {count} fail:\n{}", failures.len(), failures.join("\n"));
}
