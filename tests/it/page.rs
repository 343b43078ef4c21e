//! The admin page and what it asks for: its headers, and what `/status.json` tells
//! for it. How it looks and reads is seen in `clients/page.rs`.

use serde_json::{Value, json};

use crate::support::{Backend, Lockgate, Port, Site, eventually, group, http_listener};

fn document(lockgate: &Lockgate, target: &str) -> Value {
    let answer = lockgate.admin().get(&lockgate.admin_host(), target).expect(200);
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn nothing_but_its_own_script_is_allowed_to_run_in_it() {
    let site = Site::before(&Backend::named("B1"));
    let host = site.lockgate.admin_host();
    let page = site.lockgate.admin().get(&host, "/").expect(200);
    assert_eq!(page.value("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.value("cache-control"), "no-store");
    let policy = page.value("content-security-policy");
    let directives: Vec<&str> = policy.split("; ").collect();
    for directive in [
        "default-src 'none'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ] {
        assert!(directives.contains(&directive), "{directive} in {policy}");
    }
    for kind in ["script-src 'sha256-", "style-src 'sha256-"] {
        let found = directives.iter().find_map(|one| one.strip_prefix(kind)).unwrap();
        assert_eq!(found.len(), 45, "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for target in ["/", "/status.json", "/live", "/nothing"] {
        let answer = site.lockgate.admin().get(&host, target);
        assert_eq!(answer.value("x-content-type-options"), "nosniff", "{target}");
        assert_eq!(answer.value("referrer-policy"), "no-referrer", "{target}");
        assert_eq!(answer.value("x-frame-options"), "DENY", "{target}");
        assert_eq!(answer.value("content-security-policy"), policy, "{target}");
    }
}

#[test]
fn it_is_there_for_head_and_nothing_else_is() {
    let site = Site::before(&Backend::named("B1"));
    let host = site.lockgate.admin_host();
    let page = site.lockgate.admin().get(&host, "/").expect(200);
    let mut client = site.lockgate.admin();
    client.send(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let head = client.read_after("HEAD").expect(200);
    assert_eq!(head.value("content-length"), page.body.len().to_string());
    for target in ["/page.js", "/index.html", "//", "/..", "/favicon.ico"] {
        site.lockgate.admin().get(&host, target).expect(404);
    }
    site.lockgate.admin().get("evil.example", "/").expect(421);
    site.lockgate.admin().post(&host, "/", b"").expect(405);
}

#[test]
fn listeners_are_told_with_their_rules() {
    let backend = Backend::named("B1");
    let site = Site::https()
        .backend(&backend)
        .rule("path = \"/old\"\nredirect = \"https://b.test/\"")
        .rule("path = \"/version\"\nrespond = { status = 200, body = \"7\" }")
        .group("balance = \"p2c\"")
        .start();
    let told = document(&site.lockgate, "/status.json");
    let game = &told["games"][0];
    let expected = json!([{
        "name": format!("a.test:{}", site.port()),
        "domains": ["a.test"],
        "default": false,
        "ports": [site.port()],
        "protocol": "https",
        "http2": true,
        "address": null,
        "rules": [
            { "path": "/old", "group": null, "to": "redirect https://b.test/ (301)" },
            { "path": "/version", "group": null, "to": "respond 200" },
            { "path": "/", "group": "web", "to": "web" },
        ],
    }]);
    assert_eq!(game["listeners"], expected);
    let group = &game["groups"][0];
    assert_eq!((&group["protocol"], &group["balance"]), (&"http".into(), &"p2c".into()));
    assert_eq!(told["certificates"][0]["listener"], game["listeners"][0]["name"]);
}

#[test]
fn the_short_document_says_the_same() {
    let site = Site::before(&Backend::named("B1"));
    let host = site.lockgate.admin_host();
    let [long, short] = ["/status.json", "/status.json?compact"]
        .map(|target| site.lockgate.admin().get(&host, target).expect(200).text());
    assert!(short.len() < long.len() && !short.contains('\n'), "{short}");
    let [long, short] = [long, short].map(|text| {
        let mut told: Value = serde_json::from_str(&text).unwrap();
        told["now"] = Value::Null;
        told
    });
    assert_eq!(long, short);
}

#[test]
fn what_failed_last_is_told_by_whom_and_why() {
    let (port, serving) = (Port::reserve(), Backend::named("B1"));
    let site = Site::http()
        .address_with(&port.refusing_address(), "name = \"gone\", fail_timeout = \"1h\"")
        .backend(&serving)
        .workers(2)
        .start();
    let gone = |told: &Value| told["games"][0]["groups"][0]["backends"][0].clone();
    let told = document(&site.lockgate, "/status.json");
    assert_eq!(
        (&gone(&told)["last_failure"], &gone(&told)["ejection"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(told["recent"], json!([]));

    // One request that meets it is served by the other.
    eventually("the backend is met", || {
        site.get("/met").expect(200);
        !gone(&document(&site.lockgate, "/status.json"))["ejected"].is_null()
    });
    site.connect().get("b.test", "/nobody's").expect(421);
    serving.kill();
    for n in 0..4 {
        site.get(&format!("/failed/{n}")).expect(502);
    }
    let told = document(&site.lockgate, "/status.json");
    let backend = gone(&told);
    let failure = &backend["last_failure"];
    let at = failure["at"].as_u64().unwrap();
    assert!(at >= told["started"].as_u64().unwrap() / 1000, "{failure}");
    assert_eq!(failure["cause"], "connect_refused");
    let ejection = &backend["ejection"];
    assert_eq!((&ejection["why"], &ejection["since"]), (&"unreachable".into(), &at.into()));
    let left = ejection["left"].as_f64().unwrap();
    assert!(0.0 < left && left <= 3600.01, "{ejection}");

    let recent = told["recent"].as_array().unwrap();
    let all =
        |key: &str| -> Vec<&str> { recent.iter().map(|one| one[key].as_str().unwrap()).collect() };
    assert!(all("time").is_sorted_by(|one, other| one >= other), "{:?}", all("time"));
    // Of the same millisecond those of one worker stand first.
    let mut paths = all("path");
    assert_eq!(paths.pop(), Some("/met"));
    paths.sort_unstable();
    assert_eq!(paths, ["/failed/0", "/failed/1", "/failed/2", "/failed/3"]);
    assert_eq!(recent[0]["cause"], "no_available_backend");
    assert_eq!(recent[4]["attempts"][0]["backend"], "gone");
    assert_eq!(recent[4]["attempts"][0]["cause"], "connect_refused");
}

#[test]
fn the_last_reloads_are_told_and_no_dry_run() {
    let (port, backend) = (Port::reserve(), Backend::named("B1"));
    let good = http_listener("a.test", &port, "group = \"web\"") + &group("web", &backend);
    let lockgate = Lockgate::with("game.toml", &good).start();
    assert_eq!(document(&lockgate, "/status.json")["reloads"], json!([]));
    lockgate.write("listeners.d/game.toml", good.replace("\"web\"", "\"web\"\nmax_requests = 7"));
    lockgate.run(&["reload", "--dry-run"]).expect(0);
    lockgate.reload();
    lockgate.write("listeners.d/game.toml", "wrong");
    lockgate.run(&["reload"]).expect(1);
    let told = document(&lockgate, "/status.json");
    let reloads = told["reloads"].as_array().unwrap();
    assert_eq!(reloads.len(), 2, "{reloads:?}");
    let (refused, changed) = (&reloads[0], &reloads[1]);
    assert!(refused["at"].as_u64() >= changed["at"].as_u64());
    assert_eq!((&refused["good"], &changed["good"]), (&false.into(), &true.into()));
    assert_eq!(refused["games"][0]["verdict"], "refused");
    assert_eq!(changed["games"][0]["verdict"], "changed");
    let change = changed["games"][0]["changes"][0].as_str().unwrap();
    assert!(change.ends_with("max_requests none → 7"), "{change}");
    assert_eq!((&changed["generation"], &changed["games_in_all"]), (&2.into(), &1.into()));
}
