//! `[owners]` of `lockgate.toml`: which file may claim which domain on which
//! port.

use super::diagnostic::{Place, shown};
use super::table::Item;
use crate::policy::route::Domain;

/// All lines. A file that some line matches may claim only what its lines
/// name; others may claim what is free and what no line names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owners(Vec<Line>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// A file name in which `*` stands for any characters.
    files: String,
    claims: Vec<Pattern>,
    place: Place,
}

/// `DOMAIN:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// `None`: every domain, and `default = true`. `*.x.com` also means `x.com`.
    domain: Option<Domain>,
    /// `None`: every port.
    port: Option<u16>,
}

/// What `[owners]` says of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// Nothing: who comes first has it.
    Nothing,
    /// A line grants it to this file.
    Granted,
    /// This file's line (the first) grants others, and not this one.
    NotAmong(&'a Place),
    /// A line keeps it for other files.
    Reserved(&'a Place),
}

impl Owners {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this file may have a domain (`None`: `default`) on a port.
    pub(super) fn word(&self, file: &str, domain: Option<&Domain>, port: u16) -> Word<'_> {
        let grants = |line: &&Line| line.claims.iter().any(|pattern| pattern.takes(domain, port));
        let mut own = self.0.iter().filter(|line| matches(&line.files, file)).peekable();
        if let Some(first) = own.peek() {
            let not_among = Word::NotAmong(&first.place);
            return own.find(grants).map_or(not_among, |_| Word::Granted);
        }
        self.0.iter().find(grants).map_or(Word::Nothing, |line| Word::Reserved(&line.place))
    }
}

impl Pattern {
    fn takes(&self, claimed: Option<&Domain>, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match (&self.domain, claimed) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(Domain::Exact(name)), Some(claimed)) => {
                matches!(claimed, Domain::Exact(other) if other == name)
            }
            (Some(within @ Domain::Wildcard(parent)), Some(claimed)) => {
                let (Domain::Exact(name) | Domain::Wildcard(name)) = claimed;
                name == parent || within.covers(name)
            }
        }
    }
}

/// Whether the name fits the pattern, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else {
            return false;
        };
        name = name.get(at + part.len()..).unwrap_or_default();
    }
    name.ends_with(end)
}

const HINT: &str = "write such as `\"youxia*.toml\" = [\"*.youxia.com:8030\", \"youxia.com:*\"]`";

/// Reads the table.
pub(super) fn read(item: &Item<'_>) -> Owners {
    let entries = item.entries(HINT).unwrap_or_default();
    Owners(entries.iter().map(line).collect())
}

fn line(entry: &Item<'_>) -> Line {
    let files = entry.name;
    if files.contains('/') {
        let message = format!("{} is not the name of a drop-in", shown(files));
        entry.misplaced(message, "write the file name alone, without its folder");
    } else if !files.ends_with(".toml") && !files.ends_with('*') {
        let message = format!("{} fits no drop-in", shown(files));
        let hint = format!("write `\"{files}.toml\"`; `*` stands for any characters");
        entry.misplaced(message, hint);
    }
    let claims = entry.list().unwrap_or_default();
    Line {
        files: files.to_owned(),
        claims: claims.iter().filter_map(pattern).collect(),
        place: entry.notes.source.place(&entry.key),
    }
}

fn pattern(item: &Item<'_>) -> Option<Pattern> {
    let text = item.string()?;
    // The colons of `[::1]` stand before no port.
    let parts = text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    let Some((domain, port)) = parts else {
        let message = format!("{} has no port", shown(text));
        item.error(message, format!("write `\"{text}:8030\"`, or `\"{text}:*\"` for every port"));
        return None;
    };
    let port = match port {
        "*" => Some(None),
        port => port.parse().ok().filter(|port| *port > 0).map(Some),
    };
    let Some(port) = port else {
        let message = format!("{} does not end in a port", shown(text));
        item.error(
            message,
            "write a number from 1 to 65535 after the colon, or `*` for every port",
        );
        return None;
    };
    if domain == "*" {
        return Some(Pattern { domain: None, port });
    }
    match Domain::parse(domain) {
        Ok(domain) => Some(Pattern { domain: Some(domain), port }),
        Err(error) => {
            item.error(format!("domain {}: {error}", shown(domain)), HINT);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name, fits) in [
            ("a.toml", "a.toml", true),
            ("a.toml", "ba.toml", false),
            ("a*.toml", "a.toml", true),
            ("a*.toml", "a-eu.toml", true),
            ("a*.toml", "b.toml", false),
            ("*", "x.toml", true),
            ("*a*b*.toml", "xaxb.toml", true),
            ("*a*b*.toml", "xbxa.toml", false),
            ("a*a.toml", "a.toml", false),
            ("游*.toml", "游侠.toml", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_line_grants_to_its_files_and_keeps_from_others() {
        let place = Place { file: PathBuf::from("lockgate.toml"), line: 2 };
        let pattern = |domain: &str, port| Pattern {
            domain: (domain != "*").then(|| Domain::parse(domain).unwrap()),
            port,
        };
        let line =
            |files: &str, claims| Line { files: files.to_owned(), claims, place: place.clone() };
        let owners = Owners(vec![
            line("a*.toml", vec![pattern("*.a.com", Some(80)), pattern("one.com", None)]),
            line("ab.toml", vec![pattern("*", Some(81))]),
        ]);
        let word = |file, domain: &str, port| {
            let domain = (domain != "default").then(|| Domain::parse(domain).unwrap());
            owners.word(file, domain.as_ref(), port)
        };
        let (not_among, reserved) = (Word::NotAmong(&place), Word::Reserved(&place));
        for domain in ["a.com", "*.a.com", "x.a.com", "*.y.x.a.com", "one.com"] {
            assert_eq!(word("a.toml", domain, 80), Word::Granted, "{domain}");
            assert_eq!(word("b.toml", domain, 80), reserved, "{domain}");
        }
        for domain in ["b.com", "xa.com", "*.com", "x.one.com", "*.one.com", "default"] {
            assert_eq!(word("a.toml", domain, 80), not_among, "{domain}");
            assert_eq!(word("b.toml", domain, 80), Word::Nothing, "{domain}");
        }
        assert_eq!(word("a.toml", "x.a.com", 82), not_among);
        assert_eq!(word("a.toml", "one.com", 82), Word::Granted);
        assert_eq!(word("ab.toml", "default", 81), Word::Granted);
        assert_eq!(word("ab.toml", "a.com", 80), Word::Granted);
        assert_eq!(word("c.toml", "default", 81), reserved);
    }
}
