use crate::world::{DYNAMIC, STATIC, World};
use mox_config::examples::{EXAMPLES, example};

#[test]
fn all_are_valid() {
    for example in EXAMPLES {
        let mut fixed = STATIC.replace("\t\tIPs:", "\t\tWebserverHTTP:\n\t\t\tEnabled: true\n\t\tIPs:");
        fixed.push_str(example.fixed.unwrap_or_default());
        let part = example.dynamic.unwrap_or_default();
        let dynamic = if part.contains("Domains:\n") { part.to_owned() } else { format!("{DYNAMIC}{part}") };
        assert_eq!(World::new(&fixed, &dynamic).mistakes(), Vec::<String>::new(), "{}", example.name);
    }
}

#[test]
fn text_names_the_files() {
    let text = example("transport").unwrap().text();
    assert!(text.starts_with("# Part of mox.conf.\n\nTransports:\n"), "{text}");
    assert!(text.contains("\n# Part of domains.conf.\n\n"), "{text}");
    assert!(example("nothing").is_none());
}
