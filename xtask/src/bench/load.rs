//! The messages that are sent, and arithmetic on what was measured.

use std::net::Ipv4Addr;
use std::time::Duration;

/// A word that one message in a thousand has.
pub(super) const RARE: &str = "quokkaform";

/// Words to fill texts with.
const WORDS: [&str; 32] = [
    "meeting",
    "invoice",
    "tomorrow",
    "please",
    "report",
    "the",
    "quarterly",
    "and",
    "budget",
    "travel",
    "review",
    "with",
    "team",
    "schedule",
    "for",
    "customer",
    "delivery",
    "update",
    "about",
    "project",
    "notes",
    "attached",
    "from",
    "office",
    "holiday",
    "release",
    "testing",
    "server",
    "question",
    "regarding",
    "contract",
    "thanks",
];

/// The `number`th message, from one of 500 senders.
pub(super) fn message(number: usize) -> Vec<u8> {
    message_from(&format!("sender{}@localhost", number % 500), number)
}

/// The `number`th message of about 4 KB: text and HTML as alternatives, the same bytes in every run.
pub(super) fn message_from(sender: &str, number: usize) -> Vec<u8> {
    let mut chance = number.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut word = || {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        WORDS.get(chance >> 33 & 31).copied().unwrap_or_default()
    };
    let subject = [word(), word(), word()].join(" ");
    let mut text = String::new();
    while text.len() < 1500 {
        let line: Vec<&str> = (0..10).map(|_| word()).collect();
        text.push_str(&line.join(" "));
        text.push_str("\r\n");
    }
    if number % 1000 == 7 {
        text.push_str(RARE);
        text.push_str("\r\n");
    }
    let html: String = text.lines().map(|l| format!("<p class=3D\"body\">{l}</p>\r\n")).collect();
    format!(
        "From: Sender <{sender}>\r\n\
         To: Bench <mox@localhost>\r\n\
         Subject: {subject} number {number}\r\n\
         Date: Mon, 02 Nov 2026 10:{:02}:{:02} +0000\r\n\
         Message-ID: <bench-{number}@localhost>\r\n\
         References: <bench-{}@localhost>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=\"=_bench_{number}\"\r\n\
         \r\n\
         --=_bench_{number}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         {text}\
         --=_bench_{number}\r\n\
         Content-Type: text/html; charset=us-ascii\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\
         \r\n\
         {html}\
         --=_bench_{number}--\r\n",
        number / 60 % 60,
        number % 60,
        number / 10,
    )
    .into_bytes()
}

/// Loopback addresses, each in a network of its own, as servers limit connections by address and network.
pub(super) fn source(number: usize) -> Ipv4Addr {
    let byte = |n: usize| u8::try_from(n % 256).unwrap_or_default();
    // Never 127.0.0.x: the tests' own connections come from there.
    Ipv4Addr::new(127, byte(1 + number / 32 % 250), byte(number % 32 * 8), 1)
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Things per second.
pub(super) fn rate(things: usize, time: Duration) -> f64 {
    float(things as u64) / time.as_secs_f64()
}

/// A count as a figure; counts here are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

pub(super) fn median(values: &mut [f64]) -> f64 {
    percentile(values, 50)
}

/// The value that so many percent don't exceed.
pub(super) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_about_four_kilobytes_and_always_the_same() {
        for number in [0, 7, 1007, 99_999] {
            let size = message(number).len();
            assert!((3500..5000).contains(&size), "{size}");
            assert_eq!(message(number), message(number));
        }
        assert!(String::from_utf8(message(1007)).unwrap().contains(RARE));
    }

    #[test]
    fn percentiles() {
        let mut values = [5.0, 1.0, 2.0, 4.0, 3.0];
        assert!((median(&mut values) - 3.0).abs() < f64::EPSILON);
        assert!((percentile(&mut values, 99) - 5.0).abs() < f64::EPSILON);
    }
}
