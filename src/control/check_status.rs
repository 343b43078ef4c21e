//! `/status`: what probes found, in the forms of nginx's `check_status`
//! (`nginx_upstream_check_module`, Tengine), for those who have scripts that read
//! it. Like there, only what is checked is on it: the backends of groups with a
//! probe.

use std::fmt::Write as _;

use crate::config::Check;
use crate::state::Snapshot;

/// What a row shows.
#[derive(Debug)]
struct Row {
    /// Its number among all, whatever is left out.
    index: usize,
    /// `GAME/GROUP`.
    upstream: String,
    name: String,
    down: bool,
    rise: u32,
    fall: u32,
    kind: &'static str,
    /// As the probe names it; 0: the backend's own.
    port: u16,
}

/// The page that the query asks for, and its media type. What it asks for in other
/// words is as if it had not.
pub(super) fn page(snapshot: &Snapshot, query: Option<&str>) -> (&'static str, String) {
    let value = |name: &str| {
        let all = query.unwrap_or_default().split('&');
        all.filter_map(|one| one.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, text)| text)
    };
    let is = |name, wanted| value(name).is_some_and(|text| text.eq_ignore_ascii_case(wanted));
    let mut rows = rows(snapshot);
    if is("status", "down") {
        rows.retain(|row| row.down);
    } else if is("status", "up") {
        rows.retain(|row| !row.down);
    }
    if is("format", "json") {
        ("application/json", json(&rows, snapshot.generation))
    } else if is("format", "csv") {
        ("text/plain", csv(&rows))
    } else {
        ("text/html", html(&rows, snapshot.generation))
    }
}

fn rows(snapshot: &Snapshot) -> Vec<Row> {
    let mut rows = Vec::new();
    for group in snapshot.groups() {
        let Some(probe) = &group.config.probe else { continue };
        for backend in &group.backends {
            let status = backend.probe_status();
            rows.push(Row {
                index: rows.len(),
                upstream: format!("{}/{}", group.game, group.config.name),
                name: backend.config.address.to_string(),
                down: status.up == Some(false) || status.waits,
                rise: status.good,
                fall: status.bad,
                kind: match probe.check {
                    Check::Http(_) => "http",
                    Check::Tcp => "tcp",
                    Check::Tls => "tls",
                },
                port: probe.port.unwrap_or_default(),
            });
        }
    }
    rows
}

impl Row {
    fn status(&self) -> &'static str {
        if self.down { "down" } else { "up" }
    }
}

fn csv(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        let Row { index, upstream, name, rise, fall, kind, port, .. } = row;
        let status = row.status();
        // A file may be called anything; what a comma would tear apart is quoted.
        let upstream = match upstream.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", upstream.replace('"', "\"\"")),
            false => upstream.clone(),
        };
        // A string takes whatever is written.
        let _ = writeln!(out, "{index},{upstream},{name},{status},{rise},{fall},{kind},{port}");
    }
    out
}

fn json(rows: &[Row], generation: u64) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let Row { index, rise, fall, kind, port, .. } = row;
            let (upstream, name) = (quoted(&row.upstream), quoted(&row.name));
            format!(
                "    {{\"index\": {index}, \"upstream\": {upstream}, \"name\": {name}, \
                 \"status\": \"{}\", \"rise\": {rise}, \"fall\": {fall}, \"type\": \"{kind}\", \
                 \"port\": {port}}}",
                row.status()
            )
        })
        .collect();
    let total = rows.len();
    let end = if rows.is_empty() { "" } else { "\n" };
    let lines = lines.join(",\n");
    format!(
        "{{\"servers\": {{\n  \"total\": {total},\n  \"generation\": {generation},\n  \
         \"server\": [\n{lines}{end}  ]\n}}}}\n"
    )
}

