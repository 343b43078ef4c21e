//! Reload (SEMANTICS RL as DESIGN has them, CI-14, WS-08, AH-20): what changed
//! takes effect, what did not change does not notice.

mod load;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use rustls::HandshakeKind;

use crate::support::{
    Backend, Client, Gate, Lockgate, Port, Setup, TlsOffer, authority, eventually, group,
    http_listener, https_listener,
};

/// `a.test` on the port, before these backends, written as in a drop-in.
fn game(port: &Port, backends: &str, more: &str) -> String {
    http_listener("a.test", port, "group = \"web\"")
        + &format!("[group.web]\nbackends = [{backends}]\n{more}\n")
}

fn quoted(backend: &Backend) -> String {
    format!("\"{}\"", backend.address())
}

/// A running lockgate with one game, and its port.
fn one(backends: &[&Backend], more: &str) -> (Lockgate, Port) {
    let port = Port::reserve();
    let backends: Vec<String> = backends.iter().map(|backend| quoted(backend)).collect();
    let text = game(&port, &backends.join(", "), more);
    (Setup::empty().file("game.toml", &text).start(), port)
}

#[test]
fn rl_01_a_drop_in_is_added() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (lockgate, port) = one(&[&b1], "");
    let new = Port::reserve();
    let text = http_listener("b.test", &port, "group = \"web\"")
        + &http_listener("b.test", &new, "group = \"web\"")
        + &group("web", &b2);
    lockgate.write("listeners.d/other.toml", text);
    let said = lockgate.reload();
    assert!(said.contains("other: added: 2 listeners, 1 group\n"), "{said}");
    assert!(said.contains("reloaded: 1 changed, 1 as before, generation 2"), "{said}");
    for port in [&port, &new] {
        assert_eq!(Client::plain(port.number()).get("b.test", "/").expect(200).backend(), "B2");
    }
    assert_eq!(Client::plain(port.number()).get("a.test", "/").expect(200).backend(), "B1");
}

#[test]
fn rl_02_a_bad_drop_in_stays_as_it_was_and_the_others_go_live() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (lockgate, port) = one(&[&b1], "");
    lockgate.write("listeners.d/game.toml", "[[listener]\n");
    let text = http_listener("b.test", &port, "group = \"web\"") + &group("web", &b2);
    lockgate.write("listeners.d/other.toml", text);
    let refused = lockgate.run(&["reload"]).expect(1);
    assert!(refused.stdout.contains("game.toml:1:"), "{}", refused.stdout);
    assert!(refused.stdout.contains("game: refused"), "{}", refused.stdout);
    assert!(refused.stdout.contains("other: added"), "{}", refused.stdout);
    assert_eq!(Client::plain(port.number()).get("a.test", "/").expect(200).backend(), "B1");
    assert_eq!(Client::plain(port.number()).get("b.test", "/").expect(200).backend(), "B2");
    // Corrected, all is well.
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b2), ""));
    let said = lockgate.reload();
    assert!(said.contains(&format!("game: backend web/{} removed\n", b1.address())), "{said}");
    assert!(said.contains(&format!("game: backend web/{} added\n", b2.address())), "{said}");
    assert_eq!(Client::plain(port.number()).get("a.test", "/").expect(200).backend(), "B2");
}

#[test]
fn rl_03_what_is_under_way_is_finished() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        hold.pass();
        exchange.echo();
    });
    let b2 = Backend::named("B2");
    let (lockgate, port) = one(&[&b1], "");
    let mut client = Client::plain(port.number());
    client.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b1.wait_for_executions(1);
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b2), ""));
    lockgate.reload();
    gate.open();
    assert_eq!(client.read().expect(200).backend(), "B1");
    // The same connection, the next request: what the file says now.
    assert_eq!(client.get("a.test", "/").expect(200).backend(), "B2");
}

