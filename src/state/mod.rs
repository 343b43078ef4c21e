//! What runs now: one [`Live`] cell holding the current [`Snapshot`], and what
//! of a backend outlives snapshots.

mod group;
mod health;
mod identity;
mod probed;
mod snapshot;
mod sticky;
mod upstream;

pub use group::{Backend, Group};
pub use identity::Identity;
pub use probed::{Change, ProbeResult, ProbeStatus};
pub use snapshot::{BuildError, Listener, Live, Port, Rule, Snapshot};
pub use sticky::{Mode as StickyMode, Sticky};
