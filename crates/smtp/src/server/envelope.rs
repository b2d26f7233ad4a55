//! MAIL and RCPT.

use super::hello::MAX_HOLD;
use super::{Asked, Question, Session, Transaction};
use crate::grammar::{Hold, Mail, MailParameters, Rcpt};
use crate::reply::Reply;
use std::time::Duration;

/// A limit below this was set by an admin for some reason of their own; above, nobody takes such mail.
const USUAL_MAX_SIZE: u64 = 100 << 20;

impl Session {
    /// Hello given and, on submission, authenticated; else that is answered.
    pub(super) fn may_mail(&mut self) -> bool {
        if self.hello.is_none() {
            self.bad_sequence("send ehlo first");
            return false;
        }
        if self.is_submission() && !self.is_authenticated() {
            self.protest(Reply::new(530, (5, 7, 0), "authentication required"));
            return false;
        }
        true
    }

    pub(super) fn mail(&mut self, arguments: &[u8]) {
        if self.counts.bad_messages > self.settings.limits.bad_messages && self.counts.good_messages == 0 {
            return self.fatal(Reply::new(550, (5, 1, 0), "too many failures"));
        }
        if !self.may_mail() {
            return;
        }
        if self.transaction.is_some() {
            return self.bad_sequence("already have MAIL");
        }
        match Mail::parse(arguments, &self.dialect()) {
            Err(error) => self.command_error(&error),
            Ok(mail) => match self.check_parameters(&mail.parameters) {
                Some(reply) => self.refuse(reply),
                None => self.ask(Question::Mail(mail.clone()), Asked::Mail(mail)),
            },
        }
    }

    /// What is wrong with the parameters, given our settings.
    fn check_parameters(&self, parameters: &MailParameters) -> Option<Reply> {
        if let Some(size) = parameters.size.filter(|size| *size > self.settings.max_size.0) {
            let enhanced = if size < USUAL_MAX_SIZE { (5, 2, 3) } else { (5, 3, 4) };
            return Some(Reply::new(552, enhanced, "message too large"));
        }
        if parameters.requiretls {
            // RFC 8689 §4.2.3.
            if self.tls.is_none() {
                return Some(Reply::new(523, (5, 7, 10), "requiretls needs a tls connection"));
            }
            if !self.settings.requiretls {
                return Some(Reply::new(555, (5, 3, 3), "unrecognized parameter"));
            }
        }
        let release = match parameters.hold {
            None => None,
            Some(Hold::For(seconds)) => Some(self.now.after(Duration::from_secs(seconds.into()))),
            Some(Hold::Until(time)) => Some(time),
        };
        if let (Some(release), Some(by)) = (release, parameters.by)
            && by.at(self.now) <= release
        {
            // RFC 4865 §4: both can't be.
            return Some(Reply::new(501, (5, 5, 4), "to be delivered before it is released"));
        }
        let in_range = match parameters.hold {
            None => true,
            Some(Hold::For(seconds)) => u64::from(seconds) <= MAX_HOLD.as_secs(),
            Some(Hold::Until(time)) => time >= self.now && time <= self.now.after(MAX_HOLD),
        };
        // RFC 4865 §4.
        (!in_range).then(|| Reply::new(554, (5, 5, 4), "future release out of range"))
    }

    pub(super) fn mail_accepted(&mut self, mail: Mail) {
        self.transaction = Some(Transaction { mail, recipients: Vec::new(), chunks: None });
        self.say(&Reply::new(250, (2, 1, 0), "looking good"));
    }

    pub(super) fn rcpt(&mut self, arguments: &[u8]) {
        if !self.may_mail() {
            return;
        }
        let Some(transaction) = &self.transaction else {
            return self.bad_sequence("send MAIL first");
        };
        if transaction.chunks.is_some() {
            return self.bad_sequence("message already begun");
        }
        let (accepted_before, mail) = (transaction.recipients.len(), &transaction.mail);
        let bounce = mail.from.is_none();
        let rcpt = match Rcpt::parse(arguments, &self.dialect(), mail.parameters.smtputf8) {
            Ok(rcpt) => rcpt,
            Err(error) => return self.command_error(&error),
        };
        // RFC 5321 §4.5.3.1.10.
        if accepted_before >= self.settings.limits.recipients {
            return self.refuse(Reply::new(452, (4, 5, 3), "max number of recipients reached"));
        }
        // A bounce goes to the one who sent the message.
        if bounce && accepted_before > 0 && !self.is_submission() {
            return self.refuse(Reply::new(452, (4, 5, 3), "only one recipient allowed with null reverse address"));
        }
        self.ask(Question::Rcpt { rcpt: rcpt.clone(), accepted_before }, Asked::Rcpt(rcpt));
    }

    pub(super) fn rcpt_accepted(&mut self, rcpt: Rcpt) {
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients.push(rcpt);
        }
        self.say(&Reply::new(250, (2, 1, 0), "now on the list"));
    }
}