#[test]
fn rl_04_a_domain_is_removed() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().target() == "/hold" {
            hold.pass();
        }
        exchange.echo();
    });
    let (lockgate, port) = one(&[&b1], "");
    let text = http_listener("b.test", &port, "group = \"web\"") + &group("web", &b1);
    lockgate.write("listeners.d/other.toml", text);
    lockgate.reload();
    let mut client = Client::plain(port.number());
    client.send("GET /hold HTTP/1.1\r\nHost: b.test\r\n\r\n");
    b1.wait_for_executions(1);
    std::fs::remove_file(lockgate.path().join("listeners.d/other.toml")).unwrap();
    let said = lockgate.reload();
    assert!(said.contains("other: removed\n"), "{said}");
    gate.open();
    client.read().expect(200);
    client.get("b.test", "/").expect(421);
    Client::plain(port.number()).get("a.test", "/").expect(200);
}

/// A port nobody asks for any more is closed; who waits on it is let go, who has
/// a request under way gets his answer.
#[test]
fn a_port_is_removed() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().target() == "/hold" {
            hold.pass();
        }
        exchange.echo();
    });
    let (lockgate, port) = one(&[&b1], "");
    let second = Port::reserve();
    let text = http_listener("b.test", &second, "group = \"web\"") + &group("web", &b1);
    lockgate.write("listeners.d/other.toml", &text);
    lockgate.reload();
    let mut idle = Client::plain(second.number());
    idle.get("b.test", "/").expect(200);
    let mut other = Client::plain(port.number());
    other.get("a.test", "/").expect(200);
    let mut busy = Client::plain(second.number());
    busy.send("GET /hold HTTP/1.1\r\nHost: b.test\r\n\r\n");
    b1.wait_for_executions(3);
    std::fs::remove_file(lockgate.path().join("listeners.d/other.toml")).unwrap();
    lockgate.reload();
    idle.assert_closed();
    eventually("the port refuses", || TcpStream::connect(("127.0.0.1", second.number())).is_err());
    gate.open();
    let response = busy.read().expect(200);
    assert_eq!(response.value("connection").to_lowercase(), "close");
    other.get("a.test", "/").expect(200);
    // And it may come back.
    lockgate.write("listeners.d/other.toml", &text);
    lockgate.reload();
    Client::plain(second.number()).get("b.test", "/").expect(200);
}

#[test]
fn rl_05_a_certificate_is_renewed() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let text = https_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    let lockgate = Setup::empty().file("game.toml", &text).start();
    let mut open = Client::tls(port.number(), "a.test");
    let old = open.certificate();
    open.get("a.test", "/").expect(200);
    // Nothing changed: the session goes on where it was.
    let offer = TlsOffer::to("a.test").resuming();
    let mut first = offer.connect(port.number()).unwrap();
    first.get("a.test", "/").expect(200);
    lockgate.reload();
    let mut again = offer.connect(port.number()).unwrap();
    again.get("a.test", "/").expect(200);
    assert_eq!(again.session().handshake_kind(), Some(HandshakeKind::Resumed));
    let leaf = authority().server(&["a.test"]);
    lockgate.write("certs/a.test.crt", &leaf.chain_pem);
    lockgate.write("certs/a.test.key", &leaf.key_pem);
    let said = lockgate.reload();
    assert!(said.contains(&format!("certificate of a.test:{port} renewed, expires ")), "{said}");
    let new = Client::tls(port.number(), "a.test").certificate();
    assert_ne!(new, old);
    assert_eq!(new, *leaf.der());
    open.get("a.test", "/").expect(200);
}

/// A certificate is named with everything that it is for.
#[test]
fn a_certificate_of_several_listeners_is_renewed_once() {
    let b1 = Backend::named("B1");
    let ports = [Port::reserve(), Port::reserve(), Port::reserve()];
    let [one, two, three] = &ports;
    let text = format!(
        "[[listener]]\ndomain = \"a.test\"\nport = [{one}, {two}]\ngroup = \"web\"\n\n\
         [[listener]]\ndomain = \"b.test\"\nport = {three}\ncertificate = \"a.test\"\n\
         group = \"web\"\n\n{}",
        group("web", &b1)
    );
    let names = ["a.test", "b.test"];
    let setup = Setup::empty().certificate("a.test", &names).file("game.toml", &text);
    let lockgate = setup.start();
    let leaf = authority().server(&names);
    lockgate.write("certs/a.test.crt", &leaf.chain_pem);
    lockgate.write("certs/a.test.key", &leaf.key_pem);
    let said = lockgate.reload();
    let told = format!("game: certificate of a.test:{one}, a.test:{two}, b.test:{three} renewed, ");
    assert!(said.contains(&told), "{said}");
    assert_eq!(said.matches("renewed").count(), 1, "{said}");
}

