//! Junk flags that come with a mailbox: what its owner puts there tells what they think of it.
//!
//! Set on every message that is added, copied or moved into a mailbox, whoever does it. The mailbox for junk marks everything; others do
//! as the account's patterns for names say, if it has any.

use super::WriteTx;
use crate::directory::AutomaticJunkFlags;
use crate::flags::Flags;
use crate::mailbox::{Mailbox, SpecialUse};
use regex::Regex;

/// The flags that are decided on.
const BOTH: Flags = Flags::from_bits(Flags::JUNK.bits() | Flags::NOTJUNK.bits());

impl WriteTx<'_> {
    /// What a mailbox makes of the junk flags of messages that arrive there; none if they stay.
    pub(super) fn junk_flags(&self, mailbox: &Mailbox) -> Option<Flags> {
        if mailbox.special_use.has(SpecialUse::JUNK) {
            return Some(Flags::JUNK);
        }
        let settings = self.scope.settings()?;
        by_name(settings.automatic_junk_flags.as_ref()?, mailbox.name.as_str())
    }
}

/// These flags, with the junk flags as a mailbox wants them.
pub(super) fn with_junk(flags: Flags, junk: Option<Flags>) -> Flags {
    junk.map_or(flags, |junk| (flags & !BOTH) | junk)
}

fn by_name(rules: &AutomaticJunkFlags, mailbox: &str) -> Option<Flags> {
    let name = mailbox.to_lowercase();
    let classes: [(&Option<Regex>, Flags); 3] =
        [(&rules.junk, Flags::JUNK), (&rules.neutral, Flags::NONE), (&rules.not_junk, Flags::NOTJUNK)];
    let matching = classes.iter().find(|(pattern, _)| pattern.as_ref().is_some_and(|p| p.is_match(&name)));
    let mut without = classes.iter().filter(|(pattern, _)| pattern.is_none());
    // With two patterns, what is neither one nor the other is the third.
    let rest = without.next().filter(|_| without.next().is_none());
    matching.or(rest).map(|(_, flags)| *flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell() {
        let rules = |patterns: [&str; 3]| {
            let [junk, neutral, not_junk] = patterns.map(|p| (!p.is_empty()).then(|| Regex::new(p).unwrap()));
            AutomaticJunkFlags { junk, neutral, not_junk }
        };
        let usual = ["^(junk|spam)", "^(inbox|neutral)", ""];
        for (patterns, mailbox, want) in [
            (usual, "Junk", Some(Flags::JUNK)),
            (usual, "SPAM/2026", Some(Flags::JUNK)),
            (usual, "Inbox", Some(Flags::NONE)),
            (usual, "Archive/Spam", Some(Flags::NOTJUNK)),
            (["^x", "^x", "^x"], "x", Some(Flags::JUNK)),
            (["^x", "^y", "^z"], "a", None),
            (["", "", "^archive"], "Archive", Some(Flags::NOTJUNK)),
            (["", "", "^archive"], "Inbox", None),
            (["", "^inbox", "^archive"], "Other", Some(Flags::JUNK)),
            (["^junk", "", "^archive"], "Other", Some(Flags::NONE)),
            (["", "", ""], "Junk", None),
        ] {
            assert_eq!(by_name(&rules(patterns), mailbox), want, "{patterns:?} {mailbox}");
        }
    }
}
