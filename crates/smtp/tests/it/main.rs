//! Sessions against transcripts: whole, then byte by byte. `tests/transcripts/README.md` says how they are written.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod client;
mod server;

use std::path::PathBuf;

/// The transcripts of a folder, by name.
fn transcripts(folder: &str) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(folder);
    let mut found: Vec<(String, String)> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no transcripts in {}", folder.display());
    found
}

/// A line as the wire has it: `\r`, `\n`, `\t`, `\\` and `\xHH` are escapes, `\A*n` is n times A.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend(c.to_string().bytes());
            continue;
        }
        match chars.next().unwrap() {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            '\\' => out.push(b'\\'),
            'x' => {
                let hex: String = chars.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&hex, 16).unwrap());
            }
            repeated => {
                assert_eq!(chars.next(), Some('*'), "escape in {text}");
                let mut count = String::new();
                while let Some(d) = chars.clone().next().filter(char::is_ascii_digit) {
                    count.push(d);
                    chars.next();
                }
                out.extend(repeated.to_string().repeat(count.parse().unwrap()).bytes());
            }
        }
    }
    out
}

fn escape(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n")
}
