//! From bytes, however they are split, to commands: the server's input.
//!
//! The caller adds what it read to [`Reader::input`] and asks for the [`Reader::next`] event until that is
//! [`Event::Read`]. Lines and literals are collected into one buffer within a budget, which is small before
//! login, and parsed when nothing is missing. When a literal is announced, what came before it is parsed first, so
//! that a command that is wrong anyway doesn't get to send it. The messages of APPEND are not collected: their bytes pass through as
//! [`Event::Bytes`], as large as they were read. A literal that the client sends without waiting is always consumed,
//! also when its command fails, so that its bytes can't become commands; where that isn't possible, the error is
//! fatal and the connection has to be closed.

use crate::cmd::append::{self, Message};
use crate::cmd::{Command, Context, Head, arguments, head};
use crate::cursor::{Cursor, Error, LiteralHead};
use crate::token::{literal_head, tag};
use bytes::{Bytes, BytesMut};

/// How much a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one line, its CR included, without literals. RFC 7162 §4 asks for 8 KiB at least.
    pub line: usize,
    /// Bytes of all lines of one command.
    pub lines: usize,
    /// Bytes of one literal, other than a message.
    pub literal: u64,
    /// Bytes of all such literals of one command.
    pub literals: u64,
    /// Number of such literals in one command.
    pub literal_count: u32,
}

impl Limits {
    /// Before login: enough for names, passwords and SASL.
    pub const BEFORE_LOGIN: Self = Self { line: 16_384, lines: 32_768, literal: 16_384, literals: 32_768, literal_count: 10 };
    /// After login.
    pub const AFTER_LOGIN: Self = Self { line: 16_384, lines: 262_144, literal: 102_400, literals: 1_024_000, literal_count: 1000 };
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Nothing, before there is more input.
    Read,
    /// This command wants to send a literal and waits: send `+` and [`Reader::proceed`], or answer NO and [`Reader::refuse`].
    Literal(Head),
    /// A command. An APPEND goes on: its first message waits as in [`Event::Message`].
    Command(Head, Command),
    /// The next message of an APPEND: [`Reader::proceed`], after sending `+` if its literal is synchronizing; or [`Reader::refuse`] it, if so.
    Message(Message),
    /// Bytes of the message.
    Bytes(Bytes),
    /// The APPEND is complete.
    AppendEnd,
    /// Input that doesn't fit.
    Bad(Bad),
    /// A line over its limit: close without an answer, as there is no telling where the next command starts.
    TooLong,
}

/// Why input doesn't fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The command's tag, if it could be read.
    pub tag: Option<String>,
    /// The command, if it was recognised.
    pub head: Option<Head>,
    /// What is wrong.
    pub reason: Reason,
    /// Input can't be read any further: answer and close.
    pub fatal: bool,
}

/// What is wrong with input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Doesn't start like a command.
    NoCommand,
    /// There is no such command.
    UnknownCommand,
    /// Wrong arguments.
    Syntax {
        /// What would have fitted.
        expected: &'static str,
        /// The input from the byte that doesn't fit, for whoever is logged in.
        rest: String,
    },
    /// A literal over a limit.
    TooBig,
}

#[derive(Debug)]
enum State {
    /// A line of a command.
    Line,
    /// A literal's announcement was reported.
    Asked(usize),
    /// Bytes of a literal are to come.
    Literal(usize),
    /// A message's announcement was reported.
    MessageAsked(Message),
    /// Bytes of a message are to come.
    Message(Message, u64),
    /// The line behind a message.
    MessageLine(Message),
}

/// The server's input of one connection.
#[derive(Debug)]
pub struct Reader {
    /// What was read and not yet used. The caller appends to it.
    pub input: BytesMut,
    /// How much of the input was already searched for a line end.
    searched: usize,
    /// The command so far.
    command: Vec<u8>,
    /// Where in it the last line starts.
    line_start: usize,
    /// How long it was when it was last parsed.
    parsed: usize,
    literals: u64,
    literal_count: u32,
    state: State,
    append: Option<Head>,
    limits: Limits,
}

