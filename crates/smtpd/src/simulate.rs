//! Localserve's simulations: addresses of special forms fail, or take their time, as they say, so that senders can be
//! tested. In real servers nothing here is reached.
//!
//! The end of a localpart says how, its beginning when. Forms of mox in Go are plain ends (`temperror`, `550`); those that
//! came later are a last word of their own, after a hyphen, so that they are rarely met by accident (`x-drop`, not `raindrop`).
//! An enhanced code may follow what fails: `permerror-5.7.1`.

use crate::connection::Connection;
use crate::pace::pause;
use mox_base::{Localpart, Path};
use mox_smtp::Reply;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// An enhanced code, RFC 3463.
type Enhanced = (u8, u16, u16);

/// What an address does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Simulation {
    /// Fails with this code.
    Code(u16, Option<Enhanced>),
    /// Is silent for an hour, then fails.
    Timeout,
    /// Closes the connection instead of answering.
    Drop,
    /// Fails that many times, for each sender, before it succeeds.
    Greylist(u32),
    /// Succeeds after a while.
    Delay(Duration),
    /// Accepts the message, and then sends a bounce.
    Bounce(Option<Enhanced>),
}

/// When something is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// At MAIL FROM, for the sender.
    MailFrom,
    /// At RCPT TO.
    RcptTo,
    /// After the data of a submission.
    Submission,
    /// After the data of incoming mail.
    Incoming,
}

/// How long [`Simulation::Timeout`] is silent.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// Senders and addresses whose attempts are counted; all are forgotten beyond that.
const MAX_COUNTED: usize = 10_000;

/// The attempts made at addresses that fail at first.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<BTreeMap<(Moment, String, String), u32>>);

impl Attempts {
    /// Counts one more, and gives their number.
    fn count(&self, moment: Moment, from: Option<&Path>, at: &Path) -> u32 {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.len() >= MAX_COUNTED {
            attempts.clear();
        }
        let count = attempts.entry((moment, from.map(Path::to_string).unwrap_or_default(), at.to_string())).or_default();
        *count = count.saturating_add(1);
        *count
    }
}

impl Simulation {
    /// What a localpart asks for, by its end; case-sensitive.
    pub(crate) fn of(localpart: &Localpart) -> Option<Self> {
        let text = localpart.as_str();
        if let Some((before, enhanced)) = text.rsplit_once('-').and_then(|(before, code)| Some((before, enhanced(code)?))) {
            return match Self::plain(before)? {
                Self::Code(code, _) if code / 100 == u16::from(enhanced.0) => Some(Self::Code(code, Some(enhanced))),
                Self::Bounce(_) if enhanced.0 == 5 => Some(Self::Bounce(Some(enhanced))),
                _ => None,
            };
        }
        Self::plain(text)
    }

    fn plain(text: &str) -> Option<Self> {
        let word = text.rsplit_once('-').map_or(text, |(_, word)| word);
        let number = |name: &str| word.strip_prefix(name).filter(|digits| is_number(digits, 1..=2)).and_then(|digits| digits.parse().ok());
        match word {
            "drop" => return Some(Self::Drop),
            "bounce" => return Some(Self::Bounce(None)),
            "greylist" => return Some(Self::Greylist(1)),
            _ => {}
        }
        if let Some(times) = number("greylist") {
            Some(Self::Greylist(times))
        } else if let Some(seconds) = number("delay") {
            Some(Self::Delay(Duration::from_secs(seconds.into())))
        } else if text.ends_with("temperror") {
            Some(Self::Code(451, None))
        } else if text.ends_with("permerror") {
            Some(Self::Code(550, None))
        } else if text.ends_with("timeout") {
            Some(Self::Timeout)
        } else {
            let digits = text.get(text.len().checked_sub(3)?..)?;
            let good = is_number(digits, 3..=3) && digits.starts_with(['4', '5']);
            digits.parse().ok().filter(|_| good).map(|code| Self::Code(code, None))
        }
    }

    /// What it asks for at a moment.
    pub(crate) fn at(moment: Moment, localpart: &Localpart) -> Option<Self> {
        let (text, simulation) = (localpart.as_str(), Self::of(localpart)?);
        let now = match moment {
            Moment::MailFrom => text.starts_with("mailfrom"),
            Moment::RcptTo => text.starts_with("rcptto"),
            // What is meant for the queue's delivery is left to it.
            Moment::Submission => !text.starts_with("queue"),
            Moment::Incoming => true,
        };
        let at_command = matches!(moment, Moment::MailFrom | Moment::RcptTo);
        let wanted = match simulation {
            // Also when something was said before: as mox in Go has it.
            Self::Code(..) | Self::Timeout => true,
            Self::Bounce(_) => false,
            Self::Drop | Self::Greylist(_) | Self::Delay(_) => at_command || !text.starts_with("mailfrom") && !text.starts_with("rcptto"),
        };
        Some(simulation).filter(|_| now && wanted)
    }

    /// The bounce that a recipient's form asks for, as the reply of a host that found out too late.
    pub(crate) fn bounce(localpart: &Localpart) -> Option<Reply> {
        let Some(Self::Bounce(enhanced)) = Self::of(localpart) else { return None };
        Some(Reply::new(550, enhanced.unwrap_or((5, 1, 1)), "bounce due to special localpart"))
    }
}

