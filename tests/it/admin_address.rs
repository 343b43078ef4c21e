//! The admin address: who is answered, that it never acts, and the status page
//! that scripts know (SEMANTICS ST).

use crate::support::{Backend, Lockgate, Response, Setup, Site, eventually};

#[test]
fn only_its_own_names_are_answered() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let ask = |host: &str, target: &str| site.lockgate.admin().get(host, target).status;
    let own = site.lockgate.admin_host();
    let port = own.rsplit(':').next().unwrap();
    for host in [&own, "localhost", &format!("localhost:{port}"), "[::1]", "127.0.0.1:1"] {
        assert_eq!(ask(host, "/status.json"), 200, "{host}");
    }
    for host in ["a.test", &format!("evil.test:{port}"), "10.0.0.1", "127.0.0.1.evil.test"] {
        for target in ["/", "/status.json", "/status?format=json"] {
            assert_eq!(ask(host, target), 421, "{host} {target}");
        }
        // Balancers ask with any.
        assert_eq!((ask(host, "/live"), ask(host, "/ready")), (200, 200), "{host}");
    }
    let two = "GET /status.json HTTP/1.1\r\nHost: localhost\r\nHost: a.test\r\n\r\n";
    assert_eq!(site.lockgate.admin().request(two).status, 421);
}

#[test]
fn further_names_are_configured_and_come_with_a_reload() {
    let b1 = Backend::named("B1");
    let site = Site::http().backend(&b1).process("hosts = [\"Gate.internal\"]\n").start();
    let ask = |host: &str| site.lockgate.admin().get(host, "/status.json").status;
    assert_eq!((ask("gate.INTERNAL"), ask("gate.internal:1"), ask("localhost")), (200, 200, 200));
    assert_eq!(ask("gate.test"), 421);
    let text = std::fs::read_to_string(site.lockgate.path().join("lockgate.toml")).unwrap();
    site.lockgate.write("lockgate.toml", text.replace("Gate.internal", "gate.test:99"));
    site.lockgate.reload();
    assert_eq!((ask("gate.internal"), ask("gate.test"), ask("gate.test:99")), (421, 421, 200));
    let said =
        Setup::empty().process("hosts = [\"https://gate.test\"]\n").run(&["check"]).expect(1);
    assert!(said.stderr.contains("is not a name"), "{}", said.stderr);
}

#[test]
fn it_tells_and_never_acts() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let host = site.lockgate.admin_host();
    for target in ["/reload", "/upgrade", "/state?to=maint&target=game", "/status", "/live"] {
        for method in ["POST", "PUT", "DELETE"] {
            let response = site.lockgate.admin().request(format!(
                "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
            ));
            assert_eq!(response.status, 405, "{method} {target}");
            assert_eq!(response.value("allow"), "GET, HEAD");
            let text = String::from_utf8_lossy(&response.body).into_owned();
            assert!(text.contains("admin.sock"), "{text}");
        }
    }
    // What the socket does is not to be had here in another way either.
    site.lockgate.admin().get(&host, "/state?to=maint&target=game").expect(404);
    site.get("/").expect(200);
}

/// A probed group of these two, and one without a probe.
fn probed(b1: &Backend, b2: &Backend) -> Site {
    Site::http()
        .backend(b1)
        .backend(b2)
        .more(&format!(
            "[group.web.probe]\ninterval = \"100ms\"\ntype = \"tcp\"\n\
             [group.other]\nbackends = [\"{}\"]\n",
            b1.address()
        ))
        .start()
}

#[track_caller]
fn page(lockgate: &Lockgate, query: &str) -> Response {
    lockgate.admin().get(&lockgate.admin_host(), &format!("/status{query}")).expect(200)
}

#[track_caller]
fn json(lockgate: &Lockgate, query: &str) -> serde_json::Value {
    let page = page(lockgate, query);
    assert_eq!(page.value("content-type"), "application/json");
    let all: serde_json::Value = serde_json::from_slice(&page.body).expect("valid JSON");
    let all = all["servers"].clone();
    assert_eq!(all["total"], all["server"].as_array().unwrap().len());
    all
}

