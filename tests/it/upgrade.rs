//! Upgrade: a new process takes over the sockets, and nobody notices; one that
//! fails in any way leaves the old one as it was.

mod handover;
mod load;
mod ports;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Backend, Client, Gate, Lockgate, Port, Setup, eventually, group, http_listener, lines_of,
};

/// The processes of a test that are not its children, found by the directory
/// they run in; killed when this is dropped.
pub(crate) struct Family(PathBuf);

impl Family {
    pub(crate) fn of(setup: &Setup) -> Self {
        Self(setup.path().join("state"))
    }

    fn pids(&self) -> Vec<u32> {
        let state = self.0.to_string_lossy().into_owned();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("\0run\0") && line.contains(&state)
        })
        .collect()
    }

    /// Waits until only these are left.
    #[track_caller]
    fn wait_for(&self, expected: &[u32]) {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        eventually(&format!("the processes are {expected:?}"), || {
            let mut pids = self.pids();
            pids.sort_unstable();
            pids == expected
        });
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for pid in self.pids() {
            let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The status document of the process that serves.
#[track_caller]
fn status(lockgate: &Lockgate) -> serde_json::Value {
    let printed = lockgate.run(&["status", "--json"]).expect(0).stdout;
    serde_json::from_str(&printed).unwrap()
}

#[track_caller]
fn serving(lockgate: &Lockgate) -> u32 {
    u32::try_from(status(lockgate)["pid"].as_u64().unwrap()).unwrap()
}

/// `lockgate upgrade`; the process that serves then.
#[track_caller]
fn upgrade(lockgate: &Lockgate) -> u32 {
    let said = lockgate.run(&["upgrade"]).expect(0).stdout;
    let pid = serving(lockgate);
    assert!(said.contains(&format!("process {pid} serves")), "{said}");
    pid
}

/// Names of sockets in the state directory.
fn sockets(lockgate: &Lockgate) -> Vec<String> {
    let entries = std::fs::read_dir(lockgate.path().join("state")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.contains(".sock"));
    names.sort();
    names
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Echoes, and mirrors WebSockets.
fn mirror(name: &str) -> Backend {
    Backend::scripted(name, |exchange| {
        if exchange.request().values("upgrade").is_empty() {
            return exchange.echo();
        }
        exchange.switch();
        exchange.mirror();
    })
}

fn site(backend: &Backend) -> (Setup, Port) {
    let port = Port::reserve();
    let text = http_listener("a.test", &port, "group = \"web\"") + &group("web", backend);
    (Setup::empty().file("game.toml", &text), port)
}

#[test]
fn who_reads_along_reads_on_with_the_new_process() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let lockgate = setup.start();
    let _family = Family::of(&setup);
    // One that holds the old process, and later none: it ends at once.
    for held in [Some(Client::plain(port.number())), None] {
        let mut held = held;
        if let Some(tunnel) = &mut held {
            tunnel.switch();
        }
        let mut command = lockgate.command(&["tail", "--json"]);
        let mut tail = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = lines_of(tail.stderr.take().unwrap());
        assert_eq!(said.next().unwrap(), "reading along; Ctrl-C ends it");
        upgrade(&lockgate);
        assert_eq!(
            said.next().unwrap(),
            "a new process serves from now on; what it answered in its first moment may be missing here"
        );
        Client::plain(port.number()).get("a.test", "/after").expect(200);
        let lines = lines_of(tail.stdout.take().unwrap());
        let line = lines.next().unwrap();
        assert!(line.contains("\"/after\""), "{line}");
        if held.take().is_some() {
            let line = lines.next().unwrap();
            assert!(line.contains("\"tunnel\":\"closed\""), "of the old process: {line}");
        }
        tail.kill().unwrap();
        tail.wait().unwrap();
    }
}

#[test]
fn the_new_process_serves_and_the_old_one_finishes() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let mut lockgate = setup.start();
    let family = Family::of(&setup);
    let old = lockgate.pid();
    let mut kept = Client::plain(port.number());
    kept.get("a.test", "/").expect(200);
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    let new = upgrade(&lockgate);
    assert_ne!(new, old);
    // On the same admin address, which the system picked.
    let told = lockgate.admin().get(&lockgate.admin_host(), "/status.json").expect(200);
    let told: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(told["pid"], new);
    lockgate.admin().get(&lockgate.admin_host(), "/ready").expect(200);
    // What the old one still holds is seen.
    let table = lockgate.run(&["status"]).expect(0).stdout;
    let line = format!("old process {old}: connections 2, WebSockets 1, handed over ");
    assert!(table.contains(&line), "{table}");
    lockgate.wait_for_log(&["finishes what it holds", "connections: 2, WebSockets: 1"]);
    // A kept connection gets one more answer, and with it the end.
    let last = kept.get("a.test", "/").expect(200);
    assert_eq!(last.value("connection").to_lowercase(), "close");
    kept.assert_closed();
    tunnel.send("still there");
    tunnel.awaits("still there");
    // The lock was held at no time by nobody.
    let third = setup.run(&["run"]).expect(1);
    assert!(third.stderr.contains(&format!("(process {new})")), "{}", third.stderr);
    drop(tunnel);
    assert_eq!(lockgate.exit_code(), 0);
    family.wait_for(&[new]);
    assert_eq!(sockets(&lockgate), ["admin.sock"]);
    Client::plain(port.number()).get("a.test", "/").expect(200);
    lockgate.reload();
}

#[test]
fn usr2_is_an_upgrade() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let mut lockgate = setup.start();
    let _family = Family::of(&setup);
    lockgate.signal(Signal::USR2);
    assert_eq!(lockgate.exit_code(), 0);
    assert_ne!(serving(&lockgate), lockgate.pid());
    Client::plain(port.number()).get("a.test", "/").expect(200);
}

