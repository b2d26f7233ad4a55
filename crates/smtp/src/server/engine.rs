//! The loop: lines in, replies out, and which command is allowed where.

use super::{Action, Answer, Asked, Event, Phase, Question, Session, State};
use crate::grammar::{self, Bad, CommandError, Verb};
use crate::reply::Reply;
use bytes::Bytes;
use mox_base::Timestamp;

impl Session {
    /// The next thing to do. `now` is the time of day.
    pub fn next(&mut self, now: Timestamp) -> Action {
        self.now = now;
        loop {
            if let Some(action) = self.actions.pop_front() {
                return action;
            }
            if std::mem::take(&mut self.flush) && !self.output.is_empty() {
                return Action::Send(self.output.split().freeze());
            }
            match self.state {
                State::Start => {
                    let greeting = format!("{} ESMTP mox", self.settings.hostname.ascii());
                    self.state = State::Command;
                    self.say(&Reply::bare(220, greeting));
                }
                State::Command => match self.take_line() {
                    Line::Taken(line) => {
                        self.tell_line(&line);
                        self.command(&line);
                    }
                    Line::TooLong => self.line_too_long(),
                    Line::Incomplete => return self.flush_or(Action::Read(Phase::Command)),
                },
                State::Auth(_) => match self.take_line() {
                    Line::Taken(line) => {
                        self.tell_line(&line);
                        self.auth_response(&line);
                    }
                    Line::TooLong => self.line_too_long(),
                    Line::Incomplete => return self.flush_or(Action::Read(Phase::Auth)),
                },
                State::Data(_) if !self.input.is_empty() => self.data(),
                State::Chunk(ref chunk) if !self.input.is_empty() || chunk.is_complete() => self.chunk(),
                State::Data(_) | State::Chunk(_) => return self.flush_or(Action::Read(Phase::Data)),
                // The driver forgot to answer: a fault of ours, so a temporary error.
                State::Asked(_) => self.answer(Answer::Refuse(internal_error())),
                State::Handshake | State::Closed => return self.flush_or(Action::Close),
            }
        }
    }

    fn flush_or(&mut self, action: Action) -> Action {
        if self.output.is_empty() { action } else { Action::Send(self.output.split().freeze()) }
    }

    /// Goes on with the answer to the question that is out.
    pub fn answer(&mut self, answer: Answer) {
        let State::Asked(asked) = std::mem::replace(&mut self.state, State::Command) else {
            return;
        };
        match (asked, answer) {
            (asked, Answer::Close(reply)) => {
                self.give_up(asked);
                self.fatal(reply);
            }
            (Asked::Sasl(mut exchange), Answer::Sasl(answer)) => {
                let step = exchange.answer(answer);
                self.auth_step(exchange, step);
            }
            (Asked::Sasl(mut exchange), _) => {
                let step = exchange.answer(mox_sasl::Answer::Unavailable);
                self.auth_step(exchange, step);
            }
            (asked, Answer::Sasl(_)) => {
                self.give_up(asked);
                self.refuse(internal_error());
            }
            (asked, Answer::Refuse(reply)) => {
                self.give_up(asked);
                self.refuse(reply);
            }
            (Asked::Helo(name), Answer::Ok) => self.hello_accepted(mox_base::Host::Domain(name), false),
            (Asked::AuthStart(mut exchange, initial), Answer::Ok) => {
                let step = exchange.start(initial.as_deref());
                self.auth_step(exchange, step);
            }
            (Asked::Login, Answer::Ok) => self.login_accepted(),
            (Asked::Mail(mail), Answer::Ok) => self.mail_accepted(mail),
            (Asked::Rcpt(rcpt), Answer::Ok) => self.rcpt_accepted(rcpt),
            (Asked::Message, Answer::Ok) => self.message_accepted(),
        }
    }

    /// Cleans up after a refused question.
    fn give_up(&mut self, asked: Asked) {
        match asked {
            Asked::Mail(_) | Asked::Message => self.reset(),
            Asked::Helo(_) | Asked::AuthStart(..) | Asked::Sasl(_) | Asked::Login | Asked::Rcpt(_) => {}
        }
    }

    pub(super) fn ask(&mut self, question: Question, asked: Asked) {
        self.state = State::Asked(asked);
        self.actions.push_back(Action::Ask(Box::new(question)));
    }

    fn tell_line(&mut self, line: &Bytes) {
        if self.trace {
            let secret = matches!(self.state, State::Auth(_)) || line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
            self.actions.push_back(Action::Tell(Event::Line { line: line.clone(), secret }));
        }
    }

