//! RL-09: reload after reload under a steady load, and nobody notices.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use super::{game, quoted};
use crate::support::{
    Backend, Client, H2, Lockgate, Port, Setup, authority, eventually, group, http_listener,
    https_listener,
};

/// So many reloads, or what `RELOADS` says.
fn reloads() -> usize {
    std::env::var("RELOADS").map_or(50, |text| text.parse().unwrap())
}

/// Clients that ask without a pause, and never get anything but a good answer.
struct Load {
    stop: AtomicBool,
    asked: AtomicUsize,
}

impl Load {
    fn run(&self, mut ask: impl FnMut()) {
        while !self.stop.load(Ordering::SeqCst) {
            ask();
            self.asked.fetch_add(1, Ordering::SeqCst);
            thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// Open descriptors of the process.
fn descriptors(lockgate: &Lockgate) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", lockgate.pid())).unwrap().count()
}

/// The game under load, in its version `round`.
fn version(round: usize, ports: [&Port; 2], backends: &[Backend; 3]) -> String {
    let weight = 50 + round % 5 * 10;
    let list: Vec<String> = (0..3)
        .filter(|at| round.is_multiple_of(4) || *at != round % 3)
        .map(|at| format!("{{ address = {}, weight = {weight} }}", quoted(&backends[at])))
        .collect();
    let rule = match round % 2 {
        0 => "[[listener.rule]]\npath = \"/other/\"\nrespond = { status = 404, body = \"no\" }\n",
        _ => "",
    };
    http_listener("a.test", ports[0], &format!("group = \"web\"\n{rule}"))
        + &https_listener("a.test", ports[1], &format!("group = \"web\"\n{rule}"))
        + &format!("[group.web]\nbackends = [{}]\n", list.join(", "))
        + "[group.web.sticky]\nmode = \"insert\"\n"
        + "[group.web.probe]\ninterval = \"100ms\"\n"
}

#[test]
fn rl_09_reload_after_reload_under_load() {
    let backends = ["B1", "B2", "B3"].map(|name| {
        Backend::scripted(name, |exchange| {
            if exchange.request().values("upgrade").is_empty() {
                return exchange.echo();
            }
            exchange.switch();
            exchange.mirror();
        })
    });
    let (plain, secure, third) = (Port::reserve(), Port::reserve(), Port::reserve());
    let ports = [&plain, &secure];
    let setup = Setup::empty().workers(2).file("game.toml", &version(0, ports, &backends));
    let mut lockgate = setup.start();
    let load = Load { stop: AtomicBool::new(false), asked: AtomicUsize::new(0) };
    let good =
        |response: crate::support::Response| assert_eq!(response.status, 200, "{response:?}");
    thread::scope(|scope| {
        let load = &load;
        let (plain, secure) = (plain.number(), secure.number());
        // Kept connections, new ones, TLS, HTTP/2, and a WebSocket.
        scope.spawn(move || {
            let mut client = Client::plain(plain);
            load.run(|| good(client.get("a.test", "/kept")));
        });
        scope.spawn(move || load.run(|| good(Client::plain(plain).get("a.test", "/new"))));
        scope.spawn(move || load.run(|| good(Client::tls(secure, "a.test").get("a.test", "/tls"))));
        scope.spawn(move || {
            let mut client = H2::connect(secure, "a.test");
            load.run(|| assert_eq!(client.post("/h2", b"body").status, 200));
        });
        scope.spawn(move || {
            let mut client = Client::plain(plain);
            client.switch();
            load.run(|| {
                client.send("hello");
                client.awaits("hello");
            });
        });
        let mut before = 0;
        for round in 1..=reloads() {
            // Each version sees some of every client.
            let seen = load.asked.load(Ordering::SeqCst);
            eventually("the load goes on", || load.asked.load(Ordering::SeqCst) > seen + 20);
            change(&lockgate, round, ports, &third, &backends);
            match round % 3 {
                0 => lockgate.signal(Signal::HUP),
                _ => drop(lockgate.run(&["reload"])),
            }
            if round == 5 {
                before = descriptors(&lockgate);
            }
        }
        load.stop.store(true, Ordering::SeqCst);
        let after = || descriptors(&lockgate);
        // What clients and kept connections hold comes and goes.
        eventually("descriptors are given back", || after() <= before + 8);
    });
    let last = game(&plain, &quoted(&backends[0]), "");
    lockgate.write("listeners.d/game.toml", last);
    lockgate.run(&["reload"]);
    let log = lockgate.log_to_the_end();
    assert!(!log.contains("request failed"), "{log}");
    assert!(log.matches("INFO reloaded").count() > reloads() / 2, "{log}");
}

/// What changes in this round: the game, its certificate, others, a bad file.
fn change(
    lockgate: &Lockgate,
    round: usize,
    ports: [&Port; 2],
    third: &Port,
    backends: &[Backend; 3],
) {
    lockgate.write("listeners.d/game.toml", version(round, ports, backends));
    if round % 4 == 1 {
        let leaf = authority().server(&["a.test"]);
        lockgate.write("certs/a.test.crt", &leaf.chain_pem);
        lockgate.write("certs/a.test.key", &leaf.key_pem);
    }
    let other = lockgate.path().join("listeners.d/other.toml");
    match round % 3 {
        0 => {
            let text =
                http_listener("b.test", third, "group = \"web\"") + &group("web", &backends[0]);
            lockgate.write("listeners.d/other.toml", text);
        }
        1 => lockgate.write("listeners.d/other.toml", "[[listener]]\nport = \"no\"\n"),
        _ => std::fs::remove_file(other).unwrap_or_default(),
    }
}
