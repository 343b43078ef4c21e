//! `[group.NAME.retry]`, and `retry` of a rule: which failed requests are tried
//! elsewhere.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::shown;
use super::keys;
use super::model::RetryKeys;
use super::settings::unknown_name;
use super::table::Item;
use crate::policy::retry::{Kinds, MOST_ATTEMPTS};

/// Longer than anybody waits for a page.
const TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
/// Kept for each request that is under way.
const BODY_BUFFER: RangeInclusive<u64> = 0..=16 << 20;

/// Reads the table.
pub(super) fn read(item: &Item<'_>) -> RetryKeys {
    let Some(table) = item.table(&keys::RETRY) else { return RetryKeys::default() };
    let narrow = |number: u64| u32::try_from(number).unwrap_or_default();
    let keys = RetryKeys {
        on: table.get("on").and_then(|item| kinds(&item)),
        tries: table.integer("tries", 0..=u64::from(MOST_ATTEMPTS)).map(narrow),
        timeout: table
            .duration("timeout", TIMEOUT)
            .map(|timeout| (!timeout.is_zero()).then_some(timeout)),
        non_idempotent: table.boolean("non_idempotent"),
        idempotency_key: table.boolean("idempotency_key"),
        body_buffer: table
            .size("body_buffer", BODY_BUFFER)
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        budget: table.get("budget").and_then(|item| percent(&item)),
    };
    if keys.on == Some(Kinds::default())
        && let Some(item) = table.get("tries").or_else(|| table.get("timeout"))
    {
        let message = format!("`{}` with an empty `on` has no effect", item.name);
        table.notes.warning(&item.key, message, "remove it, or write what is retried into `on`");
    }
    keys
}

/// A list of names; an empty one turns retries off.
fn kinds(item: &Item<'_>) -> Option<Kinds> {
    let toml::de::DeValue::Array(values) = item.value.get_ref() else {
        let hint = "write such as `[\"error\", \"timeout\", \"http_503\"]`, or `[]` for none";
        return item.wrong_type("a list", hint);
    };
    let kind = |value| {
        let item = Item { value, ..item.clone() };
        let name = item.string()?;
        let kind = Kinds::parse_name(name);
        if kind.is_none() {
            unknown_name(&item, name, &Kinds::NAMES);
        }
        kind
    };
    Some(values.iter().filter_map(kind).fold(Kinds::default(), Kinds::with))
}

/// `"20%"`.
fn percent(item: &Item<'_>) -> Option<u32> {
    let text = item.string()?;
    let number = text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok());
    let percent = number.filter(|percent| *percent <= 100);
    if percent.is_none() {
        let message = format!("`{}`: {} is no share of requests", item.name, shown(text));
        item.error(message, "write a whole percentage from `\"0%\"` to `\"100%\"`");
    }
    percent
}