impl Reader {
    /// At the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            input: BytesMut::new(),
            searched: 0,
            command: Vec::new(),
            line_start: 0,
            parsed: 0,
            literals: 0,
            literal_count: 0,
            state: State::Line,
            append: None,
            limits,
        }
    }

    /// Other limits, from the next line on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Drops what was read and not yet used: what comes after STARTTLS isn't to be trusted, RFC 9051 §6.2.1.
    pub fn discard_input(&mut self) {
        self.input = BytesMut::new();
        self.searched = 0;
    }

    /// Frees the buffers that aren't in use, for a connection that is going to wait.
    pub fn shrink(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.command.is_empty() {
            self.command = Vec::new();
        }
    }

    /// Whether a command has begun, but isn't complete.
    pub fn in_command(&self) -> bool {
        !matches!(self.state, State::Line) || !self.command.is_empty() || !self.input.is_empty()
    }

    /// How many bytes of the literal in progress are to come: what is worth reading at once.
    pub fn wanted(&self) -> u64 {
        match &self.state {
            State::Literal(left) => *left as u64,
            State::Message(_, left) => *left,
            _ => 0,
        }
    }

    /// The client may send the literal it asked for.
    pub fn proceed(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Line) {
            State::Asked(size) => State::Literal(size),
            State::MessageAsked(message) => {
                let size = message.literal.size;
                State::Message(message, size)
            }
            other => other,
        };
    }

    /// The client may not send the literal it waits for; the command is over.
    pub fn refuse(&mut self) {
        self.reset();
    }

    fn reset(&mut self) {
        self.state = State::Line;
        self.append = None;
        self.line_start = 0;
        self.parsed = 0;
        self.literals = 0;
        self.literal_count = 0;
        if self.command.capacity() > 4096 {
            self.command = Vec::new();
        } else {
            self.command.clear();
        }
    }

    /// A line that isn't a command, as in AUTHENTICATE and IDLE. `None` before it is complete.
    ///
    /// # Errors
    /// It is over the limit.
    pub fn line(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        let mut line = Vec::new();
        Ok(self.take_line(&mut line)?.then_some(line))
    }

    /// Appends the next line, without its end, if it is complete.
    fn take_line(&mut self, to: &mut Vec<u8>) -> Result<bool, LineTooLong> {
        let unsearched = self.input.get(self.searched..).unwrap_or_default();
        let Some(n) = unsearched.iter().position(|b| *b == b'\n') else {
            self.searched = self.input.len();
            return if self.searched > self.limits.line { Err(LineTooLong) } else { Ok(false) };
        };
        let length = self.searched.saturating_add(n);
        self.searched = 0;
        if length > self.limits.line {
            return Err(LineTooLong);
        }
        let mut line = self.input.split_to(length.saturating_add(1));
        line.truncate(length);
        // A bare LF ends a line too.
        to.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(&line));
        Ok(true)
    }

    /// The next event. After [`Event::Literal`], [`Event::Message`] and an APPEND, the same again before the caller
    /// decided.
    pub fn next(&mut self, context: &Context) -> Event {
        loop {
            match std::mem::replace(&mut self.state, State::Line) {
                State::Line => {
                    if let Some(event) = self.command_line(context) {
                        return event;
                    }
                }
                State::Literal(left) => {
                    let n = left.min(self.input.len());
                    self.command.extend_from_slice(&self.input.split_to(n));
                    self.searched = 0;
                    let left = left.saturating_sub(n);
                    if left > 0 {
                        self.state = State::Literal(left);
                        return Event::Read;
                    }
                    self.line_start = self.command.len();
                }
                State::Message(message, 0) => self.state = State::MessageLine(message),
                State::Message(message, left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
                    self.state = State::Message(message, left.saturating_sub(n as u64));
                    if n == 0 {
                        return Event::Read;
                    }
                    self.searched = 0;
                    return Event::Bytes(self.input.split_to(n).freeze());
                }
                State::MessageLine(message) => return self.message_line(message),
                State::Asked(size) => {
                    self.state = State::Asked(size);
                    return Event::Read;
                }
                State::MessageAsked(message) => {
                    self.state = State::MessageAsked(message);
                    return Event::Read;
                }
            }
        }
    }

    fn message_line(&mut self, message: Message) -> Event {
        let mut line = Vec::new();
        match self.take_line(&mut line) {
            Err(LineTooLong) => Event::TooLong,
            Ok(false) => {
                self.state = State::MessageLine(message);
                Event::Read
            }
            Ok(true) => match append::more(&line, &message) {
                Ok(None) => {
                    self.reset();
                    Event::AppendEnd
                }
                Ok(Some(next)) => {
                    self.state = State::MessageAsked(next.clone());
                    Event::Message(next)
                }
                Err(error) => {
                    let head = self.append.take();
                    self.bad(head, syntax(error, &line), ends_in_nonsync(&line))
                }
            },
        }
    }

    /// Goes on with a command by a line, if there is one; no event when a literal follows that doesn't wait.
    fn command_line(&mut self, context: &Context) -> Option<Event> {
        self.line_start = self.command.len();
        let mut command = std::mem::take(&mut self.command);
        let taken = self.take_line(&mut command);
        self.command = command;
        match taken {
            Err(LineTooLong) => return Some(Event::TooLong),
            Ok(false) => return Some(Event::Read),
            Ok(true) => {}
        }
        let line = self.command.get(self.line_start..).unwrap_or_default();
        let fatal = ends_in_nonsync(line);
        let announced = announced(line);
        let lines = (self.command.len() as u64).saturating_sub(self.literals);
        if lines > self.limits.lines as u64 {
            return Some(self.bad(None, Reason::TooBig, fatal));
        }
        let mut c = Cursor::new(&self.command);
        let Ok(head) = head(&mut c) else { return Some(self.bad(None, Reason::NoCommand, fatal)) };
        let Some(name) = head.name else {
            return Some(self.bad(Some(head), Reason::UnknownCommand, fatal));
        };
        // Parsing again for each of a thousand literals would take quadratic time; doubling keeps it linear.
        if let Some(literal) = announced
            && self.command.len() < self.parsed.saturating_mul(2)
            && name.text != "append"
        {
            return self.literal(head, literal);
        }
        self.parsed = self.command.len();
        match arguments(&mut c, &name, context) {
            Ok(Command::Append(command)) => {
                self.state = State::MessageAsked(command.message.clone());
                self.append = Some(head.clone());
                Some(Event::Command(head, Command::Append(command)))
            }
            Ok(command) => {
                self.reset();
                Some(Event::Command(head, command))
            }
            Err(Error::NeedMore(literal)) => self.literal(head, literal),
            Err(error) => {
                let reason = syntax(error, &self.command);
                Some(self.bad(Some(head), reason, fatal))
            }
        }
    }

    /// A literal was announced, and the command is right so far.
    fn literal(&mut self, head: Head, literal: LiteralHead) -> Option<Event> {
        self.literals = self.literals.saturating_add(literal.size);
        self.literal_count = self.literal_count.saturating_add(1);
        let size = usize::try_from(literal.size).unwrap_or(usize::MAX);
        if literal.size > self.limits.literal || self.literals > self.limits.literals || self.literal_count > self.limits.literal_count {
            return Some(self.bad(Some(head), Reason::TooBig, !literal.sync));
        }
        self.command.extend_from_slice(b"\r\n");
        if literal.sync {
            self.state = State::Asked(size);
            return Some(Event::Literal(head));
        }
        self.state = State::Literal(size);
        None
    }

    fn bad(&mut self, head: Option<Head>, reason: Reason, fatal: bool) -> Event {
        let tag = match &head {
            Some(head) => Some(head.tag.clone()),
            None => tag(&mut Cursor::new(&self.command)).ok(),
        };
        self.reset();
        Event::Bad(Bad { tag, head, reason, fatal })
    }
}

