//! What Prometheus itself says of the metrics, the alerts and the dashboard.

use std::io::Write as _;
use std::path::Path;

use super::tools::{program, run};
use crate::metrics::{expressions, shipped};
use crate::support::{Backend, Port, Site};

#[test]
#[ignore = "needs promtool, which .ci/run installs"]
fn the_metrics_have_nothing_to_find_fault_with() {
    let (b1, port) = (Backend::named("B1"), Port::reserve());
    let site = Site::https()
        .backend(&b1)
        .address(&port.refusing_address())
        .more("[group.web.sticky]\nmode = \"insert\"\n")
        .start();
    for _ in 0..3 {
        site.get("/").expect(200);
    }
    site.lockgate.wait_for_log(&["attempt failed"]);
    site.lockgate.write("listeners.d/other.toml", "[[listener]\n");
    site.lockgate.run(&["reload"]).expect(1);
    let admin = site.lockgate.admin_host();
    let page = site.lockgate.admin().get(&admin, "/metrics").expect(200).text();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(page.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut promtool = program("promtool", site.lockgate.path());
    promtool.args(["check", "metrics"]).stdin(file);
    let said = promtool.output().unwrap();
    let faults = [said.stdout, said.stderr].concat();
    let faults = String::from_utf8_lossy(&faults);
    assert_eq!((said.status.code(), &*faults), (Some(0), ""));
}

#[test]
#[ignore = "needs promtool, which .ci/run installs"]
fn the_alerts_and_the_panels_are_good_expressions() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = shipped("packaging/grafana-dashboard.json");
    let expressions = expressions(&serde_json::from_str(&dashboard).unwrap());
    let rules: Vec<serde_json::Value> = expressions
        .iter()
        .enumerate()
        .map(|(number, expression)| {
            // What Grafana puts in there.
            let expression = expression.replace("$__rate_interval", "5m").replace("$__range", "3h");
            serde_json::json!({ "record": format!("panel:{number}"), "expr": expression })
        })
        .collect();
    let count = rules.len();
    // JSON is YAML too.
    let text = serde_json::json!({ "groups": [{ "name": "panels", "rules": rules }] });
    std::fs::write(folder.path().join("panels.yml"), text.to_string()).unwrap();
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/alerts.yml");
    let mut promtool = program("promtool", folder.path());
    promtool.args(["check", "rules", "panels.yml"]).arg(alerts);
    let said = run(promtool);
    assert!(said.contains(&format!("{count} rules found")), "{said}");
}
