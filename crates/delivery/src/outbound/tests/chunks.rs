//! Messages in chunks, RFC 3030, to a host that takes, refuses, disconnects or doesn't mean it.

use super::peer::Does;
use super::*;

/// Larger than three chunks.
fn large(s: &mut Submission) {
    let body = format!("{}\r\n", ".".repeat(98)).repeat(4000);
    s.message = Spool::from(format!("{HEADER}\r\n{body}").into_bytes());
}

#[tokio::test(start_paused = true)]
async fn the_message_arrives_as_it_is() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.offers("CHUNKING");
    f.submit(&["bob@b.example", "cas@b.example"]).await;
    f.submit_from("ann@a.example", &["bob@b.example"], large).await;
    f.run().await;
    let messages = peer.messages();
    assert_eq!(
        messages[0],
        (vec!["bob@b.example".to_owned(), "cas@b.example".to_owned()], format!("Received: by us\r\n{HEADER}\r\n{BODY}"))
    );
    assert!(messages[1].1.ends_with(&format!("{}\r\n", ".".repeat(98)).repeat(4000)));
    let commands = |verb: &str| peer.lines().iter().filter(|l| l.starts_with(verb)).count();
    assert_eq!((commands("DATA"), commands("BDAT"), commands("RSET"), peer.connections()), (0, 1 + 4, 0, 1));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_s_message_is_not_sent() {
    let mut f = Fixture::new().await;
    let peer = f.peer();
    peer.offers("CHUNKING");
    peer.rcpt("bob@", "550 5.1.1 no such user");
    f.submit(&["bob@b.example"]).await;
    f.submit(&["cas@b.example"]).await;
    f.run().await;
    assert_eq!(peer.lines().iter().filter(|l| l.starts_with("BDAT")).count(), 1);
    assert_eq!((peer.delivered(), f.retired().await.len()), (1, 2));
    f.check_conservation().await;
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_a_chunk_happens_to_the_message() {
    for (number, does, code, waits) in [
        (0, Does::Says("552 5.3.4 too large".to_owned()), 552, false),
        (2, Does::Says("552 5.3.4 too large".to_owned()), 552, false),
        (3, Does::Says("554 5.6.0 spam".to_owned()), 554, false),
        (1, Does::Says("452 4.3.1 full".to_owned()), 452, true),
        (3, Does::Says("451 4.3.0 later".to_owned()), 451, true),
        (1, Does::Closes, 0, true),
        // Nobody knows whether it was taken: better twice than never.
        (3, Does::Closes, 0, true),
        (1, Does::Hangs, 0, true),
        (3, Does::Hangs, 0, true),
    ] {
        let mut f = Fixture::new().await;
        let peer = f.peer();
        peer.offers("CHUNKING");
        peer.at_chunk(number, does.clone());
        f.submit_from("ann@a.example", &["bob@b.example"], large).await;
        f.run().await;
        assert_eq!((f.last_result().await.0, f.queued().await.len() == 1), (code, waits), "{does:?} at {number}");
        assert_eq!(peer.delivered(), 0);
        if waits {
            peer.well_behaved();
            f.clock.advance(HOUR);
            f.run().await;
            assert_eq!(peer.delivered(), 1, "{does:?} at {number}");
        }
        f.check_conservation().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_know_bdat_gets_it_without() {
    for message in [large as fn(&mut Submission), |_| {}] {
        let mut f = Fixture::new().await;
        let peer = f.peer();
        peer.offers("CHUNKING");
        peer.at_chunk(0, Does::Says("502 5.5.1 what".to_owned()));
        peer.rcpt("cas@", "550 5.1.1 no such user");
        f.submit_from("ann@a.example", &["bob@b.example", "cas@b.example"], message).await;
        f.run().await;
        // On another connection: this one may be reading the message as commands.
        assert_eq!((peer.connections(), peer.delivered(), f.queued().await.len()), (2, 1, 0), "{:?}", peer.lines());
        assert!(peer.lines().contains(&"DATA".to_owned()));
        f.check_conservation().await;
    }
}
