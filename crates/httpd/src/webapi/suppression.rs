//! Suppression lists.

use super::Call;
use mox_base::{Address, Path};
use mox_store::queue::suppression::{NewSuppression, SuppressError};
use mox_webapi::listing::SuppressionListRequest;
use mox_webapi::{
    Empty, Error, ErrorCode, Suppression, SuppressionAddRequest, SuppressionListResponse, SuppressionPresentResponse, SuppressionRequest,
};

/// Entries read at once.
const PAGE: u64 = 1000;

impl Call {
    pub(super) async fn suppression_list(&self, request: SuppressionListRequest) -> Result<SuppressionListResponse, Error> {
        let mut response = SuppressionListResponse::default();
        let name = &self.caller.account.name;
        let mut after = Some(request.after).filter(|after| !after.is_empty()).map(|after| (name.clone(), after));
        let mut left = u64::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        loop {
            let page = self.parts().queue.suppressions(Some(name.clone()), after.take(), PAGE.min(left)).await;
            let page = page.map_err(|e| self.server("reading suppression list", &e))?;
            left = left.saturating_sub(u64::try_from(page.len()).unwrap_or(u64::MAX));
            after = page.last().map(|last| (last.account.clone(), last.base_address.clone()));
            response.suppressions.extend(page.into_iter().map(|s| Suppression {
                id: s.id,
                created: s.created.into(),
                account: s.account,
                base_address: s.base_address,
                original_address: s.original_address,
                manual: s.manual,
                reason: s.reason,
            }));
            if after.is_none() || left == 0 {
                return Ok(response);
            }
        }
    }

    pub(super) async fn suppression_add(&self, request: SuppressionAddRequest) -> Result<Empty, Error> {
        let new = NewSuppression {
            account: self.caller.account.name.clone(),
            address: address(&request.email_address)?,
            manual: request.manual,
            reason: request.reason,
        };
        match self.parts().queue.suppress(new, self.parts().clock.now()).await {
            Ok(_) => Ok(Empty {}),
            Err(error @ SuppressError::Exists) => Err(Error::new(ErrorCode::Error, error.to_string())),
            Err(SuppressError::Store(error)) => Err(self.server("adding to suppression list", &error)),
        }
    }

    pub(super) async fn suppression_remove(&self, request: SuppressionRequest) -> Result<Empty, Error> {
        let address = address(&request.email_address)?;
        let removed = self.parts().queue.unsuppress(self.caller.account.name.clone(), address).await;
        if removed.map_err(|e| self.server("removing from suppression list", &e))? {
            Ok(Empty {})
        } else {
            Err(Error::new(ErrorCode::Error, "address isn't on the suppression list"))
        }
    }

    pub(super) async fn suppression_present(&self, request: SuppressionRequest) -> Result<SuppressionPresentResponse, Error> {
        let address = address(&request.email_address)?;
        let found = self.parts().queue.suppression(Some(self.caller.account.name.clone()), address).await;
        Ok(SuppressionPresentResponse { present: found.map_err(|e| self.server("reading suppression list", &e))?.is_some() })
    }
}

fn address(text: &str) -> Result<Path, Error> {
    let address: Address = text.parse().map_err(|e| Error::new(ErrorCode::BadAddress, format!("address {text:?}: {e}")))?;
    Ok(address.into())
}