    fn take_line(&mut self) -> Line {
        let is_auth = matches!(self.state, State::Auth(_)) || self.input.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        let limit = if is_auth { self.settings.limits.auth_line } else { self.settings.limits.line };
        let unseen = self.input.get(self.scanned..).unwrap_or_default();
        let Some(end) = unseen.iter().position(|b| *b == b'\n') else {
            self.scanned = self.input.len();
            return if self.input.len() > limit { Line::TooLong } else { Line::Incomplete };
        };
        let end = self.scanned.saturating_add(end);
        self.scanned = 0;
        if end > limit {
            return Line::TooLong;
        }
        let mut line = self.input.split_to(end.saturating_add(1)).freeze();
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(end.saturating_sub(1));
        }
        Line::Taken(line)
    }

    fn line_too_long(&mut self) {
        self.verb = None;
        self.fatal(Reply::new(500, (5, 5, 0), "line too long"));
    }

    /// One command line.
    fn command(&mut self, line: &[u8]) {
        self.counts.lines = self.counts.lines.saturating_add(1);
        let (verb, arguments) = Verb::split(line);
        self.verb = verb;
        let Some(verb) = verb else {
            if self.counts.lines == 1 {
                // Not SMTP: a browser, a scanner.
                self.fatal(Reply::new(500, (5, 5, 2), "unknown command, not smtp"));
            } else {
                self.protest(Reply::new(500, (5, 5, 1), "unknown command"));
            }
            return;
        };
        let is_chatter = !matches!(verb, Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Bdat | Verb::Auth | Verb::Quit);
        if is_chatter {
            self.counts.chatter = self.counts.chatter.saturating_add(1);
            if self.counts.chatter > self.settings.limits.chatter {
                self.fatal(Reply::new(421, (4, 7, 0), "too many commands without mail"));
                return;
            }
        }
        match verb {
            Verb::Helo => self.helo(arguments),
            Verb::Ehlo => self.ehlo(arguments),
            Verb::Starttls => self.starttls(arguments),
            Verb::Auth => self.auth(arguments),
            Verb::Mail => self.mail(arguments),
            Verb::Rcpt => self.rcpt(arguments),
            Verb::Data => self.data_command(arguments),
            Verb::Bdat => self.bdat_command(arguments),
            Verb::Rset => {
                if self.parsed(grammar::no_argument(arguments, &self.dialect())).is_some() {
                    self.reset();
                    self.say(&Reply::new(250, (2, 0, 0), "all clear"));
                }
            }
            Verb::Vrfy | Verb::Expn => {
                if self.parsed(grammar::one_string(arguments)).is_some() {
                    // RFC 5321 §7.3: nothing is disclosed.
                    self.say(&Reply::new(252, (2, 7, 0), "no verification, will accept mail and try to deliver"));
                }
            }
            Verb::Help => self.say(&Reply::new(214, (2, 0, 0), "see rfc 5321 (smtp)")),
            Verb::Noop => self.say(&Reply::new(250, (2, 0, 0), "alrighty")),
            Verb::Quit => {
                if self.parsed(grammar::no_argument(arguments, &self.dialect())).is_some() {
                    self.fatal(Reply::new(221, (2, 0, 0), "okay thanks bye"));
                }
            }
        }
    }

    /// The parsed arguments; a syntax error is answered.
    pub(super) fn parsed<T>(&mut self, parsed: Result<T, Bad>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(bad) => {
                self.command_error(&CommandError::Syntax(bad));
                None
            }
        }
    }

    pub(super) fn command_error(&mut self, error: &CommandError) {
        let text = error.to_string();
        let is_rcpt = self.verb == Some(Verb::Rcpt);
        let reply = match error {
            CommandError::Syntax(_) => Reply::new(501, (5, 5, 2), text),
            CommandError::Duplicate(_) | CommandError::Value(_) => Reply::new(501, (5, 5, 4), text),
            CommandError::UnknownParameter => Reply::new(555, (5, 3, 3), text),
            CommandError::BodyType => Reply::new(555, (5, 5, 4), text),
            // RFC 6531 §3.5.
            CommandError::NeedsSmtputf8 => Reply::new(if is_rcpt { 553 } else { 550 }, (5, 6, 7), text),
        };
        self.protest(reply);
    }

    /// Ends the transaction.
    pub(super) fn reset(&mut self) {
        if self.transaction.take().is_some() {
            self.actions.push_back(Action::Tell(Event::Reset));
        }
    }

    /// A reply that isn't an error.
    pub(super) fn say(&mut self, reply: &Reply) {
        let waits = matches!(self.verb, Some(Verb::Mail | Verb::Rcpt | Verb::Rset | Verb::Noop | Verb::Help | Verb::Bdat));
        self.write(reply, !waits);
    }

    /// An error reply.
    pub(super) fn refuse(&mut self, reply: Reply) {
        let reply = reply.with_suffix(&format!("({})", self.id));
        self.write(&reply, true);
    }

    /// An error reply to a command that a correct client wouldn't send.
    pub(super) fn protest(&mut self, reply: Reply) {
        self.counts.bad_commands = self.counts.bad_commands.saturating_add(1);
        if self.counts.bad_commands > self.settings.limits.bad_commands {
            self.fatal(Reply::new(421, (4, 7, 0), "too many bad commands"));
        } else {
            self.refuse(reply);
        }
    }

    pub(super) fn bad_sequence(&mut self, text: &str) {
        self.protest(Reply::new(503, (5, 5, 1), text));
    }

    /// A last reply.
    pub(super) fn fatal(&mut self, reply: Reply) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.write(&reply, true);
        self.reset();
        self.state = State::Closed;
        self.input.clear();
    }

    fn write(&mut self, reply: &Reply, flush: bool) {
        reply.write(&mut self.output);
        self.flush |= flush;
        if !matches!(self.state, State::Start) && self.counts.lines > 0 {
            let (verb, code, enhanced) = (self.verb, reply.code, reply.enhanced);
            self.actions.push_back(Action::Tell(Event::Replied { verb, code, enhanced }));
        }
    }
}

enum Line {
    Taken(Bytes),
    Incomplete,
    TooLong,
}

pub(super) fn internal_error() -> Reply {
    Reply::new(451, (4, 3, 0), "error processing")
}
