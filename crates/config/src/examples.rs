//! Examples for `config example` and the manual: parts of the two files, which a test reads as such.

/// An example.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// Its name on the command line.
    pub name: &'static str,
    /// Part of mox.conf.
    pub fixed: Option<&'static str>,
    /// Part of domains.conf.
    pub dynamic: Option<&'static str>,
}

impl Example {
    /// The example's text, with a comment where each part belongs.
    pub fn text(&self) -> String {
        let parts = [("mox.conf", self.fixed), ("domains.conf", self.dynamic)];
        let parts = parts.iter().filter_map(|(file, part)| part.map(|part| format!("# Part of {file}.\n\n{part}")));
        parts.collect::<Vec<_>>().join("\n")
    }
}

/// All examples.
pub const EXAMPLES: &[Example] = &[
    Example { name: "webhandlers", fixed: None, dynamic: Some(include_str!("examples/webhandlers.conf")) },
    Example {
        name: "transport",
        fixed: Some(include_str!("examples/transport.mox.conf")),
        dynamic: Some(include_str!("examples/transport.domains.conf")),
    },
    Example {
        name: "transport-socks",
        fixed: Some(include_str!("examples/transport-socks.mox.conf")),
        dynamic: Some(include_str!("examples/transport-socks.domains.conf")),
    },
    Example { name: "rulesets", fixed: None, dynamic: Some(include_str!("examples/rulesets.conf")) },
    Example { name: "catchall", fixed: None, dynamic: Some(include_str!("examples/catchall.conf")) },
];

/// The example of a name.
pub fn example(name: &str) -> Option<&'static Example> {
    EXAMPLES.iter().find(|example| example.name == name)
}
