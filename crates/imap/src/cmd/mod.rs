//! Commands as values, and the grammar that reads them, RFC 9051 §6 and §9.
//!
//! [`command`] reads a whole command, or says which literal it is waiting for. Mailbox names come out decoded, but not
//! checked: whether a name may exist is the store's business, and is answered with NO, not BAD. APPEND is different from all others:
//! its message isn't part of the parsed input, see [`append`].

pub mod append;
pub mod auth;
pub mod fetch;
pub mod list;
pub mod mailbox;
pub mod messages;
pub mod search;

use crate::cursor::{Cursor, Error, Parsed};
use crate::put::Charset;
use crate::token::{astring, atom, tag};
use crate::utf7;

/// A command with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `CAPABILITY`.
    Capability,
    /// `NOOP`.
    Noop,
    /// `LOGOUT`.
    Logout,
    /// `ID`, RFC 2971: parameters, none for NIL.
    Id(Vec<(String, Option<String>)>),
    /// `STARTTLS`.
    StartTls,
    /// `AUTHENTICATE`.
    Authenticate(auth::Authenticate),
    /// `LOGIN`.
    Login(auth::Login),
    /// `ENABLE`, RFC 5161: capabilities as the client spelt them.
    Enable(Vec<String>),
    /// `SELECT` and `EXAMINE`.
    Select(mailbox::Select),
    /// `CREATE`.
    Create(mailbox::Create),
    /// `DELETE`.
    Delete(String),
    /// `RENAME`.
    Rename {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// `SUBSCRIBE`.
    Subscribe(String),
    /// `UNSUBSCRIBE`.
    Unsubscribe(String),
    /// `LIST`.
    List(list::List),
    /// `LSUB`, RFC 3501 §6.3.9.
    Lsub {
        /// What the pattern is relative to.
        reference: String,
        /// Names with wildcards.
        pattern: String,
    },
    /// `NAMESPACE`.
    Namespace,
    /// `STATUS`.
    Status {
        /// Of which mailbox.
        mailbox: String,
        /// What is asked.
        items: Vec<mailbox::StatusItem>,
    },
    /// `APPEND`, up to its first message.
    Append(append::Append),
    /// `IDLE`.
    Idle,
    /// `CHECK`, RFC 3501 §6.4.1.
    Check,
    /// `CLOSE`.
    Close,
    /// `UNSELECT`.
    Unselect,
    /// `EXPUNGE`, and `UID EXPUNGE` with its UIDs.
    Expunge(Option<crate::SequenceSet>),
    /// `SEARCH` and `UID SEARCH`.
    Search(search::Search),
    /// `FETCH` and `UID FETCH`.
    Fetch(fetch::Fetch),
    /// `STORE` and `UID STORE`.
    Store(messages::Store),
    /// `COPY` and `UID COPY`.
    Copy(messages::Transfer),
    /// `MOVE` and `UID MOVE`.
    Move(messages::Transfer),
}

/// In which states of a session a command may come, RFC 9051 §6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// In all of them.
    Always,
    /// Before authentication.
    NotAuthenticated,
    /// After authentication, with or without a selected mailbox.
    Authenticated,
    /// With a selected mailbox.
    Selected,
}

/// A command's name: what can be said about a command before its arguments are read.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// In lower case, as in metrics: `uid fetch`.
    pub text: &'static str,
    /// When it may come.
    pub allowed: Allowed,
    parse: fn(&mut Cursor<'_>, &Context) -> Parsed<Command>,
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Name {}

/// What the meaning of a command depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// How mailbox names are encoded.
    pub charset: Charset,
}

