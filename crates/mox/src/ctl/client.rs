//! The commands' end of the control socket.

use super::{Frame, GREETING, MAX_FRAME, Request, socket_path};
use crate::cli::Failure;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Connects to the server of a data folder.
pub(crate) fn connect(data_dir: &Path) -> Result<UnixStream, Failure> {
    let path = socket_path(data_dir);
    let what = format!("connecting to control socket at {:?}", path.display().to_string());
    let mut stream = UnixStream::connect(&path).map_err(|e| Failure::new(&what, e))?;
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).map_err(|e| Failure::new(&what, e))?;
    if greeting != *GREETING {
        return Err(Failure::new(what, "the running server is of another version, restart it first"));
    }
    Ok(stream)
}

/// Sends a request and passes its output on as it comes.
pub(crate) fn request(stream: &mut UnixStream, request: &Request, out: &mut dyn Write) -> Result<(), Failure> {
    let lost = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Failure::Error("the server closed the connection".into()),
        _ => Failure::new("control socket", e),
    };
    send(stream, request)?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).map_err(lost)?;
        let [kind, a, b, c, d] = head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let Some(kind) = Frame::from_byte(kind).filter(|_| length <= MAX_FRAME) else {
            return Err(Failure::new("control socket", "garbage from server"));
        };
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).map_err(lost)?;
        match kind {
            Frame::Output => out.write_all(&bytes).map_err(|e| Failure::new("writing output", e))?,
            Frame::Error => return Err(Failure::Error(String::from_utf8_lossy(&bytes).into_owned())),
            Frame::Done => return Ok(()),
        }
    }
}

/// Sends a request.
pub(crate) fn send(stream: &mut UnixStream, request: &Request) -> Result<(), Failure> {
    let json = serde_json::to_vec(request).map_err(|e| Failure::new("encoding request", e))?;
    let length = u32::try_from(json.len()).map_err(|e| Failure::new("encoding request", e))?;
    let sent = stream.write_all(&length.to_be_bytes()).and_then(|()| stream.write_all(&json));
    sent.map_err(|e| Failure::new("sending request", e))
}
