//! Both ends against each other: every mechanism, right and wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod hostile;

use mox_base::{Random, Secret, Timestamp};
use mox_sasl::client::{Client, ClientError, Credentials};
use mox_sasl::scram::{self, Hash, Keys};
use mox_sasl::server::{Context, Wrong};
use mox_sasl::{Answer, Ask, AuthResult, Bindings, Exchange, Failure, Mechanism, Step, cram_md5};

#[derive(Debug)]
struct Counting;

impl Random for Counting {
    fn fill(&self, buf: &mut [u8]) {
        for (b, n) in buf.iter_mut().zip(1..) {
            *b = n;
        }
    }
}

const USER: &str = "ann@mox.example";
const PASSWORD: &str = "te\u{301}st\u{a0}1234";
const PREPARED: &str = "t\u{e9}st 1234";

fn tls() -> Bindings {
    Bindings { exporter: Some(vec![7; 32]), server_end_point: Some(vec![8; 32]) }
}

fn keeper(ask: Ask) -> Answer {
    match ask {
        Ask::Verify { user, .. } if user != USER => Answer::Wrong(Wrong::User),
        Ask::Verify { password, .. } if mox_sasl::opaque_string(password.expose()).as_deref() == Some(PREPARED) => Answer::Right,
        Ask::Verify { .. } => Answer::Wrong(Wrong::Password),
        Ask::VerifyCramMd5 { user, challenge, digest } => {
            let right = user == USER && digest == cram_md5::digest(PASSWORD.as_bytes(), challenge.as_bytes());
            if right { Answer::Right } else { Answer::Wrong(Wrong::Credentials) }
        }
        Ask::ScramKeys { user, hash } if user == USER => Answer::Keys(Keys::from_password(hash, PREPARED, vec![5; 12], 4096)),
        Ask::ScramKeys { user, hash } => Answer::FakeKeys(Keys::fake(hash, &Secret::new(vec![1; 32]), &user), Wrong::User),
        Ask::External { user } if user.as_deref().is_none_or(|u| u == USER) => Answer::Right,
        Ask::External { .. } => Answer::Wrong(Wrong::Credentials),
    }
}

struct Case<'a> {
    mechanism: Mechanism,
    user: &'a str,
    password: &'a str,
    server: Bindings,
    client: Bindings,
    offered: &'a [Mechanism],
}

impl Default for Case<'_> {
    fn default() -> Self {
        let mechanism = Mechanism::Plain;
        Self { mechanism, user: USER, password: PASSWORD, server: tls(), client: tls(), offered: &Mechanism::ANNOUNCED }
    }
}

/// Runs both ends and gives what the server and the client think of the outcome.
fn run(case: &Case<'_>) -> (Step, Result<(), ClientError>) {
    let credentials = Credentials { user: case.user.to_owned(), password: Secret::new(case.password.to_owned()) };
    let lists = (Mechanism::ANNOUNCED.as_slice(), case.offered);
    let mut client = match Client::new(case.mechanism, credentials, &case.client, lists, &Counting) {
        Ok(client) => client,
        Err(e) => return (Step::Failed(Failure::Aborted), Err(e)),
    };
    let context = Context { random: &Counting, now: Timestamp::EPOCH, hostname: "mox.example", bindings: case.server.clone() };
    let mut server = Exchange::new(case.mechanism, context);
    let mut client_error = Ok(());
    let mut step = server.start(client.initial().as_deref());
    loop {
        step = match step {
            Step::Challenge(challenge) => match client.respond(&challenge) {
                Ok(response) => server.respond(&response),
                // The client cancels; the server then says why the attempt failed.
                Err(e) => {
                    client_error = Err(e);
                    server.respond(b"")
                }
            },
            Step::Ask(ask) => server.answer(keeper(ask)),
            Step::Accepted { .. } => return (step, client.accept_success()),
            Step::Failed(_) => return (step, client_error),
        }
    }
}

fn result(case: &Case<'_>) -> AuthResult {
    match run(case).0 {
        Step::Failed(failure) => failure.result(),
        _ => AuthResult::Ok,
    }
}

#[test]
fn right_credentials_log_in() {
    for mechanism in Mechanism::ANNOUNCED {
        let accepted = Step::Accepted { user: Some(USER.to_owned()) };
        assert_eq!(run(&Case { mechanism, ..Case::default() }), (accepted, Ok(())), "{mechanism}");
    }
    let (step, client) = run(&Case { mechanism: Mechanism::External, ..Case::default() });
    assert_eq!((step, client), (Step::Accepted { user: None }, Ok(())));
}

