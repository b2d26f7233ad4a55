//! The resolver against a name server that knows nothing of DNSSEC.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use mox_base::{Lookup, LookupError, RecordKind};
use mox_net::Resolver;
use mox_net::resolver::ResolverLimits;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
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
