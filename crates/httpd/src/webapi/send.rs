//! Sending: from a request to entries in the queue, and the sender's copy.

use super::Call;
use super::compose::{ComposeError, Draft, DraftFile, FileData, addresses};
use super::form::Upload;
use super::once::repeated;
use mox_base::{Localpart, Path, Timestamp};
use mox_delivery::copies;
use mox_delivery::spool::{Spool, SpoolWriter};
use mox_delivery::submit::{Submission, SubmissionRecipient, SubmitError, Submitted, UniqueSender, limits_of, room_of, urgency_of};
use mox_message::Headers;
use mox_message::compose::{Composed, NamedAddress};
use mox_message::fold::FoldedField;
use mox_message::ident;
use mox_store::directory::{Directory, SenderError};
use mox_store::queue::{AddStep, CopyId, EarlierAnswer, OncePerKey, RequestKey, WithCopy};
use mox_store::{Error as StoreError, Message, SpecialUse};
use mox_webapi::{Error, ErrorCode, File, SendRequest, SendResponse, Submission as WireSubmission};
use std::sync::Arc;
use std::time::Duration;

/// The furthest future of a first delivery attempt.
pub(super) const MAX_FUTURE: Duration = Duration::from_secs(60 * 24 * 3600);

/// Larger messages are composed on a thread of their own, few at once.
const LARGE: u64 = 256 << 10;

/// A message to send.
pub(super) struct Outgoing {
    pub(super) request: SendRequest,
    /// Files that came beside it.
    pub(super) uploads: Arc<Vec<Upload>>,
    /// Whether those are more than a message can have.
    pub(super) too_large: bool,
    /// What it is recognised by if it is repeated.
    pub(super) key: Option<RequestKey>,
}

impl Call {
    /// The answer as JSON. `text` is the request as it came.
    pub(super) async fn send(&mut self, request: SendRequest, text: &str) -> Result<String, Error> {
        let uploads = Arc::new(std::mem::take(&mut self.form.files));
        let key = self.request_key(text, &uploads).await?;
        self.send_one(Outgoing { request, uploads, too_large: self.form.too_large, key }).await
    }

    /// The answer as JSON.
    pub(super) async fn send_one(&self, outgoing: Outgoing) -> Result<String, Error> {
        let Outgoing { mut request, uploads, too_large, key } = outgoing;
        if let Some(key) = &key
            && let Some(earlier) = self.answered(key).await?
        {
            return repeated(key, &earlier);
        }
        self.fill_in(&mut request).await?;
        let directory = self.parts().directory.current();
        let draft = Arc::new(self.draft(&request, &uploads, &directory)?);
        if too_large {
            return Err(Error::new(ErrorCode::MessageTooLarge, "files are larger than the server takes"));
        }
        let now = self.parts().clock.now();
        let composed = self.compose(&draft, now).await?;
        let flags = (composed.eight_bit, composed.smtputf8);
        let message = self.spooled(composed.bytes).await?;
        if request.future_release.is_some_and(|time| time.at > now.after(MAX_FUTURE)) {
            return Err(Error::user("FutureRelease is more than 60 days ahead"));
        }
        let given = addresses_given(&request);
        let response = Response { message_id: draft.message_id.clone(), addresses: given };
        let step = key.clone().map(|key| {
            let response = response.clone();
            let answer = move |entries: &[mox_store::queue::NewEntry], ids: &[mox_base::QueueId]| {
                let pairs = entries.iter().zip(ids).map(|(entry, id)| (id.0, entry.from_id.clone()));
                [b"R".as_slice(), response.json(pairs).as_bytes()].concat()
            };
            Arc::new(OncePerKey::new(key, now, Box::new(answer))) as Arc<dyn AddStep>
        });
        let copy = self.sent_copy(&request, &draft, step.clone()).await?;
        let step = copy.clone().map(|copy| copy as Arc<dyn AddStep>).or(step);
        let prefix = self.received_field(&draft, now).into_bytes();
        let submission = self.submission(&request, &draft, &directory, flags, (prefix, message.clone()), step)?;
        let submitted = match self.parts().submitter.submit(submission).await {
            Ok(submitted) => submitted,
            Err(SubmitError::Answered(bytes)) => {
                let earlier = EarlierAnswer::from_bytes(&bytes).zip(key.as_ref());
                let (earlier, key) = earlier.ok_or_else(|| self.server("looking up request", &"unknown answer"))?;
                return repeated(key, &earlier);
            }
            Err(error) => return Err(self.submit_error(&error)),
        };
        tracing::info!(target: "webapi", cid = self.id, account = self.caller.account.name, entries = ?ids(&submitted), "message queued");
        if let Some(copy) = copy
            && let Err(error) = self.save_sent(copy.id(), &draft, &message).await
        {
            self.parts().metrics.submission("storesenterror");
            if let Some(key) = key {
                let answer = [b"E".as_slice(), mox_webapi::write(&error.body()).as_bytes()].concat();
                if let Err(cause) = self.parts().queue.replace_answer(key, answer).await {
                    tracing::error!(target: "webapi", cid = self.id, error = %cause, "remembering answer");
                }
            }
            return Err(error);
        }
        self.parts().metrics.submission("ok");
        Ok(response.json(submitted.into_iter().map(|s| (s.id.0, s.from_id))))
    }