/// A line is longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line over its limit")]
pub struct LineTooLong;

fn syntax(error: Error, input: &[u8]) -> Reason {
    let (at, expected) = match error {
        Error::Bad { at, expected } => (at, expected),
        Error::NeedMore(_) => (input.len(), "another command"),
    };
    let rest = String::from_utf8_lossy(input.get(at..).unwrap_or_default()).chars().take(100).collect();
    Reason::Syntax { expected, rest }
}

/// Whether a literal follows this line without waiting, as far as one can tell from its end.
fn ends_in_nonsync(line: &[u8]) -> bool {
    line.ends_with(b"+}")
}

/// The literal that this line announces at its end.
fn announced(line: &[u8]) -> Option<LiteralHead> {
    if !line.ends_with(b"}") {
        return None;
    }
    let open = line.iter().rposition(|b| *b == b'{')?;
    let start = if open > 0 && line.get(open.saturating_sub(1)) == Some(&b'~') { open.saturating_sub(1) } else { open };
    let mut c = Cursor::new(line.get(start..)?);
    let literal = literal_head(&mut c).ok()?;
    c.is_end().then_some(literal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::put::Charset;

    const CONTEXT: Context = Context { charset: Charset::Rev1 };

    /// Runs input through a reader in pieces of `size`, going on at every literal; says what happened.
    fn run(input: &[u8], size: usize, limits: Limits) -> Vec<String> {
        let mut reader = Reader::new(limits);
        let mut events: Vec<String> = Vec::new();
        let mut chunks = input.chunks(size);
        loop {
            match reader.next(&CONTEXT) {
                Event::Read => match chunks.next() {
                    Some(chunk) => reader.input.extend_from_slice(chunk),
                    None => return events,
                },
                Event::Literal(head) => {
                    events.push(format!("literal {}", head.spelling));
                    reader.proceed();
                }
                Event::Command(head, command) => {
                    events.push(format!("{} {}", head.tag, head.spelling.to_lowercase()));
                    match command {
                        Command::Append(a) => {
                            events.push(format!("message {}", a.message.literal.size));
                            reader.proceed();
                        }
                        Command::Login(l) => events.push(format!("{}:{}", l.user, l.password.expose())),
                        _ => {}
                    }
                }
                Event::Message(m) => {
                    events.push(format!("message {}", m.literal.size));
                    reader.proceed();
                }
                Event::Bytes(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    match events.last_mut() {
                        Some(last) if last.starts_with("> ") => last.push_str(&text),
                        _ => events.push(format!("> {text}")),
                    }
                }
                Event::AppendEnd => events.push("end".into()),
                Event::Bad(bad) => {
                    let tag = bad.tag.unwrap_or_else(|| "*".into());
                    let what = match bad.reason {
                        Reason::NoCommand => "no command".to_owned(),
                        Reason::UnknownCommand => "unknown".to_owned(),
                        Reason::Syntax { expected, rest } => format!("expected {expected} at {rest:?}"),
                        Reason::TooBig => "too big".to_owned(),
                    };
                    events.push(format!("{tag} bad {what}{}", if bad.fatal { ", fatal" } else { "" }));
                    if bad.fatal {
                        return events;
                    }
                }
                Event::TooLong => {
                    events.push("too long".into());
                    return events;
                }
            }
        }
    }

    fn check(input: &str, want: &[&str]) {
        for size in [input.len().max(1), 1, 2, 3, 7] {
            assert_eq!(run(input.as_bytes(), size, Limits::AFTER_LOGIN), want, "{input:?} in pieces of {size}");
        }
    }

    #[test]
    fn commands() {
        check("a noop\r\nb NOOP\nc uid search all\r\n", &["a noop", "b noop", "c uid search"]);
        check("a login {1}\r\nx {2+}\r\nyz\r\nb noop\r\n", &["literal login", "a login", "x:yz", "b noop"]);
        check("a login {0}\r\n \"\"\r\n", &["literal login", "a login", ":"]);
        check("GET / HTTP/1.0\r\n", &["GET bad unknown"]);
        check("a frob\r\n", &["a bad unknown"]);
        check("\r\n", &["* bad no command"]);
        check("a noop x\r\nb noop\r\n", &["a bad expected end of command at \" x\"", "b noop"]);
    }

    #[test]
    fn wrong_commands_dont_get_their_literal() {
        check("a noop {5}\r\nb noop\r\n", &["a bad expected end of command at \" {5}\"", "b noop"]);
        check("a noop {5+}\r\nhello", &["a bad expected end of command at \" {5+}\", fatal"]);
        check("a frob {5+}\r\nhello", &["a bad unknown, fatal"]);
        check("a select {200000}\r\nb noop\r\n", &["a bad too big", "b noop"]);
        check("a select {200000+}\r\nb noop\r\n", &["a bad too big, fatal"]);
    }

    #[test]
    fn appends() {
        check("a append inbox {3}\r\nabc\r\nb noop\r\n", &["a append", "message 3", "> abc", "end", "b noop"]);
        check("a append inbox {3+}\r\nabc (\\Seen) {2+}\r\n\r\n\r\n", &["a append", "message 3", "> abc", "message 2", "> \r\n", "end"]);
        check("a append inbox utf8 (~{1+}\r\nx)\r\n", &["a append", "message 1", "> x", "end"]);
        check("a append {5+}\r\ninbox {1+}\r\nx\r\n", &["a append", "message 1", "> x", "end"]);
        check("a append inbox {1+}\r\nxy\r\nb noop\r\n", &["a append", "message 1", "> x", "a bad expected space at \"y\"", "b noop"]);
        check("a append inbox {0+}\r\n\r\n", &["a append", "message 0", "end"]);
    }

    #[test]
    fn limits() {
        let long = format!("a {}\r\n", "x".repeat(20_000));
        check(&long, &["too long"]);
        check(&"x".repeat(20_000), &["too long"]);
        let fits = format!("a select \"{}\"\r\n", "x".repeat(16_000));
        check(&fits, &["a select"]);

        let many = format!("a search {}\r\n", "subject {1+}\r\nx ".repeat(1001));
        assert_eq!(run(many.as_bytes(), 1000, Limits::AFTER_LOGIN), ["a bad too big, fatal"]);
        let sum = format!("a search {}\r\n", format!("subject {{100000+}}\r\n{} ", "x".repeat(100_000)).repeat(11));
        assert_eq!(run(sum.as_bytes(), 100_000, Limits::AFTER_LOGIN), ["a bad too big, fatal"]);
        let before = run(b"a login {20000+}\r\n", 100, Limits::BEFORE_LOGIN);
        assert_eq!(before, ["a bad too big, fatal"]);
    }

    #[test]
    fn a_thousand_literals_take_linear_time() {
        let many = format!("a search {}all\r\n", "subject {1+}\r\nx ".repeat(1000));
        assert_eq!(run(many.as_bytes(), 4096, Limits::AFTER_LOGIN), ["a search"]);
    }

    #[test]
    fn other_lines() {
        let mut reader = Reader::new(Limits::AFTER_LOGIN);
        reader.input.extend_from_slice(b"DO");
        assert_eq!(reader.line(), Ok(None));
        reader.input.extend_from_slice(b"NE\r\na noop\r\n");
        assert_eq!(reader.line(), Ok(Some(b"DONE".to_vec())));
        assert!(matches!(reader.next(&CONTEXT), Event::Command(..)));
        reader.input.extend_from_slice(&[b'x'; 20_000]);
        assert_eq!(reader.line(), Err(LineTooLong));
    }
}
