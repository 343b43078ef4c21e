//! Starting and stopping: what `run` needs, one lockgate per state directory,
//! a bad drop-in that harms nobody else, `/live` and `/ready`, TERM that
//! finishes what is in flight, exit codes, and the demo.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{
    Backend, Client, Gate, H2, H2Stream, Lockgate, Port, Setup, Site, eventually, group,
    http_listener,
};

/// A site whose backend holds every request until the gate opens.
fn held_site(process: &str) -> (Site, Backend, Gate) {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().target() == "/hold" {
            hold.pass();
        }
        exchange.echo();
    });
    let site = Site::http().process(process).backend(&b1).start();
    (site, b1, gate)
}

#[test]
fn term_finishes_what_is_in_flight() {
    let (mut site, b1, gate) = held_site("");
    let mut idle = site.connect();
    idle.get("a.test", "/").expect(200);
    let mut client = site.connect();
    client.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b1.wait_for_executions(2);
    site.lockgate.signal(Signal::TERM);
    // Who waits for nothing is let go; who waits gets the answer.
    idle.assert_closed();
    eventually("new connections are refused", || {
        TcpStream::connect(("127.0.0.1", site.port())).is_err()
    });
    gate.open();
    let response = client.read().expect(200);
    assert_eq!(response.value("connection").to_lowercase(), "close");
    client.assert_closed();
    assert_eq!(site.lockgate.exit_code(), 0);
}

#[test]
fn a_lame_duck_accepts_while_it_is_not_ready_any_more() {
    let b1 = Backend::named("B1");
    let mut site = Site::http().process("[shutdown]\nlame_duck = \"1h\"").backend(&b1).start();
    let host = site.lockgate.admin_host();
    site.lockgate.admin().get(&host, "/ready").expect(200);
    site.lockgate.signal(Signal::TERM);
    eventually("it is not ready", || site.lockgate.admin().get(&host, "/ready").status == 503);
    site.get("/").expect(200);
    site.lockgate.admin().get(&host, "/live").expect(200);
    // A second signal ends the waiting.
    assert_eq!(site.lockgate.terminate(), 0);
}

#[test]
fn term_with_nothing_in_flight_ends_at_once() {
    let b1 = Backend::named("B1");
    let mut site = Site::before(&b1);
    site.get("/").expect(200);
    assert_eq!(site.lockgate.terminate(), 0);
    let mut site = Site::before(&b1);
    site.lockgate.signal(Signal::INT);
    assert_eq!(site.lockgate.exit_code(), 0);
}

/// RL-10, as DESIGN has it: TERM does not stop fast, but within a deadline.
#[test]
fn term_cuts_what_outlasts_the_deadline() {
    let (mut site, b1, _gate) = held_site("[shutdown]\ndeadline = \"300ms\"");
    let mut client = site.connect();
    client.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b1.wait_for_executions(1);
    let begin = Instant::now();
    assert_eq!(site.lockgate.terminate(), 3);
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    if let Some(response) = client.read_or_cut() {
        response.expect(503);
    }
}

/// What is cut has its line, whether or not the response has begun.
#[test]
fn what_the_deadline_cuts_is_told() {
    let (setup, gate) =
        ("[shutdown]\ndeadline = \"300ms\"\n[log]\naccess = \"access.log\"", Gate::default());
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().target() == "/body" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ");
        }
        hold.pass();
    });
    let mut site = Site::https().process(setup).backend(&b1).start();
    let targets = ["/header", "/body"];
    let mut plain: Vec<Client> = targets.iter().map(|_| site.connect()).collect();
    for (client, target) in plain.iter_mut().zip(targets) {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    }
    plain[1].read_head();
    let mut http2 = H2::to(&site);
    let mut streams: Vec<H2Stream> = targets.map(|target| http2.begin_get(target)).into();
    streams[1].head();
    b1.wait_for_executions(4);
    assert_eq!(site.lockgate.terminate(), 3);
    let log = std::fs::read_to_string(site.lockgate.path().join("access.log")).unwrap();
    let mut told: Vec<String> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(|line: serde_json::Value| {
            let part = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let [protocol, path, cause, phase] = ["protocol", "path", "cause", "phase"].map(part);
            format!("{protocol} {path} {} {cause} {phase} {}", line["status"], part("group"))
        })
        .collect();
    told.sort();
    let expected = ["HTTP/1.1", "HTTP/2.0"].map(|version| {
        [
            format!("{version} /body 200 stopping body web"),
            format!("{version} /header 503 stopping response web"),
        ]
    });
    assert_eq!(told, expected.concat());
    gate.open();
}

