//! Decisions: which rule, which backend, which address, which field.
//!
//! Everything here is pure. No I/O, no clock, no dice, no log: time and chance
//! are arguments, and the answer depends on nothing else. So each decision is
//! tested beside its code, by example and by property, and `explain` can ask
//! the very functions that serve requests.
//!
//! | module | decides |
//! |---|---|
//! | [`retry`] | whether a failed attempt is followed by another |
//! | [`route`] | who owns a host, and which rule takes a path |
//! | [`balance`] | which backend of a group an attempt goes to |
//! | [`access`] | who the client is, and whether it may come in |
//! | [`health`] | whether a backend is believed to be able to serve |
//! | [`sticky`] | which backend a cookie binds a client to |
//! | [`headers`] | which fields a config may edit, how forwarding fields are written |

pub mod access;
pub mod balance;
pub mod headers;
pub mod health;
pub mod retry;
pub mod route;
pub mod sticky;
