//! What always holds, whatever the arguments.

use proptest::prelude::*;

use super::tests::{domain, host, normal, owners};
use super::*;

proptest! {
    #[test]
    fn longest_prefix_wins_against_a_scan(
        prefixes in prop::collection::btree_set("/[ab/]{0,6}", 0..40),
        paths in prop::collection::vec("/[abc/]{0,10}", 1..40),
    ) {
        let rules = prefixes.iter().map(|prefix| (prefix.as_bytes().to_vec(), prefix.clone()));
        let table = PathTable::build(rules.collect()).unwrap();
        for path in &paths {
            let fits = prefixes.iter().filter(|prefix| path.starts_with(prefix.as_str()));
            let longest = fits.max_by_key(|prefix| prefix.len());
            prop_assert_eq!(table.find(path.as_bytes()), longest, "{}", path);
        }
    }

    #[test]
    fn duplicates_are_found(
        mut prefixes in prop::collection::vec("/[ab]{0,4}", 0..20),
        again in any::<prop::sample::Index>(),
    ) {
        prefixes.sort();
        prefixes.dedup();
        let rules = |prefixes: &[String]| {
            let rules = prefixes.iter().map(|prefix| (prefix.clone().into_bytes(), ()));
            PathTable::build(rules.collect())
        };
        prop_assert!(rules(&prefixes).is_ok());
        if !prefixes.is_empty() {
            let copy = prefixes[again.index(prefixes.len())].clone();
            prefixes.push(copy);
            prop_assert_eq!(rules(&prefixes).unwrap_err(), prefixes.len() - 1);
        }
    }

    #[test]
    fn host_table_agrees_with_a_scan(
        domains in prop::collection::btree_set(r"(\*\.)?[ab](\.[ab]){0,3}", 0..20),
        hosts in prop::collection::vec(r"[ab](\.[ab]){0,4}", 1..20),
    ) {
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        let table = owners(&domains);
        for host in &hosts {
            let fits = domains.iter().filter(|text| domain(text).covers(host));
            let best = fits.max_by_key(|text| (!text.starts_with('*'), text.len()));
            prop_assert_eq!(table.find(host), best, "{}", host);
        }
        let names = |text: &&&str| (text.trim_start_matches("*.").to_owned(), text.starts_with('*'));
        prop_assert_eq!(table.first_by_name(), domains.iter().min_by_key(names));
    }

    #[test]
    fn host_name_round_trips(
        name in "[A-Za-z0-9_-]{1,20}(\\.[A-Za-z0-9_-]{1,20}){0,5}",
        dot in "\\.?",
        port in prop::option::of(any::<u16>()),
    ) {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let first = host(&format!("{name}{dot}{port}"));
        prop_assert_eq!(first.as_deref(), Some(&*name.to_ascii_lowercase()));
        prop_assert_eq!(host(first.as_deref().unwrap()), first);
    }

    #[test]
    fn host_name_agrees_with_a_list_of_labels(
        authority in prop_oneof!["[aB0.:%]{0,9}", r"[aB_%!~,/ @\\\[\]é.]{0,6}(:[0-9]{0,6})?", "[aB.]{240,258}:?", "[.]?[aB]{0,2}[.]{0,3}(:[x0-9]{0,6})?"],
    ) {
        let (name, port) = authority.split_once(':').unwrap_or((&authority, ""));
        let labels = name.strip_suffix('.').unwrap_or(name);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=".contains(c);
        let digits = port.chars().all(|c| c.is_ascii_digit());
        let good = labels.split('.').all(|label| !label.is_empty() && label.chars().all(allowed))
            && labels.len() <= 253
            && digits
            && (port.is_empty() || port.parse::<u16>().is_ok());
        prop_assume!(!authority.starts_with('['));
        prop_assert_eq!(host(&authority), good.then(|| labels.to_ascii_lowercase()));
    }

    #[test]
    fn host_name_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(host) = HostName::parse(&bytes) {
            let again = HostName::parse(host.as_str().as_bytes());
            prop_assert_eq!(again, Some(host));
        }
    }

    #[test]
    fn normal_form_is_its_own(path in r"/([/.?%]|%2[eEfF]|%2|%6[1a]|[a-c]){0,14}") {
        let mut one = Vec::new();
        let mut two = Vec::new();
        if let Ok(normal) = normalize_path(path.as_bytes(), &mut one) {
            prop_assert_eq!(normalize_path(normal, &mut two), Ok(normal), "{}", path);
            prop_assert_eq!(two.capacity(), 0, "a normal path was copied: {}", path);
            let text = std::str::from_utf8(normal).unwrap();
            prop_assert!(!text.contains("//") && !text.contains('?'), "{}", text);
            prop_assert!(text.split('/').all(|segment| segment != "." && segment != ".."), "{}", text);
        }
    }

    #[test]
    fn normalize_path_agrees_with_a_list_of_segments(
        segments in prop::collection::vec(prop_oneof!["", r"\.", r"\.\.", "%2[eE]", "[ab]{1,2}", "%61"], 0..10),
    ) {
        let mut want: Vec<&str> = Vec::new();
        let mut climbs = false;
        for segment in &segments {
            match segment.as_str() {
                "" | "." | "%2e" | "%2E" => {}
                ".." => climbs |= want.pop().is_none(),
                "%61" => want.push("a"),
                other => want.push(other),
            }
        }
        // What ends in nothing or in a dot segment names a folder.
        let last = segments.last().map_or("", String::as_str);
        let folder = matches!(last, "" | "." | ".." | "%2e" | "%2E") && !want.is_empty();
        let want = format!("/{}{}", want.join("/"), if folder { "/" } else { "" });
        let got = normal(&format!("/{}", segments.join("/")));
        prop_assert_eq!(got, if climbs { Err(PathError::ClimbsAboveRoot) } else { Ok(want) });
    }
}