/// A file in the directory that can be executed.
fn script(setup: &Setup, name: &str, text: &str) -> String {
    let path = setup.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_new_process_that_fails_leaves_the_old_one_as_it_was() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let setup = setup.process("[upgrade]\ntimeout = \"2s\"\n");
    let lockgate = setup.start();
    let family = Family::of(&setup);
    let old = lockgate.pid();
    let mut kept = Client::plain(port.number());
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    kept.get("a.test", "/").expect(200);
    let binaries = [
        (script(&setup, "garbage", "\x7fELF\0"), "cannot be started"),
        (setup.path().join("nothing here").to_string_lossy().into_owned(), "nothing here"),
        (script(&setup, "exits", "#!/bin/sh\nexit 3\n"), "exit status: 3"),
        (script(&setup, "killed", "#!/bin/sh\nkill -9 $$\n"), "signal: 9"),
        (
            script(&setup, "hangs", "#!/bin/sh\nwhile :; do sleep 0.1; done\n"),
            "did not report within 2s",
        ),
    ];
    let mut before = None;
    for (binary, why) in &binaries {
        let refused = lockgate.run(&["upgrade", binary]).expect(1);
        assert!(refused.stderr.contains(why), "{binary}: {}", refused.stderr);
        assert!(refused.stderr.contains("the running process goes on"), "{}", refused.stderr);
        assert_eq!(serving(&lockgate), old);
        family.wait_for(&[old]);
        assert_eq!(sockets(&lockgate), ["admin.sock"]);
        kept.assert_open("a.test");
        tunnel.send("still there");
        tunnel.awaits("still there");
        Client::plain(port.number()).get("a.test", "/").expect(200);
        let third = setup.run(&["run"]).expect(1);
        assert!(third.stderr.contains(&format!("(process {old})")), "{}", third.stderr);
        // The first one also has what is opened once.
        let most = *before.get_or_insert_with(|| descriptors(old));
        eventually("descriptors are given back", || descriptors(old) <= most);
    }
    lockgate.admin().get(&lockgate.admin_host(), "/ready").expect(200);
    assert_ne!(upgrade(&lockgate), old);
}

#[test]
fn a_configuration_that_is_not_good_keeps_the_old_process() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let lockgate = setup.start();
    let _family = Family::of(&setup);
    let old = lockgate.pid();
    let process = std::fs::read_to_string(lockgate.path().join("lockgate.toml")).unwrap();
    let game = std::fs::read_to_string(lockgate.path().join("listeners.d/game.toml")).unwrap();
    lockgate.write("lockgate.toml", "wokers = 1\n");
    let refused = lockgate.run(&["upgrade"]).expect(1);
    assert!(refused.stderr.contains("lockgate.toml:1: unknown key `wokers`"), "{}", refused.stderr);
    lockgate.write("lockgate.toml", &process);
    assert_eq!(serving(&lockgate), old);
    Client::plain(port.number()).get("a.test", "/").expect(200);
    // One team's mistake does not: its last good version serves in both.
    lockgate.write("listeners.d/game.toml", game.replace("port", "prot"));
    assert_ne!(upgrade(&lockgate), old);
    Client::plain(port.number()).get("a.test", "/").expect(200);
}

