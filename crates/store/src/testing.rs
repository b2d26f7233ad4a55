//! What unit tests that need a database share: one of their own, on either engine.

use crate::db::PgAddress;
use crate::store::{Settings, Store};
use mox_testkit::peers::Postgres;
use mox_testkit::{SeededRandom, VirtualClock};
use std::sync::Arc;
use tempfile::TempDir;

/// What a test works on.
pub(crate) trait Fixture: Sized {
    /// On an empty database: of PostgreSQL at a URL, or of SQLite in the folder.
    async fn on(folder: TempDir, postgres: Option<String>) -> Self;
}

/// Runs functions that take a `Fixture` on SQLite, and on PostgreSQL where there is one, each in a database of its own.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(<super::Fixture as $crate::testing::Fixture>::on(folder, None).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(url) = $crate::testing::postgres(concat!(module_path!(), "::", stringify!($name))).await else { return };
                let folder = tempfile::tempdir().unwrap();
                super::$name(<super::Fixture as $crate::testing::Fixture>::on(folder, Some(url)).await).await;
            })*
        }
    };
}
pub(crate) use on_both;

/// The URL of an empty database for a test, if there is a server: another for each copy of the source, so that two can be tested at once.
pub(crate) async fn postgres(test: &str) -> Option<String> {
    let url = Postgres::from_env()?.url().to_owned();
    let name = format!("mox_{:016x}", crate::account::message_key(&format!("{} {test}", env!("CARGO_MANIFEST_DIR"))));
    let (base, query) = url.split_once('?').map_or((url.as_str(), String::new()), |(b, q)| (b, format!("?{q}")));
    let own = base.rsplit_once('/').map(|(server, _)| format!("{server}/{name}{query}")).unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::runtime::Handle::current().spawn(connection);
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    Some(own)
}

/// A store of a fixture, with its clock.
pub(crate) async fn store(folder: &TempDir, postgres: Option<String>) -> (Store, VirtualClock) {
    let settings = match postgres {
        Some(url) => Settings::postgres(PgAddress::parse(&url).unwrap(), None, folder.path()),
        None => Settings::sqlite(folder.path()),
    };
    let clock = VirtualClock::default();
    (Store::open(settings, Arc::new(clock.clone()), Arc::new(SeededRandom::new(1))).await.unwrap(), clock)
}
