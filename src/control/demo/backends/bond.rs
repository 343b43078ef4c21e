//! How clients stay with a demo backend. Where the application's cookie binds,
//! the backend is that application and sets it.

use std::hash::{BuildHasher, RandomState};

use crate::http1::Field;
use crate::policy::sticky::cookies::values;

/// What brings a client back to its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bond {
    /// A cookie of lockgate's own, which no backend sees.
    Inserted {
        /// Its name.
        cookie: String,
    },
    /// The application's.
    Application {
        /// Its name.
        cookie: String,
        /// Where it holds.
        path: String,
    },
}

impl Bond {
    /// The field line that begins a session, when the request brought none.
    pub(super) fn begin(&self, head: &[u8], request: &[Field]) -> String {
        let Self::Application { cookie, path } = self else { return String::new() };
        if has_cookie(head, request, cookie) {
            return String::new();
        }
        let mut protos = all(head, request, "x-forwarded-proto");
        // A browser keeps it in a frame of another site only like this, and
        // over plain HTTP it would not keep it at all.
        let secure = match protos.next() {
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => "; Secure; SameSite=None",
            _ => "",
        };
        let value = session();
        format!("Set-Cookie: {cookie}={value}; Path={path}; HttpOnly{secure}\r\n")
    }
}

/// Whether the request has a cookie of that name.
pub(super) fn has_cookie(head: &[u8], fields: &[Field], name: &str) -> bool {
    all(head, fields, "cookie").any(|field| values(field, name.as_bytes()).next().is_some())
}

fn all<'a>(head: &'a [u8], fields: &'a [Field], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let has_name = move |field: &&Field| field.name.of(head).eq_ignore_ascii_case(name.as_bytes());
    fields.iter().filter(has_name).map(|field| field.value.of(head))
}

/// Tells sessions apart. Nobody is logged in here: nothing is won by a guess.
fn session() -> String {
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests;
