//! A validating resolver that the administrator vouches for: it validates, and says so with the AD flag. RFC 6698 §A.3.
//!
//! Queries carry AD (RFC 6840 §5.7) and EDNS, so that a failed validation comes with its reason (RFC 8914). Nothing is
//! kept here: the resolver is near and keeps answers itself.
//!
//! Each server is asked in turn, over UDP, and over TCP when the answer didn't fit. Datagrams that aren't the answer are
//! passed over. A server that fails leads to the next one; one that found a bogus answer doesn't.

use super::Found;
use super::record::{record, record_type};
use super::system::System;
use hickory_resolver::Hosts;
use hickory_resolver::proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_resolver::proto::rr::{Name, RecordType};
use mox_base::{Answer, ExtendedError, LookupError, Record, RecordKind};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// What we take over UDP: small enough not to be split on the way, RFC 9715.
const UDP_PAYLOAD: u16 = 1232;

/// Resolvers that are trusted.
#[derive(Debug)]
pub(super) struct Trusted {
    servers: Vec<SocketAddr>,
    rounds: usize,
    attempt: Duration,
    tcp_only: bool,
    hosts: Hosts,
}

/// Why there is no reply, with its code if there is one that doesn't help.
struct Failed {
    code: Option<ResponseCode>,
    error: LookupError,
}

impl Trusted {
    /// Those that the system names.
    pub(super) fn new(system: &System, attempt: Duration) -> Self {
        Self {
            servers: system.addresses(),
            rounds: system.options.attempts.max(1),
            attempt: system.options.timeout.min(attempt),
            tcp_only: system.tcp_only,
            hosts: Hosts::from_system().unwrap_or_default(),
        }
    }

    /// Whether they validate at all.
    ///
    /// # Errors
    /// When they don't answer now.
    pub(super) async fn validates(&self) -> Result<bool, LookupError> {
        // The root is signed for certain.
        match self.reply(&Query::query(Name::root(), record_type(RecordKind::Ns))).await {
            Ok(reply) => Ok(reply.metadata.authentic_data && reply.metadata.response_code == ResponseCode::NoError),
            Err(Failed { code: None | Some(ResponseCode::ServFail), error }) => Err(error),
            // Whoever refuses to tell of the root validates nothing.
            Err(_) => Ok(false),
        }
    }

    /// The records of a kind at an absolute name.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub(super) async fn query(&self, name: Name, kind: RecordKind) -> Found {
        let question = Query::query(name, record_type(kind));
        if let Some(known) = self.known_here(&question) {
            return known;
        }
        let reply = self.reply(&question).await.map_err(|failed| failed.error)?;
        answer(&reply, kind)
    }

    /// The first reply that says whether there are records.
    async fn reply(&self, question: &Query) -> Result<Message, Failed> {
        let mut last = Failed { code: None, error: LookupError::Temporary("no name server".to_owned()) };
        for _ in 0..self.rounds {
            for server in &self.servers {
                last = match self.ask(*server, question).await {
                    Ok(reply) => match reply.metadata.response_code {
                        ResponseCode::NoError | ResponseCode::NXDomain => return Ok(reply),
                        code => Failed { code: Some(code), error: failure(&reply, code) },
                    },
                    Err(e) if e.kind() == io::ErrorKind::TimedOut => Failed { code: None, error: LookupError::timeout() },
                    Err(e) => Failed { code: None, error: LookupError::Temporary(format!("asking {server}: {e}")) },
                };
                // Another server would find the same.
                if matches!(last.error, LookupError::Bogus(_)) {
                    return Err(last);
                }
            }
        }
        Err(last)
    }

    /// What needs no server, and is never authentic: names of this host, RFC 6761 §6.3, and those in its hosts file.
    fn known_here(&self, question: &Query) -> Option<Found> {
        let found = |records| Some(Ok(Answer { records, authentic: false, ttl: Duration::ZERO }));
        if let Some(lookup) = self.hosts.lookup_static_host(question) {
            return found(lookup.answers().iter().filter_map(|r| record(&r.data)).collect());
        }
        let localhost = Name::from_ascii("localhost.").ok()?;
        if !localhost.zone_of(question.name()) {
            return None;
        }
        match question.query_type() {
            RecordType::A => found(vec![Record::A(Ipv4Addr::LOCALHOST)]),
            RecordType::AAAA => found(vec![Record::Aaaa(Ipv6Addr::LOCALHOST)]),
            _ => Some(Err(LookupError::NotFound { authentic: false })),
        }
    }

    async fn ask(&self, server: SocketAddr, question: &Query) -> io::Result<Message> {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.metadata.authentic_data = true;
        query.add_query(question.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_version(0);
        query.set_edns(edns);
        let bytes = query.to_vec().map_err(io::Error::other)?;
        let asking = async {
            if !self.tcp_only {
                let reply = over_udp(server, &query, &bytes).await?;
                if !reply.metadata.truncation {
                    return Ok(reply);
                }
            }
            over_tcp(server, &query, &bytes).await
        };
        tokio::time::timeout(self.attempt, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

async fn over_udp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Whatever isn't the answer may be somebody's guess: the right one may still come.
        if let Some(reply) = Message::from_vec(buffer.get(..length).unwrap_or_default()).ok().filter(|reply| is_reply(query, reply)) {
            return Ok(reply);
        }
    }
}

/// RFC 1035 §4.2.2.
async fn over_tcp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    let reply = Message::from_vec(&reply).map_err(io::Error::other)?;
    if is_reply(query, &reply) { Ok(reply) } else { Err(io::Error::other("not the answer to the query")) }
}

pub(super) fn is_reply(query: &Message, reply: &Message) -> bool {
    reply.metadata.id == query.metadata.id && reply.metadata.message_type == MessageType::Response && reply.queries == query.queries
}

pub(super) fn answer(reply: &Message, kind: RecordKind) -> Found {
    let authentic = reply.metadata.authentic_data;
    let of_kind = reply.answers.iter().filter(|r| r.record_type() == record_type(kind));
    let records: Vec<Record> = of_kind.filter_map(|r| record(&r.data)).collect();
    if records.is_empty() {
        return Err(LookupError::NotFound { authentic });
    }
    let ttl = reply.answers.iter().map(|r| r.ttl).min().unwrap_or(0);
    Ok(Answer { records, authentic, ttl: Duration::from_secs(u64::from(ttl)) })
}

/// What a server's failure means, with the reason it gives.
pub(super) fn failure(reply: &Message, code: ResponseCode) -> LookupError {
    let extended = reply.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Unknown(EXTENDED_ERROR)));
    let extended = match extended {
        Some(EdnsOption::Unknown(_, data)) => data.split_first_chunk::<2>(),
        _ => None,
    };
    let Some((code_of, text)) = extended else { return LookupError::Temporary(code.to_string()) };
    ExtendedError::new(u16::from_be_bytes(*code_of), &String::from_utf8_lossy(text)).into()
}

/// The EDNS option, RFC 8914 §2.
const EXTENDED_ERROR: u16 = 15;