    /// Checks what is to be sent, in the order that clients may rely on.
    fn draft(&self, request: &SendRequest, uploads: &[Upload], directory: &Directory) -> Result<Draft, Error> {
        if request.text.is_empty() && request.html.is_empty() {
            return Err(Error::new(ErrorCode::MissingBody, "at least one of Text and HTML must have content"));
        }
        if request.from.len() > 1 {
            return Err(Error::new(ErrorCode::MultipleFrom, "at most one address in From"));
        }
        let from = addresses(&request.from)?.pop();
        let (to, cc, bcc) = (addresses(&request.to)?, addresses(&request.cc)?, addresses(&request.bcc)?);
        let from = from.unwrap_or_else(|| NamedAddress {
            name: self.caller.account.full_name.clone().unwrap_or_default(),
            address: self.caller.address.clone(),
        });
        directory.check_sender(&self.caller.account.name, &from.address).map_err(|error| match error {
            SenderError::DomainDisabled => {
                self.parts().metrics.submission("domaindisabled");
                Error::new(ErrorCode::DomainDisabled, "domain of from address is disabled for now")
            }
            SenderError::NotAllowed => {
                self.parts().metrics.submission("badfrom");
                Error::new(ErrorCode::BadFrom, format!("your account may not send as {}", from.address))
            }
        })?;
        self.caller.may_send_as(&from.address)?;
        if to.is_empty() && cc.is_empty() && bcc.is_empty() {
            return Err(Error::new(ErrorCode::NoRecipients, "no recipients"));
        }
        let parts = self.parts();
        let message_id = if request.message_id.is_empty() {
            format!("<{}>", ident::new_message_id(&*parts.random, parts.hostname.ascii()))
        } else {
            request.message_id.clone()
        };
        let files = |given: &[File], kind: &str| -> Vec<DraftFile> {
            let uploaded = uploads.iter().filter(|upload| upload.head.name == kind).map(uploaded);
            given.iter().map(from_json).chain(uploaded).collect()
        };
        Ok(Draft {
            from,
            to,
            cc,
            bcc,
            reply_to: addresses(&request.reply_to)?,
            message_id,
            // An empty one would be a line of white space, which some take for the end of the header.
            references: request.references.iter().filter(|id| !id.trim().is_empty()).cloned().collect(),
            date: request.date,
            subject: request.subject.clone(),
            text: request.text.clone(),
            html: request.html.clone(),
            headers: request.headers.clone(),
            alternative: files(&request.alternative_files, "alternativefile"),
            inline: files(&request.inline_files, "inlinefile"),
            attached: files(&request.attached_files, "attachedfile"),
            tls_optional: request.require_tls == Some(false),
            user_agent: format!("mox/{}", parts.version),
            max_size: self.max_message_size,
        })
    }

    async fn compose(&self, draft: &Arc<Draft>, now: Timestamp) -> Result<Composed, Error> {
        let composed = if draft.files_size() < LARGE {
            draft.compose(now, &*self.parts().random)
        } else {
            let turn = self.webapi.large.acquire().await.map_err(|e| self.server("composing message", &e))?;
            let (draft, random) = (Arc::clone(draft), Arc::clone(&self.parts().random));
            let composed = tokio::task::spawn_blocking(move || draft.compose(now, &*random)).await;
            drop(turn);
            composed.map_err(|e| self.server("composing message", &e))?
        };
        composed.map_err(|error| match error {
            ComposeError::Refused(error) => error,
            ComposeError::File(error) => self.server("reading uploaded file", &error),
        })
    }

