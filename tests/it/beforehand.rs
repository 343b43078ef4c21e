//! What an operator is told before, and what after: `check` and `reload
//! --dry-run` find what a start and a reload would, a reload says what of
//! `lockgate.toml` it changed, an upgrade which files its process refuses; and
//! signals that come before anybody expects them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{
    Client, Lockgate, Port, Setup, authority, eventually, http_listener, https_listener,
};
use crate::upgrade::Family;

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn served(text: &str) -> (Setup, Port) {
    let port = Port::reserve();
    let listener = http_listener("a.test", &port, "[[listener.rule]]\nrespond = { status = 200 }");
    (Setup::empty().file("game.toml", &listener).process(text), port)
}

/// `lockgate.toml` as [`Setup`] writes it, with this more.
fn process(more: &str) -> String {
    format!("workers = 1\n[admin]\naddress = \"127.0.0.1:0\"\n{more}\n")
}

fn status(lockgate: &Lockgate) -> Value {
    serde_json::from_str(&lockgate.run(&["status", "--json"]).expect(0).stdout).unwrap()
}

/// It is asked what it makes of an upgrade, by a process that does not say a word.
#[test]
fn no_signal_ends_a_process_that_is_just_starting() {
    let (setup, _port) = served("");
    let path = setup.path().join("upgrade.sock");
    let old = UnixListener::bind(&path).unwrap();
    let mut command = setup.full_command(&["run"]);
    let child = command.env("LOCKGATE_UPGRADE", &path).spawn().unwrap();
    let (mut stream, _) = old.accept().unwrap();
    for signal in [Signal::USR1, Signal::USR2, Signal::HUP] {
        send(child.id(), signal);
    }
    // Of no version there is: it says so, and ends.
    stream.write_all(b"{\"version\":0,\"descriptors\":0}\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.contains("hands over as version 0"), "{said}");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.signal(), output.status.code()), (None, Some(1)), "{output:?}");
}

/// It waits for an answer, as `lockgate reload` may when logs are rotated.
#[test]
fn no_signal_to_all_ends_a_command() {
    let (setup, _port) = served("");
    std::fs::create_dir(setup.path().join("state")).unwrap();
    let running = UnixListener::bind(setup.path().join("state/admin.sock")).unwrap();
    let child = setup.full_command(&["reload"]).spawn().unwrap();
    let (mut stream, _) = running.accept().unwrap();
    for signal in [Signal::USR1, Signal::USR2, Signal::HUP] {
        send(child.id(), signal);
    }
    let mut request = Vec::new();
    // All of it: what is left unread would reset the connection.
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.extend(byte);
    }
    stream.write_all(b"HTTP/1.1 503 no\r\nContent-Length: 5\r\n\r\nnever").unwrap();
    drop(stream);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.signal(), output.status.code()), (None, Some(1)), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("never"), "{output:?}");
}

/// The log would be somewhere else by now.
#[test]
fn a_signal_that_came_early_is_heard_later() {
    let (setup, _port) = served("[log]\naccess = \"access.log\"");
    let mut child = setup.full_command(&["run"]).spawn().unwrap();
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        // Bit 0 is signal 1.
        u64::from_str_radix(mask, 16).unwrap() & (1 << (Signal::USR1.as_raw() - 1)) != 0
    };
    eventually("USR1 is heard", caught);
    send(child.id(), Signal::USR1);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("reopened") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it has ended");
    }
    send(child.id(), Signal::TERM);
    assert!(child.wait().unwrap().success());
}

