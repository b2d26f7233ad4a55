//! Calls of the webapi, over connections that are kept.

use super::load;
use super::subject::{ACCOUNTS, Subject};
use crate::Failure;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// Connections that send at once.
const CONNECTIONS: usize = 8;

/// `mox@localhost:moxmoxmox`.
const BASIC: &str = "bW94QGxvY2FsaG9zdDptb3htb3htb3g=";

/// Messages accepted per second by `Send`: composed, signed and durable in the queue.
pub(super) fn send(subject: &Subject, messages: usize) -> Result<f64, Failure> {
    let port = subject.http_port().ok_or("no webapi here")?;
    let work = || -> io::Result<f64> {
        // The first login takes the time of a password hash.
        call(&mut connect(port)?, &subject.account(0), 0)?;
        let start = Instant::now();
        let outcomes: Vec<io::Result<()>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..CONNECTIONS)
                .map(|connection| {
                    scope.spawn(move || {
                        let mut stream = connect(port)?;
                        for n in (connection..messages).step_by(CONNECTIONS) {
                            call(&mut stream, &subject.account(n % ACCOUNTS), n)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))).collect()
        });
        outcomes.into_iter().collect::<io::Result<()>>()?;
        Ok(load::rate(messages, start.elapsed()))
    };
    work().map_err(|e| e.to_string())
}

fn connect(port: u16) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn call(stream: &mut BufReader<TcpStream>, to: &str, number: usize) -> io::Result<()> {
    let text = "A line of text that says nothing in particular.%5Cn".repeat(20);
    let to = to.replace('@', "%40");
    let body = format!(
        "request=%7B%22To%22%3A%5B%7B%22Address%22%3A%22{to}%22%7D%5D%2C%22Subject%22%3A%22message+{number}%22%2C%22Text%22%3A%22{text}%22%7D"
    );
    let head = format!(
        "POST /webapi/v0/Send HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {BASIC}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
    let (mut status, mut length) = (String::new(), 0);
    stream.read_line(&mut status)?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("message {number}: {} {}", status.trim(), String::from_utf8_lossy(&answer))));
    }
    Ok(())
}
