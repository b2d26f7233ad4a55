//! The JSON of the webapi and of webhooks, without I/O.
//!
//! Each object of the API is a struct here, made with one macro ([`object`]) from its fields, the fields' names on the wire and
//! their documentation. So reading, writing, the documentation pages, the OpenAPI document and `docs/webapi.md` all come from
//! one table, and a field can't be described twice. [`METHODS`] lists the methods with their requests, responses and errors.
//!
//! Reading follows the API's rules ([`wire`]): names match in any case, null and absent are the zero value, unknown fields are
//! errors in requests and ignored in responses. Writing gives names as documented, and lists and maps are never null.

#[macro_use]
pub mod object;
#[macro_use]
mod words;

pub mod error;
pub mod listing;
pub mod manual;
pub mod method;
pub mod openapi;
pub mod pages;
pub mod scope;
pub mod send;
pub mod template;
pub mod time;
pub mod types;
pub mod webhook;
pub mod wire;

pub use error::{Error, ErrorCode};
pub use method::{
    Empty, METHODS, MessageFlagsRequest, MessageGetResponse, MessageMoveRequest, MessagePartRequest, MessageRequest, Method, ResponseKind,
    SuppressionAddRequest, SuppressionListResponse, SuppressionPresentResponse, SuppressionRequest,
};
pub use scope::Scope;
pub use send::{SendRequest, SendResponse, Submission};
pub use time::Time;
pub use types::{File, Message, MessageMeta, NameAddress, Structure, Suppression};
pub use wire::{ReadError, Unknown, Wire, read, write};
