//! The control plane: starts the workers, answers the operator, ends it all.

mod admin;
pub mod demo;
mod lock;
pub mod server;
mod sockets;
