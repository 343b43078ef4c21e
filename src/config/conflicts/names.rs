//! Each domain, and `default`, has one owner on a port; `[owners]` of
//! `lockgate.toml` may say who.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::entry::Entry;
use super::{Owner, Port, Taken};
use crate::config::diagnostic::Place;
use crate::config::drop_in::DropIn;
use crate::config::expect::Expected;
use crate::config::listener::Claims;
use crate::config::notes::Notes;
use crate::config::owners::Word;
use crate::policy::route::Domain;

impl Taken {
    pub(super) fn check_names(&mut self, notes: &Notes, port: u16, claims: &Claims) {
        if let Some(span) = &claims.default {
            self.check_word(notes, port, None, span);
            if let Some(by) = self.ports.get(&port).and_then(|port| port.default.as_ref()) {
                self.note(
                    notes,
                    span,
                    by,
                    |by| format!("port {port} already has a default listener: {by}"),
                    "remove `default = true` from one of them",
                );
            }
            let owner = self.owner(notes, span);
            self.claim(Entry::Default(port, owner));
        }
        for (domain, span) in &claims.domains {
            self.check_domain(notes, port, domain, span);
        }
    }

    fn check_domain(&mut self, notes: &Notes, port: u16, domain: &Domain, span: &Range<usize>) {
        let granted = self.check_word(notes, port, Some(domain), span);
        let owner = self.owner(notes, span);
        let (Domain::Exact(name) | Domain::Wildcard(name)) = domain;
        let name: Arc<str> = reversed(name).into();
        let is_wildcard = matches!(domain, Domain::Wildcard(_));
        if let Some(entry) = self.ports.get(&port) {
            let same = if is_wildcard { &entry.wildcards } else { &entry.exact };
            if let Some(by) = same.get(&name) {
                self.note(
                    notes,
                    span,
                    by,
                    |by| format!("`{domain}` on port {port} already belongs to {by}"),
                    "remove it from one of them, or take another port",
                );
            }
            if let Some((wildcard, by)) = self.above(entry, &name).filter(|_| !granted) {
                let wildcard = reversed(wildcard);
                self.note(
                    notes,
                    span,
                    by,
                    |by| format!("`{domain}` on port {port} lies within `*.{wildcard}` of {by}"),
                    format!(
                        "ask the owner of `*.{wildcard}` to add it to that file, or let \
                         `[owners]` in `lockgate.toml` name it for this one"
                    ),
                );
            }
            if is_wildcard && let Some((below, by)) = self.below(port, entry, &name) {
                let below = reversed(below);
                self.note(
                    notes,
                    span,
                    by,
                    |by| format!("`{domain}` on port {port} would enclose `{below}` of {by}"),
                    "name the domains one by one, or take another port",
                );
            }
        }
        let entry = if is_wildcard { Entry::Wildcard } else { Entry::Exact };
        self.claim(entry(port, name, owner));
    }

    /// An expectation is about the listeners of its own file.
    pub(super) fn check_expected(&self, drop_in: &DropIn) {
        const HINT: &str = "an expectation is about the listeners of its own file";
        let notes = &drop_in.notes;
        for Expected { url, span, is_own } in &drop_in.expected {
            let host = url.host.as_str();
            let by = self.owner_of(url.port, host).filter(|by| by.file != self.current);
            match by {
                Some(by) => {
                    let message = |by: &str| {
                        format!("`{host}` on port {} is answered by the listener of {by}", url.port)
                    };
                    self.note(notes, span, by, message, HINT);
                }
                None if *is_own => {}
                None => {
                    let message =
                        format!("no listener of this file answers `{host}` on port {}", url.port);
                    notes.error(span, message, HINT);
                }
            }
        }
    }

