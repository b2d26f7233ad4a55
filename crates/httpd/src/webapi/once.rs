//! Requests that may be repeated, by the key in their header `Idempotency-Key`: how they are recognised, and answered again.

use super::Call;
use super::form::Upload;
use mox_store::queue::{EarlierAnswer, RequestKey};
use mox_webapi::{Error, ErrorCode};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Seek as _};
use std::sync::Arc;

/// The longest key of a repeated request.
const MAX_KEY: usize = 255;

impl Call {
    /// What a repeated request is recognised by, if its client wants that. `text` is the request as it came.
    pub(super) async fn request_key(&self, text: &str, uploads: &Arc<Vec<Upload>>) -> Result<Option<RequestKey>, Error> {
        let Some(key) = &self.key else { return Ok(None) };
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::user("Idempotency-Key must be 1 to 255 visible ASCII characters"));
        }
        let (text, uploads) = (text.to_owned(), Arc::clone(uploads));
        let digested = tokio::task::spawn_blocking(move || digest(&text, &uploads)).await;
        let digest = digested.map_err(|e| self.server("reading request", &e))?.map_err(|e| self.server("reading uploaded file", &e))?;
        Ok(Some(RequestKey { account: self.caller.account.name.clone(), key: key.clone(), digest }))
    }

    /// What the request was answered before, if it was.
    pub(super) async fn answered(&self, key: &RequestKey) -> Result<Option<EarlierAnswer>, Error> {
        let now = self.parts().clock.now();
        let earlier = self.parts().queue.earlier_answer(&key.account, &key.key, now).await;
        earlier.map_err(|e| self.server("looking up request", &e))
    }

    /// Takes the key for a request whose parts have keys of their own, or says who has it.
    pub(super) async fn taken_before(&self, key: &RequestKey) -> Result<Option<EarlierAnswer>, Error> {
        let taken = self.parts().queue.take_key(key.clone(), self.parts().clock.now()).await;
        taken.map_err(|e| self.server("remembering request", &e))
    }
}

/// The answer to a request that was answered before.
pub(super) fn repeated(key: &RequestKey, earlier: &EarlierAnswer) -> Result<String, Error> {
    if key.digest != earlier.digest {
        return Err(used_before());
    }
    let (kind, text) =
        earlier.answer.split_first().map_or((b'R', ""), |(kind, text)| (*kind, std::str::from_utf8(text).unwrap_or_default()));
    if kind == b'R' {
        return Ok(text.to_owned());
    }
    let body: mox_webapi::error::ErrorBody = mox_webapi::read(text, mox_webapi::Unknown::Ignore).unwrap_or_default();
    let code = ErrorCode::ALL.iter().find(|code| code.as_str() == body.code).copied().unwrap_or(ErrorCode::Server);
    Err(Error::new(code, body.message))
}

/// The error of a request whose key belongs to another one.
pub(super) fn used_before() -> Error {
    Error::user("Idempotency-Key was used for another request")
}

/// Of all that makes a request what it is; lengths keep apart what is next to each other.
fn digest(text: &str, uploads: &[Upload]) -> std::io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        digest.update(bytes);
    };
    add(text.as_bytes());
    for upload in uploads {
        let head = &upload.head;
        for field in [head.name.as_str(), head.file_name.as_deref().unwrap_or_default(), &head.content_type, &head.content_id] {
            add(field.as_bytes());
        }
        match &upload.data {
            mox_delivery::spool::Spool::Memory(bytes) => add(bytes),
            mox_delivery::spool::Spool::File { file, .. } => {
                let mut file = &**file;
                file.rewind()?;
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let n = file.read(&mut buffer)?;
                    if n == 0 {
                        break;
                    }
                    add(buffer.get(..n).unwrap_or_default());
                }
            }
        }
    }
    Ok(digest.finalize().into())
}
