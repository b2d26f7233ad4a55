//! Localserve's simulated failures: addresses of special forms fail as they say, so that senders can be tested.
//!
//! The end of a localpart says how, its beginning when. In real servers nothing here is reached.

use mox_base::Localpart;
use mox_smtp::Reply;
use std::time::Duration;

/// How an address fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// With this code.
    Code(u16),
    /// With silence for an hour.
    Timeout,
}

/// How long [`Failure::Timeout`] is silent.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3600);

impl Failure {
    /// How a localpart fails, by its end; case-sensitive.
    pub(crate) fn of(localpart: &Localpart) -> Option<Self> {
        let text = localpart.as_str();
        if text.ends_with("temperror") {
            Some(Self::Code(451))
        } else if text.ends_with("permerror") {
            Some(Self::Code(550))
        } else if text.ends_with("timeout") {
            Some(Self::Timeout)
        } else {
            let digits = text.get(text.len().checked_sub(3)?..)?;
            let good = digits.bytes().all(|b| b.is_ascii_digit()) && digits.starts_with(['4', '5']);
            digits.parse().ok().filter(|_| good).map(Self::Code)
        }
    }

    /// How it fails at a command, if that is when: `mailfrom` or `rcptto`.
    pub(crate) fn at(prefix: &str, localpart: &Localpart) -> Option<Self> {
        localpart.as_str().starts_with(prefix).then(|| Self::of(localpart)).flatten()
    }

    /// How it fails after DATA on submission: not when meant for the delivery from the queue.
    pub(crate) fn at_submission(localpart: &Localpart) -> Option<Self> {
        Self::of(localpart).filter(|_| !localpart.as_str().starts_with("queue"))
    }

    /// The reply; for a timeout, the one after it.
    pub(crate) fn reply(self, after_timeout: &Reply) -> Reply {
        match self {
            Self::Code(code) => {
                let class = if code < 500 { 4 } else { 5 };
                Reply::new(code, (class, 0, 0), format!("failure with code {code} due to special localpart"))
            }
            Self::Timeout => after_timeout.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, want) in [
            ("temperror", Some(Failure::Code(451))),
            ("bobpermerror", Some(Failure::Code(550))),
            ("queuetimeout", Some(Failure::Timeout)),
            ("bob2450", Some(Failure::Code(450))),
            ("x599", Some(Failure::Code(599))),
            ("x600", None),
            ("mjl2024", None),
            ("TempError", None),
            ("temperroR", None),
            ("rcptto", None),
            ("55", None),
            ("\u{e9}50", None),
        ] {
            let localpart = Localpart::from_decoded(text).unwrap();
            assert_eq!(Failure::of(&localpart), want, "{text}");
        }
    }

    #[test]
    fn moments() {
        let l = |text: &str| Localpart::from_decoded(text).unwrap();
        assert_eq!(Failure::at("rcptto", &l("rcptto551")), Some(Failure::Code(551)));
        assert_eq!(Failure::at("rcptto", &l("551")), None);
        assert_eq!(Failure::at_submission(&l("queue451")), None);
        assert_eq!(Failure::at_submission(&l("x451")), Some(Failure::Code(451)));
        let after = Reply::new(451, (4, 3, 0), "later");
        assert_eq!(Failure::Code(550).reply(&after).to_string(), "550 5.0.0 failure with code 550 due to special localpart");
        assert_eq!(Failure::Timeout.reply(&after), after);
    }
}
