//! What a sticky group computes once: its keys, and the text around an inserted
//! cookie's value.

use std::sync::atomic::{AtomicU64, Ordering};

use cookie::Cookie;

use crate::config::{CookieAttributes, Group, Protocol, SameSite, StickyMode};
use crate::policy::sticky::{GroupKeys, KeyRing, Life};

/// Stickiness of a group as requests see it.
#[derive(Debug)]
pub struct Sticky {
    /// Tells it from every other sticky group of this process's life, from 1.
    pub id: u64,
    /// The cookie's name.
    pub name: String,
    /// Its backends' places are those of the group.
    pub keys: GroupKeys,
    /// Whose cookie it is.
    pub mode: Mode,
}

/// See [`StickyMode`].
#[derive(Debug)]
pub enum Mode {
    /// Our own cookie.
    Insert {
        /// How long it binds.
        life: Life,
        /// What stands behind its value on a plain listener: `; Path=/`.
        plain: String,
        /// The same on an `https` listener.
        secure: String,
    },
    /// The application's cookie.
    Rewrite,
}

impl Sticky {
    /// Of a group that is sticky.
    pub(super) fn new(game: &str, group: &Group, secrets: &KeyRing) -> Option<Sticky> {
        let sticky = group.sticky.as_ref()?;
        let names: Vec<&str> = group.backends.iter().map(|backend| &*backend.name).collect();
        let mode = match &sticky.mode {
            StickyMode::Rewrite => Mode::Rewrite,
            StickyMode::Insert { life, attributes } => Mode::Insert {
                life: *life,
                plain: text(attributes, Protocol::Http),
                secure: text(attributes, Protocol::Https),
            },
        };
        let keys = GroupKeys::derive(secrets, game, &group.name, &names);
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Some(Sticky { id, name: sticky.cookie.clone(), keys, mode })
    }
}

/// The attributes as `Set-Cookie` has them, each with its `; `.
fn text(attributes: &CookieAttributes, protocol: Protocol) -> String {
    let tls = protocol == Protocol::Https;
    let secure = attributes.secure.unwrap_or(tls);
    // Browsers refuse `SameSite=None` and `Partitioned` without `Secure`.
    let same_site = attributes.same_site.or(tls.then_some(SameSite::None));
    let same_site = match same_site {
        Some(SameSite::Strict) => Some(cookie::SameSite::Strict),
        Some(SameSite::Lax) => Some(cookie::SameSite::Lax),
        Some(SameSite::None) => secure.then_some(cookie::SameSite::None),
        None => None,
    };
    let mut model = Cookie::new("n", "v");
    model.set_path(attributes.path.clone());
    model.set_http_only(attributes.http_only);
    model.set_secure(secure);
    model.set_same_site(same_site);
    model.set_partitioned(attributes.partitioned && secure);
    if let Some(domain) = &attributes.domain {
        model.set_domain(domain.clone());
    }
    model.to_string().trim_start_matches("n=v").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default() -> CookieAttributes {
        CookieAttributes {
            domain: None,
            path: "/".to_owned(),
            secure: None,
            http_only: true,
            same_site: None,
            partitioned: false,
        }
    }

    #[test]
    fn ci_03_the_attributes_by_default() {
        assert_eq!(text(&default(), Protocol::Http), "; HttpOnly; Path=/");
        let secure = "; HttpOnly; SameSite=None; Secure; Path=/";
        assert_eq!(text(&default(), Protocol::Https), secure);
    }

    #[test]
    fn what_needs_secure_is_left_out_without_it() {
        let wanted = CookieAttributes {
            domain: Some("a.test".to_owned()),
            path: "/game".to_owned(),
            http_only: false,
            same_site: Some(SameSite::None),
            partitioned: true,
            ..default()
        };
        assert_eq!(text(&wanted, Protocol::Http), "; Path=/game; Domain=a.test");
        let secure = "; SameSite=None; Partitioned; Secure; Path=/game; Domain=a.test";
        assert_eq!(text(&wanted, Protocol::Https), secure);
        let insecure = CookieAttributes { secure: Some(false), ..wanted };
        assert_eq!(text(&insecure, Protocol::Https), "; Path=/game; Domain=a.test");
    }

    #[test]
    fn same_site_is_what_was_asked_for() {
        let strict = CookieAttributes { same_site: Some(SameSite::Strict), ..default() };
        assert_eq!(text(&strict, Protocol::Http), "; HttpOnly; SameSite=Strict; Path=/");
        let lax =
            CookieAttributes { same_site: Some(SameSite::Lax), secure: Some(true), ..default() };
        assert_eq!(text(&lax, Protocol::Http), "; HttpOnly; SameSite=Lax; Secure; Path=/");
    }
}