/// A list of probes seen, and an answer that can be changed.
fn counting(name: &str, status: &'static str) -> (Backend, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let probes = Arc::clone(&count);
    let backend = Backend::scripted(name, move |exchange| {
        if exchange.request().target() != "/health" {
            return exchange.echo();
        }
        probes.fetch_add(1, Ordering::SeqCst);
        exchange.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
    });
    (backend, count)
}

const PROBE: &str = "[group.web.probe]\npath = \"/health\"\ninterval = \"100ms\"\n";

#[test]
fn rl_07_ah_20_what_probes_found_survives() {
    let (ill, probes) = counting("ill", "503 No");
    let well = Backend::named("well");
    let port = Port::reserve();
    let backends = format!("{}, {}", quoted(&ill), quoted(&well));
    let text = game(&port, &backends, PROBE);
    let lockgate = Setup::empty().file("game.toml", &text).start();
    lockgate.wait_for_log(&["backend down", &ill.address()]);
    // Other things of the game and of the group change.
    let heavier =
        backends.replace(&quoted(&well), &format!("{{ address = {}, weight = 7 }}", quoted(&well)));
    for (round, backends) in [&heavier, &backends, &heavier].into_iter().enumerate() {
        let more = format!("tunnel_timeout = \"{}m\"\n{PROBE}", round + 1);
        lockgate.write("listeners.d/game.toml", game(&port, backends, &more));
        lockgate.reload();
        for _ in 0..4 {
            let response = Client::plain(port.number()).get("a.test", "/").expect(200);
            assert_eq!(response.backend(), "well");
        }
    }
    let before = probes.load(Ordering::SeqCst);
    eventually("it is still probed", || probes.load(Ordering::SeqCst) > before + 4);
    let mut lockgate = lockgate;
    let log = lockgate.log_to_the_end();
    assert_eq!(log.matches("backend down").count(), 1, "{log}");
    assert!(!log.contains("backend up"), "{log}");
}

#[test]
fn a_probe_that_was_wrong_is_put_right() {
    let b1 = Backend::scripted("B1", |exchange| match exchange.request().target().as_str() {
        "/helth" => exchange.send("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        _ => exchange.echo(),
    });
    let probe = "[group.web.probe]\ninterval = \"100ms\"\npath = ";
    let (lockgate, port) = one(&[&b1], &format!("{probe}\"/helth\""));
    lockgate.wait_for_log(&["backend down", "cause=http_404"]);
    Client::plain(port.number()).get("a.test", "/").expect(502);
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b1), &format!("{probe}\"/\"")));
    assert!(lockgate.reload().contains("group web: probe changed"));
    lockgate.wait_for_log(&["backend up"]);
    Client::plain(port.number()).get("a.test", "/").expect(200);
}

/// What is believed of it is judged by what the file says now.
#[test]
fn a_shorter_fail_timeout_brings_a_backend_back() {
    let dead = Port::reserve();
    let b2 = Backend::named("B2");
    let port = Port::reserve();
    let text = |keys: &str| {
        let address = dead.refusing_address();
        game(&port, &format!("{{ address = \"{address}\", {keys} }}, {}", quoted(&b2)), "")
    };
    let setup = Setup::empty().file("game.toml", &text("fail_timeout = \"1h\""));
    let lockgate = setup.start();
    for _ in 0..4 {
        Client::plain(port.number()).get("a.test", "/").expect(200);
    }
    lockgate.wait_for_log(&["backend ejected"]);
    let b1 = Backend::at("B1", "127.0.0.1", dead.number());
    for keys in ["fail_timeout = \"10ms\"", "max_fails = 0"] {
        lockgate.write("listeners.d/game.toml", text(keys));
        lockgate.reload();
        eventually("B1 serves", || {
            Client::plain(port.number()).get("a.test", "/").expect(200).backend() == "B1"
        });
    }
    drop(b1);
}