#[test]
fn the_new_process_serves_what_the_files_say_now() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let mut lockgate = setup.start();
    let _family = Family::of(&setup);
    let other = Port::reserve();
    let text = http_listener("b.test", &other, "group = \"web\"") + &group("web", &b1);
    lockgate.write("listeners.d/game.toml", text);
    upgrade(&lockgate);
    Client::plain(other.number()).get("b.test", "/").expect(200);
    assert_eq!(lockgate.exit_code(), 0);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port.number())).is_err());
}

/// IPv4 sockets that listen on the port.
fn listening(port: &Port) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!("00000000:{:04X}", port.number());
    let is_it = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"0A")
    };
    table.lines().filter(is_it).count()
}

/// Sockets of workers that are no more still have clients in their queues, and
/// workers that are new get sockets of their own.
#[test]
fn the_new_process_may_have_more_or_fewer_workers() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let setup = setup.workers(3);
    let lockgate = setup.start();
    let family = Family::of(&setup);
    let process = std::fs::read_to_string(lockgate.path().join("lockgate.toml")).unwrap();
    for (workers, expected) in [(1, 3), (2, 3), (4, 4)] {
        let line = format!("workers = {workers}");
        lockgate.write("lockgate.toml", process.replace("workers = 3", &line));
        let new = upgrade(&lockgate);
        family.wait_for(&[new]);
        assert_eq!(listening(&port), expected);
        for _ in 0..50 {
            Client::plain(port.number()).get("a.test", "/").expect(200);
        }
    }
    // And lets go of all of them.
    std::fs::remove_file(lockgate.path().join("listeners.d/game.toml")).unwrap();
    let other = Port::reserve();
    let text = http_listener("a.test", &other, "group = \"web\"") + &group("web", &b1);
    lockgate.write("listeners.d/other.toml", text);
    lockgate.reload();
    eventually("the port is free", || {
        std::net::TcpStream::connect(("127.0.0.1", port.number())).is_err()
    });
    Client::plain(other.number()).get("a.test", "/").expect(200);
}

#[test]
fn the_old_process_keeps_its_deadline() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let setup = setup.process("[upgrade]\ndeadline = \"3s\"\n");
    let mut lockgate = setup.start();
    let _family = Family::of(&setup);
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    upgrade(&lockgate);
    // It asked for nothing in the last process, and comes back in the new one.
    tunnel.awaits([b"\x88\x11\x03\xf4", &b"service restart"[..]].concat());
    tunnel.ended().expect("");
    assert_eq!(lockgate.exit_code(), 3);
}

/// By game, those who have been there longest first, and also of a game that no
/// file names any more.
#[test]
fn what_the_old_process_holds_is_shown() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = mirror("B1");
    let b2 = Backend::scripted("B2", move |exchange| {
        hold.pass();
        exchange.echo();
    });
    let ports = [Port::reserve(), Port::reserve()];
    let text = |port: &Port, backend: &Backend| {
        http_listener("a.test", port, "group = \"web\"") + &group("web", backend)
    };
    let setup = Setup::empty()
        .file("chess.toml", &text(&ports[0], &b1))
        .file("go.toml", &text(&ports[1], &b2));
    let mut lockgate = setup.start();
    let _family = Family::of(&setup);
    let old = lockgate.pid();
    let mut tunnel = Client::plain(ports[0].number());
    tunnel.switch();
    let mut asking = Client::plain(ports[1].number());
    asking.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b2.wait_for_executions(1);
    let idle = Client::plain(ports[1].number());
    assert_eq!(status(&lockgate)["held"], serde_json::json!([]));
    std::fs::remove_file(lockgate.path().join("listeners.d/chess.toml")).unwrap();
    lockgate.reload();
    eventually("the idle one is accepted", || status(&lockgate)["connections"] == 3);
    assert_eq!(status(&lockgate)["tunnels"], 1);
    upgrade(&lockgate);
    let table = lockgate.run(&["status"]).expect(0).stdout;
    let (_, told) = table.split_once(&format!("old process {old}: ")).unwrap();
    let lines: Vec<String> =
        told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(lines[0].starts_with("connections 3, WebSockets 1, handed over "), "{told}");
    let expected = [
        "chess connections 1 in a request 0 WebSockets 1 oldest 0h00m",
        "go connections 1 in a request 1 WebSockets 0 oldest 0h00m",
        "(no request yet) connections 1 in a request 0 WebSockets 0 oldest 0h00m",
    ];
    for (line, expected) in lines[1..].iter().zip(expected) {
        assert!(line.starts_with(expected), "{told}");
    }
    assert_eq!(lines.len(), 1 + expected.len(), "{told}");
    gate.open();
    asking.read().expect(200);
    drop((tunnel, idle));
    assert_eq!(lockgate.exit_code(), 0);
}

