//! Balance meets stickiness: who is bound weighs on whom is picked next.

use super::{newcomer, set};
use crate::support::{Backend, Gate, Site, SiteBuilder};

/// Two backends that hold `/hold`.
fn holding(gate: &Gate) -> [Backend; 2] {
    ["B1", "B2"].map(|name| {
        let hold = gate.clone();
        Backend::scripted(name, move |exchange| {
            if exchange.request().target() == "/hold" {
                hold.pass();
            }
            exchange.echo();
        })
    })
}

#[test]
fn wlc_and_p2c_see_the_bound_load() {
    for balance in ["wlc", "p2c"] {
        let gate = Gate::default();
        let backends = holding(&gate);
        let site = backends
            .iter()
            .fold(Site::http(), SiteBuilder::backend)
            .group(&format!("balance = \"{balance}\""))
            .more("[group.web.sticky]\nmode = \"insert\"\n")
            .start();
        let (home, cookie) = newcomer(&site);
        let busy = backends.iter().find(|b| b.name() == home).unwrap();
        let before = busy.executions();
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut client = site.connect();
            client.send(format!("GET /hold HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"));
            held.push(client);
        }
        busy.wait_for_executions(before + 4);
        for _ in 0..6 {
            let response = site.get("/").expect(200);
            assert_ne!(response.backend(), home, "{balance}");
            assert!(set(&response, "SERVERID").is_some());
        }
        gate.open();
        held.iter_mut().for_each(|client| drop(client.read().expect(200)));
    }
}

#[test]
fn hash_decides_for_newcomers_and_the_cookie_for_the_rest() {
    let gate = Gate::default();
    let backends = holding(&gate);
    let site = backends
        .iter()
        .fold(Site::http(), SiteBuilder::backend)
        .group("balance = \"hash\"\nhash_key = \"path\"")
        .more("[group.web.sticky]\nmode = \"insert\"\n")
        .start();
    let homes = |n: u32| site.get(&format!("/{n}")).expect(200).backend();
    let (home, cookie) = newcomer(&site);
    let elsewhere = (0..50).find(|n| homes(*n) != home).expect("both get some");
    let response = super::get(&site, &format!("/{elsewhere}"), &cookie).expect(200);
    assert_eq!(response.backend(), home);
}
