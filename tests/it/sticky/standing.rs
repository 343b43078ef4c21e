//! What a cookie meets: its backend in every state that the file can give it.
//! (Down and ejected are decided in `policy/sticky`.)

use super::{Game, ask, set, sticky, three};
use crate::support::{Backend, Gate, Site};

#[test]
fn a_draining_backend_serves_its_own_and_takes_no_new() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let before = game.start(&[(b1, ""), (b2, ""), (b3, "")], "");
    let cookie = game.bound_to("B1");
    drop(before);
    for keys in ["state = \"drain\"", "weight = 0"] {
        let lockgate = game.start(&[(b1, keys), (b2, ""), (b3, "")], "");
        for _ in 0..6 {
            assert_ne!(game.get("").expect(200).backend(), "B1", "{keys}");
            let response = game.get(&cookie).expect(200);
            let moved = set(&response, "SERVERID");
            assert_eq!((response.backend().as_str(), moved), ("B1", None), "{keys}");
        }
        let page = lockgate.admin().get(&lockgate.admin_host(), "/status.json").expect(200);
        let page: serde_json::Value = serde_json::from_slice(&page.body).unwrap();
        let shown = &page["games"][0]["groups"][0]["backends"][0];
        let (state, weight) = if keys.contains("drain") { ("drain", 100) } else { ("ready", 0) };
        assert_eq!((&shown["state"], &shown["weight"]), (&state.into(), &weight.into()));
        drop(lockgate);
    }
}

#[test]
fn maint_and_removal_bind_anew_and_nobody_is_moved_back() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let all = [(b1, ""), (b2, ""), (b3, "")];
    let before = game.start(&all, "");
    let cookies = [game.bound_to("B1"), game.bound_to("B1")];
    drop(before);
    let without: [&[(&Backend, &str)]; 2] =
        [&[(b1, "state = \"maint\""), (b2, ""), (b3, "")], &[(b2, ""), (b3, "")]];
    for (members, cookie) in without.into_iter().zip(&cookies) {
        let lockgate = game.start(members, "");
        let response = game.get(cookie).expect(200);
        let home = response.backend();
        assert_ne!(home, "B1");
        let new = format!("SERVERID={}", set(&response, "SERVERID").expect("bound anew"));
        for _ in 0..4 {
            assert_eq!(game.get(&new).expect(200).backend(), home);
        }
        drop(lockgate);
        // B1 is back; who was moved stays where he is.
        let lockgate = game.start(&all, "");
        for _ in 0..4 {
            let response = game.get(&new).expect(200);
            assert_eq!((response.backend(), set(&response, "SERVERID")), (home.clone(), None));
        }
        drop(lockgate);
    }
}

/// Bound by name: the order in the file and the addresses are nobody's business.
#[test]
fn a_binding_is_to_a_name() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let (one, two) = ("name = \"one\"", "name = \"two\"");
    let before = game.start(&[(b1, one), (b2, two)], "");
    let cookie = game.bound_to("B1");
    drop(before);
    let _after = game.start(&[(b2, two), (b3, one)], "");
    for _ in 0..4 {
        assert_eq!(game.get(&cookie).expect(200).backend(), "B3");
    }
}

#[test]
fn when_none_is_left_it_is_502() {
    let backends = three();
    let [b1, b2, _] = &backends;
    let game = Game::new();
    let before = game.start(&[(b1, ""), (b2, "")], "");
    let cookie = game.bound_to("B1");
    drop(before);
    let _after = game.start(&[(b1, "state = \"maint\""), (b2, "state = \"drain\"")], "");
    game.get(&cookie).expect(502);
    game.get("").expect(502);
}

#[test]
fn a_full_backend_is_passed_by_this_once() {
    let gate = Gate::default();
    let backends = ["B1", "B2"].map(|name| {
        let hold = gate.clone();
        Backend::scripted(name, move |exchange| {
            if exchange.request().target() == "/hold" {
                hold.pass();
            }
            exchange.echo();
        })
    });
    let site = backends
        .iter()
        .fold(Site::http(), |site, b| site.backend_with(b, "max_connections = 1"))
        .more("[group.web.sticky]\nmode = \"insert\"\n")
        .start();
    let first = site.get("/").expect(200);
    let home = first.backend();
    let cookie = format!("SERVERID={}", set(&first, "SERVERID").unwrap());
    let busy = backends.iter().find(|b| b.name() == home).unwrap();
    let mut held = site.connect();
    held.send(format!("GET /hold HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"));
    busy.wait_for_executions(2);
    for _ in 0..3 {
        let response = super::get(&site, "/", &cookie).expect(200);
        assert_ne!(response.backend(), home);
        assert_eq!(set(&response, "SERVERID"), None, "the binding stays");
    }
    gate.open();
    held.read().expect(200);
    assert_eq!(super::get(&site, "/", &cookie).expect(200).backend(), home);
}

#[test]
fn a_full_group_is_503_for_the_bound_too() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().target() == "/hold" {
            hold.pass();
        }
        exchange.echo();
    });
    let site = Site::http()
        .backend_with(&b1, "max_connections = 1")
        .more("[group.web.sticky]\nmode = \"insert\"\n")
        .start();
    let first = site.get("/").expect(200);
    let cookie = format!("SERVERID={}", set(&first, "SERVERID").unwrap());
    let mut held = site.connect();
    held.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b1.wait_for_executions(2);
    super::get(&site, "/", &cookie).expect(503);
    gate.open();
    held.read().expect(200);
}

/// A sticky group whose backend draws new clients away from it.
#[test]
fn backups_keep_whom_they_got() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let before =
        game.start(&[(b1, "state = \"maint\""), (b2, "backup = true"), (b3, "backup = true")], "");
    let cookie = game.bound_to("B2");
    drop(before);
    let _after = game.start(&[(b1, ""), (b2, "backup = true"), (b3, "backup = true")], "");
    assert_eq!(game.get("").expect(200).backend(), "B1");
    assert_eq!(game.get(&cookie).expect(200).backend(), "B2");
}

#[test]
fn a_group_of_one_binds_as_well() {
    let backends = [Backend::named("B1")];
    let site = sticky(Site::http(), &backends, "mode = \"insert\"");
    let mut client = site.connect();
    let value = set(&ask(&mut client, "/", "").expect(200), "SERVERID").unwrap();
    let again = ask(&mut client, "/", &format!("SERVERID={value}")).expect(200);
    assert_eq!(set(&again, "SERVERID"), None);
}
