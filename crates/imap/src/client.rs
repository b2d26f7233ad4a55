//! The client's end, for tests and load generators: splits what a server sends into responses, and sends commands one after another.

use std::io::{self, Read, Write};

/// One response: a line with its literals, without the last CRLF.
#[derive(Clone, PartialEq, Eq)]
pub struct Response(pub Vec<u8>);

impl Response {
    /// As text; bytes that aren't UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Whether it starts with this tag, `*` or `+`.
    pub fn is_for(&self, tag: &str) -> bool {
        self.0.strip_prefix(tag.as_bytes()).is_some_and(|rest| rest.first().is_none_or(|b| *b == b' '))
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

/// Splits a stream of bytes into responses.
#[derive(Debug, Default)]
pub struct Splitter {
    input: Vec<u8>,
    /// Where the line in progress starts: behind the last complete literal.
    line: usize,
    /// Up to where there is no line end.
    searched: usize,
}

impl Splitter {
    /// Adds bytes that came.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next response, if it is complete.
    pub fn next_response(&mut self) -> Option<Response> {
        loop {
            let from = self.searched.max(self.line);
            let Some(n) = self.input.get(from..)?.iter().position(|b| *b == b'\n') else {
                self.searched = self.input.len();
                return None;
            };
            let end = from.saturating_add(n);
            let line = self.input.get(self.line..end)?;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let after = end.saturating_add(1);
            if let Some(size) = announced(line) {
                let next = after.saturating_add(size);
                if next > self.input.len() {
                    self.searched = end;
                    return None;
                }
                self.line = next;
                self.searched = next;
                continue;
            }
            let length = self.line.saturating_add(line.len());
            let mut response: Vec<u8> = self.input.drain(..after).collect();
            response.truncate(length);
            (self.line, self.searched) = (0, 0);
            return Some(Response(response));
        }
    }
}

fn announced(line: &[u8]) -> Option<usize> {
    let digits = line.strip_suffix(b"}")?;
    let open = digits.iter().rposition(|b| *b == b'{')?;
    std::str::from_utf8(digits.get(open.saturating_add(1)..)?).ok()?.parse().ok()
}

/// A client that waits for the answer of each command.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    splitter: Splitter,
    tag: u32,
}

impl<S: Read + Write> Client<S> {
    /// Reads the greeting.
    ///
    /// # Errors
    /// The stream's, and its end.
    pub fn new(stream: S) -> io::Result<(Self, Response)> {
        let mut client = Self { stream, splitter: Splitter::default(), tag: 0 };
        let greeting = client.response()?;
        Ok((client, greeting))
    }

    /// The next response.
    ///
    /// # Errors
    /// The stream's, and its end.
    pub fn response(&mut self) -> io::Result<Response> {
        let mut buf = vec![0; 65_536];
        loop {
            if let Some(response) = self.splitter.next_response() {
                return Ok(response);
            }
            let n = self.stream.read(&mut buf)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.splitter.receive(buf.get(..n).unwrap_or_default());
        }
    }

    /// Sends a command, without its tag and last CRLF, and gives all responses up to its tagged one, which is the last and starts
    /// with `OK`, `NO` or `BAD`.
    ///
    /// # Errors
    /// The stream's, and its end.
    pub fn command(&mut self, command: &[u8]) -> io::Result<Vec<Response>> {
        self.tag = self.tag.wrapping_add(1);
        let tag = format!("t{}", self.tag);
        let mut bytes = format!("{tag} ").into_bytes();
        bytes.extend_from_slice(command);
        bytes.extend_from_slice(b"\r\n");
        self.stream.write_all(&bytes)?;
        self.stream.flush()?;
        let mut responses = Vec::new();
        loop {
            let response = self.response()?;
            if response.is_for(&tag) {
                let result = response.0.get(tag.len().saturating_add(1)..).unwrap_or_default().to_vec();
                responses.push(Response(result));
                return Ok(responses);
            }
            responses.push(response);
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The stream's.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_anywhere() {
        let input = b"* OK hi\r\n* 1 FETCH (BODY[] {4}\r\na\r\nb X {0}\r\n)\r\na OK done\r\n";
        for size in 1..input.len() {
            let mut splitter = Splitter::default();
            let mut got = Vec::new();
            for chunk in input.chunks(size) {
                splitter.receive(chunk);
                while let Some(response) = splitter.next_response() {
                    got.push(response.text());
                }
            }
            assert_eq!(got, ["* OK hi", "* 1 FETCH (BODY[] {4}\r\na\r\nb X {0}\r\n)", "a OK done"], "{size}");
        }
    }
}