fn html(rows: &[Row], generation: u64) -> String {
    let escaped = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let mut out = format!(
        "<!DOCTYPE html>\n<html>\n<head>\n  <meta charset=\"utf-8\">\n  \
         <title>lockgate http upstream check status</title>\n</head>\n<body>\n\
         <h1>lockgate http upstream check status</h1>\n\
         <h2>Check upstream server number: {}, generation: {generation}</h2>\n\
         <table bgcolor=\"white\" cellspacing=\"0\"        cellpadding=\"3\" \
         border=\"1\">\n  <tr bgcolor=\"#C0C0C0\">\n",
        rows.len()
    );
    for column in [
        "Index",
        "Upstream",
        "Name",
        "Status",
        "Rise counts",
        "Fall counts",
        "Check type",
        "Check port",
    ] {
        let _ = writeln!(out, "    <th>{column}</th>");
    }
    out.push_str("  </tr>\n");
    for row in rows {
        let color = if row.down { " bgcolor=\"#FF0000\"" } else { "" };
        let _ = writeln!(out, "  <tr{color}>");
        for cell in [
            &row.index.to_string(),
            &escaped(&row.upstream),
            &escaped(&row.name),
            row.status(),
            &row.rise.to_string(),
            &row.fall.to_string(),
            row.kind,
            &row.port.to_string(),
        ] {
            let _ = writeln!(out, "    <td>{cell}</td>");
        }
        out.push_str("  </tr>\n");
    }
    out.push_str("</table>\n</body>\n</html>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: usize, down: bool) -> Row {
        let (rise, fall) = if down { (0, 7) } else { (46, 0) };
        Row {
            index,
            upstream: "a/web".to_owned(),
            name: format!("192.168.0.{index}:80"),
            down,
            rise,
            fall,
            kind: "http",
            port: 0,
        }
    }

    /// As the original's documentation shows them.
    #[test]
    fn st_01_st_02_the_forms() {
        let rows = [row(0, false), row(1, true)];
        assert_eq!(
            csv(&rows),
            "0,a/web,192.168.0.0:80,up,46,0,http,0\n1,a/web,192.168.0.1:80,down,0,7,http,0\n"
        );
        assert_eq!(
            json(&rows, 3),
            "{\"servers\": {\n  \"total\": 2,\n  \"generation\": 3,\n  \"server\": [\n    \
             {\"index\": 0, \"upstream\": \"a/web\", \"name\": \"192.168.0.0:80\", \
             \"status\": \"up\", \"rise\": 46, \"fall\": 0, \"type\": \"http\", \"port\": 0},\n    \
             {\"index\": 1, \"upstream\": \"a/web\", \"name\": \"192.168.0.1:80\", \
             \"status\": \"down\", \"rise\": 0, \"fall\": 7, \"type\": \"http\", \"port\": 0}\n  \
             ]\n}}\n"
        );
        assert_eq!(
            json(&[], 1),
            "{\"servers\": {\n  \"total\": 0,\n  \"generation\": 1,\n  \"server\": [\n  ]\n}}\n"
        );
        let page = html(&rows, 3);
        assert!(page.contains("<h2>Check upstream server number: 2, generation: 3</h2>"));
        let red = "  <tr bgcolor=\"#FF0000\">\n    <td>1</td>\n    <td>a/web</td>\n    \
            <td>192.168.0.1:80</td>\n    <td>down</td>\n    <td>0</td>\n    <td>7</td>\n    \
            <td>http</td>\n    <td>0</td>\n  </tr>\n";
        assert!(page.contains(red), "{page}");
    }

    /// The admin address's policy allows none but the admin page's own.
    #[test]
    fn the_page_has_no_style_that_would_be_blocked() {
        let page = html(&[row(0, true)], 1);
        assert!(!page.contains("style"), "{page}");
    }

    #[test]
    fn no_name_breaks_a_form() {
        let rows = [Row { upstream: "a,\"<b>&/web".to_owned(), ..row(0, false) }];
        assert!(csv(&rows).starts_with("0,\"a,\"\"<b>&/web\",192"), "{}", csv(&rows));
        let parsed: serde_json::Value = serde_json::from_str(&json(&rows, 1)).unwrap();
        assert_eq!(parsed["servers"]["server"][0]["upstream"], "a,\"<b>&/web");
        assert!(html(&rows, 1).contains("<td>a,&quot;&lt;b&gt;&amp;/web</td>"));
    }
}