#[test]
fn wrong_passwords_and_users_fail() {
    for mechanism in Mechanism::ANNOUNCED {
        let password = result(&Case { mechanism, password: "wrong password", ..Case::default() });
        let user = result(&Case { mechanism, user: "nobody@mox.example", ..Case::default() });
        let want = match mechanism {
            Mechanism::Plain | Mechanism::Login => (AuthResult::BadPassword, AuthResult::BadUser),
            Mechanism::Scram { .. } => (AuthResult::BadCreds, AuthResult::BadUser),
            _ => (AuthResult::BadCreds, AuthResult::BadCreds),
        };
        assert_eq!((password, user), want, "{mechanism}");
    }
}

#[test]
fn unknown_users_of_scram_look_like_wrong_passwords() {
    let mechanism = Mechanism::Scram { hash: Hash::Sha256, plus: false };
    let unknown = run(&Case { mechanism, user: "nobody@mox.example", ..Case::default() });
    let wrong = run(&Case { mechanism, password: "wrong password", ..Case::default() });
    assert_eq!(unknown.1, wrong.1);
    assert_eq!(unknown.1, Err(ClientError::Refused("invalid-proof".to_owned())));
}

#[test]
fn someone_in_the_middle_is_noticed() {
    let mechanism = Mechanism::Scram { hash: Hash::Sha256, plus: true };
    let other = Bindings { exporter: Some(vec![9; 32]), server_end_point: None };
    assert_eq!(result(&Case { mechanism, client: other, ..Case::default() }), AuthResult::BadChanBind);
}

#[test]
fn a_stripped_plus_is_noticed_under_tls_only() {
    let mechanism = Mechanism::Scram { hash: Hash::Sha1, plus: false };
    let offered = &[mechanism];
    let (step, _) = run(&Case { mechanism, offered, ..Case::default() });
    assert_eq!(step, Step::Failed(Failure::ScramFirst(scram::Error::ServerDoesSupportChannelBinding)));
    assert_eq!(result(&Case { mechanism, offered, server: Bindings::default(), ..Case::default() }), AuthResult::Ok);
}

#[test]
fn the_certificates_hash_binds_where_there_is_no_exporter() {
    let mechanism = Mechanism::Scram { hash: Hash::Sha256, plus: true };
    let tls12 = Bindings { exporter: None, server_end_point: Some(vec![8; 32]) };
    assert_eq!(result(&Case { mechanism, client: tls12.clone(), server: tls12, ..Case::default() }), AuthResult::Ok);
    let (_, client) = run(&Case { mechanism, client: Bindings::default(), ..Case::default() });
    assert_eq!(client, Err(ClientError::NoBinding));
}

#[test]
fn scram_first_messages_that_are_refused() {
    for (message, plus, want) in [
        ("", false, scram::Error::InvalidEncoding),
        ("n,", false, scram::Error::InvalidEncoding),
        ("x,,n=a,r=12345678", false, scram::Error::InvalidEncoding),
        ("n,,m=x,n=a,r=12345678", false, scram::Error::ExtensionsNotSupported),
        ("n,,n=,r=12345678", false, scram::Error::InvalidUsernameEncoding),
        ("n,,n=a=zz,r=12345678", false, scram::Error::InvalidEncoding),
        ("n,,n=a,r=1234567", false, scram::Error::InvalidEncoding),
        ("n,,n=a,r=1234567\u{e9}", false, scram::Error::InvalidEncoding),
        ("n,,n=a", false, scram::Error::InvalidEncoding),
        ("n,,n=a,r=12345678", true, scram::Error::ChannelBindingNotSupported),
        ("y,,n=a,r=12345678", true, scram::Error::ServerDoesSupportChannelBinding),
        ("p=tls-unique,,n=a,r=12345678", true, scram::Error::UnsupportedChannelBindingType),
    ] {
        let context = Context { random: &Counting, now: Timestamp::EPOCH, hostname: "h", bindings: tls() };
        let mut server = Exchange::new(Mechanism::Scram { hash: Hash::Sha256, plus }, context);
        assert_eq!(server.start(Some(message.as_bytes())), Step::Failed(Failure::ScramFirst(want)), "{message}");
    }
}

#[test]
fn scram_authorizes_nobody_else() {
    let context = Context { random: &Counting, now: Timestamp::EPOCH, hostname: "h", bindings: tls() };
    let mut server = Exchange::new(Mechanism::Scram { hash: Hash::Sha256, plus: false }, context);
    assert_eq!(server.start(Some(b"n,a=b,n=a,r=12345678")), Step::Failed(Failure::Authorization));
    assert_eq!(server.user(), Some("a"));
}

#[test]
fn cram_md5_takes_no_initial_response() {
    let context = Context { random: &Counting, now: Timestamp::EPOCH, hostname: "h", bindings: tls() };
    let mut server = Exchange::new(Mechanism::CramMd5, context);
    assert!(matches!(server.start(Some(b"x")), Step::Failed(Failure::Malformed(_))));
    assert!(matches!(server.start(None), Step::Challenge(c) if c.starts_with(b"<") && c.ends_with(b"@h>")));
}
