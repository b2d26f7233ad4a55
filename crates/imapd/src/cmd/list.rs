//! LIST with its extensions, RFC 9051 §6.3.9, and LSUB, RFC 3501 §6.3.9.

use super::{Done, status};
use crate::session::Session;
use mox_imap::cmd::list::List;
use mox_imap::response::{self, ListLine};
use mox_store::{Mailboxes, SpecialUse};
use std::collections::BTreeSet;

/// The roles and their attributes, in the order in which they are printed, RFC 6154 §2.
pub(crate) const ROLES: [(SpecialUse, &str); 5] = [
    (SpecialUse::ARCHIVE, "\\Archive"),
    (SpecialUse::DRAFTS, "\\Drafts"),
    (SpecialUse::JUNK, "\\Junk"),
    (SpecialUse::SENT, "\\Sent"),
    (SpecialUse::TRASH, "\\Trash"),
];

pub(crate) async fn list(s: &mut Session, l: &List) -> Done {
    if !l.extended && l.patterns.iter().all(String::is_empty) {
        // A request for the hierarchy delimiter, RFC 9051 §6.3.9.
        response::untagged(&mut s.conn.out, "LIST () \"/\" \"\"");
        return Ok(None);
    }
    let mailboxes = s.login()?.account.mailboxes();
    let patterns = Patterns::new(&l.reference, &l.patterns);
    let charset = s.charset();
    for name in candidates(&mailboxes, l).into_iter().filter(|n| patterns.matches(n)) {
        let Some(line) = line(&mailboxes, l, name) else { continue };
        line.print(&mut s.conn.out, "LIST", charset);
        if !l.return_status.is_empty()
            && let Some(mailbox) = mailboxes.by_name(name)
        {
            status::print(s, mailbox, &l.return_status);
        }
        s.conn.relieve().await?;
    }
    Ok(None)
}

/// Names that may be listed, in order: mailboxes, and what is subscribed if that is selected.
fn candidates<'a>(mailboxes: &'a Mailboxes, l: &List) -> BTreeSet<&'a str> {
    let subscribed = || l.subscribed.then(|| mailboxes.subscriptions()).into_iter().flatten().map(|n| n.as_str());
    let mut names: BTreeSet<&str> = mailboxes.iter().map(|m| m.name.as_str()).chain(subscribed()).collect();
    if l.recursive_match {
        // RFC 5258 §3.5: what is above a subscribed name is listed even if it doesn't exist.
        names.extend(subscribed().flat_map(|n| n.match_indices('/').filter_map(|(at, _)| n.get(..at))));
    }
    names
}

/// The response for a name, none if the selection options leave it out.
fn line<'a>(mailboxes: &'a Mailboxes, l: &List, name: &'a str) -> Option<ListLine<'a>> {
    let mailbox = mailboxes.by_name(name);
    let subscribed = mailboxes.is_subscribed(name);
    let has_role = |name: &str| mailboxes.by_name(name).is_some_and(|m| !m.special_use.is_empty());
    let selected = |name: &str| (!l.subscribed || mailboxes.is_subscribed(name)) && (!l.special_use || has_role(name));
    let below = format!("{name}/");
    // RFC 5258 §3.5: a name whose descendants are selected is listed too, and says so.
    let child_subscribed =
        l.recursive_match && l.subscribed && mailboxes.subscriptions().any(|n| n.as_str().starts_with(&below) && selected(n.as_str()));
    let child_selected = child_subscribed
        || (l.recursive_match
            && !l.subscribed
            && mailboxes.iter().any(|m| m.name.as_str().starts_with(&below) && selected(m.name.as_str())));
    if !selected(name) && !child_selected {
        return None;
    }
    let mut attributes = Vec::new();
    if l.subscribed && subscribed {
        attributes.push("\\Subscribed");
    }
    if mailbox.is_none() {
        attributes.push("\\NonExistent");
    }
    if l.return_children
        && let Some(mailbox) = mailbox
    {
        attributes.push(if mailboxes.has_children(&mailbox.name) { "\\HasChildren" } else { "\\HasNoChildren" });
    }
    if l.return_subscribed && subscribed && !l.subscribed {
        attributes.push("\\Subscribed");
    }
    if let Some(mailbox) = mailbox {
        attributes.extend(ROLES.iter().filter(|(role, _)| mailbox.special_use.has(*role)).map(|(_, name)| *name));
    }
    Some(ListLine { attributes, name, child_subscribed, ..ListLine::default() })
}

