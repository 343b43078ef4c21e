//! `lockgate why`: from the id in an answer's body, or in the log, to what happened.

use serde_json::Value;

use crate::support::{Backend, Port, Site};

/// The id in the body of an error.
fn id(body: &str) -> String {
    let (_, id) = body.split_once("request id ").unwrap();
    id.trim().to_owned()
}

fn json(site: &Site, id: &str) -> Value {
    let printed = site.lockgate.run(&["why", id, "--json"]).expect(0).stdout;
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn a_failed_request_is_explained_by_the_id_its_client_got() {
    let port = Port::reserve();
    let site = Site::http().address(&port.refusing_address()).start();
    let answer = site.get("/a?b=%00").expect(502);
    let id = id(&answer.text());
    let line = json(&site, &id);
    assert_eq!((&line["status"], &line["cause"]), (&502.into(), &"connect_refused".into()));
    assert_eq!((&line["phase"], &line["path"]), (&"connect".into(), &"/a?b=%00".into()));
    assert_eq!((&line["method"], &line["protocol"]), (&"GET".into(), &"HTTP/1.1".into()));
    assert_eq!(line["attempts"].as_array().unwrap().len(), 1, "{line}");
    assert_eq!(line["attempts"][0]["backend"], port.refusing_address().as_str());
    assert_eq!(line["sent"], answer.body.len());
    // However it is spelled on the telephone.
    let text = site.lockgate.run(&["why", &id.to_uppercase()]).expect(0).stdout;
    assert!(text.starts_with(&format!("request {id} at ")), "{text}");
    assert!(text.contains("502, connect_refused in phase connect"), "{text}");
}

#[test]
fn a_retried_request_is_explained_with_each_attempt() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let site = Site::http().address(&port.refusing_address()).backend(&b2).start();
    // One of two finds the other backend first.
    for _ in 0..2 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    let log = site.lockgate.wait_for_log(&["attempt failed"]);
    let (_, id) = log.split_once("request_id=").unwrap();
    let id = id.split_whitespace().next().unwrap();
    let line = json(&site, id);
    assert_eq!((&line["status"], line.get("cause")), (&200.into(), None), "{line}");
    let attempts = line["attempts"].as_array().unwrap();
    let causes: Vec<_> = attempts.iter().map(|one| one["cause"].as_str()).collect();
    assert_eq!(causes, [Some("connect_refused"), None], "{line}");
    assert_eq!(
        (&attempts[1]["backend"], &attempts[1]["status"]),
        (&b2.address().into(), &200.into())
    );
    assert!(attempts[1]["header_ms"].as_f64().unwrap() > 0.0, "{line}");
}

#[test]
fn an_id_that_nobody_knows_is_said_to_be_one() {
    let backend = Backend::named("B1");
    let site = Site::http().backend(&backend).start();
    let unknown = site.lockgate.run(&["why", "0123456789abcdef"]).expect(1).stderr;
    assert!(unknown.contains("no request of this id"), "{unknown}");
    let none = site.lockgate.run(&["why", "a b"]).expect(1).stderr;
    assert!(none.contains("one word"), "{none}");
}
