//! Clients that are not ours, each against the real binary: curl, h2load, httpx,
//! websockets, grpcio, Node, Chromium and promtool. What they send and understand
//! is theirs; what they got and what the backend saw is checked here. Those that
//! stay (`sticky`) go on while lockgate starts anew under them.
//!
//! They must be installed, so these tests are ignored by default; `.ci/run`
//! installs them and runs these tests too. The scripts are in `tests/clients`.

mod browser;
mod curl;
mod grpc;
mod h2load;
mod node;
mod page;
mod promtool;
mod python;
mod sticky;
mod tools;
mod world;