    /// Who answers for a host: the exact name, the longest wildcard, the default.
    fn owner_of(&self, port: u16, host: &str) -> Option<&Owner> {
        let entry = self.ports.get(&port)?;
        let name = reversed(host);
        let ends = memchr::memrchr_iter(b'.', name.trim_end_matches('.').as_bytes());
        let mut wildcards = ends.filter_map(|end| entry.wildcards.get(name.get(..=end)?));
        entry.exact.get(&*name).or_else(|| wildcards.next()).or(entry.default.as_ref())
    }

    /// Asks `[owners]`. Says whether the claim is granted to this file by name.
    fn check_word(
        &self,
        notes: &Notes,
        port: u16,
        domain: Option<&Domain>,
        span: &Range<usize>,
    ) -> bool {
        let tell = |place: &Place, why: &str, hint: &str| {
            let what = domain.map_or("`default`".to_owned(), |domain| format!("`{domain}`"));
            let by = format!("`[owners]` in `{}:{}`", place.file.display(), place.line);
            let message = format!("{what} on port {port} {why} {by}");
            notes.conflict(span, message, hint, place.clone());
        };
        match self.owners.word(file_name(&notes.source.file), domain, port) {
            Word::Granted => return true,
            Word::Nothing => {}
            Word::NotAmong(place) => {
                let hint = "take what is named there, or let the operator add it";
                tell(place, "is not among what this file may claim by", hint);
            }
            Word::Reserved(place) => {
                let hint = "take another, or let the operator name this file there";
                tell(place, "is kept for another file by", hint);
            }
        }
        false
    }

    /// The wildcard of another file that encloses a reversed name.
    fn above<'a>(&self, entry: &'a Port, name: &str) -> Option<(&'a str, &'a Owner)> {
        let ends = memchr::memrchr_iter(b'.', name.trim_end_matches('.').as_bytes());
        let parents = ends.filter_map(|end| entry.wildcards.get_key_value(name.get(..=end)?));
        self.foreign(parents)
    }

    /// The name of another file that a reversed wildcard encloses and that is
    /// not granted to that file.
    fn below<'a>(
        &self,
        port: u16,
        entry: &'a Port,
        parent: &Arc<str>,
    ) -> Option<(&'a str, &'a Owner)> {
        let within = |name: &str| name.starts_with(&**parent);
        let from = Arc::clone(parent)..;
        let exact = entry.exact.range(from.clone()).take_while(|(name, _)| within(name));
        let exact = exact.filter(|(name, by)| !self.is_granted(port, name, false, by));
        let wildcards = entry.wildcards.range(from).take_while(|(name, _)| within(name));
        let wildcards = wildcards.filter(|(name, by)| !self.is_granted(port, name, true, by));
        self.foreign(exact.chain(wildcards).filter(|(name, _)| name.len() > parent.len()))
    }

    fn is_granted(&self, port: u16, name: &str, is_wildcard: bool, by: &Owner) -> bool {
        if self.owners.is_empty() {
            return false;
        }
        let name = reversed(name).into();
        let domain = if is_wildcard { Domain::Wildcard(name) } else { Domain::Exact(name) };
        let file = self.files.get(&by.file).map(|file| file_name(file)).unwrap_or_default();
        self.owners.word(file, Some(&domain), port) == Word::Granted
    }

    /// Of several owners the first that is another file.
    fn foreign<'a>(
        &self,
        mut owners: impl Iterator<Item = (&'a Arc<str>, &'a Owner)>,
    ) -> Option<(&'a str, &'a Owner)> {
        let first = owners.find(|(_, owner)| owner.file != self.current);
        first.map(|(name, owner)| (&**name, owner))
    }
}

fn file_name(file: &Path) -> &str {
    file.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// `a.x.com` as `com.x.a.`, so that all below `x.com` start alike. It is its
/// own way back.
pub(super) fn reversed(name: &str) -> String {
    let labels = name.trim_end_matches('.').rsplit('.');
    let dot = if name.ends_with('.') { "" } else { "." };
    labels.collect::<Vec<_>>().join(".") + dot
}
