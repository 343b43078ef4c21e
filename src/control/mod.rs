//! The control plane: starts the workers, answers the operator, ends it all.

mod admin;
pub mod demo;
mod lock;
mod prober;
mod resolver;
pub mod secret;
pub mod server;
mod sockets;
mod status;