#[test]
fn a_second_term_does_not_wait() {
    let (mut site, b1, _gate) = held_site("[shutdown]\ndeadline = \"1h\"");
    let mut client = site.connect();
    client.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b1.wait_for_executions(1);
    site.lockgate.signal(Signal::TERM);
    eventually("new connections are refused", || {
        TcpStream::connect(("127.0.0.1", site.port())).is_err()
    });
    assert_eq!(site.lockgate.terminate(), 3);
}

#[test]
fn quit_waits_as_long_as_it_takes() {
    let (mut site, b1, gate) = held_site("[shutdown]\ndeadline = \"100ms\"");
    let mut client = site.connect();
    client.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b1.wait_for_executions(1);
    site.lockgate.signal(Signal::QUIT);
    // Well past the deadline that TERM has.
    std::thread::sleep(Duration::from_millis(400));
    gate.open();
    client.read().expect(200);
    assert_eq!(site.lockgate.exit_code(), 0);
}

#[test]
fn a_second_lockgate_on_the_same_state_says_so_and_ends() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let text = http_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    let setup = Lockgate::with("game.toml", &text);
    let first = setup.start();
    let second = setup.run(&["run"]).expect(1);
    assert!(second.stderr.contains("state"), "{}", second.stderr);
    assert!(second.stderr.contains(&first.pid().to_string()), "{}", second.stderr);
    // Every connection still reaches the first.
    for _ in 0..5 {
        Client::plain(port.number()).get("a.test", "/").expect(200);
    }
    // A killed one leaves nothing that is in the way.
    drop(first);
    let _third = setup.start();
    Client::plain(port.number()).get("a.test", "/").expect(200);
}

#[test]
fn a_port_that_is_taken_is_said_at_the_start() {
    let b1 = Backend::named("B1");
    let taken = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!(
        "[[listener]]\ndomain = \"a.test\"\nport = {port}\nprotocol = \"http\"\ngroup = \"web\"\n{}",
        group("web", &b1)
    );
    let run = Lockgate::with("game.toml", &text).run(&["run"]).expect(1);
    assert!(run.stderr.contains(&port.to_string()), "{}", run.stderr);
}

/// One team's port in another program's hands costs that team, and nobody else.
#[test]
fn a_port_that_is_taken_costs_no_other_game_anything() {
    let b1 = Backend::named("B1");
    let taken = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let theirs = taken.local_addr().unwrap().port();
    let port = Port::reserve();
    let good = http_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    let bad = good.replace(&port.number().to_string(), &theirs.to_string());
    let lockgate = Lockgate::with("good.toml", &good).file("bad.toml", &bad).start();
    lockgate.wait_for_log(&["bad.toml:1", &theirs.to_string()]);
    Client::plain(port.number()).get("a.test", "/").expect(200);
}

/// USR1 finds no log file to open again, and above all does not end the process.
#[test]
fn a_signal_with_nothing_to_do_ends_nothing() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    site.lockgate.signal(Signal::USR1);
    site.lockgate.wait_for_log(&["USR1", "no access log"]);
    site.get("/").expect(200);
}

#[test]
fn live_and_ready_are_answered_on_the_admin_address() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let host = site.lockgate.admin_host();
    let mut admin = site.lockgate.admin();
    admin.get(&host, "/live").expect(200);
    admin.get(&host, "/ready").expect(200);
    admin.get("localhost", "/ready").expect(200);
    admin.get(&host, "/nothing").expect(404);
    site.lockgate.admin().get("evil.test", "/status.json").expect(421);
    // The admin address is no listener, and a listener no admin address.
    site.lockgate.admin().get("a.test", "/").expect(421);
    assert_eq!(site.get("/live").expect(200).backend(), "B1");
}

