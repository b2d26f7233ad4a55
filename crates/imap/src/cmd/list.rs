//! LIST with its extensions, and LSUB.

use super::mailbox::{StatusItem, status_items};
use super::{Command, Context, decode, mailbox_name};
use crate::cursor::{Cursor, Parsed};
use crate::token::{is_astring_char, keyword, list0, list1, string};

/// `LIST`, RFC 9051 §6.3.9, RFC 5258, RFC 5819, RFC 6154.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Has selection options, return options or several patterns, RFC 5258 §3.
    pub extended: bool,
    /// Selection option `SUBSCRIBED`.
    pub subscribed: bool,
    /// Selection option `RECURSIVEMATCH`.
    pub recursive_match: bool,
    /// Selection option `SPECIAL-USE`, RFC 6154 §5.2.
    pub special_use: bool,
    /// What the patterns are relative to.
    pub reference: String,
    /// Names with wildcards.
    pub patterns: Vec<String>,
    /// Return option `SUBSCRIBED`.
    pub return_subscribed: bool,
    /// Return option `CHILDREN`.
    pub return_children: bool,
    /// Return option `STATUS`, empty when not given.
    pub return_status: Vec<StatusItem>,
}

/// `list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]`, RFC 9051 §9.
pub(super) fn list(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    let mut l = List::default();
    c.sp()?;
    if c.peek() == Some(b'(') {
        l.extended = true;
        select_opts(c, &mut l)?;
        c.sp()?;
    }
    l.reference = mailbox_name(c, context)?;
    c.sp()?;
    if c.peek() == Some(b'(') {
        l.extended = true;
        l.patterns = list1(c, |c| list_mailbox(c, context))?;
    } else {
        l.patterns = vec![list_mailbox(c, context)?];
    }
    if c.eat(b' ') {
        l.extended = true;
        return_opts(c, &mut l)?;
    }
    Ok(Command::List(l))
}

/// `list-select-opts = "(" [*(list-select-opt SP) …] ")"`, RFC 5258 §6. `RECURSIVEMATCH` alone or only with `REMOTE` is bad, §3.
fn select_opts(c: &mut Cursor<'_>, l: &mut List) -> Parsed<()> {
    let start = c.clone();
    list0(c, |c| {
        let at = c.clone();
        match keyword(c)?.as_str() {
            "SUBSCRIBED" => l.subscribed = true,
            "RECURSIVEMATCH" => l.recursive_match = true,
            "SPECIAL-USE" => l.special_use = true,
            // No remote mailboxes here: accepted without effect.
            "REMOTE" => {}
            _ => return at.bad("selection option"),
        }
        Ok(())
    })?;
    if l.recursive_match && !l.subscribed && !l.special_use {
        return start.bad("another option beside RECURSIVEMATCH");
    }
    Ok(())
}

/// `list-return-opts = "RETURN" SP "(" [return-option *(SP return-option)] ")"`, RFC 5258 §6, RFC 5819 §4.
fn return_opts(c: &mut Cursor<'_>, l: &mut List) -> Parsed<()> {
    if !c.eat_text(b"RETURN ") {
        return c.bad("RETURN");
    }
    list0(c, |c| {
        let at = c.clone();
        match keyword(c)?.as_str() {
            "SUBSCRIBED" => l.return_subscribed = true,
            "CHILDREN" => l.return_children = true,
            // Always returned: macOS Mail uses the attributes without asking for them.
            "SPECIAL-USE" => {}
            "STATUS" => {
                c.sp()?;
                l.return_status = status_items(c)?;
            }
            _ => return at.bad("return option"),
        }
        Ok(())
    })?;
    Ok(())
}

/// `list-mailbox = 1*list-char / string`, RFC 9051 §9.
fn list_mailbox(c: &mut Cursor<'_>, context: &Context) -> Parsed<String> {
    let at = c.at();
    let pattern = match c.peek() {
        Some(b'"' | b'{') => string(c)?,
        _ => {
            let bytes = c.take_while1(|b| is_astring_char(b) || matches!(b, b'%' | b'*'), "pattern")?;
            String::from_utf8_lossy(bytes).into_owned()
        }
    };
    decode(pattern, at, context)
}

/// `lsub = "LSUB" SP mailbox SP list-mailbox`, RFC 3501 §9.
pub(super) fn lsub(c: &mut Cursor<'_>, context: &Context) -> Parsed<Command> {
    c.sp()?;
    let reference = mailbox_name(c, context)?;
    c.sp()?;
    Ok(Command::Lsub { reference, pattern: list_mailbox(c, context)? })
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    fn plain(pattern: &str) -> List {
        List { patterns: vec![pattern.into()], ..List::default() }
    }

    #[test]
    fn lists() {
        for (text, want) in [
            (r#"list "" *"#, Some(plain("*"))),
            (r#"list "" """#, Some(plain(""))),
            (r#"list "" a]%/"#, Some(plain("a]%/"))),
            (r#"list a "b c""#, Some(List { reference: "a".into(), ..plain("b c") })),
            (r#"list () "" *"#, Some(List { extended: true, ..plain("*") })),
            (
                r#"list (subscribed recursivematch) "" ("%" *) return (children status (messages))"#,
                Some(List {
                    extended: true,
                    subscribed: true,
                    recursive_match: true,
                    patterns: vec!["%".into(), "*".into()],
                    return_children: true,
                    return_status: vec![StatusItem::Messages],
                    ..List::default()
                }),
            ),
            (r#"list (special-use remote) "" *"#, Some(List { extended: true, special_use: true, ..plain("*") })),
            (r#"list "" * return ()"#, Some(List { extended: true, ..plain("*") })),
            (r#"list (recursivematch) "" *"#, None),
            (r#"list (recursivematch remote) "" *"#, None),
            (r#"list (other) "" *"#, None),
            (r#"list "" ()"#, None),
            (r#"list "" * return (status ())"#, None),
            (r#"list "" * (children)"#, None),
        ] {
            assert_eq!(parse(text).ok(), want.map(Command::List), "{text}");
        }
        let want = Command::Lsub { reference: String::new(), pattern: "a%".into() };
        assert_eq!(parse(r#"lsub "" a%"#).ok(), Some(want));
    }
}
