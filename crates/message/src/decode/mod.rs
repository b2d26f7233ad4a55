//! Bodies as what they stand for: transfer encodings undone, character sets converted, HTML as text.

mod transfer;

pub use transfer::{CrlfText, Encoding, TransferDecoder, decode};