    async fn spooled(&self, bytes: Vec<u8>) -> Result<Spool, Error> {
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) < LARGE {
            return Ok(Spool::from(bytes));
        }
        let mut writer = SpoolWriter::new(self.parts().spool.clone());
        for piece in bytes.chunks(1 << 20) {
            writer.write(piece).await.map_err(|e| self.server("spooling message", &e))?;
        }
        writer.finish().await.map_err(|e| self.server("spooling message", &e))
    }

    /// Who called from where is nobody's business: only that it was submitted here.
    fn received_field(&self, draft: &Draft, now: Timestamp) -> String {
        let (utf8, hostname) = (draft.smtputf8(), &self.parts().hostname);
        let mut field = FoldedField::new("Received");
        for word in ["from", "by"] {
            field.token(word).token(hostname.for_smtputf8(utf8));
            if utf8 && hostname.is_internationalized() {
                field.token(&format!("({})", hostname.ascii()));
            }
        }
        field.token("id").token(&(self.parts().received_id.0)(self.id));
        if let Some(tls) = &self.tls {
            field.token(&format!("({}", tls.version)).token(&format!("{})", tls.cipher));
        }
        let mut recipients = draft.to.iter().chain(&draft.cc).chain(&draft.bcc);
        if let (Some(only), None) = (recipients.next(), recipients.next()) {
            field.token("for").token(&format!("<{}>", only.address.for_smtputf8(utf8)));
        }
        field.glued(";");
        field.text(&now.rfc5322());
        field.finish()
    }

    fn submission(
        &self,
        request: &SendRequest,
        draft: &Draft,
        directory: &Directory,
        (has_8bit, smtputf8): (bool, bool),
        (prefix, message): (Vec<u8>, Spool),
        step: Option<Arc<dyn AddStep>>,
    ) -> Result<Submission, Error> {
        let account = &self.caller.account;
        let mut reverse_path = Path::from(draft.from.address.clone());
        let unique_sender = if account.from_id_login_addresses.contains(&self.caller.address) {
            let settings = directory.domain(&draft.from.address.domain);
            let separator = settings.and_then(|domain| domain.separators.first()).cloned();
            let separator = separator.ok_or_else(|| Error::user("domain of from address has no separator for unique sender addresses"))?;
            let base = reverse_path.localpart.as_str().split_once(separator.as_str()).map(|(base, _)| base);
            if let Some(base) = base.and_then(|base| Localpart::from_decoded(base).ok()) {
                reverse_path.localpart = base;
            }
            Some(UniqueSender::Generate { separator })
        } else {
            None
        };
        let recipient = |to: &NamedAddress| SubmissionRecipient { path: to.address.clone().into(), parameters: Default::default() };
        let recipients: Vec<_> = draft.to.iter().chain(&draft.cc).chain(&draft.bcc).map(recipient).collect();
        let fields: String = draft.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let urgency = urgency_of(&Headers::new(fields.as_bytes()), recipients.len(), None);
        Ok(Submission {
            unique_sender,
            prefix,
            has_8bit,
            smtputf8,
            require_tls: request.require_tls,
            release: request.future_release.map(|time| time.at),
            // RFC 4865 §4: in UTC.
            future_release: request.future_release.map(|time| format!("until;{}", time.at.rfc3339())).unwrap_or_default(),
            message_id: draft.message_id.clone(),
            subject: draft.subject.clone(),
            extra: request.extra.clone(),
            sign_domain: Some(draft.from.address.domain.clone()),
            urgency,
            limits: Some(limits_of(account)),
            room: Some(room_of(account)),
            step,
            ..Submission::new(account.name.clone(), Some(reverse_path), recipients, message)
        })
    }

    fn submit_error(&self, error: &SubmitError) -> Error {
        let metrics = &self.parts().metrics;
        match error {
            SubmitError::MessageLimit(_) => {
                metrics.submission("messagelimiterror");
                Error::new(ErrorCode::MessageLimitReached, error.to_string())
            }
            SubmitError::FirstTimeLimit(_) => {
                metrics.submission("recipientlimiterror");
                Error::new(ErrorCode::RecipientLimitReached, error.to_string())
            }
            // The nearest of the documented codes: the account has to wait until it may send more.
            SubmitError::QueuedMessages(_) | SubmitError::QueuedSize(_) => {
                metrics.submission("queuefull");
                Error::new(ErrorCode::MessageLimitReached, error.to_string())
            }
            SubmitError::FromIdTooLong => Error::user(error.to_string()),
            SubmitError::NoRecipients => Error::new(ErrorCode::NoRecipients, error.to_string()),
            SubmitError::FromIdNotUnique | SubmitError::FromIdRecipients | SubmitError::Answered(_) | SubmitError::Store(_) => {
                metrics.submission("queueerror");
                metrics.error("submit");
                self.server("queueing message", error)
            }
        }
    }

    /// What makes the queue remember a copy for the sender until it is filed; it has what recipients don't get to see. Without a
    /// mailbox for sent mail, there is none.
    async fn sent_copy(
        &self,
        request: &SendRequest,
        draft: &Draft,
        also: Option<Arc<dyn AddStep>>,
    ) -> Result<Option<Arc<WithCopy>>, Error> {
        if !request.save_sent || self.account().await?.mailboxes().by_use(SpecialUse::SENT).is_none() {
            return Ok(None);
        }
        let (account, prefix) = (self.caller.account.name.clone(), draft.bcc_field());
        Ok(Some(Arc::new(WithCopy::new(account, prefix, &*self.parts().random, also))))
    }

    /// Files the copy for the sender. If that fails for now, it is filed later: the queue knows of it.
    async fn save_sent(&self, id: CopyId, draft: &Draft, message: &Spool) -> Result<(), Error> {
        let parts = self.parts();
        let account = &self.caller.account.name;
        let content = match message.content() {
            Ok(content) => content,
            Err(error) => {
                tracing::warn!(target: "webapi", cid = self.id, account, %error, "copy of sent mail is filed later");
                return Ok(());
            }
        };
        let copy = Message { prefix: draft.bcc_field(), content, structure: None, hash: None };
        match copies::file(&parts.queue, &parts.store, account, id, copy).await {
            Ok(()) => {}
            Err(StoreError::OverQuota) => {
                let text = "message is queued, but the copy for the Sent mailbox doesn't fit the quota";
                return Err(Error::new(ErrorCode::SentOverQuota, text));
            }
            Err(error) => tracing::warn!(target: "webapi", cid = self.id, account, %error, "copy of sent mail is filed later"),
        }
        Ok(())
    }
}