#[test]
fn rl_08_an_ejected_backend_stays_out() {
    let dead = Port::reserve();
    let b2 = Backend::named("B2");
    let port = Port::reserve();
    let text = |weight: u32| {
        let dead = dead.refusing_address();
        let backends = format!(
            "{{ address = \"{dead}\", fail_timeout = \"1h\", weight = {weight} }}, {}",
            quoted(&b2)
        );
        game(&port, &backends, "")
    };
    let lockgate = Setup::empty().file("game.toml", &text(100)).start();
    for _ in 0..4 {
        Client::plain(port.number()).get("a.test", "/").expect(200);
    }
    lockgate.wait_for_log(&["backend ejected"]);
    lockgate.write("listeners.d/game.toml", text(50));
    lockgate.reload();
    for _ in 0..8 {
        Client::plain(port.number()).get("a.test", "/").expect(200);
    }
    let mut lockgate = lockgate;
    let log = lockgate.log_to_the_end();
    assert_eq!(log.matches("attempt failed").count(), 1, "{log}");
}

#[test]
fn a_backend_that_is_added_shows_first_that_it_can_serve() {
    let (well, _) = counting("well", "200 Yes");
    let (ill, probes) = counting("ill", "503 No");
    let port = Port::reserve();
    let lockgate = Setup::empty().file("game.toml", &game(&port, &quoted(&well), PROBE)).start();
    let both = format!("{}, {}", quoted(&well), quoted(&ill));
    lockgate.write("listeners.d/game.toml", game(&port, &both, PROBE));
    lockgate.reload();
    while probes.load(Ordering::SeqCst) < 5 {
        let response = Client::plain(port.number()).get("a.test", "/").expect(200);
        assert_eq!(response.backend(), "well");
    }
    // A group of nothing but new ones serves at once.
    let (other, _) = counting("other", "200 Yes");
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&other), PROBE));
    lockgate.reload();
    let response = Client::plain(port.number()).get("a.test", "/").expect(200);
    assert_eq!(response.backend(), "other");
}

/// What is not known to serve is better than nothing.
#[test]
fn backends_without_a_verdict_serve_when_nobody_else_is_left() {
    let (b1, b2, b3) = (Backend::named("B1"), Backend::named("B2"), Backend::named("B3"));
    // No second probe comes in an hour, and one is not enough.
    let probe = "[group.web.probe]\ninterval = \"1h\"\n";
    let (lockgate, port) = one(&[&b1], probe);
    let served = || Client::plain(port.number()).get("a.test", "/").expect(200).backend();
    assert_eq!(served(), "B1");
    for (backends, by) in [([&b1, &b2], "B1"), ([&b2, &b3], "")] {
        let list = backends.map(quoted).join(", ");
        lockgate.write("listeners.d/game.toml", game(&port, &list, probe));
        lockgate.reload();
        for _ in 0..4 {
            assert!(served().starts_with(by));
        }
    }
}

#[test]
fn connections_to_backends_are_kept_or_closed() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (lockgate, port) = one(&[&b1], "");
    Client::plain(port.number()).get("a.test", "/").expect(200);
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b1), "max_idle = 7"));
    assert!(lockgate.reload().contains("group web: max_idle 2048 → 7"));
    Client::plain(port.number()).get("a.test", "/").expect(200);
    assert_eq!(b1.connections(), 1);
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b2), ""));
    lockgate.reload();
    eventually("the connection to B1 is closed", || b1.open() == 0);
}

