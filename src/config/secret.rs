//! The secret that signs sticky cookies: `secret` and `secret_file` of
//! `lockgate.toml`, and the format of such a file. A secret never stands in
//! what is said of it: neither in a message nor in the line a message shows.
//!
//! ```text
//! # one key a line; the first one signs
//! 5c1f0e…  from 2026-05-01T12:00:00Z
//! 93ab77…  retired 2026-05-01T12:00:00Z
//! ```
//! A key signs from its time on, until a later one does (of several without a
//! time the first); a retired one verifies what it signed for 30 days more.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::de::DeValue;

use super::diagnostic::Place;
use super::keys;
use super::read::{ReadError, read_file};
use super::table::{Item, Table};
use crate::policy::sticky::{KeyRing, Seconds, Secret, VERIFIES_FOR};

/// Characters of the shortest secret.
const SHORTEST: usize = 16;
/// More are a mistake, and each costs every group a few derived keys.
const MOST: usize = 32;
/// Bytes of the largest file.
const LARGEST: u64 = 64 << 10;

const HOW: &str = "write what `openssl rand -hex 32` prints";

/// Where the secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// In `lockgate.toml` itself.
    Inline,
    /// In the file that `secret_file` names.
    File(PathBuf),
    /// Nothing is said: in the state directory.
    State,
}

/// What is wrong with a file of keys; never what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFault {
    /// 1-based; `None`: the file as a whole.
    pub line: Option<usize>,
    problem: String,
    hint: String,
}

impl SecretFault {
    fn new(line: Option<usize>, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        SecretFault { line, problem: problem.into(), hint: hint.into() }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for SecretFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl std::error::Error for SecretFault {}

/// One line with a key.
#[derive(Clone, Copy)]
struct Key<'a> {
    /// 1-based.
    line: usize,
    material: &'a str,
    from: Option<Seconds>,
    retired: Option<Seconds>,
}

/// The text of a file of keys. `None` when there is no such file.
///
/// # Errors
/// Why it cannot be read.
pub fn read_secret_file(file: &Path) -> Result<Option<String>, SecretFault> {
    let fault = |why: String| {
        let hint = "make it a plain text file that lockgate's user may read";
        Err(SecretFault::new(None, format!("it cannot be read: {why}"), hint))
    };
    match read_file(file, LARGEST) {
        Err(ReadError::Missing) => Ok(None),
        Err(ReadError::Other(why)) => fault(why),
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))),
            Err(_) => fault("it is not UTF-8".to_owned()),
        },
    }
}

/// Reads the keys of a file.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_secrets(text: &str) -> Result<KeyRing, SecretFault> {
    let secret = |key: &Key<'_>| Secret {
        material: key.material.as_bytes().to_vec(),
        signs_from: key.from.unwrap_or_default(),
        retired: key.retired,
    };
    Ok(KeyRing::new(keys_of(text)?.iter().map(secret).collect()))
}

fn keys_of(text: &str) -> Result<Vec<Key<'_>>, SecretFault> {
    let mut keys = Vec::new();
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for (line, words) in text.lines().enumerate() {
        if is_comment(words) {
            continue;
        }
        let line = line + 1;
        let key = key_of(line, words)?;
        if let Some(first) = lines.insert(key.material, line) {
            let problem = format!("this key stands on line {first} too");
            return Err(SecretFault::new(Some(line), problem, "remove one of them"));
        }
        keys.push(key);
    }
    if keys.len() > MOST {
        let problem = format!("there are {} keys in it", keys.len());
        return Err(SecretFault::new(None, problem, format!("leave at most {MOST}")));
    }
    if keys.is_empty() {
        return Err(SecretFault::new(None, "there is no key in it", HOW));
    }
    if keys.iter().all(|key| key.retired.is_some()) {
        let hint = "remove `retired` from the one that shall sign, or add a key";
        return Err(SecretFault::new(None, "every key in it is retired", hint));
    }
    Ok(keys)
}

fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn key_of(line: usize, text: &str) -> Result<Key<'_>, SecretFault> {
    let fault = |problem: &str, hint: &str| Err(SecretFault::new(Some(line), problem, hint));
    let mut words = text.split_whitespace();
    let material = words.next().unwrap_or_default();
    if let Err(problem) = check_material(material) {
        return fault(&problem, HOW);
    }
    let mut key = Key { line, material, from: None, retired: None };
    while let Some(word) = words.next() {
        let (name, time) = match word {
            "from" => ("from", &mut key.from),
            "retired" => ("retired", &mut key.retired),
            _ => {
                let hint = "a key has no blanks; after it `from TIME` and `retired TIME` may stand";
                return fault("there is something after the key", hint);
            }
        };
        if time.is_some() {
            return fault(&format!("`{name}` stands here twice"), "remove one");
        }
        *time = words.next().and_then(parse_time);
        if time.is_none() {
            let hint = "write a time such as `2026-05-01T12:00:00Z`";
            return fault(&format!("after `{name}` there is no time"), hint);
        }
    }
    if let (Some(from), Some(retired)) = (key.from, key.retired)
        && from > retired
    {
        return fault("this key is retired before it signs", "correct one of its times");
    }
    Ok(key)
}

fn check_material(material: &str) -> Result<(), String> {
    let length = material.chars().count();
    if length < SHORTEST {
        return Err(format!(
            "a key of {length} characters can be guessed: {SHORTEST} are the least"
        ));
    }
    if material.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("a key has no blanks and no control characters".to_owned());
    }
    Ok(())
}

fn parse_time(text: &str) -> Option<Seconds> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Seconds::try_from(time.unix_timestamp()).ok()
}

/// As it is written in the file, and said of it.
#[must_use]
pub fn show_time(time: Seconds) -> String {
    let time = OffsetDateTime::from_unix_timestamp(i64::from(time)).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// What becomes of a file of keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The new text.
    pub text: String,
    /// From when on the new key signs.
    pub signs_from: Seconds,
    /// How long the one before it verifies.
    pub verifies_until: Seconds,
    /// How many keys verified nothing any more and are gone.
    pub dropped: usize,
}

impl fmt::Debug for Rotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotated").field("signs_from", &self.signs_from).finish_non_exhaustive()
    }
}

/// Adds a key that signs from `now + after` on, and retires the one that signed
/// until then. Comments stay.
///
/// # Errors
/// What is wrong with the text, or that a key still waits for its time.
pub fn rotate_secrets(
    text: &str,
    new: &str,
    now: Seconds,
    after: Seconds,
) -> Result<Rotated, SecretFault> {
    let keys = keys_of(text)?;
    let signs_from = now.saturating_add(after);
    let waiting = keys.iter().find(|key| key.from.is_some_and(|from| from > now));
    if let Some(Key { line, from: Some(from), .. }) = waiting {
        let problem = format!("this key waits to sign from {} on", show_time(*from));
        let hint = "wait until then, or remove the line if no instance has it yet";
        return Err(SecretFault::new(Some(*line), problem, hint));
    }
    // Of the same time the first; `max_by_key` would take the last.
    let active = keys.iter().rev().filter(|key| key.retired.is_none());
    let signing = active.max_by_key(|key| key.from.unwrap_or_default());
    let is_over = |key: &&Key<'_>| {
        key.retired.is_some_and(|retired| retired.saturating_add(VERIFIES_FOR) < now)
    };
    let over: Vec<usize> = keys.iter().filter(is_over).map(|key| key.line).collect();
    let first = keys.first().map(|key| key.line);
    let mut lines = String::new();
    for (line, written) in text.lines().enumerate() {
        let line = line + 1;
        if first == Some(line) {
            lines.push_str(&format!("{new} from {}\n", show_time(signs_from)));
        }
        if over.contains(&line) {
            continue;
        }
        lines.push_str(written.trim_end());
        if signing.is_some_and(|key| key.line == line) {
            lines.push_str(&format!(" retired {}", show_time(signs_from)));
        }
        lines.push('\n');
    }
    Ok(Rotated {
        text: lines,
        signs_from,
        verifies_until: signs_from.saturating_add(VERIFIES_FOR),
        dropped: over.len(),
    })
}

/// Where `lockgate.toml` says the secret is.
pub(super) fn place(table: &Table<'_>, dir: &Path) -> SecretPlace {
    let (secret, file) = (table.get("secret"), table.get("secret_file"));
    if let (Some(_), Some(file)) = (&secret, &file) {
        let hint = "remove one; the keys of `secret` can stand in the file too, one a line";
        file.misplaced("there is `secret` or `secret_file`, not both", hint);
    }
    match (secret, file) {
        (Some(_), _) => SecretPlace::Inline,
        (None, Some(file)) => match file.value.get_ref() {
            DeValue::String(path) => SecretPlace::File(dir.join(path.as_ref())),
            _ => {
                file.wrong_type::<()>("a string", "write the path of a file in double quotes");
                SecretPlace::State
            }
        },
        (None, None) => SecretPlace::State,
    }
}

