//! RFC 5322 and MIME: structure, headers, addresses, decoding, composing, the bodies of DSNs.
//!
//! Bytes in, values out; no I/O. A message is never refused here: a broken message is still someone's mail, so reading yields
//! what it can and a list of defects. What is *written* goes through types that can't hold line breaks.
//!
//! - [`structure`] finds the parts of a message with exact offsets, while it streams by.
//! - [`header`], [`envelope`], [`address`], [`date`], [`param`], [`ident`], [`encoded_word`] read header fields.
//! - [`decode`] turns bodies into text, [`charset`] the bytes of text into UTF-8.
//! - [`compose`], [`fold`] write messages and fields; [`dsn`] writes and reads delivery status notifications.

pub mod address;
pub mod charset;
pub mod compose;
pub mod date;
pub mod decode;
pub mod dsn;
pub mod encoded_word;
pub mod envelope;
pub mod feedback;
pub mod fold;
pub mod header;
pub mod ident;
pub mod param;
pub mod structure;

pub use address::{AddressEntry, AddressList, Mailbox};
pub use date::DateTime;
pub use decode::Encoding;
pub use envelope::Envelope;
pub use header::{Field, HeaderName, HeaderValue, Headers};
pub use param::{Disposition, MediaType};
pub use structure::{Defect, Limits, Part, Structure, StructureBuilder};