#[test]
fn check_finds_a_log_that_cannot_be_opened_as_a_start_does() {
    let (setup, _port) = served("[log]\naccess = \"nowhere/access.log\"");
    let told = setup.run(&["check"]).expect(1).stderr;
    assert!(told.contains("nowhere/access.log` cannot be written"), "{told}");
    assert!(told.contains("lockgate.toml:6"), "{told}");
    let told = setup.run(&["run"]).expect(1).stderr;
    assert!(told.contains("nowhere/access.log` cannot be written"), "{told}");
    // A folder is no file; what is not there yet is not made.
    let (setup, _port) = served("[log]\naccess = \"./listeners.d\"");
    setup.run(&["check"]).expect(1);
    let (setup, _port) = served("[log]\naccess = \"new.log\"");
    setup.run(&["check"]).expect(0);
    assert!(!setup.path().join("new.log").exists());
    std::fs::write(setup.path().join("new.log"), "a line\n").unwrap();
    setup.run(&["check"]).expect(0);
    assert_eq!(std::fs::read_to_string(setup.path().join("new.log")).unwrap(), "a line\n");
}

#[test]
fn a_log_that_a_reload_could_not_open_stays_in_sight() {
    let (setup, _port) = served("[log]\naccess = \"access.log\"");
    let lockgate = setup.start();
    lockgate.write("lockgate.toml", process("[log]\naccess = \"nowhere/access.log\""));
    let dry = lockgate.run(&["reload", "--dry-run"]).expect(1).stdout;
    assert!(dry.contains("nowhere/access.log` cannot be written"), "{dry}");
    assert_eq!(status(&lockgate)["refused"], Value::Array(Vec::new()));
    let told = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(told.contains("nowhere/access.log` cannot be written"), "{told}");
    let refused = &status(&lockgate)["refused"][0];
    assert!(refused["file"].as_str().unwrap().ends_with("lockgate.toml"), "{refused}");
    assert!(refused["problems"][0].as_str().unwrap().contains("nowhere"), "{refused}");
    let since = refused["since"].clone();
    let metrics = lockgate.admin().get(&lockgate.admin_host(), "/metrics").expect(200).text();
    let in_trouble = metrics.lines().find(|line| line.starts_with("lockgate_files_in_trouble{"));
    assert!(in_trouble.is_some_and(|line| line.contains("lockgate.toml")), "{in_trouble:?}");
    // The next reload tries again.
    lockgate.run(&["reload"]).expect(1);
    assert_eq!(status(&lockgate)["refused"][0]["since"], since);
    std::fs::create_dir(lockgate.path().join("nowhere")).unwrap();
    lockgate.reload();
    assert_eq!(status(&lockgate)["refused"], Value::Array(Vec::new()));
}

#[test]
fn a_dry_run_tries_the_ports_that_are_new() {
    let (setup, port) = served("");
    let lockgate = setup.start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    let two = http_listener("a.test", &port, "[[listener.rule]]\nrespond = { status = 200 }")
        .replace(&format!("{}", port.number()), &format!("[{}, {number}]", port.number()));
    lockgate.write("listeners.d/game.toml", &two);
    let dry = lockgate.run(&["reload", "--dry-run"]).expect(1).stdout;
    assert!(dry.contains(&format!("cannot listen on 0.0.0.0:{number}")), "{dry}");
    drop(taken);
    let dry = lockgate.run(&["reload", "--dry-run"]).expect(0).stdout;
    assert!(dry.contains(&format!("port {number} of a.test")), "{dry}");
    // It was given back.
    drop(TcpListener::bind(("127.0.0.1", number)).unwrap());
    lockgate.reload();
}

#[test]
fn an_admin_address_that_a_start_could_not_have_is_told() {
    let (setup, _port) = served("");
    let lockgate = setup.start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    lockgate.write("lockgate.toml", process("").replace("127.0.0.1:0", &address.to_string()));
    let told = lockgate.reload();
    assert!(
        told.contains(&format!("not be able to listen on `[admin] address` {address}")),
        "{told}"
    );
}

