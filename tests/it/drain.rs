//! `lockgate drain --until-empty`: who is left, and when that is nobody.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Backend, Client, Gate, Lockgate, Port, Setup, group, http_listener};

/// A backend that mirrors WebSockets and holds `/hold` back.
fn backend(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::scripted("B1", move |exchange| {
        if !exchange.request().values("upgrade").is_empty() {
            exchange.switch();
            return exchange.mirror();
        }
        if exchange.request().target() == "/hold" {
            gate.pass();
        }
        exchange.echo();
    })
}

fn site(b1: &Backend, more: &str) -> (Setup, Port) {
    let port = Port::reserve();
    let text = http_listener("a.test", &port, "group = \"web\"") + &group("web", b1) + more;
    (Setup::empty().file("game.toml", &text).workers(2), port)
}

/// A command that goes on for a while; killed when dropped.
struct Waiting {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Waiting {
    #[track_caller]
    fn start(lockgate: &Lockgate, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
        command.args(arguments).arg("--config").arg(lockgate.path());
        command.arg("--state").arg(lockgate.path().join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for a line like this one.
    #[track_caller]
    fn says(&mut self, part: &str) -> String {
        let mut before = Vec::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            if line.contains(part) {
                return line;
            }
            before.push(line);
        }
        panic!("it ended without {part:?} after {before:#?}; {}", self.ends(0));
    }

    /// Waits for its end; what it said on standard error.
    #[track_caller]
    fn ends(&mut self, code: i32) -> String {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{said}");
        said
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_ends_when_the_last_tunnel_does_and_no_request_is_in_flight() {
    let gate = Gate::default();
    let b1 = backend(&gate);
    let (setup, port) = site(&b1, "");
    let lockgate = setup.start();
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    let mut slow = Client::plain(port.number());
    slow.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b1.wait_for_executions(2);
    let mut waiting = Waiting::start(&lockgate, &["drain", "game", "--until-empty"]);
    let first = waiting.says("game/web/");
    assert!(first.ends_with(": drain, was ready: WebSockets 1, requests in flight 1"), "{first}");
    waiting.says("WebSockets 1, requests in flight 1");
    gate.open();
    slow.read().expect(200);
    waiting.says("WebSockets 1, requests in flight 0");
    tunnel.send("still there");
    tunnel.awaits("still there");
    drop(tunnel);
    waiting.says("WebSockets 0, requests in flight 0");
    waiting.says("empty after ");
    assert!(waiting.ends(0).starts_with("warning: no backend of `game/web` takes new"));
}

#[test]
fn who_is_left_in_the_end_is_said() {
    let b1 = backend(&Gate::default());
    let (setup, port) = site(&b1, "");
    let lockgate = setup.start();
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    let wait = ["drain", "game", "--until-empty", "--max", "50ms"];
    let said = lockgate.run(&wait).expect(1);
    let left = format!("game/web/{}: drain: WebSockets 1, requests in flight 0", b1.address());
    assert!(said.stderr.contains(&left), "{}", said.stderr);
    assert!(said.stderr.contains("drain stays: `lockgate ready game`"), "{}", said.stderr);
    let said = lockgate.run(&[&wait[..], &["--json"]].concat()).expect(1);
    let line: serde_json::Value =
        serde_json::from_str(said.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&line["empty"], &line["tunnels"]), (&false.into(), &1.into()));
    assert_eq!(line["backends"][0]["state"], "drain");
    lockgate.run(&["drain", "game", "--max", "1s"]).expect(2);
    drop(tunnel);
    let said = lockgate.run(&["drain", "game", "--until-empty", "--json"]).expect(0);
    let last: serde_json::Value =
        serde_json::from_str(said.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["empty"], &last["players"]), (&true.into(), &serde_json::Value::Null));
}

#[test]
fn a_player_who_was_here_a_moment_ago_is_somebody() {
    let b1 = backend(&Gate::default());
    let (setup, port) = site(&b1, "[group.web.sticky]\nmode = \"insert\"\n");
    let lockgate = setup.start();
    let mut client = Client::plain(port.number());
    let cookie = client.get("a.test", "/").expect(200).value("set-cookie");
    let cookie = cookie.split(';').next().unwrap();
    client.request(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"));
    let said = lockgate.run(&["drain", "game", "--until-empty", "--max", "10ms"]).expect(1);
    assert!(
        said.stdout.contains("players of the last 5 minutes 1 (counted only since 20"),
        "{said:?}"
    );
}

#[test]
fn who_is_interrupted_leaves_the_drain_in_place() {
    let b1 = backend(&Gate::default());
    let (setup, port) = site(&b1, "");
    let lockgate = setup.start();
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    let mut waiting = Waiting::start(&lockgate, &["drain", "game/web", "--until-empty"]);
    waiting.says("game/web/");
    waiting.says("WebSockets 1");
    kill_process(Pid::from_child(&waiting.child), Signal::INT).unwrap();
    let said = waiting.ends(1);
    assert!(said.contains("drain stays: `lockgate ready game/web` takes it back"), "{said}");
    Client::plain(port.number()).get("a.test", "/").expect(502);
    // Whoever takes it back ends the others' wait.
    let mut waiting = Waiting::start(&lockgate, &["drain", "game/web", "--until-empty"]);
    waiting.says("as before");
    waiting.says("WebSockets 1");
    lockgate.run(&["ready", "game"]).expect(0);
    assert!(waiting.ends(1).contains("is ready again"));
    Client::plain(port.number()).get("a.test", "/").expect(200);
}

/// The new process knows the state, and the old one's tunnels count.
#[test]
fn an_upgrade_changes_nothing_of_it() {
    let b1 = backend(&Gate::default());
    let (setup, port) = site(&b1, "");
    let mut lockgate = setup.start();
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    let mut waiting = Waiting::start(&lockgate, &["drain", "game", "--until-empty"]);
    waiting.says("game/web/");
    waiting.says("WebSockets 1");
    lockgate.run(&["upgrade"]).expect(0);
    Client::plain(port.number()).get("a.test", "/").expect(502);
    let table = lockgate.run(&["status"]).expect(0).stdout;
    assert!(table.contains("drain by the operator"), "{table}");
    waiting.says("WebSockets 1");
    drop(tunnel);
    waiting.says("empty after ");
    waiting.ends(0);
    assert_eq!(lockgate.exit_code(), 0);
    let status = lockgate.run(&["status", "--json"]).expect(0).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let pid = i32::try_from(status["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
}

/// A process that began a moment ago does not know who was there before.
#[test]
fn players_whom_nobody_counted_yet_are_not_gone() {
    let b1 = backend(&Gate::default());
    let (setup, port) = site(&b1, "[group.web.sticky]\nmode = \"insert\"\n");
    let mut lockgate = setup.start();
    let mut client = Client::plain(port.number());
    let cookie = client.get("a.test", "/").expect(200).value("set-cookie");
    let cookie = cookie.split(';').next().unwrap();
    client.request(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"));
    let mut waiting = Waiting::start(&lockgate, &["drain", "game", "--until-empty"]);
    waiting.says("players of the last 5 minutes 1 (counted only since 20");
    drop(client);
    lockgate.run(&["upgrade"]).expect(0);
    assert_eq!(lockgate.exit_code(), 0, "the old process");
    // The new one has met nobody.
    waiting.says("players of the last 5 minutes 0 (counted only since 20");
    let wait = ["drain", "game", "--until-empty", "--max", "10ms", "--json"];
    let said = lockgate.run(&wait).expect(1);
    let line: serde_json::Value =
        serde_json::from_str(said.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&line["empty"], &line["players"]), (&false.into(), &0.into()), "{line}");
    assert!(line["players_since"].is_u64(), "{line}");
    kill_process(Pid::from_child(&waiting.child), Signal::INT).unwrap();
    assert!(waiting.ends(1).contains("not waited for any longer"));
    let status = lockgate.run(&["status", "--json"]).expect(0).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let pid = i32::try_from(status["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
}

/// First drained, then deleted from its file, is the order of the day.
#[test]
fn a_backend_that_a_reload_takes_away_is_not_waited_for() {
    let (b1, b2) = (backend(&Gate::default()), backend(&Gate::default()));
    let port = Port::reserve();
    let text = |backends: &str| {
        let listener = http_listener("a.test", &port, "group = \"web\"");
        format!("{listener}[group.web]\nbackends = [{backends}]\n")
    };
    let [one, two] = [(&b1, "one"), (&b2, "two")]
        .map(|(one, name)| format!("{{ address = \"{}\", name = \"{name}\" }}", one.address()));
    let lockgate = Setup::empty().file("game.toml", &text(&format!("{one}, {two}"))).start();
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    let (target, stays) = match b1.executions() {
        0 => ("game/web/two", &one),
        _ => ("game/web/one", &two),
    };
    let mut waiting = Waiting::start(&lockgate, &["drain", target, "--until-empty"]);
    waiting.says("was ready");
    waiting.says("WebSockets 1");
    lockgate.write("listeners.d/game.toml", text(stays));
    lockgate.run(&["reload"]).expect(0);
    let said = waiting.ends(1);
    assert!(said.contains("`game/web` has no backend") && said.contains("took it away"), "{said}");
}
