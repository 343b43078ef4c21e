//! The text of `/metrics`, read as strictly as its form is written down
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::{BTreeMap, BTreeSet};

use crate::support::Lockgate;

/// Whatever else a label were, its values would have no bounds.
const LABELS: [&str; 10] =
    ["game", "group", "backend", "class", "cause", "le", "verdict", "file", "domain", "version"];

/// A page that is well formed.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) text: String,
    /// By the name; of a histogram without `_bucket`.
    pub(crate) kinds: BTreeMap<String, String>,
    values: BTreeMap<String, f64>,
}

impl Page {
    #[track_caller]
    pub(crate) fn of(lockgate: &Lockgate) -> Page {
        let text = lockgate.admin().get(&lockgate.admin_host(), "/metrics").expect(200).text();
        Page::read(text)
    }

    /// `NAME{LABELS}` as it is written.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.values.get(series).copied()
    }

    #[track_caller]
    fn read(text: String) -> Page {
        assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'), "{text}");
        let (mut kinds, mut values) = (BTreeMap::new(), BTreeMap::new());
        let (mut helped, mut family) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(said) = line.strip_prefix("# HELP ") {
                let (name, help) = said.split_once(' ').expect(line);
                assert!(help.len() > 1, "{line}");
                name.clone_into(&mut helped);
            } else if let Some(said) = line.strip_prefix("# TYPE ") {
                let (name, kind) = said.split_once(' ').expect(line);
                assert_eq!(name, helped, "no help before {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(name.starts_with("lockgate_") || name.starts_with("process_"), "{line}");
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
                name.clone_into(&mut family);
            } else {
                let (series, number) = line.rsplit_once(' ').expect(line);
                let name = series.split('{').next().unwrap();
                let histogram = kinds.get(&family).is_some_and(|kind| kind == "histogram");
                let suffixes = if histogram { &["_bucket", "_sum", "_count"][..] } else { &[""] };
                let belongs = |suffix: &str| name.strip_suffix(suffix) == Some(family.as_str());
                assert!(suffixes.iter().any(|suffix| belongs(suffix)), "astray: {line}");
                check_labels(series);
                let number: f64 = number.parse().expect(line);
                assert!(number >= 0.0, "{line}");
                assert!(values.insert(series.to_owned(), number).is_none(), "twice: {line}");
            }
        }
        let page = Page { text, kinds, values };
        page.check_histograms();
        page
    }

    /// Buckets grow, and the last one holds all.
    #[track_caller]
    fn check_histograms(&self) {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut last: Option<(String, f64, f64)> = None;
        for line in lines.iter().filter(|line| line.contains("_bucket{")) {
            let (series, number) = line.rsplit_once(' ').unwrap();
            let le = series.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            let key = series.replace(&format!("le=\"{le}\","), "");
            let bound: f64 = le.replace("+Inf", "inf").parse().unwrap();
            let count: f64 = number.parse().unwrap();
            if let Some((before, least, fewer)) = &last
                && *before == key
            {
                assert!(bound > *least && count >= *fewer, "{line}");
            }
            if bound.is_infinite() {
                let total = self.get(&key.replace("_bucket{", "_count{"));
                assert_eq!(total, Some(count), "{line}");
            }
            last = Some((key, bound, count));
        }
        assert!(last.is_none_or(|(_, bound, _)| bound.is_infinite()));
    }
}

/// `NAME{a="b",…}` with labels of ours, none twice, quoted and escaped.
#[track_caller]
fn check_labels(series: &str) {
    let Some((_, labels)) = series.split_once('{') else { return };
    let mut rest = labels.strip_suffix('}').expect(series);
    let mut seen = BTreeSet::new();
    while !rest.is_empty() {
        let (name, more) = rest.split_once("=\"").expect(series);
        assert!(LABELS.contains(&name) && seen.insert(name), "{series}");
        let mut escaped = false;
        let end = more.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = &more[end.expect(series) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}
