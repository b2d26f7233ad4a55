//! Properties of the reader with input that is nearly right: it never panics, and how input is split makes no difference.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use mox_imap::cmd::{Command, Context};
use mox_imap::put::Charset;
use mox_imap::reader::{Event, Limits, Reader};

const SEEDS: [&str; 24] = [
    "a login {5+}\r\nuser1 \"pass\\\\word\"\r\n",
    "a authenticate plain AGEAYg==\r\n",
    "a select &AOk-t&AOk- (condstore)\r\n",
    "a create a/b (use (\\Sent))\r\n",
    "a rename {1}\r\na {1+}\r\nb\r\n",
    "a list (subscribed recursivematch) \"\" (\"%\" *) return (children status (messages size))\r\n",
    "a lsub \"\" {1+}\r\n%\r\n",
    "a status inbox (messages uidnext highestmodseq)\r\n",
    "a append inbox (\\Seen x) \"01-Jan-2020 10:11:12 +0200\" {5+}\r\nhello {3+}\r\nabc\r\n",
    "a append inbox utf8 (~{4+}\r\nx\0yz)\r\n",
    "a append {5+}\r\ninbox {3}\r\nabc\r\n",
    "a search return (min max) charset utf-8 or not (seen unseen) subject {3+}\r\nabc 1:*,5 since 1-Feb-2020\r\n",
    "a uid search modseq \"/flags/\\\\Seen\" all 5 uid $ larger 9223372036854775807\r\n",
    "a fetch 1:5,* (uid flags body.peek[1.2.header.fields (to \"x y\")]<0.10> binary.size[1])\r\n",
    "a uid fetch $ full (changedsince 7)\r\n",
    "a store 1 (unchangedsince 5) +flags.silent (\\Seen kw)\r\n",
    "a uid move 4294967295:1 \"x y\"\r\n",
    "a id (\"name\" \"x\" \"y\" nil)\r\n",
    "a enable condstore utf8=accept\r\n",
    "a idle\r\n",
    "a noop\r\nb check\r\nc expunge\r\n",
    "a uid expunge 1:*\r\n",
    "a starttls\r\n",
    "a noop {10}\r\n",
];

/// A small generator: the same cases in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

fn mutated(dice: &mut Dice) -> Vec<u8> {
    let mut input = SEEDS[dice.below(SEEDS.len())].as_bytes().to_vec();
    input.extend_from_slice(SEEDS[dice.below(SEEDS.len())].as_bytes());
    for _ in 0..dice.below(4) {
        let at = dice.below(input.len());
        match dice.below(5) {
            0 => input[at] = u8::try_from(dice.below(256)).unwrap(),
            1 => drop(input.remove(at)),
            2 => input.insert(at, b"(){}[]<>\"\\*%$+~,:. \r\n0\xff"[dice.below(23)]),
            3 => input.truncate(at.max(1)),
            _ => {
                let from = dice.below(input.len());
                let piece = input[from.min(at)..from.max(at)].to_vec();
                input.splice(at..at, piece);
            }
        }
    }
    input
}

/// What happens when input comes in pieces of `size`; bytes of messages are joined.
fn events(input: &[u8], size: usize, limits: Limits) -> Vec<String> {
    let context = Context { charset: Charset::Rev1 };
    let mut reader = Reader::new(limits);
    let mut chunks = input.chunks(size.max(1));
    let mut all: Vec<String> = Vec::new();
    let mut message: Vec<u8> = Vec::new();
    loop {
        let event = reader.next(&context);
        if let Event::Bytes(bytes) = &event {
            message.extend_from_slice(bytes);
            continue;
        }
        if event != Event::Read && !message.is_empty() {
            all.push(format!("{:?}", std::mem::take(&mut message)));
        }
        match event {
            Event::Read => match chunks.next() {
                Some(chunk) => reader.input.extend_from_slice(chunk),
                None => return all,
            },
            Event::Bad(bad) => {
                let fatal = bad.fatal;
                all.push(format!("{bad:?}"));
                if fatal {
                    return all;
                }
            }
            Event::TooLong => {
                all.push("too long".into());
                return all;
            }
            event => {
                let proceeds = matches!(event, Event::Literal(_) | Event::Message(_) | Event::Command(_, Command::Append(_)));
                all.push(format!("{event:?}"));
                if proceeds {
                    reader.proceed();
                }
            }
        }
    }
}

#[test]
fn splitting_makes_no_difference() {
    let mut dice = Dice(7);
    for case in 0..20_000 {
        let input = mutated(&mut dice);
        let limits =
            if case % 2 == 0 { Limits::AFTER_LOGIN } else { Limits { line: 60, lines: 100, literal: 10, literals: 12, literal_count: 2 } };
        let whole = events(&input, input.len(), limits);
        for size in [1, 1 + dice.below(20)] {
            assert_eq!(events(&input, size, limits), whole, "{:?} in pieces of {size}", String::from_utf8_lossy(&input));
        }
    }
}

#[test]
fn bytes_at_random_do_no_harm() {
    let mut dice = Dice(11);
    for _ in 0..5_000 {
        let input: Vec<u8> = (0..dice.below(200)).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
        events(&input, input.len().max(1), Limits::BEFORE_LOGIN);
    }
}
