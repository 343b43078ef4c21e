//! Upgrades under a steady load: no request fails, no connection is refused,
//! no WebSocket is cut.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{Family, mirror, sockets, upgrade};
use crate::support::{
    Client, H2, Port, Response, Setup, eventually, group, http_listener, https_listener,
};

/// Clients that ask without a pause, and never get anything but a good answer.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    asked: [AtomicUsize; 5],
}

impl Load {
    fn run(&self, kind: usize, mut ask: impl FnMut()) {
        while !self.stop.load(Ordering::SeqCst) {
            ask();
            self.asked[kind].fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until each kind of client has asked some more.
    #[track_caller]
    fn goes_on(&self) {
        let seen: Vec<usize> = self.asked.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        eventually("the load goes on", || {
            self.asked.iter().zip(&seen).all(|(n, seen)| n.load(Ordering::SeqCst) > seen + 10)
        });
    }
}

fn good(response: &Response) {
    assert_eq!(response.status, 200, "{response:?}");
}

/// A good answer; whether it is the last of its connection.
fn closes(response: &Response) -> bool {
    good(response);
    response.values("connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
}

/// HTTP/2, until GOAWAY says that no further request may begin.
fn http2(load: &Load, port: u16, unserved: &Mutex<Vec<String>>) {
    let mut client = H2::connect(port, "a.test");
    let mut asked = 0;
    load.run(3, || {
        asked += 1;
        let target = format!("/h2/{asked}");
        let begun = client.try_begin(client.request(http::Method::GET, &target), true);
        match begun.and_then(|mut stream| stream.try_read()) {
            Ok(response) => assert_eq!(response.status, 200),
            // Every client asks again elsewhere then: GOAWAY says that nobody has
            // looked at it.
            Err(error) => {
                let reason = error.is_go_away().then(|| error.reason()).flatten();
                assert_eq!(reason, Some(h2::Reason::NO_ERROR), "{error}");
                unserved.lock().unwrap().push(target);
                client = H2::connect(port, "a.test");
            }
        }
    });
}

#[test]
fn upgrade_after_upgrade_under_load_loses_nothing() {
    let b1 = mirror("B1");
    let (plain, secure) = (Port::reserve(), Port::reserve());
    let text = http_listener("a.test", &plain, "group = \"web\"")
        + &https_listener("a.test", &secure, "group = \"web\"")
        + &group("web", &b1);
    let setup = Setup::empty().workers(2).file("game.toml", &text);
    let mut lockgate = setup.start();
    let family = Family::of(&setup);
    let load = Load::default();
    let unserved = Mutex::<Vec<String>>::default();
    let (plain, secure) = (plain.number(), secure.number());
    let mut tunnels = Vec::new();
    let mut pids = vec![lockgate.pid()];
    thread::scope(|scope| {
        let (load, unserved) = (&load, &unserved);
        let stop = StopAtTheEnd(load);
        // A kept connection, as long as it may be kept.
        scope.spawn(move || {
            let mut client = Client::plain(plain);
            load.run(0, || {
                if closes(&client.get("a.test", "/kept")) {
                    client = Client::plain(plain);
                }
            });
        });
        scope.spawn(move || {
            load.run(1, || good(&Client::plain(plain).get("a.test", "/new")));
        });
        scope.spawn(move || {
            load.run(2, || good(&Client::tls(secure, "a.test").get("a.test", "/tls")));
        });
        scope.spawn(move || http2(load, secure, unserved));
        scope.spawn(move || {
            let mut client = Client::plain(plain);
            client.switch();
            load.run(4, || {
                client.send("hello");
                client.awaits("hello");
            });
        });
        for _ in 0..upgrades() {
            load.goes_on();
            let mut tunnel = Client::plain(plain);
            tunnel.switch();
            tunnels.push(tunnel);
            pids.push(upgrade(&lockgate));
        }
        load.goes_on();
        drop(stop);
    });
    for target in unserved.into_inner().unwrap() {
        assert!(b1.request_of(&target).is_none(), "{target} was served, and its answer lost");
    }
    // Each old process is there for its WebSockets, and ends with them.
    family.wait_for(&pids);
    for (at, tunnel) in tunnels.iter_mut().enumerate() {
        tunnel.send(format!("round {at}"));
        tunnel.awaits(format!("round {at}"));
    }
    let table = lockgate.run(&["status"]).expect(0).stdout;
    for old in &pids[..upgrades()] {
        assert!(table.contains(&format!("old process {old}: ")), "{table}");
    }
    drop(tunnels);
    assert_eq!(lockgate.exit_code(), 0);
    family.wait_for(&pids[upgrades()..]);
    assert_eq!(sockets(&lockgate), ["admin.sock"]);
    let log = lockgate.log();
    assert!(!log.contains("request failed"), "{log}");
}

/// So many upgrades, or what `UPGRADES` says.
fn upgrades() -> usize {
    std::env::var("UPGRADES").map_or(3, |text| text.parse().unwrap())
}

/// Also where the test fails: the clients end, and it with them.
struct StopAtTheEnd<'a>(&'a Load);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}
