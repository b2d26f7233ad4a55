//! A small SMTP and LMTP client over a blocking socket, with pipelining: a load generator, and a test's hands.

use super::{Wire, dial};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;

/// A server's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Such as 250.
    pub code: u16,
    /// All its lines, without their codes.
    pub text: String,
}

impl Reply {
    /// Whether the code is 2xx.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code / 100 == 2
    }
}

/// A connection.
#[derive(Debug)]
pub struct SmtpClient {
    stream: BufReader<Box<dyn Wire>>,
    lmtp: bool,
}

impl SmtpClient {
    /// Connects to a loopback port, reads the greeting and says `EHLO`.
    ///
    /// # Errors
    /// If the connection or the greeting fails.
    pub fn smtp(port: u16) -> io::Result<Self> {
        Self::open(Ipv4Addr::LOCALHOST, port, false)
    }

    /// The same from a loopback address of choice, as limits are counted by address.
    ///
    /// # Errors
    /// If the connection or the greeting fails.
    pub fn smtp_from(source: Ipv4Addr, port: u16) -> io::Result<Self> {
        Self::open(source, port, false)
    }

    /// Connects to an LMTP server.
    ///
    /// # Errors
    /// If the connection or the greeting fails.
    pub fn lmtp(port: u16) -> io::Result<Self> {
        Self::open(Ipv4Addr::LOCALHOST, port, true)
    }

    /// The same over a connection that somebody made, such as one with TLS.
    ///
    /// # Errors
    /// If the connection or the greeting fails.
    pub fn over(wire: impl Wire + 'static) -> io::Result<Self> {
        let stream: Box<dyn Wire> = Box::new(wire);
        let mut client = Self { stream: BufReader::new(stream), lmtp: false };
        client.greet()?;
        Ok(client)
    }

    fn open(source: Ipv4Addr, port: u16, lmtp: bool) -> io::Result<Self> {
        let mut client = Self::raw(source, port)?;
        client.lmtp = lmtp;
        client.greet()?;
        Ok(client)
    }

    fn greet(&mut self) -> io::Result<()> {
        expect(&self.reply()?)?;
        expect(&self.command(if self.lmtp { "LHLO client.test" } else { "EHLO client.test" })?)
    }

    /// Connects without a word; the greeting is still to be read.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn raw(source: Ipv4Addr, port: u16) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(Box::new(dial(source, port)?)), lmtp: false })
    }

    /// Logs in with PLAIN.
    ///
    /// # Errors
    /// If the connection fails or the server refuses.
    pub fn login(&mut self, user: &str, password: &str) -> io::Result<()> {
        let response = base64(format!("\0{user}\0{password}").as_bytes());
        expect(&self.command(&format!("AUTH PLAIN {response}"))?)
    }

    /// Sends a line and reads its reply.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a message, envelope pipelined, and returns the reply that decided: the first refusal, or the one to the
    /// message; with LMTP, the first refusal or the last recipient's.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn send(&mut self, from: &str, to: &[&str], message: &[u8]) -> io::Result<Reply> {
        self.send_with(from, "", to, message)
    }

    /// The same with parameters of MAIL, beginning with a space.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn send_with(&mut self, from: &str, parameters: &str, to: &[&str], message: &[u8]) -> io::Result<Reply> {
        let mut envelope = format!("MAIL FROM:<{from}>{parameters}\r\n");
        for recipient in to {
            envelope.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
        }
        envelope.push_str("DATA\r\n");
        self.write(envelope.as_bytes())?;
        let mut refusal = None;
        for _ in 0..=to.len() {
            let reply = self.reply()?;
            if !reply.is_ok() {
                refusal.get_or_insert(reply);
            }
        }
        let go = self.reply()?;
        if go.code != 354 {
            return Ok(refusal.unwrap_or(go));
        }
        self.write(&stuffed(message))?;
        let mut last = self.reply()?;
        if self.lmtp {
            for _ in 1..to.len() {
                let next = self.reply()?;
                if last.is_ok() {
                    last = next;
                }
            }
        }
        Ok(refusal.unwrap_or(last))
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// If the connection fails, or what comes isn't a reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let code = line.get(..3).and_then(|c| c.parse().ok()).ok_or_else(|| io::Error::other(format!("not a reply: {line:?}")))?;
            text.push_str(line.get(4..).unwrap_or_default());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text: text.trim_end().to_owned() });
            }
        }
    }
}

fn expect(reply: &Reply) -> io::Result<()> {
    if reply.is_ok() { Ok(()) } else { Err(io::Error::other(format!("refused: {} {}", reply.code, reply.text))) }
}

/// A message as DATA carries it: dots stuffed, its end marked.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// RFC 4648 §4.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        for position in 0..4 {
            let index = bits >> (18 - 6 * position) & 63;
            let letter = if position <= group.len() { ALPHABET.get(index).copied().unwrap_or(b'=') } else { b'=' };
            out.push(char::from(letter));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_all_remainders() {
        for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn dots_are_stuffed_and_the_end_is_marked() {
        assert_eq!(stuffed(b".a\r\n..\r\nb"), b"..a\r\n...\r\nb\r\n.\r\n");
        assert_eq!(stuffed(b""), b"\r\n.\r\n");
    }
}
