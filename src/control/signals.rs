//! The signals lockgate answers to, handled in the loop like everything else.
//! USR1 is the access log's alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::access;
use crate::proxy::Order;
use crate::telemetry::access::AccessLog;

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
    user2: Signal,
}

impl Signals {
    pub(super) fn new(log: &Arc<AccessLog>) -> io::Result<Signals> {
        access::reopen_on_signal(Arc::clone(log))?;
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal that asks for something.
    pub(super) async fn next(&mut self, deadline: Duration) -> Asked {
        tokio::select! {
                _ = self.terminate.recv() => Asked::End(Order::Drain { within: Some(deadline) }),
                _ = self.interrupt.recv() => Asked::End(Order::Drain { within: Some(deadline) }),
                _ = self.quit.recv() => Asked::End(Order::Drain { within: None }),
                _ = self.hangup.recv() => Asked::Reload,
                _ = self.user2.recv() => Asked::Upgrade,
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
