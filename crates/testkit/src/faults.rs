//! Faults by number: fail step *n*, check, and go on until nothing fails.
//!
//! ```
//! use mox_testkit::Faults;
//! for n in 0.. {
//!     let faults = Faults::at(n);
//!     let outcome = faults.step("write").and_then(|()| faults.step("fsync"));
//!     assert_eq!(outcome.is_err(), faults.fired());
//!     if !faults.fired() {
//!         assert_eq!(n, 2);
//!         break;
//!     }
//! }
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A plan that makes one numbered step fail. Clones share the count.
#[derive(Clone, Debug)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    count: AtomicU64,
    at: Option<u64>,
    /// Whether every step from `at` on fails, as on a full disk.
    onwards: bool,
    fired: AtomicBool,
}

impl Faults {
    /// Nothing fails; steps are counted.
    #[must_use]
    pub fn never() -> Self {
        Self::plan(None, false)
    }

    /// Only step `n` fails, counted from 0.
    #[must_use]
    pub fn at(n: u64) -> Self {
        Self::plan(Some(n), false)
    }

    /// Step `n` and all after it fail.
    #[must_use]
    pub fn from(n: u64) -> Self {
        Self::plan(Some(n), true)
    }

    fn plan(at: Option<u64>, onwards: bool) -> Self {
        Self { shared: Arc::new(Shared { count: AtomicU64::new(0), at, onwards, fired: AtomicBool::new(false) }) }
    }

    /// To be called where something may fail.
    ///
    /// # Errors
    /// When the plan says so, with the step's name and number.
    pub fn step(&self, what: &str) -> io::Result<()> {
        let n = self.shared.count.fetch_add(1, Ordering::SeqCst);
        let fails = self.shared.at.is_some_and(|at| n == at || (self.shared.onwards && n > at));
        if !fails {
            return Ok(());
        }
        self.shared.fired.store(true, Ordering::SeqCst);
        Err(io::Error::other(format!("planned fault at step {n}: {what}")))
    }

    /// Whether a step has failed.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.shared.fired.load(Ordering::SeqCst)
    }

    /// How many steps there were.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.shared.count.load(Ordering::SeqCst)
    }
}
