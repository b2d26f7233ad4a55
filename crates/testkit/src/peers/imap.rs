//! A small IMAP client over a blocking socket: a load generator, and a test's hands.
//!
//! It knows lines and literals, no grammar: a response is its bytes, literals included. Counting responses without
//! keeping them (`drain`) is cheap enough to measure a server with.

use super::{Wire, dial};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;

/// The answer to a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Untagged responses in order, without the final CR LF, with literals in place.
    pub untagged: Vec<Vec<u8>>,
    /// The tagged response without its tag, such as `OK done`.
    pub status: String,
}

impl Answer {
    /// Whether the command succeeded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status.starts_with("OK")
    }

    /// The contents of all literals in the untagged responses, in order.
    #[must_use]
    pub fn literals(&self) -> Vec<Vec<u8>> {
        self.untagged.iter().flat_map(|response| literals(response)).collect()
    }
}

/// A connection.
#[derive(Debug)]
pub struct ImapClient {
    // One descriptor a connection: there are tests with thousands.
    stream: BufReader<Box<dyn Wire>>,
    tags: u64,
    line: Vec<u8>,
}

impl ImapClient {
    /// Connects to a loopback port and reads the greeting.
    ///
    /// # Errors
    /// If the connection fails or the server says BYE.
    pub fn connect(port: u16) -> io::Result<Self> {
        Self::connect_from(Ipv4Addr::LOCALHOST, port)
    }

    /// The same from a loopback address of choice, as limits are counted by address.
    ///
    /// # Errors
    /// If the connection fails or the server says BYE.
    pub fn connect_from(source: Ipv4Addr, port: u16) -> io::Result<Self> {
        Self::over(dial(source, port)?)
    }

    /// The same over a connection that somebody made, such as one with TLS.
    ///
    /// # Errors
    /// If the connection fails or the server says BYE.
    pub fn over(wire: impl Wire + 'static) -> io::Result<Self> {
        let stream: Box<dyn Wire> = Box::new(wire);
        let mut client = Self { stream: BufReader::with_capacity(1 << 16, stream), tags: 0, line: Vec::new() };
        let greeting = client.response()?;
        if greeting.starts_with(b"* OK") || greeting.starts_with(b"* PREAUTH") {
            return Ok(client);
        }
        Err(io::Error::other(format!("greeting: {}", String::from_utf8_lossy(&greeting))))
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// If the connection fails or the server refuses.
    pub fn login(port: u16, user: &str, password: &str) -> io::Result<Self> {
        let mut client = Self::connect(port)?;
        client.ok(&format!("LOGIN \"{user}\" \"{password}\""))?;
        Ok(client)
    }

    /// Runs a command and returns all that came.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn command(&mut self, command: &str) -> io::Result<Answer> {
        let tag = self.start(command)?;
        self.finish(&tag)
    }

    /// Runs a command that has to succeed.
    ///
    /// # Errors
    /// If the connection or the command fails.
    pub fn ok(&mut self, command: &str) -> io::Result<Answer> {
        let answer = self.command(command)?;
        if answer.is_ok() { Ok(answer) } else { Err(io::Error::other(format!("{command}: {}", answer.status))) }
    }

    /// Runs a command that has to succeed and counts its untagged responses instead of keeping them.
    ///
    /// # Errors
    /// If the connection or the command fails.
    pub fn drain(&mut self, command: &str) -> io::Result<usize> {
        let tag = self.start(command)?;
        let mut count = 0;
        loop {
            self.line.clear();
            self.read_line()?;
            if let Some(status) = self.line.strip_prefix(tag.as_bytes()).and_then(|r| r.strip_prefix(b" ")) {
                if status.starts_with(b"OK") {
                    return Ok(count);
                }
                return Err(io::Error::other(format!("{command}: {}", String::from_utf8_lossy(status))));
            }
            count += 1;
            while let Some(length) = announced(&self.line) {
                io::copy(&mut self.stream.by_ref().take(length), &mut io::sink())?;
                self.line.clear();
                self.read_line()?;
            }
        }
    }

