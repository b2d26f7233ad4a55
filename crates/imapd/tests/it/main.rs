//! The service against a real store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

mod imaplib;
mod limits;
mod server;
mod streaming;
mod tls;
mod transcript;

use transcript::{Pace, replay};

/// A test per transcript, replayed whole and byte by byte.
macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let text = include_str!(concat!("../transcripts/", stringify!($name), ".txt"));
                replay(stringify!($name), text, Pace::Lines).await;
                replay(stringify!($name), text, Pace::Bytes).await;
            }
        )*

        #[test]
        fn every_transcript_is_replayed() {
            let known = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(known.contains(&name.trim_end_matches(".txt")), "{name}");
            }
        }
    };
}

transcripts!(
    greeting,
    literals,
    authenticate,
    select,
    append,
    fetch,
    sections,
    store,
    search,
    copy_move,
    internaldate,
    expunge,
    mailboxes,
    list,
    status,
    idle,
    updates,
    condstore,
    utf8,
);