/// What a response needs beside the queue's ids.
#[derive(Clone, Debug)]
struct Response {
    message_id: String,
    addresses: Vec<String>,
}

impl Response {
    /// With ids and from ids, in the order of the addresses.
    fn json(&self, entries: impl Iterator<Item = (i64, Option<String>)>) -> String {
        let submission = |(address, (queue_msg_id, from_id)): (&String, (i64, Option<String>))| WireSubmission {
            address: address.clone(),
            queue_msg_id,
            from_id: from_id.unwrap_or_default(),
        };
        let submissions = self.addresses.iter().zip(entries).map(submission).collect();
        mox_webapi::write(&SendResponse { message_id: self.message_id.clone(), submissions })
    }
}

fn ids(submitted: &[Submitted]) -> Vec<i64> {
    submitted.iter().map(|s| s.id.0).collect()
}

fn addresses_given(request: &SendRequest) -> Vec<String> {
    [&request.to, &request.cc, &request.bcc].into_iter().flatten().map(|a| a.address.clone()).collect()
}

fn from_json(file: &File) -> DraftFile {
    DraftFile {
        name: file.name.clone(),
        content_type: file.content_type.clone(),
        content_id: file.content_id.clone(),
        data: FileData::Base64(file.data.clone()),
    }
}

fn uploaded(upload: &Upload) -> DraftFile {
    DraftFile {
        name: upload.head.file_name.clone().unwrap_or_default(),
        content_type: upload.head.content_type.clone(),
        content_id: upload.head.content_id.clone(),
        data: match &upload.data {
            Spool::Memory(bytes) => FileData::Memory(Arc::clone(bytes)),
            Spool::File { file, len } => FileData::Spooled(Arc::clone(file), *len),
        },
    }
}