#[test]
fn ci_14_a_client_whose_backend_was_removed_is_bound_anew() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let sticky = "[group.web.sticky]\nmode = \"insert\"\n";
    let (lockgate, port) = one(&[&b1, &b2], sticky);
    let first = Client::plain(port.number()).get("a.test", "/").expect(200);
    let cookie = first.value("set-cookie").split(';').next().unwrap().to_owned();
    let ask = |cookie: &str| {
        Client::plain(port.number())
            .request(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"))
            .expect(200)
    };
    // Bound through a reload that changes nothing of it.
    lockgate.write(
        "listeners.d/game.toml",
        game(&port, &format!("{}, {}", quoted(&b2), quoted(&b1)), sticky),
    );
    lockgate.reload();
    for _ in 0..3 {
        assert_eq!(ask(&cookie).backend(), first.backend());
    }
    let stays = if first.backend() == "B1" { &b2 } else { &b1 };
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(stays), sticky));
    lockgate.reload();
    let moved = ask(&cookie);
    assert_ne!(moved.backend(), first.backend());
    let new = moved.value("set-cookie").split(';').next().unwrap().to_owned();
    lockgate.write(
        "listeners.d/game.toml",
        game(&port, &format!("{}, {}", quoted(&b1), quoted(&b2)), sticky),
    );
    lockgate.reload();
    for _ in 0..3 {
        assert_eq!(ask(&new).backend(), moved.backend());
    }
}

#[test]
fn ws_08_a_tunnel_survives() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.switch();
        exchange.mirror();
    });
    let b2 = Backend::named("B2");
    let (lockgate, port) = one(&[&b1], "");
    let mut client = Client::plain(port.number());
    client.switch();
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b2), ""));
    lockgate.reload();
    client.send("still here");
    client.awaits("still here");
    // And without its game.
    lockgate.write(
        "listeners.d/other.toml",
        http_listener("b.test", &port, "group = \"web\"") + &group("web", &b2),
    );
    std::fs::remove_file(lockgate.path().join("listeners.d/game.toml")).unwrap();
    lockgate.reload();
    Client::plain(port.number()).get("a.test", "/").expect(421);
    client.send("and still");
    client.awaits("and still");
}

#[test]
fn a_dry_run_changes_nothing() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (lockgate, port) = one(&[&b1], "");
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b2), ""));
    let said = lockgate.run(&["reload", "--dry-run"]).expect(0).stdout;
    assert!(said.contains(&format!("game: backend web/{} added\n", b2.address())), "{said}");
    assert!(said.contains("this would be done: 1 changed, 0 as before, generation 1"), "{said}");
    assert_eq!(Client::plain(port.number()).get("a.test", "/").expect(200).backend(), "B1");
    let json = lockgate.run(&["reload", "--json"]).expect(0).stdout;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((report["applied"].as_bool(), report["generation"].as_u64()), (Some(true), Some(2)));
    assert_eq!(report["games"][0]["game"], "game");
}

/// What it read is not remembered: the version that serves is still the last good
/// one, and what is changed back was never there.
#[test]
fn a_dry_run_remembers_nothing() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (mut lockgate, port) = one(&[&b1], "");
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b2), ""));
    lockgate.run(&["reload", "--dry-run"]).expect(0);
    lockgate.write("listeners.d/game.toml", "rubbish");
    lockgate.run(&["reload"]).expect(1);
    assert_eq!(Client::plain(port.number()).get("a.test", "/").expect(200).backend(), "B1");
    // A domain that is given up only for a dry run stays where it is.
    lockgate.write(
        "listeners.d/game.toml",
        http_listener("z.test", &port, "group = \"web\"") + &group("web", &b1),
    );
    lockgate.write("listeners.d/other.toml", game(&port, &quoted(&b2), ""));
    lockgate.run(&["reload", "--dry-run"]).expect(0);
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b1), ""));
    lockgate.run(&["reload"]).expect(1);
    assert_eq!(Client::plain(port.number()).get("a.test", "/").expect(200).backend(), "B1");
    let log = lockgate.log_to_the_end();
    assert!(!log.contains("z.test"), "{log}");
}

