//! Getting a connection ready: greeting, EHLO, STARTTLS, AUTH.

use super::{Error, ErrorKind, Session, Stage, State, TlsMode};
use crate::extensions::Extensions;
use crate::grammar::decode_base64;
use crate::reply::Reply;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mox_sasl::Bindings;
use mox_sasl::client::{Client, ClientError, choose};

impl Session {
    pub(super) fn greeting(&mut self, reply: Reply) {
        if reply.code == 220 {
            self.greeting = reply.lines.first().cloned().unwrap_or_default();
            self.say_hello(true);
        } else {
            self.fail(Error::status(Stage::Greeting, reply));
        }
    }

    fn say_hello(&mut self, extended: bool) {
        let verb = if extended { "EHLO" } else { "HELO" };
        // Before EHLO is answered, SMTPUTF8 is not known to be there.
        let name = self.settings.ehlo.for_smtputf8(false);
        self.output.extend_from_slice(format!("{verb} {name}\r\n").as_bytes());
        self.state = State::Hello { extended };
    }

    pub(super) fn hello(&mut self, extended: bool, reply: Reply) {
        match (extended, reply.code) {
            (_, 250) => {
                // What was learnt before STARTTLS is replaced, RFC 3207 §4.2.
                self.extensions = if extended { Extensions::parse(&reply) } else { Extensions::default() };
                self.after_hello();
            }
            // RFC 5321 §4.1.4: an old server. After STARTTLS it can't be one.
            (true, 500..=504) if self.tls.is_none() => self.say_hello(false),
            (true, _) => {
                let error = Error::status(Stage::Ehlo, reply);
                let after_tls = self.tls.is_some() && self.settings.tls != TlsMode::Immediate;
                self.fail(if after_tls { error.of_kind(ErrorKind::Protocol) } else { error });
            }
            (false, _) => self.fail(Error::status(Stage::Helo, reply)),
        }
    }

    fn after_hello(&mut self) {
        let starttls = match self.settings.tls {
            TlsMode::Required => true,
            TlsMode::Opportunistic => self.extensions.starttls,
            TlsMode::Immediate | TlsMode::Skip => false,
        };
        if starttls && self.tls.is_none() {
            self.output.extend_from_slice(b"STARTTLS\r\n");
            self.state = State::StartTls;
        } else if self.settings.auth.is_some() {
            self.say_auth();
        } else {
            self.state = State::BecomingReady;
        }
    }

    pub(super) fn starttls(&mut self, reply: Reply) {
        if reply.code != 220 {
            return self.fail(Error::status(Stage::Starttls, reply).of_kind(ErrorKind::Tls));
        }
        // Someone in the middle put it there, to be read as if it had come under TLS.
        if !self.input.is_empty() {
            return self.fail(Error::new(false, ErrorKind::Tls, Stage::Starttls, "plain text after reply to STARTTLS"));
        }
        self.state = State::Handshake;
    }

    /// TLS is there.
    pub fn tls_started(&mut self, bindings: Bindings) {
        if matches!(self.state, State::Handshake) {
            self.tls = Some(bindings);
            self.extensions = Extensions::default();
            self.say_hello(true);
        }
    }

    /// The handshake or the verification failed.
    pub fn tls_failed(&mut self, why: &str) {
        self.fail(Error::new(false, ErrorKind::Tls, Stage::Starttls, why));
    }

    fn say_auth(&mut self) {
        let Some(auth) = &self.settings.auth else { return };
        let offered = self.extensions.mechanisms();
        let bindings = self.tls.clone().unwrap_or_default();
        let Some(mechanism) = choose(&auth.mechanisms, &offered, &bindings) else {
            return self.fail(Error::new(true, ErrorKind::Auth, Stage::Auth, "no matching authentication mechanism"));
        };
        let lists = (auth.mechanisms.as_slice(), offered.as_slice());
        let client = Client::new(mechanism, auth.credentials.clone(), &bindings, lists, &*self.random);
        let mut client = match client {
            Ok(client) => Box::new(client),
            Err(e) => return self.fail(Error::new(true, ErrorKind::Auth, Stage::Auth, &e.to_string())),
        };
        let initial = match client.initial() {
            None => String::new(),
            // RFC 4954 §4: an empty initial response.
            Some(message) if message.is_empty() => " =".to_owned(),
            Some(message) => format!(" {}", STANDARD.encode(message)),
        };
        self.output.extend_from_slice(format!("AUTH {mechanism}{initial}\r\n").as_bytes());
        self.state = State::Auth(client);
    }

    pub(super) fn auth(&mut self, mut client: Box<Client>, reply: Reply) {
        match reply.code {
            235 => match client.accept_success() {
                Ok(()) => self.state = State::BecomingReady,
                Err(e) => self.fail(Error::new(false, ErrorKind::Auth, Stage::Auth, &e.to_string())),
            },
            334 => match challenge(&reply).and_then(|challenge| client.respond(&challenge)) {
                Ok(response) => {
                    self.output.extend_from_slice(format!("{}\r\n", STANDARD.encode(response)).as_bytes());
                    self.state = State::Auth(client);
                }
                Err(e) => {
                    // RFC 4954 §4.
                    self.output.extend_from_slice(b"*\r\n");
                    let error = Error::new(false, ErrorKind::Auth, Stage::Auth, &e.to_string());
                    self.state = State::AuthCancelled(error);
                }
            },
            _ => self.fail(Error::status(Stage::Auth, reply).of_kind(ErrorKind::Auth)),
        }
    }
}

fn challenge(reply: &Reply) -> Result<Vec<u8>, ClientError> {
    match reply.lines.as_slice() {
        [line] => decode_base64(line.trim().as_bytes()).ok_or(ClientError::Unexpected),
        _ => Err(ClientError::Unexpected),
    }
}