#[test]
fn it_says_where_it_listens() {
    let b1 = Backend::named("B1");
    let (plain, tls) = (Port::reserve(), Port::reserve());
    let text = http_listener("a.test", &plain, "group = \"web\"")
        + &format!("[[listener]]\ndomain = \"a.test\"\nport = {tls}\ngroup = \"web\"\n")
        + &group("web", &b1);
    let lockgate = Lockgate::with("game.toml", &text).start();
    let has = |scheme: &str, port: &Port| {
        lockgate.listening().iter().any(|address| {
            address.starts_with(&format!("{scheme}://")) && address.ends_with(&format!(":{port}"))
        })
    };
    assert!(has("http", &plain) && has("https", &tls), "{:?}", lockgate.listening());
}

#[test]
fn a_listener_may_have_an_address_of_its_own() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("address = \"127.0.0.1\"").backend(&b1).start();
    site.get("/").expect(200);
    assert!(TcpStream::connect(("127.0.0.2", site.port())).is_err());
}

#[test]
fn ipv6_clients_are_served_where_there_is_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut stream = TcpStream::connect(("::1", site.port())).unwrap();
    stream.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, request).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert_eq!(b1.request().value("x-forwarded-for"), "::1");
}

#[test]
fn a_bad_drop_in_is_refused_alone() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let good = http_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    let lockgate = Lockgate::with("a-bad.toml", "[[listener]]\ndomain = \"bad.test\"\nprot = 1\n")
        .file("b-broken.toml", "this is no toml\n")
        .file("c-good.toml", &good)
        .start();
    lockgate.wait_for_log(&["a-bad.toml", "3"]);
    lockgate.wait_for_log(&["b-broken.toml"]);
    Client::plain(port.number()).get("a.test", "/").expect(200);
}

#[test]
fn of_two_files_that_claim_one_domain_the_later_is_refused() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (port, other) = (Port::reserve(), Port::reserve());
    let one = http_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    // Refused as a whole: also its listener that nobody else claims.
    let two = http_listener("a.test", &port, "group = \"web\"")
        + &http_listener("b.test", &other, "group = \"web\"")
        + &group("web", &b2);
    let lockgate = Lockgate::with("2-one.toml", &two).file("1-one.toml", &one).start();
    lockgate.wait_for_log(&["2-one.toml"]);
    assert_eq!(Client::plain(port.number()).get("a.test", "/").backend(), "B1");
    assert!(TcpStream::connect(("127.0.0.1", other.number())).is_err());
    b2.assert_untouched();
}

#[test]
fn nothing_to_serve_is_a_failed_start() {
    let run = Setup::empty().run(&["run"]).expect(1);
    assert!(!run.stderr.is_empty());
    let run = Lockgate::with("bad.toml", "nonsense").run(&["run"]).expect(1);
    assert!(run.stderr.contains("bad.toml"), "{}", run.stderr);
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let good = http_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    let run = Lockgate::with("good.toml", &good).process("[nonsense]\n").run(&["run"]).expect(1);
    assert!(run.stderr.contains("lockgate.toml"), "{}", run.stderr);
}

/// The drop-ins the repository ships.
fn shipped() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("listeners.d");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 2, "only {files:?}");
    files
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn the_shipped_drop_ins_are_good() {
    let mut setup = Setup::empty();
    for file in shipped() {
        setup = setup.file(&name_of(&file), &std::fs::read_to_string(&file).unwrap());
    }
    setup.run(&["check"]).expect(0);
}

/// The shipped drop-ins on ports that are ours, their backends on a loopback
/// address that is nobody else's.
fn demo_setup(ports: &[(&str, &Port)]) -> Setup {
    let id = std::process::id();
    let own = format!("127.{}.{}.{}:1", 64 + id % 128, (id >> 8) % 256, 2 + id % 251);
    let mut setup = Setup::empty();
    for file in shipped() {
        let mut text = std::fs::read_to_string(&file).unwrap();
        text = text.replace("127.0.0.1:1", &own);
        for (shipped, port) in ports {
            text = replace_number(&text, shipped, &port.to_string());
        }
        setup = setup.any_file(&format!("listeners.d/{}", name_of(&file)), &text);
    }
    setup
}