#[test]
fn a_reload_says_what_of_lockgate_toml_is_another_now() {
    let (setup, _port) = served("");
    let lockgate = setup.start();
    lockgate.write(
        "lockgate.toml",
        process("[log]\naccess = \"a.log\"\nlevel = \"warn\"\n[shutdown]\ndeadline = \"5s\"\n[limits]\nheaders = 50"),
    );
    let told = lockgate.reload();
    for line in [
        "lockgate.toml: [limits]: headers 100 → 50\n",
        "lockgate.toml: [shutdown]: deadline 30s → 5s\n",
        "a.log, level info → warn\n",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!lockgate.reload().contains("lockgate.toml"));
    lockgate.run(&["secret", "rotate"]).expect(0);
    let dry = lockgate.run(&["reload", "--dry-run"]).expect(0).stdout;
    let told = lockgate.reload();
    let key =
        |text: &str| text.lines().find(|line| line.starts_with("secret: key ")).map(str::to_owned);
    assert!(key(&told).is_some_and(|line| line.contains("came, and signs from 20")), "{told}");
    assert_eq!(key(&dry), key(&told));
    assert_eq!(key(&lockgate.reload()), None);
}

#[test]
fn an_upgrade_tells_which_files_its_process_refuses() {
    let (setup, _port) = served("");
    let lockgate = setup.start();
    let _family = Family::of(&setup);
    let told = lockgate.run(&["upgrade"]).expect(0).stdout;
    assert!(!told.contains("refused"), "{told}");
    lockgate.write("listeners.d/game.toml", "[[listener]]\ncolour = \"red\"\n");
    let told = lockgate.run(&["upgrade"]).expect(0).stdout;
    let line = told.lines().find(|line| line.starts_with("game: refused: ")).unwrap();
    assert!(line.contains("listeners.d/game.toml:"), "{told}");
    assert!(line.contains("its last good version") && line.ends_with("serves"), "{told}");
}

/// Names that are none, a certificate that ends soon, a hint that helps.
#[test]
fn check_says_what_else_is_not_as_it_seems() {
    let (setup, port) = served("");
    let setup = setup.any_file("listeners.d/.new.toml", "").any_file("listeners.d/b.TOML", "");
    let told = setup.run(&["check"]).expect(0).stderr;
    for name in ["`.new.toml` is passed over", "`b.TOML` is passed over"] {
        assert!(told.contains(name), "{told}");
    }
    let plain = http_listener("a.test", &port, "tls = \"1.3\"\nredirect = \"https:443\"");
    let setup = Setup::empty().file("game.toml", &plain);
    let told = setup.run(&["check"]).expect(1).stderr;
    assert!(told.contains("or write `protocol = \"https\"`"), "{told}");
    // Not even a name without `.toml` would help this one.
    std::fs::remove_file(setup.path().join("lockgate.toml")).unwrap();
    std::fs::create_dir(setup.path().join("lockgate.toml")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lockgate"));
    command.arg("check").arg("--config").arg(setup.path()).env("NO_COLOR", "1");
    let told = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(told.contains("lockgate's user may read"), "{told}");
    assert!(!told.contains("without `.toml`"), "{told}");
}

#[test]
fn check_knows_which_certificates_end_soon() {
    let port = Port::reserve();
    let listener = https_listener("a.test", &port, "[[listener.rule]]\nrespond = { status = 200 }");
    for (days, warned) in [(9, true), (20, false)] {
        let leaf = authority().ending_in(days * 86_400, &["a.test"]);
        let setup = Setup::empty().leaf("a.test", &leaf).file("game.toml", &listener);
        let finished = setup.run(&["check"]).expect(0);
        let says = finished.stderr.contains("the certificate of this listener ends in ");
        assert_eq!(says, warned, "{}", finished.stderr);
        assert!(finished.stdout.contains(if warned { "1 warning\n" } else { "0 warnings" }));
    }
}

/// Lines of the log and nothing else: whoever parses them.
#[test]
fn a_standard_output_that_is_the_log_has_nothing_else() {
    let (setup, port) = served("[log]\naccess = \"stdout\"");
    let child = setup.full_command(&["run"]).spawn().unwrap();
    eventually("it serves", || TcpStream::connect(("127.0.0.1", port.number())).is_ok());
    Client::plain(port.number()).get("a.test", "/").expect(200);
    send(child.id(), Signal::TERM);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("\nready\n") || said.starts_with("ready\n"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "{text}");
    let line: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(line["status"], 200);
}
