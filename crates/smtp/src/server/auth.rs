//! AUTH, RFC 4954: carries the exchange of a SASL mechanism in base64 lines.

use super::engine::internal_error;
use super::{Action, Asked, Event, Login, Question, Session, State};
use crate::grammar::{AuthCommand, decode_base64};
use crate::reply::Reply;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_sasl::server::Context;
use mox_sasl::{Exchange, Failure, Mechanism, Step, scram};

impl Session {
    pub(super) fn auth(&mut self, arguments: &[u8]) {
        if self.hello.is_none() {
            return self.bad_sequence("send ehlo first");
        }
        if !self.is_submission() {
            return self.bad_sequence("authentication not allowed on this port");
        }
        if self.login == Login::Sasl {
            return self.bad_sequence("already authenticated");
        }
        if self.transaction.is_some() {
            return self.bad_sequence("authentication not allowed during a mail transaction");
        }
        let Some(command) = self.parsed(AuthCommand::parse(arguments, &self.dialect())) else { return };
        let Some(mechanism) = Mechanism::from_name(&command.mechanism) else {
            return self.protest(Reply::new(504, (5, 5, 4), "mechanism not supported"));
        };
        let needs_tls = mechanism.is_bound_to_tls() || (mechanism.sends_password() && !self.settings.auth_without_tls);
        if needs_tls && self.tls.is_none() {
            return self.protest(Reply::new(538, (5, 7, 11), "authentication requires tls"));
        }
        if mechanism == Mechanism::External && !self.tls.as_ref().is_some_and(|tls| tls.certificate) {
            return self.protest(Reply::new(535, (5, 7, 8), "missing client certificate"));
        }
        let bindings = self.tls.as_ref().map(|tls| tls.bindings.clone()).unwrap_or_default();
        let hostname = self.settings.hostname.ascii();
        let context = Context { random: &*self.random, now: self.now, hostname, bindings };
        let exchange = Box::new(Exchange::new(mechanism, context));
        self.ask(Question::AuthStart(mechanism), Asked::AuthStart(exchange, command.initial));
    }

    /// A line of the client within the exchange.
    pub(super) fn auth_response(&mut self, line: &[u8]) {
        let State::Auth(mut exchange) = std::mem::replace(&mut self.state, State::Command) else { return };
        // RFC 4954 §4: a single * cancels.
        let step = if line == b"*" {
            exchange.cancel()
        } else if let Some(response) = decode_base64(line) {
            exchange.respond(&response)
        } else {
            match exchange.cancel() {
                Step::Failed(Failure::Aborted) => {
                    let failure = Failure::Malformed("base64");
                    self.tell_auth_failed(&exchange, failure);
                    return self.protest(Reply::new(501, (5, 5, 2), "bad syntax: expected base64"));
                }
                step => step,
            }
        };
        self.auth_step(exchange, step);
    }

    pub(super) fn auth_step(&mut self, exchange: Box<Exchange>, step: Step) {
        match step {
            Step::Challenge(challenge) => {
                self.say(&Reply::bare(334, STANDARD.encode(challenge)));
                self.state = State::Auth(exchange);
            }
            Step::Ask(ask) => self.ask(Question::Sasl(ask), Asked::Sasl(exchange)),
            Step::Accepted { user } => {
                self.ask(Question::Login { user, mechanism: exchange.mechanism() }, Asked::Login);
            }
            Step::Failed(failure) => {
                let reply = failure_reply(&failure);
                self.tell_auth_failed(&exchange, failure);
                self.refuse(reply);
            }
        }
    }

    fn tell_auth_failed(&mut self, exchange: &Exchange, failure: Failure) {
        let user = exchange.user().map(str::to_owned);
        let mechanism = exchange.mechanism();
        self.actions.push_back(Action::Tell(Event::AuthFailed { user, mechanism, failure }));
    }

    pub(super) fn login_accepted(&mut self) {
        self.login = Login::Sasl;
        self.say(&Reply::new(235, (2, 7, 0), "nice"));
    }
}

fn failure_reply(failure: &Failure) -> Reply {
    match failure {
        Failure::Malformed(_) => Reply::new(501, (5, 5, 4), failure.to_string()),
        Failure::Authorization | Failure::Wrong(_) | Failure::ScramFinal(scram::Error::InvalidProof) => {
            Reply::new(535, (5, 7, 8), "bad user or password")
        }
        Failure::ScramFirst(_) => Reply::new(455, (4, 7, 0), failure.to_string()),
        Failure::ScramFinal(scram::Error::ChannelBindingsDontMatch) => Reply::new(535, (5, 7, 7), failure.to_string()),
        Failure::ScramFinal(scram::Error::InvalidEncoding) => Reply::new(535, (5, 7, 0), failure.to_string()),
        Failure::ScramFinal(_) | Failure::Unavailable => internal_error(),
        Failure::Aborted => Reply::new(501, (5, 5, 0), "authentication aborted by client"),
    }
}
