//! `lockgate explain` of requests that no backend gets, or gets in vain: a body
//! that is too long, a WebSocket that the group cannot speak, a name without an
//! address; and of backends whose state the operator set.

use serde_json::{Value, json};

use crate::support::{
    Backend, H2Backend, NameServer, Port, Site, UPGRADE, eventually, http_listener,
};

impl Site {
    fn url(&self, path: &str) -> String {
        format!("http://a.test:{}{path}", self.port())
    }

    /// What is said of a request for `/`, with these words more.
    #[track_caller]
    fn told(&self, more: &[&str]) -> Value {
        let url = self.url("/");
        let finished = self.lockgate.run(&[&["explain", "--json", &url], more].concat()).expect(0);
        serde_json::from_str(&finished.stdout).unwrap()
    }

    /// The same for people.
    #[track_caller]
    fn printed(&self, more: &[&str]) -> String {
        let url = self.url("/");
        self.lockgate.run(&[&["explain", &url], more].concat()).expect(0).stdout
    }
}

fn outcome(told: &Value) -> [&Value; 3] {
    ["kind", "status", "cause"].map(|key| &told["outcome"][key])
}

#[test]
fn a_body_over_the_limit_is_refused_as_it_is_when_it_comes() {
    let backend = Backend::named("B1");
    let site = Site::http().listener("max_body = 10").backend(&backend).start();
    for (length, body, status) in [(11, "more than the 10", 413), (10, "at most 10", 200)] {
        let length_field = format!("Content-Length: {length}");
        let more = ["--method", "POST", "--header", &length_field];
        let told = site.told(&more);
        let kind = if status == 200 { "forward" } else { "refuse" };
        assert_eq!(told["outcome"]["kind"], kind, "{told:#}");
        assert_eq!(told["body"], json!({ "length": length, "most": 10 }));
        assert_eq!(site.post("/", &vec![b'x'; length]).status, status);
        let printed = site.printed(&more);
        assert!(printed.contains(&format!("body         {length} bytes, {body}")), "{printed}");
        if status == 413 {
            assert_eq!(outcome(&told), [&json!("refuse"), &json!(413), &json!("limit")]);
            assert!(printed.contains("refuse 413 limit: max_body"), "{printed}");
            assert_eq!(told["pick"], Value::Null, "nobody is picked");
        }
    }
    // Of a body whose length nobody knows the limit is told; without one nothing is.
    let printed = site.printed(&["--method", "POST", "--header", "Transfer-Encoding: chunked"]);
    assert!(printed.contains("body         at most 10 bytes (`max_body`), else 413"), "{printed}");
    let unlimited = Site::before(&backend);
    assert_eq!(unlimited.told(&[])["body"], Value::Null);
}

#[test]
fn a_websocket_to_an_h2c_group_is_refused_as_it_is_when_it_comes() {
    let backends = ["B1", "B2"].map(H2Backend::echoing);
    let site = Site::http().group("protocol = \"h2c\"");
    let site = backends.iter().fold(site, |site, one| site.address(&one.address())).start();
    site.get("/").expect(200);
    let upgrade = ["--header", "Connection: Upgrade", "--header", "Upgrade: websocket"];
    let told = site.told(&upgrade);
    assert_eq!(outcome(&told), [&json!("refuse"), &json!(502), &json!("connect_error")]);
    let printed = site.printed(&upgrade);
    assert!(printed.contains("a WebSocket needs protocol http or https"), "{printed}");
    site.request(UPGRADE).expect(502);
    let line = site.lockgate.wait_for_log(&["status=502", "cause=connect_error"]);
    assert!(line.contains("a WebSocket needs protocol http or https"), "{line}");
    // No backend is asked in vain, and none is blamed.
    assert!(!site.lockgate.log().contains("attempt failed"), "{}", site.lockgate.log());
    assert_eq!(site.told(&[])["outcome"]["kind"], "forward");
}