#[test]
fn without_an_admin_socket_it_serves_and_reloads() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let setup = Setup::empty().file("game.toml", &game(&port, &quoted(&b1), ""));
    // Something is in the socket's place that cannot be removed like a file.
    std::fs::create_dir_all(setup.path().join("state/admin.sock/full")).unwrap();
    let mut lockgate = setup.start();
    lockgate.wait_for_log(&["no admin socket"]);
    Client::plain(port.number()).get("a.test", "/").expect(200);
    lockgate.signal(Signal::HUP);
    lockgate.wait_for_log(&["INFO reloaded", "generation=2"]);
    let log = lockgate.log_to_the_end();
    assert_eq!(log.matches("INFO reloaded").count(), 1, "{log}");
}

#[test]
fn hup_reloads() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (lockgate, port) = one(&[&b1], "");
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b2), ""));
    lockgate.signal(Signal::HUP);
    lockgate.wait_for_log(&["INFO reloaded", "generation=2"]);
    assert_eq!(Client::plain(port.number()).get("a.test", "/").expect(200).backend(), "B2");
}

#[test]
fn without_a_process_reload_says_so() {
    let (mut lockgate, _port) = one(&[&Backend::named("B1")], "");
    assert_eq!(lockgate.terminate(), 0);
    let said = lockgate.run(&["reload"]).expect(1).stderr;
    assert!(said.contains("no lockgate runs on this state directory"), "{said}");
    let said = lockgate.run(&["status"]).expect(1).stderr;
    assert!(said.contains("no lockgate runs on this state directory"), "{said}");
}

#[test]
fn what_only_a_start_reads_is_told() {
    let b1 = Backend::named("B1");
    let (lockgate, port) = one(&[&b1], "");
    let text = std::fs::read_to_string(lockgate.path().join("lockgate.toml")).unwrap();
    lockgate.write(
        "lockgate.toml",
        text.replace("workers = 1", "workers = 3") + "[limits]\nuri = \"300B\"\n",
    );
    let said = lockgate.reload();
    assert!(said.contains("`workers` changed: restart lockgate"), "{said}");
    let long = format!("/{}", "x".repeat(400));
    Client::plain(port.number()).get("a.test", &long).expect(414);
}

#[test]
fn a_port_that_cannot_be_had_costs_nobody_else() {
    let b1 = Backend::named("B1");
    let (lockgate, port) = one(&[&b1], "");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let text = format!(
        "[[listener]]\ndomain = \"b.test\"\nport = [{port}, {}]\nprotocol = \"http\"\ngroup = \"web\"\n",
        taken.local_addr().unwrap().port()
    ) + &group("web", &b1);
    lockgate.write("listeners.d/other.toml", text);
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("another program has the port"), "{said}");
    assert!(said.contains("reloaded, but not all of it"), "{said}");
    Client::plain(port.number()).get("b.test", "/").expect(200);
}

/// A machine without authorities, whatever it is that a group wants of them.
#[test]
fn a_group_that_needs_authorities_where_there_are_none_is_refused() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let setup =
        Setup::empty().any_file("none.pem", "").file("game.toml", &game(&port, &quoted(&b1), ""));
    let none = setup.path().join("none.pem").to_string_lossy().into_owned();
    let setup = setup.env("SSL_CERT_FILE", &none).env("SSL_CERT_DIR", "/nowhere");
    let mut lockgate = setup.start();
    let served = || Client::plain(port.number()).get("a.test", "/").expect(200).backend();
    let secure = game(&port, &quoted(&b1), "protocol = \"https\"");
    lockgate.write("listeners.d/game.toml", &secure);
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("the system has no certificate authorities"), "{said}");
    assert!(said.contains("game.toml:9:12") && said.contains("game: refused"), "{said}");
    assert_eq!(served(), "B1");
    // The last good version is still that of before.
    assert_eq!(lockgate.terminate(), 0);
    let lockgate = setup.start();
    assert_eq!(served(), "B1");
    let more = "protocol = \"https\"\ntls = { verify = false }";
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b1), more));
    lockgate.reload();
}

