//! The signals lockgate answers to, handled in the loop like everything else.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::proxy::Order;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// HUP.
    Reload,
    /// USR2.
    Upgrade,
    /// TERM and INT finish what is in flight within the deadline, QUIT without
    /// one.
    End(Order),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal that asks for something.
    pub(super) async fn next(&mut self, deadline: Duration) -> Asked {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Asked::End(Order::Drain { within: Some(deadline) }),
                _ = self.interrupt.recv() => return Asked::End(Order::Drain { within: Some(deadline) }),
                _ = self.quit.recv() => return Asked::End(Order::Drain { within: None }),
                _ = self.hangup.recv() => return Asked::Reload,
                _ = self.user2.recv() => return Asked::Upgrade,
                // Without an answer to it the process would end, and every game
                // with it.
                _ = self.user1.recv() => reopen_logs(),
            }
        }
    }

    /// A second TERM or INT does not wait any longer.
    pub(super) async fn second(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// USR1: whoever rotates log files moves them away first, then asks for new ones.
fn reopen_logs() {
    info!(signal = "USR1", "no log file is open: the log goes to standard error");
}
