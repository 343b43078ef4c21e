//! A port that another program has: no team's wish for it holds up anybody else.

use super::*;

/// A port that another program listens on.
fn taken() -> std::net::TcpListener {
    std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap()
}

fn text(port: impl std::fmt::Display, domain: &str, backend: &Backend) -> String {
    format!(
        "[[listener]]\ndomain = \"{domain}\"\nport = {port}\nprotocol = \"http\"\n\
         group = \"web\"\n{}",
        group("web", backend)
    )
}

#[track_caller]
fn assert_refused(lockgate: &Lockgate, port: u16) {
    let told = status(lockgate)["refused"].to_string();
    assert!(told.contains(&port.to_string()) && told.contains("cannot be had"), "{told}");
}

/// The new process does as the old one did: the version before serves.
#[test]
fn a_version_that_wants_a_taken_port_holds_up_no_upgrade() {
    let (b1, b2) = (mirror("B1"), mirror("B2"));
    let (port, theirs) = (Port::reserve(), taken());
    let wanted = theirs.local_addr().unwrap().port();
    let setup = Setup::empty().file("game.toml", &text(&port, "a.test", &b1));
    let lockgate = setup.start();
    let _family = Family::of(&setup);
    lockgate.write("listeners.d/game.toml", text(wanted, "a.test", &b2));
    for upgrades in 0..2 {
        if upgrades == 0 {
            lockgate.run(&["reload"]).expect(1);
        } else {
            upgrade(&lockgate);
        }
        assert_refused(&lockgate, wanted);
        let mut client = Client::plain(port.number());
        assert_eq!(client.get("a.test", "/").expect(200).backend(), "B1");
    }
    drop(theirs);
    lockgate.reload();
    assert_eq!(Client::plain(wanted).get("a.test", "/").expect(200).backend(), "B2");
}

/// A game of its own does without it, in the new process as after a start.
#[test]
fn a_new_game_that_wants_a_taken_port_holds_up_no_upgrade() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let lockgate = setup.start();
    let _family = Family::of(&setup);
    let theirs = taken();
    let wanted = theirs.local_addr().unwrap().port();
    lockgate.write("listeners.d/other.toml", text(wanted, "b.test", &b1));
    upgrade(&lockgate);
    Client::plain(port.number()).get("a.test", "/").expect(200);
    drop(theirs);
    lockgate.reload();
    Client::plain(wanted).get("b.test", "/").expect(200);
}

/// Started anew it is as after the reload that refused it, and what serves is
/// what is kept.
#[test]
fn a_start_keeps_the_version_that_can_be_served() {
    let (b1, b2) = (mirror("B1"), mirror("B2"));
    let (port, theirs) = (Port::reserve(), taken());
    let wanted = theirs.local_addr().unwrap().port();
    let setup = Setup::empty().file("game.toml", &text(&port, "a.test", &b1));
    assert_eq!(setup.start().terminate(), 0);
    let setup = setup.file("game.toml", &text(wanted, "a.test", &b2));
    for _ in 0..2 {
        let mut lockgate = setup.start();
        assert_refused(&lockgate, wanted);
        let mut client = Client::plain(port.number());
        assert_eq!(client.get("a.test", "/").expect(200).backend(), "B1");
        drop(client);
        assert_eq!(lockgate.terminate(), 0);
    }
    drop(theirs);
    let _lockgate = setup.start();
    assert_eq!(Client::plain(wanted).get("a.test", "/").expect(200).backend(), "B2");
}

/// It cannot be had with the version before either: that is no reason to keep a
/// game from being changed.
#[test]
fn a_version_that_wants_no_more_than_the_one_before_is_taken() {
    let (b1, b2) = (mirror("B1"), mirror("B2"));
    let (port, theirs) = (Port::reserve(), taken());
    let wanted = theirs.local_addr().unwrap().port();
    let both = format!("[{port}, {wanted}]");
    let setup = Setup::empty().file("game.toml", &text(&both, "a.test", &b1));
    let lockgate = setup.start();
    lockgate.write("listeners.d/game.toml", text(&both, "a.test", &b2));
    let said = lockgate.run(&["reload"]).expect(1).text();
    assert!(said.contains("another program has the port"), "{said}");
    let mut client = Client::plain(port.number());
    assert_eq!(client.get("a.test", "/").expect(200).backend(), "B2");
    drop(theirs);
    lockgate.reload();
    assert_eq!(Client::plain(wanted).get("a.test", "/").expect(200).backend(), "B2");
}
