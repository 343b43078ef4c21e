//! The signals lockgate answers to, handled in the loop like everything else.
//! USR1 is the access log's alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
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

/// Heard before anything else runs: until a handler is there, each of these ends
/// the process, and a rotation of logs does not ask who is just starting. What
/// came is kept for those who listen later.
#[derive(Debug)]
pub struct Early {
    user1: Signal,
    user2: Signal,
    /// Not of commands that wait at a terminal, which ends them with it.
    hangup: Option<Signal>,
}

impl Early {
    /// Hears USR1 and USR2 from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn hear() -> io::Result<Early> {
        let (user1, user2) = registered(|| {
            Ok((signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?))
        })?;
        Ok(Early { user1, user2, hangup: None })
    }

    /// Hears HUP too.
    ///
    /// # Errors
    /// The system's.
    pub fn hear_hangup(&mut self) -> io::Result<()> {
        self.hangup = Some(registered(|| signal(SignalKind::hangup()))?);
        Ok(())
    }
}

/// A signal is registered in an event loop, and heard in whichever runs later.
fn registered<T>(register: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    register()
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
    pub(super) fn new(early: Early, log: &Arc<AccessLog>) -> io::Result<Signals> {
        let Early { user1, user2, hangup } = early;
        access::reopen_on_signal(user1, Arc::clone(log));
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: match hangup {
                Some(hangup) => hangup,
                None => signal(SignalKind::hangup())?,
            },
            user2,
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