#[test]
fn a_name_without_an_address_is_not_called_available() {
    let (dns, port) = (NameServer::start(), Port::reserve());
    let named = format!("web.internal:{port}");
    let site = Site::http().process(&dns.table()).address(&named).start();
    let told = site.told(&[]);
    assert_eq!(outcome(&told), [&json!("refuse"), &json!(502), &json!("dns")]);
    assert_eq!(told["group"]["backends"][0]["no_address"], true, "{told:#}");
    let printed = site.printed(&[]);
    let said = format!("{named}  its name has no address: an attempt there fails at once (`dns`)");
    assert!(printed.contains(&said), "{printed}");
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["status=502", "cause=dns"]);
    // The files alone do not say what a name leads to.
    let told = site.told(&["--offline"]);
    assert_eq!(told["outcome"]["kind"], "forward", "{told:#}");
    assert_eq!(told["group"]["backends"][0]["no_address"], false);
    let printed = site.printed(&["--offline"]);
    assert!(printed.contains(&format!("{named}  available")), "{printed}");

    dns.points("web.internal", &["127.0.0.1"], 300);
    eventually("the name is found", || site.told(&[])["outcome"]["kind"] == "forward");
    assert_eq!(site.told(&[])["group"]["backends"][0]["no_address"], false);
}

/// It is picked, in vain, and the request goes on to the next.
#[test]
fn beside_others_a_name_without_an_address_costs_an_attempt() {
    let (dns, port, backend) = (NameServer::start(), Port::reserve(), Backend::named("B1"));
    let named = format!("web.internal:{port}");
    let site = Site::http()
        .process(&dns.table())
        .address_with(&named, "name = \"named\", max_fails = 0")
        .backend_with(&backend, "name = \"B1\"")
        .start();
    let told = site.told(&[]);
    assert_eq!(told["outcome"]["kind"], "forward", "{told:#}");
    assert_eq!(told["pick"]["candidates"].as_array().unwrap().len(), 2);
    let why = told["pick"]["why"].as_str().unwrap();
    assert!(why.ends_with("; the name of named has no address: an attempt there fails at once"));
    let printed = site.printed(&[]);
    assert!(printed.contains("if it fails  dns, connect_refused"), "{printed}");
    for _ in 0..2 {
        site.get("/").expect(200);
    }
    site.lockgate.wait_for_log(&["cause=dns", "named"]);
}

#[test]
fn the_files_know_what_the_operator_said() {
    let backends = ["B1", "B2"].map(Backend::named);
    let site = Site::http();
    let named = |site: crate::support::SiteBuilder, one: &Backend| {
        site.backend_with(one, &format!("name = \"{}\"", one.name()))
    };
    let beside = Port::reserve();
    let other = http_listener("o.test", &beside, "group = \"other\"")
        + "[group.other]\nbackends = [\"127.0.0.1:9\"]\n";
    let mut site = backends.iter().fold(site, named).more(&other).start();
    let notes = |told: &Value| told["notes"].as_array().unwrap().clone();
    assert_eq!(notes(&site.told(&["--offline"])), [] as [Value; 0]);
    site.lockgate.run(&["drain", "game/web/B1"]).expect(0);
    let running = site.told(&[]);
    assert_eq!(site.lockgate.terminate(), 0);

    let told = site.told(&["--offline"]);
    let of_b1 = &told["group"]["backends"][0];
    assert_eq!(of_b1["why_not"], "it is in drain, the operator says");
    assert_eq!(*of_b1, running["group"]["backends"][0]);
    assert_eq!(told["pick"], running["pick"]);
    let said = notes(&told)[0].as_str().unwrap().to_owned();
    assert!(said.contains("the operator") && said.contains("/admin-state.json"), "{said}");
    // It is said where it matters.
    let url = format!("http://o.test:{beside}/");
    let of_other = site.lockgate.run(&["explain", "--offline", "--json", &url]).expect(0).stdout;
    assert_eq!(notes(&serde_json::from_str(&of_other).unwrap()), [] as [Value; 0]);

    site.lockgate.write("state/admin-state.json", "no JSON");
    let told = site.told(&["--offline"]);
    assert_eq!(told["group"]["backends"][0]["available"], true);
    let said = notes(&told)[0].as_str().unwrap().to_owned();
    assert!(said.contains("admin-state.json` cannot be used"), "{said}");
}