/// What serves is not given up for what does not.
#[test]
fn a_game_that_cannot_have_its_new_port_stays_where_it_is() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let setup = Setup::empty().file("game.toml", &game(&port, &quoted(&b1), ""));
    let lockgate = setup.start();
    let text = http_listener("b.test", &port, "group = \"web\"") + &group("web", &b2);
    lockgate.write("listeners.d/other.toml", text);
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let elsewhere = taken.local_addr().unwrap().port().to_string();
    let moved = game(&port, &quoted(&b2), "")
        .replace(&format!("port = {port}"), &format!("port = {elsewhere}"));
    lockgate.write("listeners.d/game.toml", &moved);
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("another program has the port"), "{said}");
    assert!(said.contains("error: a port of this listener cannot be had"), "{said}");
    assert!(said.contains("game: refused: its last good version, of "), "{said}");
    assert_eq!(Client::plain(port.number()).get("a.test", "/").expect(200).backend(), "B1");
    assert_eq!(Client::plain(port.number()).get("b.test", "/").expect(200).backend(), "B2");
    assert_eq!(said.matches("last good version").count(), 1, "{said}");
    // What it would have given up is not anybody else's.
    lockgate.write("listeners.d/third.toml", game(&port, &quoted(&b2), ""));
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("already belongs to"), "{said}");
    assert_eq!(Client::plain(port.number()).get("a.test", "/").expect(200).backend(), "B1");
    std::fs::remove_file(lockgate.path().join("listeners.d/third.toml")).unwrap();
    // The port comes free.
    drop(taken);
    lockgate.reload();
    let moved: u16 = elsewhere.parse().unwrap();
    assert_eq!(Client::plain(moved).get("a.test", "/").expect(200).backend(), "B2");
    Client::plain(port.number()).get("a.test", "/").expect(421);
    // It is the last good version now.
    lockgate.write("listeners.d/game.toml", "rubbish");
    let mut lockgate = lockgate;
    assert_eq!(lockgate.terminate(), 0);
    let lockgate = setup.start();
    assert_eq!(Client::plain(moved).get("a.test", "/").expect(200).backend(), "B2");
    drop(lockgate);
}

#[test]
fn status_says_what_a_new_backend_waits_for() {
    let (well, fresh) = (Backend::named("well"), Backend::named("fresh"));
    // No second probe comes in an hour, and one is not enough.
    let probe = "[group.web.probe]\ninterval = \"1h\"\n";
    let (lockgate, port) = one(&[&well], probe);
    let both = format!("{}, {}", quoted(&well), quoted(&fresh));
    lockgate.write("listeners.d/game.toml", game(&port, &both, probe));
    lockgate.reload();
    let said = lockgate.run(&["status"]).expect(0).stdout;
    let waits = |backend: &Backend| {
        let line = said.lines().find(|line| line.contains(&backend.address())).unwrap();
        line.contains(" waiting ") && line.contains("for its first probes")
    };
    assert!(waits(&fresh) && !waits(&well), "{said}");
    let status = status_of(&lockgate);
    let backends = &status["games"][0]["groups"][0]["backends"];
    assert_eq!(backends[0]["probe"]["waits"], false);
    assert_eq!(backends[1]["probe"]["waits"], true);
}

fn status_of(lockgate: &Lockgate) -> serde_json::Value {
    serde_json::from_str(&lockgate.run(&["status", "--json"]).expect(0).stdout).unwrap()
}