/// The keys that `lockgate.toml` has or names. `None`: none.
pub(super) fn read(table: &Table<'_>, dir: &Path) -> Option<KeyRing> {
    match place(table, dir) {
        SecretPlace::Inline => inline(&table.get("secret")?),
        SecretPlace::File(file) => from_file(&table.get("secret_file")?, &file),
        SecretPlace::State => None,
    }
}

fn inline(item: &Item<'_>) -> Option<KeyRing> {
    if is_open(&item.notes.source.file) {
        item.notes.warning(
            &item.key,
            "`lockgate.toml` holds the secret, and everybody on this machine may read it",
            "take the rights from others (`chmod o= lockgate.toml`), or write `secret_file`",
        );
    }
    let mut secrets: Vec<Secret> = Vec::new();
    for item in item.list()? {
        // Not `Item::string`: what it proposes has the value in it.
        let DeValue::String(material) = item.value.get_ref() else {
            return item.wrong_type("a string", HOW);
        };
        if let Err(problem) = check_material(material) {
            item.error(problem, HOW);
        }
        let secret =
            Secret { material: material.as_bytes().to_vec(), signs_from: 0, retired: None };
        if secrets.contains(&secret) {
            item.error("this key stands in `secret` twice", "remove one of them");
        }
        secrets.push(secret);
    }
    if secrets.len() > MOST {
        item.error(format!("`secret` has {} keys", secrets.len()), format!("leave at most {MOST}"));
    }
    Some(KeyRing::new(secrets))
}

fn from_file(item: &Item<'_>, file: &Path) -> Option<KeyRing> {
    let text = match read_secret_file(file) {
        Ok(Some(text)) => Ok(text),
        // The name is not said: a secret may have been written in its place.
        Ok(None) => {
            let hint = "`lockgate secret rotate` makes it; a secret itself is written as `secret`";
            item.error("the file that `secret_file` names does not exist", hint);
            return None;
        }
        Err(fault) => Err(fault),
    };
    let shown = file.display();
    match text.and_then(|text| parse_secrets(&text)) {
        Ok(ring) => {
            if is_open(file) {
                item.notes.warning(
                    &item.span(),
                    format!("everybody on this machine may read `{shown}`"),
                    format!("take the rights from others: `chmod o= {shown}`"),
                );
            }
            Some(ring)
        }
        Err(fault) => {
            let place = Place { file: file.to_owned(), line: fault.line.unwrap_or(1) };
            let message = format!("`{shown}`: {fault}");
            item.notes.conflict(&item.span(), message, fault.hint(), place);
            None
        }
    }
}

/// Whether those who are neither its owner nor in its group may do anything
/// with the file.
fn is_open(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

/// The lines of `lockgate.toml` that may hold a secret: no diagnostic shows
/// them, whatever it is about, and even if the key is misspelt or the syntax
/// broken. From a line that speaks of a secret to the next that has a key or a
/// table we know, since a list may go over several.
pub(super) fn veiled_lines(text: &str) -> Vec<bool> {
    let mut inside = false;
    let veiled = |line: &str| {
        let speaks = speaks_of_secret(line);
        if !is_comment(line) {
            inside = speaks || (inside && !begins_known(line));
        }
        speaks || inside
    };
    text.split('\n').map(veiled).collect()
}

fn speaks_of_secret(line: &str) -> bool {
    let near = keys::nearest(key_before(line), ["secret", "secret_file"].into_iter());
    near.is_some() || line.to_ascii_lowercase().contains("secret")
}

fn begins_known(line: &str) -> bool {
    let section = line.trim().strip_prefix('[').map(|rest| rest.trim_start_matches('['));
    match section {
        Some(section) => section.split([']', '.']).next().is_some_and(keys::is_of_process),
        None => line.contains('=') && keys::is_of_process(key_before(line)),
    }
}

fn key_before(line: &str) -> &str {
    let quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '#');
    line.split('=').next().unwrap_or_default().trim_matches(quotes)
}