    /// Appends a message in one go, with a literal that doesn't wait for the server, RFC 7888 §4.
    ///
    /// # Errors
    /// If the connection or the command fails.
    pub fn append(&mut self, mailbox: &str, flags: &str, message: &[u8]) -> io::Result<()> {
        let tag = self.tag();
        let mut bytes = format!("{tag} APPEND \"{mailbox}\" ({flags}) {{{}+}}\r\n", message.len()).into_bytes();
        bytes.extend_from_slice(message);
        bytes.extend_from_slice(b"\r\n");
        self.write(&bytes)?;
        let answer = self.finish(&tag)?;
        if answer.is_ok() { Ok(()) } else { Err(io::Error::other(format!("APPEND: {}", answer.status))) }
    }

    /// Appends several messages in one command, RFC 3502, waiting before each as any server must allow.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn append_all(&mut self, mailbox: &str, flags: &str, messages: &[&[u8]]) -> io::Result<Answer> {
        let tag = self.tag();
        // What follows a message goes with it: two small writes would wait for each other's acknowledgement.
        let mut bytes = format!("{tag} APPEND \"{mailbox}\"").into_bytes();
        for message in messages {
            bytes.extend_from_slice(format!(" ({flags}) {{{}}}\r\n", message.len()).as_bytes());
            self.write(&bytes)?;
            let mut answer = Answer::default();
            loop {
                let response = self.response()?;
                if response.starts_with(b"+") {
                    break;
                }
                if let Some(status) = tagged(&response, &tag) {
                    answer.status = status;
                    return Ok(answer);
                }
            }
            bytes = message.to_vec();
        }
        bytes.extend_from_slice(b"\r\n");
        self.write(&bytes)?;
        self.finish(&tag)
    }

    /// Sends a command without waiting; returns its tag.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn start(&mut self, command: &str) -> io::Result<String> {
        let tag = self.tag();
        self.write(format!("{tag} {command}\r\n").as_bytes())?;
        Ok(tag)
    }

    /// Reads until the tagged response.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn finish(&mut self, tag: &str) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let response = self.response()?;
            if let Some(status) = tagged(&response, tag) {
                answer.status = status;
                return Ok(answer);
            }
            answer.untagged.push(response);
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one response, literals included, without its final CR LF.
    ///
    /// # Errors
    /// If the connection fails or is closed.
    pub fn response(&mut self) -> io::Result<Vec<u8>> {
        self.line.clear();
        self.read_line()?;
        while let Some(length) = announced(&self.line) {
            if self.stream.by_ref().take(length).read_to_end(&mut self.line)? as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read_line()?;
        }
        let mut response = std::mem::take(&mut self.line);
        while response.last().is_some_and(|b| matches!(b, b'\r' | b'\n')) {
            response.pop();
        }
        Ok(response)
    }

    fn tag(&mut self) -> String {
        self.tags += 1;
        format!("x{}", self.tags)
    }

    fn read_line(&mut self) -> io::Result<()> {
        if self.stream.read_until(b'\n', &mut self.line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn tagged(response: &[u8], tag: &str) -> Option<String> {
    let status = response.strip_prefix(tag.as_bytes())?.strip_prefix(b" ")?;
    Some(String::from_utf8_lossy(status).into_owned())
}

/// The length of the literal that a line announces at its end: `{12}` or `~{12}`.
fn announced(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|b| *b == b'{')?;
    std::str::from_utf8(line.get(open + 1..)?).ok()?.parse().ok()
}

fn literals(response: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = response;
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let (line, after) = rest.split_at(end + 2);
        rest = after;
        let Some(length) = announced(line).and_then(|l| usize::try_from(l).ok()) else {
            continue;
        };
        let Some((literal, after)) = rest.split_at_checked(length) else {
            break;
        };
        found.push(literal.to_vec());
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_cut_out_of_a_response() {
        let response = b"* 1 FETCH (BODY[1] {3}\r\na\r\n BODY[2] ~{2}\r\n\r\n)";
        assert_eq!(literals(response), [b"a\r\n".to_vec(), b"\r\n".to_vec()]);
        assert_eq!(literals(b"* OK no literal {here} \r\n"), Vec::<Vec<u8>>::new());
    }
}
