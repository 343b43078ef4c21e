//! What `/status.json` tells of requests and attempts.

use serde_json::{Value, json};

use crate::support::{Backend, Port, Site};

fn document(site: &Site) -> Value {
    serde_json::from_str(&site.lockgate.run(&["status", "--json"]).expect(0).stdout).unwrap()
}

fn sum(took: &Value) -> u64 {
    took["buckets"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum()
}

#[test]
fn requests_are_counted_by_their_group_and_attempts_by_their_backend() {
    let (port, backend) = (Port::reserve(), Backend::named("B1"));
    let site = Site::http()
        .address_with(&port.refusing_address(), "max_fails = 0")
        .backend(&backend)
        .rule("path = \"/moved\"\nredirect = \"https://b.test/\"")
        .workers(2)
        .start();
    for _ in 0..4 {
        site.post("/", b"12345").expect(200);
    }
    site.get("/moved").expect(301);
    site.connect().get("unknown.test", "/").expect(421);

    let told = document(&site);
    let (started, now) = (told["started"].as_u64().unwrap(), told["now"].as_u64().unwrap());
    assert!(1_700_000_000_000 < started && started <= now, "{started} {now}");
    assert_eq!(told["requests"]["by_cause"], json!({ "misdirected": 1 }));
    let game = &told["games"][0];
    assert_eq!(game["requests"]["by_class"]["3xx"], 1, "{}", game["requests"]);

    let group = &game["groups"][0];
    let requests = &group["requests"];
    let classes = json!({ "none": 0, "1xx": 0, "2xx": 4, "3xx": 0, "4xx": 0, "5xx": 0 });
    assert_eq!((&requests["by_class"], &requests["by_cause"]), (&classes, &json!({})));
    assert_eq!(requests["received"], 20);
    assert!(requests["sent"].as_u64().unwrap() > 0, "{requests}");
    assert_eq!(sum(&requests["took"]), 4);
    assert!(requests["took"]["sum_seconds"].as_f64().unwrap() > 0.0, "{requests}");

    let [refusing, serving] = [0, 1].map(|at| &group["backends"][at]);
    assert_eq!(refusing["in_flight"], 0);
    let refused = refusing["attempts"]["by_class"]["none"].as_u64().unwrap();
    assert!((1..=4).contains(&refused), "{refusing}");
    assert_eq!(refusing["attempts"]["by_cause"], json!({ "connect_refused": refused }));
    let attempts = &serving["attempts"];
    assert_eq!((&attempts["by_class"], &attempts["retries"]), (&classes, &refused.into()));
    assert_eq!((&attempts["sent"], sum(&attempts["header"])), (&20.into(), 4));
    assert!(sum(&attempts["connect"]) > 0, "{attempts}");
}

#[test]
fn what_is_under_way_is_told() {
    let backend = Backend::named("B1");
    let site = Site::http().backend(&backend).group("balance = \"wlc\"").start();
    site.get("/").expect(200);
    assert_eq!(document(&site)["games"][0]["groups"][0]["backends"][0]["in_flight"], 0);
}