#[test]
fn an_old_process_that_waits_can_be_stopped() {
    let b1 = mirror("B1");
    let (setup, port) = site(&b1);
    let mut lockgate = setup.start();
    let _family = Family::of(&setup);
    let mut tunnel = Client::plain(port.number());
    tunnel.switch();
    let mut idle = Client::plain(port.number());
    idle.get("a.test", "/").expect(200);
    let new = upgrade(&lockgate);
    lockgate.signal(Signal::TERM);
    // From here on it is as with any stop.
    idle.assert_closed();
    assert_eq!(lockgate.terminate(), 3);
    assert_eq!(serving(&lockgate), new);
    assert_eq!(sockets(&lockgate), ["admin.sock"]);
}

#[test]
fn a_stop_during_an_upgrade_ends_both() {
    let b1 = mirror("B1");
    let (setup, _port) = site(&b1);
    let mut lockgate = setup.start();
    let family = Family::of(&setup);
    let began = setup.path().join("began");
    let text = format!("#!/bin/sh\ntouch '{}'\nwhile :; do sleep 0.1; done\n", began.display());
    let hangs = script(&setup, "hangs", &text);
    std::thread::scope(|scope| {
        let upgrading = scope.spawn(|| refused(setup.path(), &hangs));
        eventually("the new process runs", || began.exists());
        // Nobody else gets anything.
        let path = setup.path().join("state/upgrade.sock");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut stranger = UnixStream::connect(&path).unwrap();
        stranger.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
        assert_eq!(stranger.read(&mut [0]).unwrap(), 0);
        lockgate.signal(Signal::TERM);
        assert!(upgrading.join().unwrap().contains("stopping"));
    });
    assert_eq!(lockgate.exit_code(), 0);
    family.wait_for(&[]);
    assert_eq!(sockets(&lockgate), [""; 0]);
}

/// What `lockgate upgrade BINARY` says when it fails.
fn refused(directory: &Path, binary: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lockgate"));
    command.args(["upgrade", binary, "--config"]).arg(directory);
    command.arg("--state").arg(directory.join("state"));
    crate::support::Finished::of(command).expect(1).stderr
}

#[test]
fn systemd_is_told_which_process_it_is() {
    let b1 = mirror("B1");
    let (setup, _port) = site(&b1);
    let socket = setup.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    let heard = || {
        let mut bytes = [0; 256];
        let n = systemd.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    };
    let setup = setup.env("NOTIFY_SOCKET", &socket.to_string_lossy());
    let mut lockgate = setup.start();
    let family = Family::of(&setup);
    let old = lockgate.pid();
    assert_eq!(heard(), format!("READY=1\nMAINPID={old}\n"));
    lockgate.reload();
    assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard(), format!("READY=1\nMAINPID={old}\n"));
    let new = upgrade(&lockgate);
    assert_eq!(lockgate.exit_code(), 0);
    // Each says it, in whatever order; the old one does not say that it stops.
    let mut told = [heard(), heard()];
    told.sort();
    assert_eq!(told, [format!("MAINPID={new}\n"), format!("READY=1\nMAINPID={new}\n")]);
    kill_process(Pid::from_raw(i32::try_from(new).unwrap()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(heard(), "STOPPING=1\n");
    family.wait_for(&[]);
    systemd.set_nonblocking(true).unwrap();
    assert!(systemd.recv(&mut [0]).is_err(), "it was told once");
}

/// Whole lines, whichever process writes them.
#[test]
fn both_processes_write_to_one_access_log() {
    let b1 = Backend::named("B1");
    let (setup, port) = site(&b1);
    let setup = setup.process("[log]\naccess = \"access.log\"\n");
    let family = Family::of(&setup);
    let mut lockgate = setup.start();
    let mut kept = Client::plain(port.number());
    kept.get("a.test", "/1").expect(200);
    let heir = upgrade(&lockgate);
    Client::plain(port.number()).get("a.test", "/new").expect(200);
    kept.get("a.test", "/old").expect(200);
    assert_eq!(lockgate.exit_code(), 0);
    kill_process(Pid::from_raw(i32::try_from(heir).unwrap()).unwrap(), Signal::TERM).unwrap();
    family.wait_for(&[]);
    let text = std::fs::read_to_string(setup.path().join("access.log")).unwrap();
    let mut paths: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line))
        .map(|line| line["path"].as_str().unwrap().to_owned())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/1", "/new", "/old"]);
}
