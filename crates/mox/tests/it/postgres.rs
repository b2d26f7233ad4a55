//! The server on PostgreSQL, as `Storage` in mox.conf says.

use crate::kill::{kill_under_load, problems};
use crate::server::{BINARY, PATIENCE, await_messages, bodies, imap, message, smtp, submission};
use mox_net::ClientTls;
use mox_net::tls::read_roots;
use mox_store::Settings;
use mox_store::db::PgAddress;
use mox_testkit::peers::{Mox, Postgres, require_program};
use std::path::Path;

const PASSWORD: &str = "not for the URL";

/// A certificate for `127.0.0.1` and its key, in PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Writes `Storage` into the configuration, with the files that it names.
fn store_in(dir: &Path, url: &str, ca: &str) -> std::io::Result<()> {
    std::fs::write(dir.join("database-password"), format!("{PASSWORD}\n"))?;
    std::fs::write(dir.join("database-ca.pem"), ca)?;
    let storage = format!(
        "Storage:\n\tPostgreSQL:\n\t\tURL: {url}\n\t\tPasswordFile: database-password\n\t\tCACertFiles:\n\t\t\t- database-ca.pem\n"
    );
    let path = dir.join("mox.conf");
    let conf = std::fs::read_to_string(&path)?;
    let changed = conf.replacen("LogLevel:", &format!("{storage}LogLevel:"), 1);
    assert_ne!(conf, changed);
    std::fs::write(path, changed)
}

#[test]
fn everything_is_in_the_database_and_stays_there() {
    if require_program("initdb").is_none() {
        return;
    }
    let (cert, key) = certificate();
    let postgres = Postgres::start_with_tls(PASSWORD, &cert, &key).unwrap();
    let url = format!("{}?sslmode=verify-full", postgres.url());

    // A certificate that isn't trusted is no reason to go without.
    let refused = Mox::start_with(Path::new(BINARY), |dir| store_in(dir, &url, &certificate().0));
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("opening store"), "{why}");

    let mut mox = Mox::start_with(Path::new(BINARY), |dir| store_in(dir, &url, &cert)).unwrap();
    let tested = mox.command(&["config", "test"]).unwrap();
    assert!(tested.status.success(), "{tested:?}");
    let set = mox.command_with_input(&["setaccountpassword", "mox"], format!("{}\n", Mox::PASSWORD).as_bytes()).unwrap();
    assert!(set.status.success(), "{set:?}");
    let reply = smtp(&mox).send(Mox::USER, &[Mox::USER], &message("from the world")).unwrap();
    assert!(reply.is_ok(), "{reply:?}\n{}", mox.log());
    let reply = submission(&mox).send(Mox::USER, &["b@remote.example"], &message("through the queue")).unwrap();
    assert!(reply.is_ok(), "{reply:?}\n{}", mox.log());
    let mut client = imap(&mox);
    await_messages(&mut client, "INBOX", 2);
    let all: Vec<String> = bodies(&mut client).iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect();
    assert!(all.iter().any(|b| b.contains("Subject: from the world")) && all.iter().any(|b| b.contains("Subject: through the queue")));
    client.ok("UID STORE 1:* +FLAGS (\\Deleted)").unwrap();
    client.ok("EXPUNGE").unwrap();
    drop(client);

    kill_under_load(&mut mox, 10);
    mox.stop("TERM", PATIENCE).unwrap();
    assert!(!mox.dir().join("accounts/mox/account.db-wal").exists(), "nothing was kept beside the database");
    let tls = ClientTls::verified(read_roots(false, &[mox.dir().join("database-ca.pem")]).unwrap()).unwrap();
    let address = PgAddress::parse(&url).unwrap().with_password(&mox_base::Secret::new(PASSWORD.to_owned()));
    let found = problems(Settings::postgres(address, Some(tls.config()), mox.dir().join("blobs")));
    // Another server on the same database might be about to refer to a file, so those that a kill left go a day later.
    let found: Vec<&String> = found.iter().filter(|p| !p.ends_with("belongs to no blob")).collect();
    assert_eq!(found, Vec::<&String>::new());
}
