//! The resolver against a name server that knows nothing of DNSSEC, and against one that validates and is trusted.

use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, CNAME, MX, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use mox_base::{ExtendedError, Lookup, LookupError, RecordKind};
use mox_net::Resolver;
use mox_net::resolver::ResolverLimits;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

/// A name server with a handful of records, none signed.
async fn name_server(tasks: &mut JoinSet<()>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tasks.spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let (n, from) = socket.recv_from(&mut buf).await.unwrap();
            let Ok(query) = Message::from_bytes(&buf[..n]) else { continue };
            let question = query.queries.first().unwrap().clone();
            let name = question.name().clone();
            let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
            reply.metadata.message_type = MessageType::Response;
            reply.metadata.recursion_available = true;
            // A lie, which must not be believed.
            reply.metadata.authentic_data = true;
            let mut add = |name: &Name, data: RData| {
                reply.add_answer(Record::from_rdata(name.clone(), 60, data));
            };
            match (name.to_ascii().as_str(), question.query_type()) {
                ("example.org.", RecordType::MX) => add(&name, RData::MX(MX::new(10, Name::from_ascii("mx.example.org.").unwrap()))),
                ("example.org.", RecordType::TXT) => add(&name, RData::TXT(TXT::from_bytes(vec![b"v=spf1 ", b"-all"]))),
                ("null.example.org.", RecordType::MX) => add(&name, RData::MX(MX::new(0, Name::root()))),
                ("alias.example.org.", RecordType::A) => {
                    let target = Name::from_ascii("mx.example.org.").unwrap();
                    add(&name, RData::CNAME(CNAME(target.clone())));
                    add(&target, RData::A(A::new(192, 0, 2, 1)));
                }
                ("broken.example.org.", _) => reply.metadata.response_code = ResponseCode::ServFail,
                _ => reply.metadata.response_code = ResponseCode::NXDomain,
            }
            reply.add_query(question);
            socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    });
    addr
}

#[tokio::test]
async fn without_dnssec_nothing_is_authentic() {
    let mut tasks = JoinSet::new();
    let limits = ResolverLimits { attempt: Duration::from_secs(2), ..ResolverLimits::default() };
    let resolver = Resolver::with_servers(&[name_server(&mut tasks).await], limits).unwrap();
    let lookup: &dyn Lookup = &resolver;

    let mx = lookup.mx("example.org").await.unwrap();
    assert_eq!((mx.records[0].host.as_str(), mx.authentic), ("mx.example.org", false));
    assert_eq!(lookup.mx("null.example.org.").await.unwrap().records[0].host, "");
    assert_eq!(lookup.txt("example.org").await.unwrap().records, [b"v=spf1 -all"]);
    let a = lookup.query("alias.example.org", RecordKind::A).await.unwrap();
    assert_eq!((a.records.len(), a.authentic), (1, false));
    assert_eq!(lookup.mx("absent.example.org").await, Err(LookupError::NotFound { authentic: false }));
    assert!(matches!(lookup.mx("broken.example.org").await, Err(LookupError::Temporary(_))));
    assert!(matches!(lookup.mx(&"a".repeat(64)).await, Err(LookupError::BadName(_))));
}

/// A name server with an address for every name but those that start with `no`, each to be kept for a week, which counts what it is
/// asked.
async fn counting_server(tasks: &mut JoinSet<()>) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    const WEEK: u32 = 7 * 86_400;
    tasks.spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let (n, from) = socket.recv_from(&mut buf).await.unwrap();
            let Ok(query) = Message::from_bytes(&buf[..n]) else { continue };
            let question = query.queries.first().unwrap().clone();
            let name = question.name().clone();
            let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
            reply.metadata.message_type = MessageType::Response;
            reply.metadata.recursion_available = true;
            if question.query_type() == RecordType::A {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            if question.query_type() == RecordType::A && !name.to_ascii().starts_with("no") {
                reply.add_answer(Record::from_rdata(name, WEEK, RData::A(A::new(192, 0, 2, 1))));
            } else {
                reply.metadata.response_code = ResponseCode::NXDomain;
                let names = [(); 2].map(|()| Name::from_ascii("example.org.").unwrap());
                let [mname, rname] = names.clone();
                let soa = SOA::new(mname, rname, 1, 3600, 3600, 3600, WEEK);
                reply.add_authority(Record::from_rdata(names[0].clone(), WEEK, RData::SOA(soa)));
            }
            reply.add_query(question);
            socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (addr, asked)
}

/// How often a server was asked about names, each looked up as often as that one after the other, all of them round by round.
async fn asked(limits: ResolverLimits, names: &[String], rounds: usize) -> (usize, Duration) {
    let mut tasks = JoinSet::new();
    let (addr, asked) = counting_server(&mut tasks).await;
    let resolver = Resolver::with_servers(&[addr], limits).unwrap();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        for name in names {
            if let Ok(answer) = (&resolver as &dyn Lookup).query(name, RecordKind::A).await {
                longest = longest.max(answer.ttl);
            }
        }
    }
    (asked.load(Ordering::SeqCst), longest)
}

#[tokio::test]
async fn what_is_kept_of_answers() {
    let limits = ResolverLimits { attempt: Duration::from_secs(5), ..ResolverLimits::default() };
    let one = ["a.example.org".to_owned()];
    let none = ["no.example.org".to_owned()];
    // Whatever the zone says, nothing is kept for longer than a day.
    assert_eq!(asked(limits, &one, 3).await, (1, Duration::from_secs(86_400)));
    assert_eq!(asked(limits, &none, 3).await.0, 1);
    let brief = ResolverLimits { positive_ttl: Duration::ZERO, negative_ttl: Duration::ZERO, ..limits };
    assert_eq!(asked(brief, &one, 3).await, (3, Duration::ZERO));
    assert_eq!(asked(brief, &none, 3).await.0, 3);
    // The two limits are each for their own.
    assert_eq!(asked(ResolverLimits { positive_ttl: Duration::ZERO, ..limits }, &none, 3).await.0, 1);
    assert_eq!(asked(ResolverLimits { negative_ttl: Duration::ZERO, ..limits }, &one, 3).await.0, 1);
}

