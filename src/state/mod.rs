//! What runs now: one [`Live`] cell holding the current [`Snapshot`], and what
//! of a backend outlives snapshots.

mod admin;
mod game;
mod gate;
mod group;
mod health;
mod identity;
mod load;
mod probed;
mod slot;
mod snapshot;
mod sticky;
mod upstream;

pub use admin::AdminOrder;
pub use game::{BuildError, Game, Listener, Rule};
pub use gate::{Takers, Trust};
pub use group::{Backend, Group};
pub use health::Met;
pub use identity::Identity;
pub use probed::{Change, ProbeResult, ProbeStatus};
pub use slot::Slot;
pub use snapshot::{Live, Port, Snapshot};
pub use sticky::{Mode as StickyMode, Sticky};
