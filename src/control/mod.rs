//! The control plane: starts the workers, answers the operator, ends it all.

mod activation;
mod admin;
mod changes;
pub mod client;
mod commands;
mod counted;
mod crew;
pub mod demo;
mod expiry;
pub mod explain;
pub mod handover;
mod keeper;
pub mod last_good;
mod lock;
mod notify;
mod prober;
pub mod reload;
mod resolver;
pub mod secret;
pub mod server;
mod signals;
mod sockets;
pub mod status;
mod trouble;
mod upgrade;
pub mod why;
