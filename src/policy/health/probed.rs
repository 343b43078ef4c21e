//! Verdicts of probes.

/// Probes in a row that change a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Good ones, to go up.
    pub healthy: u32,
    /// Bad ones, to go down.
    pub unhealthy: u32,
}

/// What probes found of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    verdict: Verdict,
    /// Good probes in a row, as `check_status` shows them.
    good: u32,
    /// Bad ones.
    bad: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// None yet. Whether it takes requests until then was said when it began.
    Awaited {
        serves: bool,
    },
    Up,
    Down,
}

/// A verdict that became another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It takes requests from now on.
    Up,
    /// It takes none.
    Down,
}

impl Probed {
    /// Of a backend that was there when the process began: it serves until its
    /// first verdict, for a start must not be an outage (SEMANTICS AH-21).
    #[must_use]
    pub fn at_start() -> Probed {
        Probed { verdict: Verdict::Awaited { serves: true }, good: 0, bad: 0 }
    }

    /// Of a backend that a reload added: others serve until it has shown that it
    /// can.
    #[must_use]
    pub fn added() -> Probed {
        Probed { verdict: Verdict::Awaited { serves: false }, good: 0, bad: 0 }
    }

    /// It takes no requests.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.verdict, Verdict::Down | Verdict::Awaited { serves: false })
    }

    /// It takes none only because nothing is known of it yet.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        matches!(self.verdict, Verdict::Awaited { serves: false })
    }

    /// Up or down; `None` before the first verdict.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        match self.verdict {
            Verdict::Awaited { .. } => None,
            Verdict::Up => Some(true),
            Verdict::Down => Some(false),
        }
    }

    /// Good probes in a row; 0 after a bad one.
    #[must_use]
    pub fn good(&self) -> u32 {
        self.good
    }

    /// Bad probes in a row; 0 after a good one.
    #[must_use]
    pub fn bad(&self) -> u32 {
        self.bad
    }

    /// Another probe ended. Only probes in a row count (SEMANTICS AH-11).
    pub fn observe(&mut self, good: bool, thresholds: Thresholds) -> Option<Transition> {
        if good {
            self.good = self.good.saturating_add(1);
            self.bad = 0;
            if self.good >= thresholds.healthy && self.verdict != Verdict::Up {
                let was_down = self.is_down();
                self.verdict = Verdict::Up;
                return was_down.then_some(Transition::Up);
            }
        } else {
            self.bad = self.bad.saturating_add(1);
            self.good = 0;
            if self.bad >= thresholds.unhealthy && self.verdict != Verdict::Down {
                self.verdict = Verdict::Down;
                return Some(Transition::Down);
            }
        }
        None
    }
}