#[test]
fn status_shows_files_that_were_refused() {
    let b1 = Backend::named("B1");
    let (lockgate, port) = one(&[&b1], "");
    assert_eq!(status_of(&lockgate)["refused"], serde_json::json!([]));
    lockgate
        .write("listeners.d/game.toml", game(&port, &quoted(&b1), "a = 1\nb = 2\nc = 3\nd = 4"));
    lockgate.write("listeners.d/other.toml", "rubbish");
    // A dry run finds nothing that is so.
    lockgate.run(&["reload", "--dry-run"]).expect(1);
    assert_eq!(status_of(&lockgate)["refused"], serde_json::json!([]));
    lockgate.run(&["reload"]).expect(1);
    let said = lockgate.run(&["status"]).expect(0).stdout;
    for part in [
        "game.toml: refused since 2",
        "Z: its last good version, of 2",
        "game.toml:9: unknown key `a`",
        "and 1 more: `lockgate check` tells them",
        "Z: nothing of it serves",
        "other.toml:1: ",
    ] {
        assert!(said.contains(part), "no {part} in\n{said}");
    }
    let status = status_of(&lockgate);
    let refused = &status["refused"];
    assert_eq!((&refused[0]["game"], &refused[0]["errors"]), (&"game".into(), &4.into()));
    assert!(refused[0]["last_good"].is_u64() && refused[1]["last_good"].is_null());
    // `lockgate.toml` is a file too. Since when stays.
    let good = std::fs::read_to_string(lockgate.path().join("lockgate.toml")).unwrap();
    lockgate.write("lockgate.toml", "workers = \"many\"\n");
    lockgate.run(&["reload"]).expect(1);
    let again = status_of(&lockgate);
    assert!(again["refused"][0]["problems"][0].as_str().unwrap().contains("lockgate.toml:1: "));
    assert_eq!(again["refused"][1]["since"], refused[0]["since"]);
    lockgate.write("lockgate.toml", good);
    lockgate.write("listeners.d/game.toml", game(&port, &quoted(&b1), ""));
    std::fs::remove_file(lockgate.path().join("listeners.d/other.toml")).unwrap();
    lockgate.reload();
    assert_eq!(status_of(&lockgate)["refused"], serde_json::json!([]));
}

/// The log of a process that nobody asks says it, at the time.
#[test]
fn a_certificate_that_comes_to_its_end_is_told() {
    let b1 = Backend::named("B1");
    let ports = [Port::reserve(), Port::reserve()];
    let text = https_listener("a.test", &ports[0], "group = \"web\"")
        + &https_listener("b.test", &ports[1], "group = \"web\"")
        + &group("web", &b1);
    let lockgate = Setup::empty()
        .leaf("a.test", &authority().ending_in(4, &["a.test"]))
        .file("game.toml", &text)
        .start();
    let listener = format!("a.test:{}", ports[0]);
    lockgate.wait_for_log(&["WARN", "certificate expires soon", &listener, "days_left=0"]);
    let certificates = &status_of(&lockgate)["certificates"];
    assert_eq!(certificates[0]["state"], "expires_soon");
    assert_eq!(certificates[0]["domains"], serde_json::json!(["a.test"]));
    assert_eq!(certificates[1]["state"], "good");
    assert!(certificates[1]["days_left"].as_i64().unwrap() > 300);
    lockgate.wait_for_log(&["ERROR", "certificate expired", &listener]);
    let said = lockgate.run(&["status"]).expect(0).stdout;
    assert!(said.contains("WARNING: expired 0 days ago"), "{said}");
    // A reload brings one that is to be told of at once.
    let leaf = authority().ending_in(86_400, &["b.test"]);
    lockgate.write("certs/b.test.crt", &leaf.chain_pem);
    lockgate.write("certs/b.test.key", &leaf.key_pem);
    lockgate.reload();
    lockgate.wait_for_log(&["WARN", "certificate expires soon", "b.test:"]);
    assert_eq!(lockgate.log().matches("certificate expired").count(), 1);
}

#[test]
fn status_shows_what_runs() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (lockgate, _port) = one(&[&b1, &b2], "");
    let said = lockgate.run(&["status"]).expect(0).stdout;
    assert!(said.contains("generation 1, connections 0, WebSockets 0\n\ngame/web\n"), "{said}");
    assert!(said.contains(&b1.address()) && said.contains("weight 100"), "{said}");
    let json = lockgate.run(&["status", "--json"]).expect(0).stdout;
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["pid"].as_u64(), Some(u64::from(lockgate.pid())));
}
