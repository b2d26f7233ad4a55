//! PEM files, RFC 7468, with the headers of RFC 1421 §4.4 that older tools and key generators write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A block: `-----BEGIN label-----` … `-----END label-----`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// What it is, e.g. `PRIVATE KEY`.
    pub(crate) label: String,
    /// Its bytes, usually DER.
    pub(crate) bytes: Vec<u8>,
}

/// Why a text has no usable PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// A block that doesn't end, or ends with another label.
    #[error("PEM block without its end")]
    NoEnd,
    /// A block whose content is no base64.
    #[error("bad base64 in PEM block")]
    Base64,
}

/// All blocks of a text. Text around blocks is allowed.
///
/// # Errors
/// When a block is broken.
pub(crate) fn blocks(text: &str) -> Result<Vec<Block>, PemError> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else { continue };
        let end = format!("-----END {label}-----");
        let mut base64 = String::new();
        loop {
            match lines.next() {
                None => return Err(PemError::NoEnd),
                Some(line) if line == end => break,
                // A header field: `Note: …`. Base64 has no colon.
                Some(line) if line.contains(':') => {}
                Some(line) => base64.push_str(line),
            }
        }
        let bytes = STANDARD.decode(&base64).map_err(|_| PemError::Base64)?;
        blocks.push(Block { label: label.to_owned(), bytes });
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_headers() {
        let text = "junk\n-----BEGIN A B-----\nNote: x, y\nOther: z\n\nAAEC\nAwQF\n-----END A B-----\n-----BEGIN C-----\r\n/w==\r\n-----END C-----\r\n";
        let blocks = blocks(text).unwrap();
        assert_eq!((blocks[0].label.as_str(), blocks[0].bytes.as_slice()), ("A B", &[0, 1, 2, 3, 4, 5][..]));
        assert_eq!((blocks[1].label.as_str(), blocks[1].bytes.as_slice()), ("C", &[255][..]));
    }

    #[test]
    fn broken() {
        assert_eq!(blocks("-----BEGIN A-----\nAA==\n").err(), Some(PemError::NoEnd));
        assert_eq!(blocks("-----BEGIN A-----\n!!\n-----END A-----\n").err(), Some(PemError::Base64));
        assert!(blocks("nothing").unwrap().is_empty());
    }
}
