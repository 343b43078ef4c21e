//! What is shipped beside lockgate speaks of metrics that there are.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::page::Page;
use crate::support::{Backend, Site};

pub(crate) fn shipped(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// All names a scraper finds, those of a histogram's parts too.
fn names() -> BTreeSet<String> {
    let b1 = Backend::named("B1");
    let page = Page::of(&Site::before(&b1).lockgate);
    let mut names = BTreeSet::new();
    for (name, kind) in &page.kinds {
        if kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        }
        names.insert(name.clone());
    }
    names
}

/// The words that begin as our metrics do.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| word.starts_with("lockgate_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

/// The expressions of all panels, also within rows.
pub(crate) fn expressions(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match dashboard {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == "expr") {
                    Some(expression) => found.push(expression.to_owned()),
                    None => found.extend(expressions(value)),
                }
            }
        }
        Value::Array(values) => found.extend(values.iter().flat_map(expressions)),
        _ => {}
    }
    found
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let names = names();
    let dashboard: Value =
        serde_json::from_str(&shipped("packaging/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "ids of panels");
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 15, "{expressions:?}");
    let alerts = shipped("packaging/alerts.yml");
    let code = alerts.lines().filter(|line| !line.trim_start().starts_with('#'));
    let used = named(&(expressions.join("\n") + &code.collect::<Vec<_>>().join("\n")));
    assert!(used.len() > 20, "{used:?}");
    let unknown: Vec<_> = used.difference(&names).collect();
    assert!(unknown.is_empty(), "no such metrics: {unknown:?}");
}

#[test]
fn the_readme_lists_each_metric_with_its_kind() {
    let b1 = Backend::named("B1");
    let page = Page::of(&Site::before(&b1).lockgate);
    let readme = shipped("README.md");
    for (name, kind) in &page.kinds {
        let row = format!("| `{name}` | {kind} | ");
        assert!(readme.contains(&row), "README has no row that begins with {row}");
    }
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    for row in rows.iter().filter(|row| row.starts_with("lockgate_")) {
        assert!(page.kinds.contains_key(*row), "README lists {row}, which is not there");
    }
}

/// What Grafana would draw otherwise than meant, or not at all, without a word.
#[test]
fn the_dashboard_is_one_that_grafana_draws() {
    const KINDS: [&str; 7] =
        ["bargauge", "heatmap", "row", "stat", "state-timeline", "table", "timeseries"];
    const UNITS: [&str; 7] = ["Bps", "bytes", "cps", "percentunit", "reqps", "s", "short"];
    let dashboard: Value =
        serde_json::from_str(&shipped("packaging/grafana-dashboard.json")).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], &variables[0]["type"]), ("datasource", &"datasource".into()));
    let source = serde_json::json!({ "type": "prometheus", "uid": "${datasource}" });
    assert!(variables[1..].iter().all(|one| one["datasource"] == source));
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let kind = panel["type"].as_str().unwrap();
        assert!(KINDS.contains(&kind), "{kind}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{panel}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "it lies on another: {panel}");
        }
        if kind == "row" {
            assert_eq!(
                (&panel["collapsed"], &panel["panels"]),
                (&false.into(), &Value::Array(vec![]))
            );
            continue;
        }
        assert_eq!(panel["datasource"], source, "{panel}");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
        assert!(UNITS.contains(&unit), "{unit}");
        let targets = panel["targets"].as_array().unwrap();
        let ids: BTreeSet<&str> =
            targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert!(!ids.is_empty() && ids.len() == targets.len(), "{panel}");
        for target in targets {
            assert_eq!(target["datasource"], source, "{target}");
            // Of the variables there are, and of Grafana's own.
            let expression = target["expr"].as_str().unwrap();
            for variable in expression.split('$').skip(1) {
                let end = variable.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let name = &variable[..end.unwrap_or(variable.len())];
                assert!(
                    names.contains(&name) || ["__rate_interval", "__range"].contains(&name),
                    "{expression}"
                );
            }
        }
    }
    let height = taken.iter().map(|(_, y)| y + 1).max().unwrap();
    assert_eq!(taken.len() as u64, 24 * height, "there is a hole");
}
