//! Reading a TOML table key by key. What is wrong is noted and the reading
//! goes on, so that one look finds every fault of a file. (serde would stop at
//! the first.)

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::shown;
use super::keys::Keys;
use super::notes::Notes;
use super::units;

/// A table whose keys are known.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    pub(super) notes: &'a Notes,
    /// Its header, or all of an inline table.
    pub(super) span: Range<usize>,
    keys: &'static Keys,
    map: &'a DeTable<'a>,
    /// Keys that misspelt ones were probably meant to be.
    meant: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Notes the keys there should not be.
    pub(super) fn new(
        notes: &'a Notes,
        keys: &'static Keys,
        map: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Self {
        let mut meant = Vec::new();
        for key in map.keys() {
            let name = key.get_ref();
            if !keys.names.contains(&name.as_ref()) {
                let message = format!("unknown key {} in {}", shown(name), keys.table);
                notes.error(&key.span(), message, keys.hint(name));
                meant.extend(keys.nearest(name));
            }
        }
        Table { notes, span, keys, map, meant }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Item<'a>> {
        debug_assert!(self.keys.names.contains(&key), "{key} in {}", self.keys.table);
        let (written, value) = self.map.get_key_value(key)?;
        Some(Item { notes: self.notes, name: key, key: written.span(), value })
    }

    /// As [`Self::get`]; notes that it must be there.
    pub(super) fn require(&self, key: &'static str, hint: &str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() && !self.has_any(&[key]) {
            self.error(format!("{} needs `{key}`", self.keys.table), hint);
        }
        item
    }

    /// Whether one of the keys stands here, perhaps misspelt. What is said to
    /// be misspelt is not said to be missing too.
    pub(super) fn has_any(&self, keys: &[&'static str]) -> bool {
        keys.iter().any(|key| self.get(key).is_some() || self.meant.contains(key))
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        self.get(key)?.boolean()
    }

    pub(super) fn integer(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.get(key)?.integer(range)
    }

    pub(super) fn duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.get(key)?.duration(&range)
    }

    pub(super) fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.get(key)?.size(&range)
    }

    /// Notes a fault of the table as a whole.
    pub(super) fn error(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.notes.error(&self.span, message, hint);
    }
}

