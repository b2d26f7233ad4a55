//! Changes of the configuration as they cross the control socket: texts as given, read by the server.

use serde::{Deserialize, Serialize};

/// A change of `domains.conf`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ConfigEdit {
    /// A new account with an address.
    AccountAdd { account: String, address: String },
    /// An account goes, with its mail.
    AccountRemove { account: String },
    /// Refuses logins with a text; without one, allows them.
    AccountDisable { account: String, message: Option<String> },
    /// A new address, or `@domain`, for an account.
    AddressAdd { address: String, account: String },
    /// An address, or `@domain`, goes.
    AddressRemove { address: String },
    /// A new domain, and with a localpart a new account.
    DomainAdd { domain: String, account: String, localpart: Option<String>, disabled: bool },
    /// A domain goes.
    DomainRemove { domain: String },
    /// A domain is disabled or enabled.
    DomainDisable { domain: String, disabled: bool },
    /// A new alias with members.
    AliasAdd { alias: String, members: Vec<String> },
    /// Other settings for an alias; none is as before.
    AliasUpdate { alias: String, post_public: Option<bool>, list_members: Option<bool>, allow_msg_from: Option<bool> },
    /// An alias goes.
    AliasRemove { alias: String },
    /// An alias gets members.
    AliasAddMembers { alias: String, members: Vec<String> },
    /// An alias loses members.
    AliasRemoveMembers { alias: String, members: Vec<String> },
}