/// Replaces a number where it stands alone.
fn replace_number(text: &str, from: &str, to: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(place) = rest.find(from) {
        let (before, after) = (&rest[..place], &rest[place + from.len()..]);
        let touches = before.ends_with(|c: char| c.is_ascii_digit())
            || after.starts_with(|c: char| c.is_ascii_digit());
        out.push_str(before);
        out.push_str(if touches { from } else { to });
        rest = after;
    }
    out + rest
}

#[test]
fn the_demo_serves_all_games() {
    let ports: Vec<(&str, Port)> =
        ["8030", "9030", "8080", "8443"].map(|shipped| (shipped, Port::reserve())).into();
    let by_number: Vec<(&str, &Port)> = ports.iter().map(|(name, port)| (*name, port)).collect();
    let setup = demo_setup(&by_number);
    let _lockgate = setup.start_with(&["demo"]);
    let number = |shipped: &str| {
        ports.iter().find(|(name, _)| *name == shipped).map(|(_, port)| port.number()).unwrap()
    };
    let ca = setup.path().join("certs/demo-ca.crt");
    for (host, port) in [
        ("youxia.com", number("8030")),
        ("youxia.localhost", number("8030")),
        ("youxib.com", number("9030")),
        ("youxib.localhost", number("9030")),
        ("youxia.com", number("8443")),
        ("youxib.com", number("8443")),
    ] {
        let mut curl = std::process::Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "20", "--cacert"])
            .arg(&ca)
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .arg(format!("https://{host}:{port}/test/jtt/login"));
        let page = crate::support::Finished::of(curl).expect(0);
        let game = host.split('.').next().unwrap();
        assert!(page.stdout.contains(game), "{host}:{port}: {}", page.stdout);
    }
    let response = Client::plain(number("8080")).get("youxia.com", "/p?q=1").expect(301);
    let target = format!("https://youxia.com:{}/p?q=1", number("8030"));
    assert_eq!(response.value("location"), target);
}

/// One that systemd bound: nobody else could bind it again, and who waited in its
/// queue is served.
#[test]
fn sockets_that_are_passed_are_used() {
    let b1 = Backend::named("B1");
    let passed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = passed.local_addr().unwrap().port();
    let text = format!(
        "[[listener]]\ndomain = \"a.test\"\nport = {port}\nprotocol = \"http\"\n\
         address = \"127.0.0.1\"\ngroup = \"web\"\n\n{}",
        group("web", &b1)
    );
    let mut early = Client::plain(port);
    early.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let setup = Setup::empty().file("game.toml", &text).workers(3).passed(passed);
    let mut lockgate = setup.start();
    early.read().expect(200);
    for _ in 0..10 {
        Client::plain(port).get("a.test", "/").expect(200);
    }
    lockgate.wait_for_log(&["WARN", "cannot be used", "name=\"rubbish\"", "not a socket"]);
    let log = lockgate.log_to_the_end();
    assert!(!log.contains("no listener wants"), "{log}");
}

#[test]
fn a_socket_that_is_passed_in_vain_is_told() {
    let b1 = Backend::named("B1");
    let passed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let port = Port::reserve();
    let text = http_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    let lockgate = Setup::empty().file("game.toml", &text).passed(passed).start();
    lockgate.wait_for_log(&["WARN", "no listener wants", &address.to_string()]);
    Client::plain(port.number()).get("a.test", "/").expect(200);
    drop(lockgate);
    // Nor are those of another process ours.
    let setup = Setup::empty().file("game.toml", &text.replace("a.test", "b.test"));
    let setup = setup.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let mut lockgate = setup.start();
    let log = lockgate.log_to_the_end();
    assert!(!log.contains("systemd"), "{log}");
}
