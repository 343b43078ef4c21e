//! The moments around a hand-over: who answers, who holds the lock, and what
//! becomes of what was asked for meanwhile.

use std::process::Child;

use super::*;
use crate::support::{Answer, DEADLINE, NameServer};

/// A binary that becomes lockgate once the file `go` is there, and says with the
/// file `waits` that it was started.
fn waiting(setup: &Setup) -> String {
    let text = format!(
        "#!/bin/sh\ntouch waits\nuntil [ -e go ]; do sleep 0.05; done\nexec '{}' \"$@\"\n",
        env!("CARGO_BIN_EXE_lockgate")
    );
    script(setup, "waiting", &format!("#!/bin/sh\ncd '{}'\n{text}", setup.path().display()))
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// Open connections to the admin socket, as the system tells of them.
fn connections(setup: &Setup) -> usize {
    // By the name that it was bound to, before it was moved to its place.
    let path = setup.path().join("state/admin.sock");
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let of_socket = table.lines().filter(|line| line.contains(&*path.to_string_lossy()));
    // The sixth field: connected.
    of_socket.filter(|line| line.split_whitespace().nth(5) == Some("03")).count()
}

/// Starts a command that will wait.
fn ask(lockgate: &Lockgate, arguments: &[&str]) -> Child {
    let mut command = lockgate.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn done(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A site whose next process is held up by a silent name server after it read the
/// files. Its port may be written anew.
struct HeldUp {
    setup: Setup,
    lockgate: Lockgate,
    dns: NameServer,
    port: Port,
    backend: Backend,
}

fn held_up() -> HeldUp {
    let dns = NameServer::start();
    dns.points("web.internal", &["127.0.0.1"], 3600);
    let port = Port::reserve();
    let backend = mirror("B1");
    let address = backend.address().replace("127.0.0.1", "web.internal");
    let text = http_listener("a.test", &port, "group = \"web\"")
        + &format!("[group.web]\nbackends = [\"{address}\"]\n");
    let setup = Setup::empty().file("game.toml", &text).process(&dns.table());
    let lockgate = setup.start();
    Client::plain(port.number()).get("a.test", "/").expect(200);
    dns.says("web.internal", &Answer::Silence);
    HeldUp { setup, lockgate, dns, port, backend }
}

/// What balancers ask never says that nobody serves, whoever is asked.
#[test]
fn ready_is_good_all_the_time() {
    let HeldUp { setup, lockgate, dns, port, backend: _backend } = held_up();
    let _family = Family::of(&setup);
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    let host = lockgate.admin_host();
    let mut kept = lockgate.admin();
    kept.get(&host, "/ready").expect(200);
    let before = dns.asked("web.internal");
    let upgrading = ask(&lockgate, &["upgrade"]);
    eventually("the new process builds", || dns.asked("web.internal") > before);
    for _ in 0..50 {
        lockgate.admin().get(&host, "/ready").expect(200);
    }
    done(upgrading);
    let last = kept.get(&host, "/ready").expect(200);
    assert_eq!(last.value("connection"), "close");
    kept.assert_closed();
    lockgate.admin().get(&host, "/ready").expect(200);
    tunnel.send("still there");
    tunnel.awaits("still there");
}

/// It came after the new process had read the files.
#[test]
fn a_reload_by_signal_during_an_upgrade_is_the_new_ones() {
    let HeldUp { setup, lockgate, dns, port, backend: _backend } = held_up();
    let _family = Family::of(&setup);
    let before = dns.asked("web.internal");
    let upgrading = ask(&lockgate, &["upgrade"]);
    eventually("the new process builds", || dns.asked("web.internal") > before);
    lockgate.write(
        "listeners.d/game.toml",
        http_listener(
            "a.test",
            &port,
            "[[listener.rule]]\npath = \"/\"\nrespond = { status = 410 }",
        ),
    );
    lockgate.signal(Signal::HUP);
    done(upgrading);
    eventually("the new process serves what is written", || {
        Client::plain(port.number()).get("a.test", "/").status == 410
    });
}

/// It waited in the old process, and is carried out by the new one.
#[test]
fn what_was_asked_during_an_upgrade_is_done() {
    let b1 = mirror("B1");
    let (setup, _port) = site(&b1);
    let lockgate = setup.start();
    let _family = Family::of(&setup);
    let binary = waiting(&setup);
    let upgrading = ask(&lockgate, &["upgrade", &binary]);
    eventually("the new process was started", || setup.path().join("waits").exists());
    let before = connections(&setup);
    let reloading = ask(&lockgate, &["reload", "--json"]);
    let draining = ask(&lockgate, &["drain", "game/web"]);
    eventually("both wait", || connections(&setup) == before + 2);
    // What was sent before this was heard before it.
    serving(&lockgate);
    std::fs::write(setup.path().join("go"), "").unwrap();
    done(upgrading);
    let report: serde_json::Value = serde_json::from_str(&done(reloading)).unwrap();
    assert_eq!((&report["good"], &report["applied"]), (&true.into(), &true.into()), "{report}");
    done(draining);
    let state = &status(&lockgate)["games"][0]["groups"][0]["backends"][0]["state"];
    assert_eq!(state, "drain");
}

/// An old process that still finishes something keeps nobody from starting.
#[test]
fn who_took_over_and_died_is_followed_at_once() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let socket = setup.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let setup = setup.env("NOTIFY_SOCKET", &socket.to_string_lossy());
    let lockgate = setup.start();
    let _family = Family::of(&setup);
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    kill(upgrade(&lockgate));
    let told = lines(&systemd).find(|line| line == "WATCHDOG=trigger");
    assert!(told.is_some(), "systemd starts it again");
    let _next = setup.start();
    Client::plain(port.number()).get("a.test", "/").expect(200);
    tunnel.send("still there");
    tunnel.awaits("still there");
}

/// What systemd hears.
fn lines(systemd: &UnixDatagram) -> impl Iterator<Item = String> {
    std::iter::from_fn(|| {
        let mut bytes = [0; 256];
        let n = systemd.recv(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(bytes.get(..n)?).into_owned();
        Some(text.lines().map(str::to_owned).collect::<Vec<_>>())
    })
    .flatten()
}

/// Their clients know the ids, whichever process it was.
#[test]
fn why_finds_what_the_old_process_remembers() {
    let (port, refusing) = (Port::reserve(), Port::reserve());
    let b1 = mirror("B1");
    let rules = "group = \"web\"\n[[listener.rule]]\npath = \"/dead/\"\ngroup = \"dead\"";
    let dead = format!("[group.dead]\nbackends = [\"{}\"]\n", refusing.refusing_address());
    let text = http_listener("a.test", &port, rules) + &group("web", &b1) + &dead;
    let setup = Setup::empty().file("game.toml", &text);
    let lockgate = setup.start();
    let _family = Family::of(&setup);
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    let body = Client::plain(port.number()).get("a.test", "/dead/x").expect(502).text();
    let (_, id) = body.split_once("request id ").unwrap();
    upgrade(&lockgate);
    let told = lockgate.run(&["why", id.trim()]).expect(0).stdout;
    assert!(told.contains("502, connect_refused in phase connect"), "{told}");
    tunnel.send("still there");
    tunnel.awaits("still there");
}
