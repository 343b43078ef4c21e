//! How backends and groups are, as all who ask are told.

use serde_json::Value;

use crate::support::{Backend, Port, Site};

fn groups(site: &Site) -> Value {
    let status = site.lockgate.run(&["status", "--json"]).expect(0).stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    status["games"][0]["groups"].clone()
}

/// A group whose only backend answers with 500, and one whose only one is not there:
/// neither is ever ejected, and nobody probes them.
fn broken(ill: &Backend, gone: &Port) -> Site {
    Site::http()
        .backend(ill)
        .rule("path = \"/gone\"\ngroup = \"gone\"")
        .more(&format!("[group.gone]\nbackends = [\"{}\"]\n", gone.refusing_address()))
        .start()
}

#[test]
fn who_fails_most_requests_is_failing() {
    let ill = Backend::answering("B1", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    let gone = Port::reserve();
    let site = broken(&ill, &gone);
    for _ in 0..4 {
        site.get("/").expect(500);
    }
    let told = groups(&site);
    assert_eq!(
        (&told[1]["condition"]["level"], &told[1]["failing"]),
        (&"good".into(), &Value::Null)
    );
    site.get("/").expect(500);
    for _ in 0..6 {
        site.get("/gone").expect(502);
    }
    let told = groups(&site);
    for (at, (all, cause)) in [(6, "connect_refused"), (5, "http_5xx")].into_iter().enumerate() {
        let group = &told[at];
        let is = &group["condition"];
        assert_eq!((&is["word"], &is["level"]), (&"requests fail".into(), &"bad".into()), "{is}");
        let why = format!("{all} of {all} requests of the last minute failed or got a 5xx");
        assert_eq!(is["why"], why);
        let backend = &group["backends"][0];
        let is = &backend["condition"];
        assert_eq!((&is["word"], &is["serves"]), (&"failing".into(), &true.into()), "{is}");
        assert_eq!(
            (&backend["failing"]["failed"], &backend["attempts"]["errors"]),
            (&all.into(), &all.into())
        );
        let last = &backend["last_failure"];
        assert!(last["cause"] == cause && last["at"].is_u64(), "{last}");
    }
    let table = site.lockgate.run(&["status"]).expect(0).stdout;
    let line = |part: &str| {
        let mut lines = table.lines().filter(|line| line.contains(part));
        lines.next().unwrap_or_else(|| panic!("no {part} in\n{table}")).to_owned()
    };
    line("game/web: requests fail, 5 of 5 requests of the last minute failed or got a 5xx");
    let said = line(&gone.refusing_address());
    assert!(said.contains(" failing ") && said.contains("6 of 6 attempts"), "{said}");
    assert!(said.contains("last failure connect_refused at 20"), "{said}");
    let view = site.lockgate.run(&["top", "--once", "--interval", "100ms", "--json"]).expect(0);
    let view: Value = serde_json::from_str(&view.stdout).unwrap();
    let health: Vec<&Value> =
        [0, 1].map(|at| &view["groups"][at]["backends"][0]["health"]).to_vec();
    assert_eq!(health, ["failing", "failing"]);
}

/// A connection for a body that its client does not finish is no failure of who
/// waited for it.
#[test]
fn a_client_that_leaves_is_no_error_of_the_backend() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.read_body();
        exchange.reply("B1");
    });
    let site = Site::before(&b1);
    for n in 1..=6 {
        let mut client = site.connect();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nsome");
        b1.wait_for_executions(n);
        client.reset();
    }
    site.lockgate.wait_for_log(&["cause=client_gone"]);
    crate::support::eventually("all are counted", || {
        groups(&site)[0]["requests"]["by_cause"]["client_gone"] == 6
    });
    let told = groups(&site);
    let attempts = &told[0]["backends"][0]["attempts"];
    assert_eq!((&attempts["by_class"]["none"], &attempts["errors"]), (&6.into(), &0.into()));
    assert_eq!((&told[0]["requests"]["errors"], &told[0]["failing"]), (&0.into(), &Value::Null));
    assert_eq!(told[0]["backends"][0]["condition"]["word"], "not probed");
}
