//! Messages that are broken in any way: no login comes of them that wouldn't have come without, and no panic.

use crate::{Counting, PASSWORD, PREPARED, USER, keeper, tls};
use mox_base::{Secret, Timestamp};
use mox_sasl::client::{Client, Credentials};
use mox_sasl::scram::{Hash, Keys};
use mox_sasl::server::Context;
use mox_sasl::{Answer, Ask, Exchange, Mechanism, Step};
use mox_testkit::Mutator;
use std::sync::LazyLock;

/// Exchanges of each mechanism; with SCRAM each is thousands of hashes.
const SEEDS: u64 = 60;

fn server(mechanism: Mechanism) -> Exchange {
    let context = Context { random: &Counting, now: Timestamp::EPOCH, hostname: "mox.example", bindings: tls() };
    Exchange::new(mechanism, context)
}

fn client(mechanism: Mechanism) -> Client {
    let credentials = Credentials { user: USER.to_owned(), password: Secret::new(PASSWORD.to_owned()) };
    let lists = (Mechanism::ANNOUNCED.as_slice(), Mechanism::ANNOUNCED.as_slice());
    Client::new(mechanism, credentials, &tls(), lists, &Counting).unwrap()
}

/// Answers as [`keeper`] does, with keys that are made once.
fn quick_keeper(ask: Ask) -> Answer {
    static KEYS: LazyLock<[Keys; 2]> =
        LazyLock::new(|| [Hash::Sha1, Hash::Sha256].map(|h| Keys::from_password(h, PREPARED, vec![5; 12], 2048)));
    match ask {
        Ask::ScramKeys { user, hash } if user == USER => Answer::Keys(KEYS[usize::from(hash == Hash::Sha256)].clone()),
        other => keeper(other),
    }
}

/// Who is in the middle changes one message of an exchange with the right password, in either direction. Gives whether the server
/// accepted, and whether the client did.
fn spoiled(mechanism: Mechanism, seed: u64) -> (bool, bool) {
    let mutator = Mutator::new(seed);
    let spoil = mutator.below(4);
    let mut nth = 0;
    let mut pass = |message: Vec<u8>| {
        nth += 1;
        if nth == spoil + 1 { mutator.bytes(&message) } else { message }
    };
    let (mut server, mut client) = (server(mechanism), client(mechanism));
    let initial = client.initial().map(&mut pass);
    let mut step = server.start(initial.as_deref());
    for _ in 0..10 {
        step = match step {
            Step::Challenge(challenge) => match client.respond(&pass(challenge)) {
                Ok(response) => server.respond(&pass(response)),
                Err(_) => return (matches!(server.respond(b"*"), Step::Accepted { .. }), false),
            },
            Step::Ask(ask) => server.answer(quick_keeper(ask)),
            Step::Accepted { user } => {
                assert_eq!(user.as_deref(), Some(USER), "{mechanism}, seed {seed}");
                return (true, client.accept_success().is_ok());
            }
            // Nothing comes after that, whatever is said.
            Step::Failed(_) => return (matches!(server.respond(b""), Step::Accepted { .. }), false),
        };
    }
    panic!("{mechanism}, seed {seed}: no end");
}

#[test]
fn one_message_is_spoiled() {
    for mechanism in Mechanism::ANNOUNCED {
        let (mut by_server, mut by_client) = (0, 0);
        for seed in 0..SEEDS {
            let (server, client) = spoiled(mechanism, seed);
            by_server += u64::from(server);
            by_client += u64::from(client);
        }
        // Where there are fewer messages than places to spoil, some exchanges aren't.
        assert!(by_server < SEEDS && by_client <= by_server, "{mechanism}: {by_server} {by_client}");
        if matches!(mechanism, Mechanism::Scram { .. }) {
            // All four messages count. What the server accepts before its last message got spoiled the client notices.
            assert!(by_client < SEEDS / 4, "{mechanism}: {by_client}");
        }
    }
}

#[test]
fn anything_first() {
    for mechanism in Mechanism::ANNOUNCED {
        for seed in 0..500 {
            let mutator = Mutator::new(seed);
            let message =
                mutator.one_of(&["n,,n=ann@mox.example,r=fyko+d2lbbFgONRv9qkxdawL", "p=tls-exporter,a=x,n=x,r=12345678", "\0ann\0pw", "x"]);
            match server(mechanism).start(Some(&mutator.bytes(message.as_bytes()))) {
                Step::Accepted { .. } => panic!("{mechanism}, seed {seed}"),
                Step::Ask(_) | Step::Challenge(_) | Step::Failed(_) => {}
            }
            let mut client = client(mechanism);
            let _first = client.initial();
            let said = mutator.one_of(&["r=fyko,s=QSXCR+Q6sek8bf92,i=4096", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "e=other-error", "<1.2@x>"]);
            let _answer = client.respond(&mutator.bytes(said.as_bytes()));
            if matches!(mechanism, Mechanism::Scram { .. }) {
                assert!(client.accept_success().is_err(), "{mechanism}, seed {seed}: a server that has proven nothing");
            }
        }
    }
}
