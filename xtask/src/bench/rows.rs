//! What is measured, in which unit, and what is asked of this server.

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row {
    AppendOne,
    AppendEight,
    Delivery,
    Submission,
    Submissions,
    WebapiSend,
    Select,
    Status,
    FetchFlags,
    FetchEnvelope,
    FetchBodystructure,
    FetchHeaders,
    FetchBody,
    SearchUnseen,
    SearchFrom,
    SearchSubject,
    SearchText,
    Store,
    LoginAgain,
    IdleMemory,
    IdleTlsMemory,
    PushLatency,
    PushLatencyCrowd,
    QueueStart,
    QueueMemory,
    DeadDomain,
    Start,
    MemoryAtStart,
    MemoryAfterMailbox,
    BinarySize,
    Authentication,
}

/// What a figure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    PerSecond,
    Milliseconds,
    Kibibytes,
    Mebibytes,
    Percent,
}

/// What this server is to reach.
#[derive(Clone, Copy, Debug)]
pub(super) enum Budget {
    /// So many times better than the peer of this name in the same run.
    Times(f64, &'static str),
    AtMost(f64),
    AtLeast(f64),
}

const DOVECOT: &str = "Dovecot";
const POSTFIX: &str = "Postfix+Dovecot";

impl Row {
    pub(super) const ALL: [Self; 31] = [
        Self::AppendOne,
        Self::AppendEight,
        Self::Delivery,
        Self::Submission,
        Self::Submissions,
        Self::WebapiSend,
        Self::Select,
        Self::Status,
        Self::FetchFlags,
        Self::FetchEnvelope,
        Self::FetchBodystructure,
        Self::FetchHeaders,
        Self::FetchBody,
        Self::SearchUnseen,
        Self::SearchFrom,
        Self::SearchSubject,
        Self::SearchText,
        Self::Store,
        Self::LoginAgain,
        Self::IdleMemory,
        Self::IdleTlsMemory,
        Self::PushLatency,
        Self::PushLatencyCrowd,
        Self::QueueStart,
        Self::QueueMemory,
        Self::DeadDomain,
        Self::Start,
        Self::MemoryAtStart,
        Self::MemoryAfterMailbox,
        Self::BinarySize,
        Self::Authentication,
    ];

    pub(super) fn work(self) -> &'static str {
        match self {
            Self::AppendOne => "IMAP APPEND, one connection",
            Self::AppendEight => "IMAP APPEND, eight connections on one mailbox",
            Self::Delivery => "delivery into the mailbox, 8 connections, 16 accounts",
            Self::Submission => "submission, accepted, 8 connections",
            Self::Submissions => "submission over TLS, accepted, 8 connections",
            Self::WebapiSend => "webapi Send, accepted, 8 connections",
            Self::Select => "EXAMINE",
            Self::Status => "STATUS",
            Self::FetchFlags => "FETCH 1:* (UID FLAGS)",
            Self::FetchEnvelope => "FETCH 1:* (ENVELOPE INTERNALDATE RFC822.SIZE)",
            Self::FetchBodystructure => "FETCH 1:* BODYSTRUCTURE",
            Self::FetchHeaders => "FETCH 1:* BODY.PEEK[HEADER.FIELDS (common)]",
            Self::FetchBody => "FETCH BODY.PEEK[] of 2,000 messages",
            Self::SearchUnseen => "SEARCH UNSEEN",
            Self::SearchFrom => "SEARCH FROM",
            Self::SearchSubject => "SEARCH SUBJECT",
            Self::SearchText => "SEARCH TEXT of a rare word",
            Self::Store => "STORE +FLAGS of 1,000 messages",
            Self::LoginAgain => "login, same password again",
            Self::IdleMemory => "an idle connection",
            Self::IdleTlsMemory => "an idle connection with TLS",
            Self::PushLatency => "push to an idle connection, p99",
            Self::PushLatencyCrowd => "push to one of all that idle on one mailbox, p99",
            Self::QueueStart => "start to listening with the long queue",
            Self::QueueMemory => "memory after that",
            Self::DeadDomain => "processor time with 100,000 queued to a dead domain",
            Self::Start => "start to listening",
            Self::MemoryAtStart => "memory after start",
            Self::MemoryAfterMailbox => "memory after serving the large mailbox",
            Self::BinarySize => "size of the binary",
            Self::Authentication => "processor time of DKIM sign and verify, SPF, DMARC, 20 KB",
        }
    }

    pub(super) fn unit(self) -> Unit {
        match self {
            Self::AppendOne
            | Self::AppendEight
            | Self::Delivery
            | Self::Submission
            | Self::Submissions
            | Self::WebapiSend
            | Self::LoginAgain => Unit::PerSecond,
            Self::IdleMemory | Self::IdleTlsMemory => Unit::Kibibytes,
            Self::DeadDomain => Unit::Percent,
            Self::QueueMemory | Self::MemoryAtStart | Self::MemoryAfterMailbox | Self::BinarySize => Unit::Mebibytes,
            _ => Unit::Milliseconds,
        }
    }

    pub(super) fn budgets(self) -> &'static [Budget] {
        use Budget::{AtLeast, AtMost, Times};
        match self {
            Self::AppendOne => &[Times(1.2, DOVECOT)],
            Self::AppendEight => &[Times(2.5, DOVECOT)],
            Self::Delivery => &[Times(3.0, DOVECOT), Times(6.0, POSTFIX)],
            Self::Submission | Self::Submissions | Self::PushLatencyCrowd => &[],
            Self::WebapiSend => &[AtLeast(1000.0)],
            Self::Select => &[AtMost(1.0)],
            Self::FetchEnvelope | Self::SearchUnseen => &[Times(3.0, DOVECOT)],
            Self::SearchFrom | Self::SearchSubject | Self::SearchText => &[AtMost(5.0)],
            Self::LoginAgain => &[AtLeast(3000.0)],
            Self::IdleMemory => &[AtMost(16.0)],
            Self::IdleTlsMemory => &[AtMost(32.0)],
            Self::QueueStart => &[AtMost(2000.0)],
            Self::QueueMemory => &[AtMost(200.0)],
            Self::DeadDomain => &[AtMost(2.0)],
            Self::PushLatency => &[AtMost(20.0)],
            Self::Start => &[AtMost(300.0)],
            Self::MemoryAtStart | Self::BinarySize => &[AtMost(40.0)],
            Self::MemoryAfterMailbox => &[AtMost(100.0)],
            Self::Authentication => &[AtMost(1.5)],
            _ => &[Times(1.0, DOVECOT)],
        }
    }
}

impl Unit {
    pub(super) fn more_is_better(self) -> bool {
        self == Self::PerSecond
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => "ms",
            Self::Kibibytes => "KiB",
            Self::Mebibytes => "MiB",
            Self::Percent => "%",
        }
    }
}
