//! PEM, RFC 7468, as we write it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A block with a label: lines of 64 characters.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (n, c) in text.chars().enumerate() {
        if n > 0 && n % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push_str(&format!("\n-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn lines_of_64() {
        assert_eq!(encode("X", &[0; 3]), "-----BEGIN X-----\nAAAA\n-----END X-----\n");
        let long = encode("X", &[0; 49]);
        assert_eq!(long.lines().map(str::len).collect::<Vec<_>>(), [17, 64, 4, 15]);
    }
}