/// Whether a text is a number with so many digits.
fn is_number(text: &str, digits: std::ops::RangeInclusive<usize>) -> bool {
    digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// RFC 3463 §2: class, subject, detail; of failures.
fn enhanced(text: &str) -> Option<Enhanced> {
    let mut parts = text.split('.');
    let mut part = || parts.next().filter(|part| is_number(part, 1..=3))?.parse::<u16>().ok();
    let (class, subject, detail) = (part()?, part()?, part()?);
    let class = u8::try_from(class).ok().filter(|class| matches!(class, 4 | 5))?;
    parts.next().is_none().then_some((class, subject, detail))
}

impl Connection {
    /// In localserve, the reply that an address of a special form asks for at this moment; none if it may go on.
    pub(crate) async fn simulated(&mut self, moment: Moment, from: Option<&Path>, at: &Path) -> Option<Reply> {
        if !self.service.settings.localserve {
            return None;
        }
        match Simulation::at(moment, &at.localpart)? {
            Simulation::Code(code, enhanced) => {
                let class = if code < 500 { 4 } else { 5 };
                Some(Reply::new(code, enhanced.unwrap_or((class, 0, 0)), format!("failure with code {code} due to special localpart")))
            }
            Simulation::Timeout => {
                pause(TIMEOUT, &self.service.stop).await;
                let subject = if moment == Moment::Incoming { 0 } else { 3 };
                Some(Reply::new(451, (4, subject, 0), "timeout due to special localpart"))
            }
            Simulation::Drop => {
                self.dropped = true;
                Some(Reply::new(421, (4, 3, 2), "connection dropped due to special localpart"))
            }
            Simulation::Greylist(times) => {
                let attempt = self.service.attempts.count(moment, from, at);
                let text = || format!("greylisted due to special localpart, attempt {attempt} of {times} that fail");
                (attempt <= times).then(|| Reply::new(451, (4, 7, 1), text()))
            }
            Simulation::Delay(duration) => {
                pause(duration, &self.service.stop).await;
                None
            }
            Simulation::Bounce(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn localpart(text: &str) -> Localpart {
        Localpart::from_decoded(text).unwrap()
    }

    #[test]
    fn forms() {
        let code = |code| Some(Simulation::Code(code, None));
        for (text, want) in [
            ("temperror", code(451)),
            ("bobpermerror", code(550)),
            ("queuetimeout", Some(Simulation::Timeout)),
            ("bob2450", code(450)),
            ("x599", code(599)),
            ("x600", None),
            ("mjl2024", None),
            ("TempError", None),
            ("temperroR", None),
            ("rcptto", None),
            ("55", None),
            ("\u{e9}50", None),
            ("permerror-5.7.1", Some(Simulation::Code(550, Some((5, 7, 1))))),
            ("queue452-4.2.2", Some(Simulation::Code(452, Some((4, 2, 2))))),
            ("permerror-4.7.1", None),
            ("permerror-5.7", None),
            ("permerror-5.7.1.1", None),
            ("timeout-4.4.2", None),
            ("bob-5.7.1", None),
            ("drop", Some(Simulation::Drop)),
            ("rcptto-drop", Some(Simulation::Drop)),
            ("raindrop", None),
            ("x-greylist", Some(Simulation::Greylist(1))),
            ("x-greylist12", Some(Simulation::Greylist(12))),
            ("x-greylist450", code(450)),
            ("x-delay5", Some(Simulation::Delay(Duration::from_secs(5)))),
            ("x-delay", None),
            ("x-bounce", Some(Simulation::Bounce(None))),
            ("x-bounce-5.2.2", Some(Simulation::Bounce(Some((5, 2, 2))))),
            ("x-bounce-4.2.2", None),
        ] {
            assert_eq!(Simulation::of(&localpart(text)), want, "{text}");
        }
    }

    #[test]
    fn moments() {
        let at = |moment, text: &str| Simulation::at(moment, &localpart(text)).is_some();
        for (text, moments) in [
            ("rcptto551", [false, true, true, true]),
            ("551", [false, false, true, true]),
            ("queue451", [false, false, false, true]),
            ("mailfrom-drop", [true, false, false, false]),
            ("rcptto-greylist", [false, true, false, false]),
            ("x-greylist", [false, false, true, true]),
            ("queue-delay3", [false, false, false, true]),
            ("x-bounce", [false; 4]),
        ] {
            let all = [Moment::MailFrom, Moment::RcptTo, Moment::Submission, Moment::Incoming];
            assert_eq!(all.map(|moment| at(moment, text)), moments, "{text}");
        }
    }

    #[test]
    fn attempts_are_counted_by_sender_address_and_moment() {
        let attempts = Attempts::default();
        let path = |text: &str| Path::from(text.parse::<mox_base::Address>().unwrap());
        let (ann, bob) = (path("ann@a.example"), path("bob@b.example"));
        assert_eq!([1, 2, 3].map(|_| attempts.count(Moment::RcptTo, Some(&ann), &bob)), [1, 2, 3]);
        assert_eq!(attempts.count(Moment::Incoming, Some(&ann), &bob), 1);
        assert_eq!(attempts.count(Moment::RcptTo, None, &bob), 1);
    }
}
