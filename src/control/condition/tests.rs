//! Tests of what a backend's facts come to.

use serde_json::{Value, json};

use super::*;

/// A backend of which this is told beside what all have.
fn backend(more: &Value) -> BackendStatus {
    let mut all = json!({
        "name": "b", "address": "10.0.0.1:80", "weight": 100, "backup": false, "state": "ready",
        "state_set_by": "file", "state_since": null, "ejected": null, "probe": null,
        "players": null, "tunnels": 0, "resolved": true
    });
    let known = all.as_object_mut().unwrap();
    known.extend(more.as_object().unwrap().clone());
    let mut backend: BackendStatus = serde_json::from_value(all).unwrap();
    backend.condition = Condition::of(&backend);
    backend
}

fn probe(up: Option<bool>, waits: bool, cause: Option<&str>) -> Value {
    let last = cause.map(|cause| {
        json!({ "at": 1, "milliseconds": 1.0, "good": false, "status": null, "cause": cause,
            "detail": "it says so" })
    });
    json!({ "up": up, "since": 7, "waits": waits, "good_in_a_row": 0, "bad_in_a_row": 0,
        "last": last })
}

#[test]
fn the_first_that_holds_is_said() {
    let failing = json!({ "all": 9, "failed": 8, "since": 5 });
    let ejection = json!({ "why": "unreachable", "since": 3, "left": 1.5 });
    let trial = json!({ "why": "failing", "since": 3, "left": 0.0 });
    let last = json!({ "at": 1, "cause": "connect_refused" });
    let refused = probe(Some(false), false, Some("connect_refused"));
    let cases = [
        (json!({}), ("not probed", Level::Good, "", true)),
        (json!({ "probe": probe(Some(true), false, None) }), ("up", Level::Good, "", true)),
        (
            json!({ "probe": probe(None, false, None) }),
            ("unproven", Level::Good, "serves until its first verdict", true),
        ),
        (
            json!({ "failing": failing, "last_failure": last }),
            (
                "failing",
                Level::Bad,
                "8 of 9 attempts of the last minute failed or got a 5xx, the last by \
                 connect_refused",
                true,
            ),
        ),
        (json!({ "weight": 0 }), ("weight 0", Level::Note, "as its file says", false)),
        (
            json!({ "ejection": ejection, "last_failure": last, "failing": failing }),
            ("ejected", Level::Bad, "cannot be connected to: connect_refused", false),
        ),
        (
            json!({ "ejection": trial, "failing": failing }),
            ("on trial", Level::Warn, "its requests fail; the next request decides", true),
        ),
        (
            json!({ "probe": probe(None, true, None), "ejection": ejection }),
            ("waiting", Level::Note, "for its first probes", false),
        ),
        (
            json!({ "probe": refused, "ejection": ejection }),
            ("down", Level::Bad, "probes: connect_refused: it says so", false),
        ),
        (
            json!({ "resolved": false, "probe": refused }),
            ("no address", Level::Bad, "its name does not resolve: dns", false),
        ),
        (
            json!({ "state": "drain", "state_set_by": "operator", "resolved": false,
                "probe": refused, "players": 1, "tunnels": 2 }),
            (
                "drain",
                Level::Note,
                "set by the operator; its probes find it down; 1 player, 2 WebSockets left",
                false,
            ),
        ),
        (
            json!({ "state": "maint" }),
            ("maint", Level::Note, "as its file says; nobody left", false),
        ),
    ];
    for (more, (word, level, why, serves)) in cases {
        let is = backend(&more).condition;
        assert_eq!((&*is.word, is.level, &*is.why, is.serves), (word, level, why, serves));
    }
}

#[test]
fn a_group_is_as_its_backends_and_its_requests_are() {
    let good = json!({});
    let backup = json!({ "backup": true });
    let drained = json!({ "state": "drain" });
    let ejected = json!({ "ejection": { "why": "unreachable", "since": 3, "left": 1.5 } });
    let failing = json!({ "all": 9, "failed": 8, "since": 5 });
    let group = |backends: &[&Value], failing: Option<&Value>| {
        let backends = backends.iter().map(|one| backend(one)).collect();
        let failing = failing.map(|one| serde_json::from_value(one.clone()).unwrap());
        let none = json!({ "name": "web", "sticky": null, "backends": [] });
        let none: GroupStatus = serde_json::from_value(none).unwrap();
        let is = GroupCondition::of(&GroupStatus { backends, failing, ..none });
        (is.word.into_owned(), is.level, is.why)
    };
    let says = |word: &str, level, why: &str| (word.to_owned(), level, why.to_owned());
    assert_eq!(group(&[&good, &good], None), says("2 of 2 serve", Level::Good, ""));
    assert_eq!(group(&[&good, &drained], None), says("1 of 2 serve", Level::Note, ""));
    assert_eq!(group(&[&good, &ejected], None), says("1 of 2 serve", Level::Bad, ""));
    assert_eq!(group(&[&ejected, &backup], None), says("only backups serve", Level::Bad, ""));
    let why = "until an ejection ends";
    assert_eq!(group(&[&ejected], Some(&failing)), says("nobody serves", Level::Bad, why));
    assert_eq!(group(&[&drained], None), says("nobody serves", Level::Warn, ""));
    let why = "8 of 9 requests of the last minute failed or got a 5xx";
    assert_eq!(group(&[&good], Some(&failing)), says("requests fail", Level::Bad, why));
}
