//! Tests of what `top` computes and shows.

use serde_json::{Value, json};

use super::*;
use crate::control::top::view::table;

fn requests(good: u64, bad: u64, refused: u64, buckets: [u64; 3]) -> Value {
    json!({
        "by_class": { "2xx": good, "5xx": bad }, "by_cause": { "connect_refused": refused },
        "errors": bad + refused,
        "received": 0, "sent": 0,
        "took": { "bounds_seconds": [0.001, 0.01], "buckets": buckets, "sum_seconds": 0.0 }
    })
}

fn backend(name: &str, (word, level): (&str, &str), attempts: Value) -> Value {
    let mut attempts = attempts;
    attempts["header"] = attempts["took"].take();
    json!({
        "name": name, "address": "10.0.0.1:80",
        "condition": { "word": word, "level": level, "why": "", "since": null, "serves": true },
        "players": 2, "tunnels": 1, "in_flight": 3, "attempts": attempts
    })
}

fn document(now: u64, met: &Value, backends: &Value) -> Document {
    let none = requests(0, 0, 0, [0; 3]);
    let groups = json!([{ "name": "web", "requests": met, "backends": backends }]);
    serde_json::from_value(json!({
        "version": "1", "pid": 7, "now": now, "started": 500, "generation": 3,
        "connections": 4, "tunnels": 1, "requests": none,
        "games": [{ "name": "youxia", "requests": none, "groups": groups }]
    }))
    .unwrap()
}

fn two() -> (Document, Document) {
    let ready = ("up", "good");
    let before = document(
        1000,
        &requests(100, 10, 5, [100, 10, 0]),
        &json!([
            backend("one", ready, requests(50, 10, 0, [50, 10, 0])),
            backend("two", ready, requests(50, 0, 5, [50, 0, 0])),
        ]),
    );
    let now = document(
        3000,
        &requests(120, 14, 8, [110, 20, 4]),
        &json!([
            backend("one", ("no address", "bad"), requests(50, 10, 0, [50, 10, 0])),
            backend("two", ("drain", "note"), requests(70, 4, 8, [60, 10, 4])),
        ]),
    );
    (before, now)
}

#[test]
fn rates_are_of_the_time_between() {
    let (before, now) = two();
    let mut view = View::between(&before, &now).unwrap();
    assert_eq!((view.seconds, view.groups.len()), (2.0, 1));
    let Rates { per_second, of_5xx_per_second, failed_per_second, .. } = view.all;
    assert_eq!((per_second, of_5xx_per_second, failed_per_second), (12.0, 2.0, 1.5));
    let group = &view.groups[0];
    assert_eq!(group.rates.per_second, 12.0);
    assert_eq!(group.rates.causes_per_second["connect_refused"], 1.5);
    // 10, 10 and 4 of 24: the twelfth is a fifth into the second bucket.
    let p50 = group.rates.p50_seconds.unwrap();
    assert!((p50 - (0.001 + 0.009 * 0.2)).abs() < 1e-9, "{p50}");
    assert_eq!(group.rates.p99_seconds, Some(0.01));
    assert_eq!((group.players, group.tunnels, group.in_flight), (Some(4), 2, Some(6)));
    let names = |view: &View| -> Vec<String> {
        view.groups[0].backends.iter().map(|backend| backend.name.clone()).collect()
    };
    assert_eq!(names(&view), ["one", "two"]);
    view.sort_by(|rates| rates.per_second);
    assert_eq!(names(&view), ["two", "one"]);
    assert_eq!(view.groups[0].backends[1].rates.p50_seconds, None);
}

#[test]
fn two_processes_have_nothing_between_them() {
    let (before, mut now) = two();
    now.started += 1;
    assert!(View::between(&before, &now).is_none());
    let (_, same) = two();
    assert!(View::between(&same, &same).is_none());
}

#[test]
fn what_a_reload_brought_began_at_nothing() {
    let (mut before, now) = two();
    before.games[0].groups.clear();
    let view = View::between(&before, &now).unwrap();
    assert_eq!(view.groups[0].rates.per_second, 67.0);
}

#[test]
fn what_no_group_was_asked_for_is_shown_where_there_is_some() {
    let (before, mut now) = two();
    now.requests.by_class.insert("4xx".into(), 6);
    now.games[0].requests.by_class.insert("3xx".into(), 2);
    let view = View::between(&before, &now).unwrap();
    let names: Vec<_> =
        view.groups.iter().map(|group| (group.game.as_deref(), group.group.as_deref())).collect();
    assert_eq!(names, [(Some("youxia"), None), (Some("youxia"), Some("web")), (None, None)]);
    assert_eq!((view.all.per_second, view.groups[2].rates.per_second), (16.0, 3.0));
}

#[test]
fn the_table_is_aligned() {
    let (before, now) = two();
    let view = View::between(&before, &now).unwrap();
    let text = table(&view, false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "lockgate 1, process 7, generation 3, connections 4, WebSockets 1",
            "12 requests/s, 2.0 5xx/s, 1.5 failed/s, p50 2.8 ms, p99 10 ms, over 2.0 s",
            "",
            "group, backends          health   req/s  5xx/s failed/s     p50     p99 in flight tunnels players  causes/s",
            "youxia/web                           12    2.0      1.5  2.8 ms   10 ms         6       2       4  connect_refused 1.5",
            "  one                no address       0      0        0       -       -         3       1       2",
            "  two                     drain      12    2.0      1.5  2.8 ms   10 ms         3       1       2  connect_refused 1.5",
        ]
    );
    let coloured = table(&view, true);
    assert_eq!(coloured.matches("\x1b[31m").count(), 3, "{coloured}");
}