pub(crate) async fn lsub(s: &mut Session, reference: &str, pattern: &str) -> Done {
    let mailboxes = s.login()?.account.mailboxes();
    let patterns = Patterns::new(reference, &[pattern.to_owned()]);
    let charset = s.charset();
    let mut lines: Vec<(&str, Vec<&str>)> = mailboxes.subscriptions().map(|n| (n.as_str(), vec![])).collect();
    if pattern.ends_with('%') {
        // RFC 3501 §6.3.9: names that aren't subscribed, but have something subscribed below.
        let parents = mailboxes.iter().map(|m| m.name.as_str()).filter(|name| {
            let below = format!("{name}/");
            !mailboxes.is_subscribed(name) && mailboxes.subscriptions().any(|n| n.as_str().starts_with(&below))
        });
        lines.extend(parents.map(|name| (name, vec!["\\NoSelect"])));
    }
    lines.sort_unstable();
    for (name, attributes) in lines.into_iter().filter(|(n, _)| patterns.matches(n)) {
        ListLine { attributes, name, ..ListLine::default() }.print(&mut s.conn.out, "LSUB", charset);
        s.conn.relieve().await?;
    }
    Ok(None)
}

/// Patterns of LIST, each relative to a reference.
#[derive(Debug)]
struct Patterns(Vec<Vec<char>>);

impl Patterns {
    /// Empty patterns match nothing here. A reference or pattern with a leading slash matches nothing.
    fn new(reference: &str, patterns: &[String]) -> Self {
        let joined = patterns.iter().filter(|p| !p.is_empty() && !p.starts_with('/') && !reference.starts_with('/')).map(|p| {
            let reference = reference.trim_end_matches('/');
            let full = if reference.is_empty() { p.clone() } else { format!("{reference}/{p}") };
            // Inbox in any case, also with a wildcard behind: `inb%`.
            full.chars().collect()
        });
        Self(joined.collect())
    }

    fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        self.0.iter().any(|pattern| matches(pattern, &name))
    }
}

/// Whether a name matches a pattern with `*` (any run) and `%` (any run without `/`), in time linear in both for one kind of
/// wildcard and quadratic at worst. The first level `Inbox` is compared without case, RFC 9051 §5.1.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let inbox = {
        let first: String = name.iter().take_while(|c| **c != '/').collect();
        first == "Inbox"
    };
    let same = |i: usize, p: char, n: char| p == n || (inbox && i < 5 && p.eq_ignore_ascii_case(&n));
    // `reached[i]`: the pattern so far matches the first `i` characters.
    let mut reached = vec![false; name.len().saturating_add(1)];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for p in pattern {
        let mut next = vec![false; reached.len()];
        for i in 0..reached.len() {
            let here = reached.get(i).copied().unwrap_or(false);
            let before = i.checked_sub(1);
            let value = match p {
                '*' => here || before.and_then(|b| next.get(b)).copied().unwrap_or(false),
                '%' => {
                    let run = before.is_some_and(|b| next.get(b).copied().unwrap_or(false) && name.get(b) != Some(&'/'));
                    here || run
                }
                p => before.is_some_and(|b| reached.get(b).copied().unwrap_or(false) && name.get(b).is_some_and(|n| same(b, *p, *n))),
            };
            if let Some(slot) = next.get_mut(i) {
                *slot = value;
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (reference, pattern, name, want) in [
            ("", "*", "a/b", true),
            ("", "%", "a/b", false),
            ("", "%", "a", true),
            ("", "%/%", "a/b", true),
            ("", "a*c", "a/b/c", true),
            ("", "inbox", "Inbox", true),
            ("", "inb%", "Inbox", true),
            ("", "INBOX/%", "Inbox/a", true),
            ("", "inbox", "Inboxes", false),
            ("", "inbox%", "inboxes", true),
            ("", "A", "a", false),
            ("a", "%", "a/b", true),
            ("a/", "b", "a/b", true),
            ("/a", "b", "a/b", false),
            ("", "/a", "a", false),
            ("", "", "a", false),
            ("", "%*%*%*%*%*%*%*%*x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(Patterns::new(reference, &[pattern.to_owned()]).matches(name), want, "{reference} {pattern} {name}");
        }
    }
}
