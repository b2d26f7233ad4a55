//! PEM: as we write it, RFC 7468, and as others have, with headers in its blocks, RFC 1421 §4.6.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A block with a label: lines of 64 characters.
pub fn encode(label: &str, der: &[u8]) -> String {
    encode_noted(label, None, der)
}

/// The same with a header `Note`.
pub(crate) fn encode_noted(label: &str, note: Option<&str>, der: &[u8]) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    if let Some(note) = note {
        pem.push_str(&format!("Note: {note}\n\n"));
    }
    for (n, c) in STANDARD.encode(der).chars().enumerate() {
        if n > 0 && n % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push_str(&format!("\n-----END {label}-----\n"));
    pem
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) der: Vec<u8>,
}

/// The well-formed blocks of a text. Headers are skipped, as is what is between blocks; so are blocks that aren't base64.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
            open = Some((label.to_owned(), String::new()));
        } else if let Some(label) = line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----")) {
            let decoded = open.take().filter(|(begun, _)| begun == label).and_then(|(_, body)| STANDARD.decode(body).ok());
            blocks.extend(decoded.map(|der| Block { label: label.to_owned(), der }));
        } else if let Some((_, body)) = &mut open
            && !line.contains(':')
        {
            body.push_str(line);
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_64() {
        assert_eq!(encode("X", &[0; 3]), "-----BEGIN X-----\nAAAA\n-----END X-----\n");
        let long = encode("X", &[0; 49]);
        assert_eq!(long.lines().map(str::len).collect::<Vec<_>>(), [17, 64, 4, 15]);
    }

    #[test]
    fn read_back_with_headers_and_in_company() {
        let noted = encode_noted("PRIVATE KEY", Some("for: nobody"), &[1; 60]);
        let text =
            format!("text\n{noted}\n-----BEGIN BAD-----\n!\n-----END BAD-----\n{}", encode("CERTIFICATE", b"abc").replace('\n', "\r\n"));
        let block = |label: &str, der: &[u8]| Block { label: label.to_owned(), der: der.to_vec() };
        assert_eq!(blocks(&text), [block("PRIVATE KEY", &[1; 60]), block("CERTIFICATE", b"abc")]);
        assert_eq!(blocks("-----BEGIN A-----\nAAAA\n"), []);
    }
}
