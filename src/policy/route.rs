//! Routing: from a host and a path to what the config says about them.
//!
//! A port asks a [`HostTable`] who owns the host, then the listener asks a
//! [`PathTable`] which rule has the longest prefix of the path. Both compare
//! cleaned copies: [`HostName`] and [`normalize_path`]. The backend still gets
//! the bytes the client sent.

mod domain;
mod host;
mod path;
mod url;

pub use domain::{Domain, DomainError};
pub use host::{HostName, HostTable};
pub use path::{PathError, PathTable, normalize_path};
pub use url::{Url, UrlError};

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