/// A value and the key it stands under.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    pub(super) notes: &'a Notes,
    /// The key, as messages name the value.
    pub(super) name: &'a str,
    /// Where the key stands.
    pub(super) key: Range<usize>,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Notes a fault of the value.
    pub(super) fn error(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.notes.error(&self.span(), message, hint);
    }

    /// Notes that the key should not be there at all.
    pub(super) fn misplaced(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.notes.error(&self.key, message, hint);
    }

    pub(super) fn string(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            DeValue::Integer(number) => {
                let hint = format!("write `\"{}\"`", number.as_str());
                self.wrong_type("a string", hint)
            }
            DeValue::Float(number) => {
                let hint = format!("write `\"{}\"`", number.as_str());
                self.wrong_type("a string", hint)
            }
            _ => self.wrong_type("a string", "write the value in double quotes"),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type("a boolean", "write `true` or `false`"),
        }
    }

    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (range.start(), range.end());
        let hint = format!("write a whole number from {low} to {high}");
        let DeValue::Integer(number) = self.value.get_ref() else {
            return self.wrong_type("an integer", hint);
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => self.out_of_range(&number.to_string(), hint),
        }
    }

    pub(super) fn duration(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let (low, high) = (range.start(), range.end());
        let (low, high) = (units::show_duration(*low), units::show_duration(*high));
        let text = match self.value.get_ref() {
            DeValue::String(text) => text,
            DeValue::Integer(number) => {
                self.error(
                    format!("`{}` is a duration, and `{number}` has no unit", self.name),
                    format!("write `\"{number}s\"` for seconds"),
                );
                return None;
            }
            _ => return self.wrong_type("a duration", "write such as `\"10s\"`"),
        };
        let Some(duration) = units::parse_duration(text) else {
            self.error(
                format!("`{}`: {} is not a duration", self.name, shown(text)),
                "write whole numbers with `d`, `h`, `m`, `s` or `ms`, such as `\"1m30s\"`",
            );
            return None;
        };
        if !range.contains(&duration) {
            let hint = format!("write a duration from `\"{low}\"` to `\"{high}\"`");
            return self.out_of_range(text, hint);
        }
        Some(duration)
    }

    /// A size in bytes.
    pub(super) fn size(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        let (size, text) = match self.value.get_ref() {
            DeValue::Integer(number) => {
                let bytes = u64::from_str_radix(number.as_str(), number.radix()).ok();
                (bytes, number.to_string())
            }
            DeValue::String(text) => {
                let bytes = units::parse_size(text);
                if bytes.is_none() {
                    let meant = units::guess_size(text);
                    self.error(
                        format!("`{}`: {} is not a size", self.name, shown(text)),
                        meant.map_or_else(
                            || "write such as `\"64KiB\"`, or a number of bytes".to_owned(),
                            |meant| format!("write `\"{meant}\"`"),
                        ),
                    );
                    return None;
                }
                (bytes, text.to_string())
            }
            _ => return self.wrong_type("a size", "write such as `\"64KiB\"`"),
        };
        match size {
            Some(bytes) if range.contains(&bytes) => Some(bytes),
            _ => {
                let (low, high) = (range.start(), range.end());
                let (low, high) = (units::show_size(*low), units::show_size(*high));
                self.out_of_range(&text, format!("write a size from {low} to {high}"))
            }
        }
    }

    /// The values of a list, or the one value that stands for a list of one.
    /// An empty list is a fault.
    pub(super) fn list(&self) -> Option<Vec<Item<'a>>> {
        let DeValue::Array(values) = self.value.get_ref() else {
            return Some(vec![self.clone()]);
        };
        if values.is_empty() {
            self.error(
                format!("`{}` is an empty list", self.name),
                format!("write at least one value, or remove `{}`", self.name),
            );
            return None;
        }
        Some(values.iter().map(|value| Item { value, ..self.clone() }).collect())
    }

    pub(super) fn table(&self, keys: &'static Keys) -> Option<Table<'a>> {
        match self.as_table(keys) {
            Some(table) => Some(table),
            None => {
                let hint = match keys.table.starts_with("`[") {
                    true => format!("write a table {}", keys.table),
                    false => format!("write `{{ {} = … }}`", keys.names.join(" = …, ")),
                };
                self.wrong_type("a table", hint)
            }
        }
    }

    /// Every key and value of a table whose keys are names.
    pub(super) fn entries(&self, hint: &str) -> Option<Vec<Item<'a>>> {
        let DeValue::Table(map) = self.value.get_ref() else {
            return self.wrong_type("a table", hint);
        };
        let entry = |(key, value): (&'a Spanned<_>, _)| {
            let name: &'a std::borrow::Cow<'a, str> = key.get_ref();
            Item { notes: self.notes, name, key: key.span(), value }
        };
        let mut entries: Vec<Item<'a>> = map.iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.key.start);
        Some(entries)
    }

    /// The tables of `[[name]]`.
    pub(super) fn tables(&self, keys: &'static Keys) -> Vec<Table<'a>> {
        let hint = format!("write {} with two brackets on each side", keys.table);
        let DeValue::Array(values) = self.value.get_ref() else {
            self.wrong_type::<()>("a list of tables", hint);
            // What was meant can still be looked at.
            return self.as_table(keys).into_iter().collect();
        };
        if values.is_empty() {
            self.error(format!("`{}` is an empty list", self.name), hint.as_str());
        }
        let mut tables = Vec::new();
        for value in values.iter() {
            let item = Item { value, ..self.clone() };
            match item.as_table(keys) {
                Some(table) => tables.push(table),
                None => {
                    item.wrong_type::<()>("a list of tables", hint.clone());
                }
            }
        }
        tables
    }

    fn as_table(&self, keys: &'static Keys) -> Option<Table<'a>> {
        match self.value.get_ref() {
            DeValue::Table(map) => Some(Table::new(self.notes, keys, map, self.span())),
            _ => None,
        }
    }

    /// Notes that this is no such thing as the key takes.
    pub(super) fn wrong_type<T>(&self, expected: &str, hint: impl Into<String>) -> Option<T> {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(format!("{} must be {expected}, not {found}", shown(self.name)), hint);
        None
    }

    fn out_of_range<T>(&self, value: &str, hint: String) -> Option<T> {
        self.error(format!("{} is out of range: {}", shown(self.name), shown(value)), hint);
        None
    }
}