fn text(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

#[test]
fn st_01_json() {
    let [b1, b2] = ["B1", "B2"].map(Backend::named);
    let site = probed(&b1, &b2);
    let all = json(&site.lockgate, "?format=json");
    assert_eq!((&all["total"], &all["generation"]), (&2.into(), &1.into()));
    let row = &all["server"][1];
    let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
    let mut expected = ["index", "upstream", "name", "status", "rise", "fall", "type", "port"];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((&row["index"], &row["upstream"]), (&1.into(), &"game/web".into()));
    assert_eq!((&row["name"], &row["status"]), (&b2.address().into(), &"up".into()));
    assert_eq!((&row["type"], &row["port"]), (&"tcp".into(), &0.into()));
    // Also in capitals, and on the page for people, which is what is shown else.
    assert_eq!(json(&site.lockgate, "?format=JSON")["total"], 2);
    for query in ["", "?format=html", "?format=xml", "?x"] {
        let page = page(&site.lockgate, query);
        assert_eq!(page.value("content-type"), "text/html");
        assert!(text(&page).contains("<h2>Check upstream server number: 2, generation: 1</h2>"));
        // The policy that goes with it allows the admin page's own style and no other.
        assert!(page.value("content-security-policy").contains("style-src 'sha256-"));
        assert!(!text(&page).contains("style") && !text(&page).contains("<script"), "{page:?}");
    }
}

#[test]
fn st_02_csv() {
    let [b1, b2] = ["B1", "B2"].map(Backend::named);
    let site = probed(&b1, &b2);
    let page = page(&site.lockgate, "?format=csv");
    assert_eq!(page.value("content-type"), "text/plain");
    let text = text(&page);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 2);
    for (at, (line, backend)) in lines.iter().zip([&b1, &b2]).enumerate() {
        let index = at.to_string();
        assert_eq!(line.len(), 8, "{text}");
        assert_eq!(line[..4], [&index, "game/web", &backend.address(), "up"]);
        assert_eq!(line[6..], ["tcp", "0"]);
    }
}

#[test]
fn st_04_st_05_a_killed_backend_counts_up_and_is_filtered() {
    let [b1, b2] = ["B1", "B2"].map(Backend::named);
    let site = probed(&b1, &b2);
    let row = |at: usize| json(&site.lockgate, "?format=json")["server"][at].clone();
    eventually("it rises", || row(0)["rise"].as_u64() >= Some(3));
    b1.kill();
    let mut falls = Vec::new();
    eventually("it is down", || {
        let row = row(0);
        let fall = row["fall"].as_u64().unwrap();
        assert_eq!(row["status"] == "down", fall >= 3, "{row}");
        assert!(fall == 0 || row["rise"] == 0, "{row}");
        falls.push(fall);
        fall > 3
    });
    assert!(falls.is_sorted(), "{falls:?}");
    for (status, at, backend) in [("down", 0, &b1), ("up", 1, &b2), ("DOWN", 0, &b1)] {
        let all = json(&site.lockgate, &format!("?format=json&status={status}"));
        assert_eq!(all["total"], 1, "{all}");
        assert_eq!(
            (&all["server"][0]["index"], &all["server"][0]["name"]),
            (&at.into(), &backend.address().into())
        );
        let csv = text(&page(&site.lockgate, &format!("?status={status}&format=csv")));
        assert!(csv.lines().count() == 1 && csv.contains(&backend.address()), "{csv}");
        let html = text(&page(&site.lockgate, &format!("?status={status}")));
        assert!(html.contains("server number: 1, "), "{html}");
        assert_eq!(html.contains("bgcolor=\"#FF0000\""), at == 0);
    }
    assert_eq!(json(&site.lockgate, "?format=json&status=sideways")["total"], 2);
}

#[test]
fn st_07_a_reload_is_one_generation() {
    let [b1, b2] = ["B1", "B2"].map(Backend::named);
    let site = probed(&b1, &b2);
    for generation in 2..5 {
        site.lockgate.reload();
        assert_eq!(json(&site.lockgate, "?format=json")["generation"], generation);
    }
}