/// However many names anybody makes us look up, no more answers are kept than there is room for.
#[tokio::test]
async fn the_cache_is_bounded() {
    let limits = ResolverLimits { attempt: Duration::from_secs(5), cache_entries: 16, ..ResolverLimits::default() };
    let names: Vec<String> = (0..600).map(|n| format!("n{n}.example.org")).collect();
    let (asked, _) = asked(limits, &names, 2).await;
    assert!(asked >= 2 * names.len() - 100, "of {} lookups {asked} had to be asked", 2 * names.len());
}

/// What a validating resolver answers, over UDP or TCP.
fn validated(bytes: &[u8], tcp: bool) -> Vec<u8> {
    let query = Message::from_bytes(bytes).unwrap();
    assert!(query.metadata.authentic_data && query.edns.is_some(), "the query asks for the AD flag");
    let question = query.queries.first().unwrap().clone();
    let name = question.name().clone();
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_available = true;
    reply.metadata.authentic_data = true;
    match (name.to_ascii().as_str(), question.query_type()) {
        (".", RecordType::NS) => {
            reply.add_answer(Record::from_rdata(name, 60, RData::NS(NS(Name::from_ascii("ns.example.").unwrap()))));
        }
        ("example.org.", RecordType::A) => {
            reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        }
        ("insecure.example.org.", RecordType::A) => {
            reply.metadata.authentic_data = false;
            reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        }
        ("big.example.org.", RecordType::TXT) if tcp => {
            reply.add_answer(Record::from_rdata(name, 60, RData::TXT(TXT::from_bytes(vec![&[b'x'; 200]; 20]))));
        }
        ("big.example.org.", RecordType::TXT) => reply.metadata.truncation = true,
        ("bogus.example.org.", _) => {
            reply.metadata.response_code = ResponseCode::ServFail;
            let mut edns = Edns::new();
            edns.options_mut().insert(EdnsOption::Unknown(15, b"\0\x07long ago\r\n".to_vec()));
            reply.set_edns(edns);
        }
        ("lame.example.org.", _) => {
            reply.metadata.response_code = ResponseCode::ServFail;
            let mut edns = Edns::new();
            edns.options_mut().insert(EdnsOption::Unknown(15, b"\0\x16".to_vec()));
            reply.set_edns(edns);
        }
        ("broken.example.org.", _) => reply.metadata.response_code = ResponseCode::ServFail,
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply.add_query(question);
    reply.to_vec().unwrap()
}

async fn validating_server(tasks: &mut JoinSet<()>) -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(addr).await.unwrap();
    tasks.spawn(async move {
        let mut buf = [0; 2048];
        loop {
            let (n, from) = udp.recv_from(&mut buf).await.unwrap();
            let reply = validated(&buf[..n], false);
            // Somebody guesses first: with another id, and with another question.
            let mut guess = reply.clone();
            guess[0] ^= 1;
            udp.send_to(&guess, from).await.unwrap();
            udp.send_to(b"nonsense", from).await.unwrap();
            udp.send_to(&reply, from).await.unwrap();
        }
    });
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let Ok(length) = stream.read_u16().await else { continue };
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            let reply = validated(&query, true);
            stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    addr
}

#[tokio::test]
async fn a_trusted_resolver_is_believed() {
    let mut tasks = JoinSet::new();
    let limits = ResolverLimits { attempt: Duration::from_secs(5), ..ResolverLimits::default() };
    let resolver = Resolver::with_trusted_servers(&[validating_server(&mut tasks).await], limits).unwrap();
    let lookup: &dyn Lookup = &resolver;

    assert!(lookup.query("example.org", RecordKind::A).await.unwrap().authentic);
    assert!(!lookup.query("insecure.example.org", RecordKind::A).await.unwrap().authentic);
    assert_eq!(lookup.txt("big.example.org").await.unwrap().records[0].len(), 4000);
    assert_eq!(lookup.mx("absent.example.org").await, Err(LookupError::NotFound { authentic: true }));
    let bogus = lookup.mx("bogus.example.org").await;
    assert_eq!(bogus, Err(LookupError::Bogus(ExtendedError::new(7, "long ago"))));
    assert_eq!(lookup.mx("lame.example.org").await, Err(LookupError::Explained(ExtendedError::new(22, ""))));
    assert!(matches!(lookup.mx("broken.example.org").await, Err(LookupError::Temporary(_))));
    // Names of this machine are nobody else's business, RFC 6761 §6.3.
    let here = lookup.query("anything.localhost", RecordKind::A).await.unwrap();
    assert_eq!((here.records.len(), here.authentic), (1, false));
}

#[tokio::test]
async fn trust_is_for_resolvers_that_validate() {
    let mut tasks = JoinSet::new();
    let limits = ResolverLimits { attempt: Duration::from_secs(5), ..ResolverLimits::default() };
    // It sets the AD flag, but not for the root, which is signed for certain.
    let resolver = Resolver::with_trusted_servers(&[name_server(&mut tasks).await], limits).unwrap();
    let lookup: &dyn Lookup = &resolver;
    assert!(!lookup.mx("example.org").await.unwrap().authentic);
}