const COMMANDS: &[Name] = {
    use Allowed::{Always, Authenticated, NotAuthenticated, Selected};
    const fn name(text: &'static str, allowed: Allowed, parse: fn(&mut Cursor<'_>, &Context) -> Parsed<Command>) -> Name {
        Name { text, allowed, parse }
    }
    &[
        name("capability", Always, |_, _| Ok(Command::Capability)),
        name("noop", Always, |_, _| Ok(Command::Noop)),
        name("logout", Always, |_, _| Ok(Command::Logout)),
        name("id", Always, auth::id),
        name("starttls", NotAuthenticated, |_, _| Ok(Command::StartTls)),
        name("authenticate", NotAuthenticated, auth::authenticate),
        name("login", NotAuthenticated, auth::login),
        name("enable", Authenticated, auth::enable),
        name("select", Authenticated, mailbox::select),
        name("examine", Authenticated, mailbox::examine),
        name("create", Authenticated, mailbox::create),
        name("delete", Authenticated, mailbox::delete),
        name("rename", Authenticated, mailbox::rename),
        name("subscribe", Authenticated, mailbox::subscribe),
        name("unsubscribe", Authenticated, mailbox::unsubscribe),
        name("list", Authenticated, list::list),
        name("lsub", Authenticated, list::lsub),
        name("namespace", Authenticated, |_, _| Ok(Command::Namespace)),
        name("status", Authenticated, mailbox::status),
        name("append", Authenticated, append::append),
        name("idle", Authenticated, |_, _| Ok(Command::Idle)),
        name("check", Selected, |_, _| Ok(Command::Check)),
        name("close", Selected, |_, _| Ok(Command::Close)),
        name("unselect", Selected, |_, _| Ok(Command::Unselect)),
        name("expunge", Selected, |_, _| Ok(Command::Expunge(None))),
        name("search", Selected, search::search),
        name("fetch", Selected, fetch::fetch),
        name("store", Selected, messages::store),
        name("copy", Selected, messages::copy),
        name("move", Selected, messages::mov),
        name("uid expunge", Selected, messages::uid_expunge),
        name("uid search", Selected, search::uid_search),
        name("uid fetch", Selected, fetch::uid_fetch),
        name("uid store", Selected, messages::uid_store),
        name("uid copy", Selected, messages::uid_copy),
        name("uid move", Selected, messages::uid_mov),
    ]
};

/// The beginning of a command: tag and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The client's tag.
    pub tag: String,
    /// The name, none if there is no such command.
    pub name: Option<Name>,
    /// The name as it was sent.
    pub spelling: String,
}

/// `tag SP command-name`. With a `UID` command the name is two words.
pub fn head(c: &mut Cursor<'_>) -> Parsed<Head> {
    let tag = tag(c)?;
    c.sp()?;
    let mut spelling = atom(c)?;
    if spelling.eq_ignore_ascii_case("uid") {
        c.sp()?;
        spelling.push(' ');
        spelling.push_str(&atom(c)?);
    }
    let name = COMMANDS.iter().find(|n| n.text.eq_ignore_ascii_case(&spelling)).copied();
    Ok(Head { tag, name, spelling })
}

/// The arguments of the command called `name`, to the end of the command. APPEND ends at its first message's literal.
pub fn arguments(c: &mut Cursor<'_>, name: &Name, context: &Context) -> Parsed<Command> {
    let command = (name.parse)(c, context)?;
    c.end()?;
    Ok(command)
}

/// `mailbox = "INBOX" / astring`, RFC 9051 §9, decoded.
pub fn mailbox_name(c: &mut Cursor<'_>, context: &Context) -> Parsed<String> {
    let at = c.at();
    let name = astring(c)?;
    decode(name, at, context)
}

fn decode(name: String, at: usize, context: &Context) -> Parsed<String> {
    match context.charset {
        Charset::Utf8 => Ok(name),
        Charset::Rev1 => utf7::decode(&name).map_err(|_| Error::Bad { at, expected: "mailbox name in modified UTF-7" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a command without its tag.
    pub(super) fn parse(text: &str) -> Result<Command, Error> {
        let line = format!("t {text}");
        let mut c = Cursor::new(line.as_bytes());
        let head = head(&mut c)?;
        let Some(name) = head.name else { return c.bad("command") };
        arguments(&mut c, &name, &Context { charset: Charset::Rev1 })
    }

    #[test]
    fn commands_without_arguments() {
        for (text, want) in [
            ("NOOP", Some(Command::Noop)),
            ("noop x", None),
            ("noop ", None),
            ("capability", Some(Command::Capability)),
            ("namespace", Some(Command::Namespace)),
            ("uid noop", None),
            ("unselect", Some(Command::Unselect)),
            ("expunge", Some(Command::Expunge(None))),
            ("uid expunge", None),
        ] {
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }
}
