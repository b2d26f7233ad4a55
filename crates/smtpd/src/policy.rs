//! MAIL and RCPT: whose mail is taken, and for whom.

use crate::connection::{Accepted, Connection, Target, Transaction};
use crate::simulate::Moment;
use crate::spool::Receiver;
use mox_base::{Address, Host, Path};
use mox_mailauth::spf::{Identity, SpfResult};
use mox_smtp::Reply;
use mox_smtp::grammar::{Mail, Rcpt};
use mox_smtp::server::Answer;
use mox_store::directory::{AddressError, Recipient, Reports, SenderError, SmtpError, SmtpErrorKind};

impl Connection {
    pub(crate) async fn mail(&mut self, mail: &Mail) -> Answer {
        let directory = self.service.directory.current();
        let receiver = if self.is_submission() { Receiver::default() } else { Receiver::verifying() };
        self.transaction = Transaction { directory: Some(directory), receiver, mail_from: mail.from.clone(), ..Transaction::default() };
        let Some(path) = &mail.from else { return Answer::Ok };
        if let Some(reply) = self.simulated(Moment::MailFrom, Some(path), path).await {
            return Answer::Refuse(reply);
        }
        let refusal = if self.is_submission() { self.sender_refusal(path) } else { self.foreign_sender_refusal(path).await };
        refusal.map_or(Answer::Ok, Answer::Refuse)
    }

    /// Why mail from another server isn't taken with this sender.
    async fn foreign_sender_refusal(&self, path: &Path) -> Option<Reply> {
        let Host::Domain(domain) = &path.host else {
            return Some(Reply::new(550, (5, 7, 0), "mail from address with ip address not allowed"));
        };
        if self.service.settings.localserve && domain.ascii() == "localhost" {
            return None;
        }
        crate::dns::refusal_of_sender(&*self.service.lookup, domain).await
    }

    /// Why our user may not send with this address.
    pub(crate) fn sender_refusal(&self, path: &Path) -> Option<Reply> {
        let not_owned = || Some(Reply::new(550, (5, 7, 1), "must match authenticated user"));
        let (Some(login), Some(address)) = (&self.login, path.address()) else { return not_owned() };
        match self.check_sender(&login.account.name, &address) {
            Ok(()) => None,
            Err(SenderError::NotAllowed) => not_owned(),
            Err(SenderError::DomainDisabled) => Some(Reply::new(451, (4, 3, 0), "sender domain temporarily disabled")),
        }
    }

    pub(crate) fn check_sender(&self, account: &str, address: &Address) -> Result<(), SenderError> {
        match &self.transaction.directory {
            Some(directory) => directory.check_sender(account, address),
            None => self.service.directory.current().check_sender(account, address),
        }
    }

    pub(crate) async fn rcpt(&mut self, rcpt: &Rcpt) -> Answer {
        let target = match self.target(rcpt.to.as_ref()) {
            Ok(target) => target,
            Err(reply) => return Answer::Refuse(reply),
        };
        if self.listener.settings.require_tls && self.stream.tls().is_none() && !is_for_tls_reports(&target) {
            // RFC 8460 §3: those who report that TLS doesn't work must get through.
            return Answer::Refuse(Reply::new(530, (5, 7, 0), "starttls required"));
        }
        let from = self.transaction.mail_from.clone();
        if let Some(path) = &rcpt.to
            && let Some(reply) = self.simulated(Moment::RcptTo, from.as_ref(), path).await
        {
            return Answer::Refuse(reply);
        }
        if let Target::Account(recipient) = &target
            && let Some(error) = &recipient.destination.smtp_error
        {
            return Answer::Refuse(configured_refusal(error));
        }
        if !self.transaction.recipients.is_empty()
            && !self.is_submission()
            && !self.service.settings.localserve
            && !self.is_verified_sender().await
        {
            return Answer::Refuse(Reply::new(452, (4, 5, 3), "only one recipient allowed without spf pass"));
        }
        if matches!(target, Target::Alias(_)) {
            self.transaction.receiver.expect_sealing();
        }
        self.transaction.recipients.push(Accepted { path: rcpt.to.clone(), target });
        Answer::Ok
    }

    /// Whether SPF passes for the sender: bounces for one of several recipients may only go to verified senders.
    async fn is_verified_sender(&mut self) -> bool {
        let spf = match self.transaction.spf.take() {
            Some(spf) => spf,
            None => {
                let directory = self.transaction.directory.clone().unwrap_or_else(|| self.service.directory.current());
                let helo = self.transaction.helo.clone().unwrap_or(Host::Ip(self.remote_ip()));
                self.check_spf(self.transaction.mail_from.as_ref(), &helo, &directory).await
            }
        };
        let verified = spf.result == SpfResult::Pass && spf.identity == Identity::MailFrom;
        self.transaction.spf = Some(spf);
        verified
    }

    /// Whom mail for an address reaches.
    fn target(&self, to: Option<&Path>) -> Result<Target, Reply> {
        let directory = match &self.transaction.directory {
            Some(directory) => std::sync::Arc::clone(directory),
            None => self.service.directory.current(),
        };
        let Some(path) = to else { return Ok(Target::Account(directory.postmaster().clone())) };
        let submission = self.is_submission();
        let not_ours = || Reply::new(550, (5, 1, 1), "not accepting email for this domain");
        match directory.recipient(path) {
            Ok(Recipient::Account(recipient)) => Ok(Target::Account(recipient)),
            Ok(Recipient::Alias(alias)) => Ok(Target::Alias(alias)),
            Err(AddressError::DomainNotFound) if submission => Ok(Target::Remote),
            Err(AddressError::DomainNotFound) => Err(not_ours()),
            Err(AddressError::DomainDisabled) => Err(Reply::new(450, (4, 2, 1), "recipient domain temporarily disabled")),
            Err(AddressError::AddressNotFound) if submission => Err(Reply::new(550, (5, 1, 1), "no such user")),
            Err(AddressError::AddressNotFound) => Ok(Target::Unknown),
        }
    }
}

fn is_for_tls_reports(target: &Target) -> bool {
    match target {
        Target::Account(recipient) => matches!(recipient.destination.reports, Some(Reports::DomainTls | Reports::HostTls)),
        Target::Alias(_) | Target::Unknown | Target::Remote => false,
    }
}

fn configured_refusal(error: &SmtpError) -> Reply {
    let text = |default: &'static str| error.text.clone().unwrap_or_else(|| default.to_owned());
    match error.kind {
        SmtpErrorKind::Temporary => Reply::new(451, (4, 3, 0), text("error processing")),
        SmtpErrorKind::Permanent => Reply::new(550, (5, 1, 1), text("no such user(s)")),
    }
}
