//! What is done with API keys, as it crosses the control socket.

use serde::{Deserialize, Serialize};

/// Something to do with API keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ApiKeyTask {
    /// Print those of an account; empty for all.
    List { account: String },
    /// Make one and print it.
    Add {
        /// Whom it is for.
        account: String,
        /// What to call it.
        name: String,
        /// Names of scopes and methods; none for everything.
        scopes: Vec<String>,
        /// The only author it may send as, or empty.
        from: String,
        /// Microseconds until it ends, if it does.
        lifetime: Option<i64>,
    },
    /// Forget one.
    Remove { id: String },
}

impl ApiKeyTask {
    /// Its name, for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::List { .. } => "webapikeylist",
            Self::Add { .. } => "webapikeyadd",
            Self::Remove { .. } => "webapikeyrm",
        }
    }
}
