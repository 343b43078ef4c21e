//! One drop-in, by itself: from its bytes to a [`Game`].

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::certificate::Certificates;
use super::diagnostic::{Diagnostic, Severity, shown};
use super::expect::{self, Expected};
use super::group::{self, BackendPlace};
use super::keys;
use super::listener::{self, Claims, Context};
use super::model::Game;
use super::notes::Notes;
use super::process::ProcessFile;
use super::read::{ReadError, read_file};
use super::rule::GroupNames;
use super::source::Source;
use super::sticky::{self, StickyPlace};
use super::table::{Item, Table};

/// Bytes of the largest file.
const LARGEST: u64 = 1 << 20;
/// A file is small, but a list of domains times a list of ports need not be.
const MOST_PAIRS: usize = 100_000;

/// A drop-in as far as it can be judged alone.
#[derive(Debug)]
pub(super) struct DropIn {
    pub(super) notes: Notes,
    /// Good unless `notes` has an error.
    pub(super) game: Game,
    /// What each listener lays hands on, in the order of `game.listeners`.
    pub(super) claims: Vec<Claims>,
    pub(super) backends: Vec<BackendPlace>,
    pub(super) expected: Vec<Expected>,
    /// Of each group that a rule can name, by the number the rule has.
    pub(super) sticky: Vec<Option<StickyPlace>>,
}

/// Reads a file as text. The error is the one diagnostic there is to say.
pub(super) fn read_source(
    file: &Path,
    source: fn(&Path, String) -> Source,
) -> Result<Arc<Source>, Box<Diagnostic>> {
    as_text(file, read_bytes(file)?, source)
}

/// The bytes of a file.
pub(super) fn read_bytes(file: &Path) -> Result<Vec<u8>, Box<Diagnostic>> {
    let fault = |message: String, hint: &str| {
        Box::new(Diagnostic::whole_file(Severity::Error, file, message).hint(hint))
    };
    read_file(file, LARGEST).map_err(|error| match error {
        ReadError::Missing if file.is_symlink() => fault(
            "this link leads nowhere".to_owned(),
            "let it point to a file, or remove it",
        ),
        ReadError::Missing => {
            fault("this file does not exist".to_owned(), "write it, or leave it out")
        }
        ReadError::Other(why) => fault(
            format!("this file cannot be read: {why}"),
            match file.file_name() == Some(OsStr::new("lockgate.toml")) {
                true => "make it a plain file of at most 1 MiB that lockgate's user may read",
                false => "make it a plain file of at most 1 MiB that lockgate's user may read, or give it a name without `.toml`",
            },
        ),
    })
}

/// The bytes of a file as text.
pub(super) fn as_text(
    file: &Path,
    bytes: Vec<u8>,
    source: fn(&Path, String) -> Source,
) -> Result<Arc<Source>, Box<Diagnostic>> {
    match String::from_utf8(bytes) {
        Ok(text) => {
            // Some editors put a byte order mark first; nobody sees it as a column.
            let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
            Ok(Arc::new(source(file, text)))
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            // What comes before the fault is as long in the copy.
            let source = source(file, text);
            let message = "this is not UTF-8".to_owned();
            let fault = source.diagnose(Severity::Error, &(at..at + 1), message);
            Err(Box::new(fault.hint("save the file as UTF-8")))
        }
    }
}

/// Parses the text; a syntax error is noted.
pub(super) fn parse<'a>(notes: &'a Notes) -> Option<DeTable<'a>> {
    match DeTable::parse(&notes.source.text) {
        Ok(table) => Some(table.into_inner()),
        Err(error) => {
            let end = notes.source.text.len();
            let span = error.span().unwrap_or(end..end);
            let hint = "mend this first: until then nothing else in this file is checked";
            notes.error(&span, error.message(), hint);
            None
        }
    }
}

/// Judges a drop-in alone.
pub(super) fn read(
    source: Arc<Source>,
    name: &str,
    process: &ProcessFile,
    certificates: &Certificates,
) -> DropIn {
    let notes = Notes::new(source);
    let mut game = Game {
        name: name.into(),
        file: notes.source.file.clone(),
        listeners: Vec::new(),
        groups: Vec::new(),
    };
    let mut claims = Vec::new();
    let mut backends = Vec::new();
    let mut sticky = Vec::new();
    let mut expected = Vec::new();
    if let Some(map) = parse(&notes) {
        let table = Table::new(&notes, &keys::DROP_IN, &map, 0..0);
        let entries = group_entries(&table);
        let names = entries.iter().map(|entry| entry.name.to_owned()).collect();
        let groups = GroupNames::new(names);
        let context = Context { defaults: &process.listener, certificates, groups: &groups };
        let (read, lay_hands_on) = listeners(&table, &context);
        game.listeners = read.into_iter().map(Arc::new).collect();
        claims = lay_hands_on;
        // With a fault in a listener an unused group is but its consequence.
        if notes.errors() == 0 {
            tell_unused(&entries, &groups);
        }
        for entry in &entries {
            let read = group::read(entry, &process.group, certificates, &mut backends);
            let (group, place) = read.unzip();
            game.groups.extend(group.map(Arc::new));
            sticky.push(place.flatten());
        }
        sticky::check_reach(&notes, &game.listeners, &claims, &sticky);
        expected = expect::check_all(&table, &game);
    }
    DropIn { notes, game, claims, backends, expected, sticky }
}

/// The groups of the file, in the order of their names.
fn group_entries<'a>(table: &Table<'a>) -> Vec<Item<'a>> {
    let hint = "write `[group.NAME]`";
    let entries = table.get("group").and_then(|item| item.entries(hint));
    let mut entries = entries.unwrap_or_default();
    entries.sort_by(|a, b| a.name.cmp(b.name));
    entries
}

fn listeners(
    table: &Table<'_>,
    context: &Context<'_>,
) -> (Vec<super::model::Listener>, Vec<Claims>) {
    let Some(item) = table.get("listener") else {
        table.error(
            "this drop-in has no listener",
            "write `[[listener]]` with `domain`, `port` and `group`",
        );
        return (Vec::new(), Vec::new());
    };
    let mut total = 0_usize;
    let read = |table: &Table<'_>| {
        let (listener, mut claims) = listener::read(table, context);
        let pairs = claims.domains.len().saturating_mul(claims.ports.len());
        total = total.saturating_add(pairs);
        if total > MOST_PAIRS {
            table.error(
                format!("with this listener the file has {total} pairs of a domain and a port"),
                format!(
                    "write at most {MOST_PAIRS}; `*.x.com` and `default = true` take many names"
                ),
            );
            claims.domains.clear();
        }
        (listener, claims)
    };
    item.tables(&keys::LISTENER).iter().map(read).unzip()
}

fn tell_unused(entries: &[Item<'_>], groups: &GroupNames) {
    for (at, entry) in entries.iter().enumerate() {
        if !groups.is_used(at) {
            let message = format!("group {} is used by no rule", shown(entry.name));
            let hint = "name it with `group` in a listener or a rule, or remove it";
            entry.notes.warning(&entry.key, message, hint);
        }
    }
}
