//! HELO, EHLO and STARTTLS.

use super::{Action, Asked, Hello, Question, Session, State};
use crate::grammar;
use crate::reply::Reply;
use mox_base::Host;
use mox_sasl::Mechanism;
use std::fmt::Write as _;
use std::time::Duration;

/// How long FUTURERELEASE holds a message at most: 60 days.
pub(super) const MAX_HOLD: Duration = Duration::from_secs(60 * 24 * 3600);

impl Session {
    /// On submission, clients don't know a sensible name for themselves, so whatever they say is ignored.
    fn ignores_hello(&self) -> bool {
        self.is_submission() && !self.settings.strict
    }

    pub(super) fn helo(&mut self, arguments: &[u8]) {
        if self.ignores_hello() {
            self.hello_accepted(Host::Ip(self.peer), false);
            return;
        }
        let Some(name) = self.parsed(grammar::helo(arguments, &self.dialect())) else { return };
        self.ask(Question::Helo(name.clone()), Asked::Helo(name));
    }

    pub(super) fn ehlo(&mut self, arguments: &[u8]) {
        if self.ignores_hello() {
            self.hello_accepted(Host::Ip(self.peer), true);
            return;
        }
        let Some(name) = self.parsed(grammar::ehlo(arguments, &self.dialect())) else { return };
        self.hello_accepted(name, true);
    }

    pub(super) fn hello_accepted(&mut self, name: Host, extended: bool) {
        self.reset();
        self.hello = Some(Hello { name, extended });
        let announcement = self.announcement();
        self.say(&Reply::bare(250, announcement));
    }

    /// Our name and extensions, one a line.
    fn announcement(&self) -> String {
        let settings = &self.settings;
        let mut text = format!("{}\nPIPELINING\nSIZE {}\n", settings.hostname.ascii(), settings.max_size.0);
        if self.tls.is_none() && settings.starttls {
            text.push_str("STARTTLS\n");
        }
        // RFC 8689 §2: only where TLS is in use.
        if self.tls.is_some() && settings.requiretls {
            text.push_str("REQUIRETLS\n");
        }
        if self.is_submission() {
            let mechanisms = self.mechanisms();
            if !mechanisms.is_empty() {
                let names: Vec<&str> = mechanisms.into_iter().map(Mechanism::name).collect();
                // Writing to a String can't fail.
                let _written = writeln!(text, "AUTH {}", names.join(" "));
            }
            // RFC 4865 §3. Whole seconds: the reply is read by people, too.
            let until = mox_base::Timestamp::from_secs(self.now.after(MAX_HOLD).secs());
            let _written = writeln!(text, "FUTURERELEASE {} {}", MAX_HOLD.as_secs(), until.rfc3339());
            // RFC 6710 §4. No profile is named: the queue has fewer levels than any of them.
            text.push_str("MT-PRIORITY\n");
        }
        // RFC 2852 §4, without a least time: what comes for our users is delivered before it is acknowledged.
        text.push_str("ENHANCEDSTATUSCODES\n8BITMIME\nCHUNKING\nDELIVERBY\n");
        if settings.dsn {
            text.push_str("DSN\n");
        }
        let _written = writeln!(text, "LIMITS RCPTMAX={}", settings.limits.recipients);
        text.push_str("SMTPUTF8");
        text
    }

    /// What AUTH offers now; nothing when the client has to start TLS first.
    fn mechanisms(&self) -> Vec<Mechanism> {
        match &self.tls {
            None if !self.settings.auth_without_tls => Vec::new(),
            tls => {
                let external = tls.as_ref().is_some_and(|tls| tls.certificate).then_some(Mechanism::External);
                // Clients that take the first they know would fail with a mechanism that can't bind to anything here.
                let bindings = tls.as_ref().is_some_and(|tls| !tls.bindings.is_empty());
                let possible = |mechanism: &Mechanism| bindings || !mechanism.binds_channel();
                external.into_iter().chain(Mechanism::ANNOUNCED.into_iter().filter(possible)).collect()
            }
        }
    }

    pub(super) fn starttls(&mut self, arguments: &[u8]) {
        if self.parsed(grammar::no_argument(arguments, &self.dialect())).is_none() {
            return;
        }
        if self.hello.is_none() {
            self.bad_sequence("send ehlo first");
        } else if self.tls.is_some() {
            self.bad_sequence("already speaking tls");
        } else if self.is_authenticated() {
            self.bad_sequence("cannot starttls after authentication");
        } else if !self.settings.starttls {
            self.bad_sequence("starttls not offered");
        } else {
            let text = format!("go! ({})", self.id);
            self.say(&Reply::new(220, (2, 0, 0), text));
            // RFC 3207 §4.2: what came before TLS could have been put there by anyone.
            self.input.clear();
            self.scanned = 0;
            self.actions.push_back(Action::Send(self.output.split().freeze()));
            self.actions.push_back(Action::StartTls);
            self.state = State::Handshake;
        }
    }
}
