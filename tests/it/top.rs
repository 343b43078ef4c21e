//! `lockgate top`: what happens now.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

use crate::support::{
    Backend, Client, Port, Setup, Site, eventually, group, http_listener, lines_of,
};

fn site(backend: &Backend, port: &Port) -> Site {
    Site::http()
        .backend(backend)
        .rule("path = \"/down\"\ngroup = \"down\"")
        .more(&format!("[group.down]\nbackends = [\"{}\"]\n", port.refusing_address()))
        .start()
}

/// Both groups have something to do for as long as the work takes.
fn busy<T>(site: &Site, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let (done, port) = (&done, site.port());
    let get = move |target: &str| Client::plain(port).get("a.test", target);
    thread::scope(|scope| {
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                for _ in 0..3 {
                    get("/").expect(200);
                }
                get("/down").expect(502);
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn one_view_is_of_the_interval() {
    let (backend, port) = (Backend::named("B1"), Port::reserve());
    let site = site(&backend, &port);
    let top = ["top", "--once", "--interval", "300ms", "--json"];
    let printed = busy(&site, || site.lockgate.run(&top).expect(0).stdout);
    let view: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(view["pid"], site.lockgate.pid());
    let [web, down] = [0, 1].map(|at| &view["groups"][at]);
    assert_eq!((&web["group"], &down["group"]), (&"web".into(), &"down".into()), "{view}");
    let number = |of: &Value| of.as_f64().unwrap();
    assert!(number(&web["per_second"]) > number(&down["per_second"]), "{view}");
    assert_eq!(
        (number(&web["failed_per_second"]), &web["causes_per_second"]),
        (0.0, &Value::Object(Default::default()))
    );
    assert!(number(&web["p50_seconds"]) <= number(&web["p99_seconds"]), "{view}");
    assert_eq!(down["failed_per_second"], down["causes_per_second"]["connect_refused"], "{view}");
    assert_eq!(down["of_5xx_per_second"], down["per_second"], "{view}");
    assert_eq!(web["backends"][0]["address"], backend.address(), "{view}");
    let sum = number(&web["per_second"]) + number(&down["per_second"]);
    assert!((sum - number(&view["all"]["per_second"])).abs() < 0.001, "{view}");

    let by_errors = ["top", "--once", "--interval", "300ms", "--sort", "errors"];
    let printed = busy(&site, || site.lockgate.run(&by_errors).expect(0).stdout);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        lines[0].starts_with("lockgate ") && lines[3].starts_with("group, backends"),
        "{printed}"
    );
    assert!(
        lines[4].starts_with("game/down ") && lines[4].contains("connect_refused"),
        "{printed}"
    );
    assert!(lines[6].starts_with("game/web ") && !printed.contains('\x1b'), "{printed}");
}

#[test]
fn without_a_lockgate_it_says_so() {
    let error = Setup::empty().run(&["top", "--once"]).expect(1).stderr;
    assert!(error.contains("no lockgate runs"), "{error}");
}

/// A terminal of this size, and all that was written to it.
fn terminal(rows: u16, columns: u16) -> (OwnedFd, OwnedFd, Arc<Mutex<String>>) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let inner = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    resize(&terminal, rows, columns);
    let written = Arc::<Mutex<String>>::default();
    let (mut reader, into) = (File::from(terminal.try_clone().unwrap()), Arc::clone(&written));
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        // It breaks when the last who has it open is gone.
        while let Ok(count @ 1..) = reader.read(&mut bytes) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    (terminal, inner, written)
}

fn resize(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

#[test]
fn a_terminal_is_drawn_within_its_size_and_given_back() {
    let (backend, port) = (Backend::named("B1"), Port::reserve());
    let site = site(&backend, &port);
    let (terminal, inner, written) = terminal(5, 40);
    let mut command = site.lockgate.command(&["top", "--interval", "100ms"]);
    command.env_remove("NO_COLOR").stdout(inner);
    let mut child = command.spawn().unwrap();
    // It keeps the terminal open.
    drop(command);
    let has = |what: &str| written.lock().unwrap().contains(what);
    eventually("a view", || has("group, backends"));
    {
        let written = written.lock().unwrap();
        assert!(written.starts_with("\x1b[?1049h\x1b[?25l"), "{written:?}");
        let view = written.split("\x1b[H").last().unwrap();
        let lines = view.split('\n').map(|line| line.split('\x1b').next().unwrap_or_default());
        assert!(lines.clone().count() <= 5, "{view:?}");
        let widest = lines.map(str::trim_end).map(str::len).max();
        assert!(widest <= Some(40), "{view:?}");
    }
    resize(&terminal, 30, 200);
    // A terminal tells only those of its own session.
    kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
    eventually("a wider view", || has("causes/s"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    eventually("the screen that was before", || has("\x1b[?25h\x1b[?1049l"));
}

/// A restart is no end of it.
#[test]
fn it_goes_on_with_the_next_process() {
    let (port, backend) = (Port::reserve(), Backend::named("B1"));
    let text = http_listener("a.test", &port, "group = \"web\"") + &group("web", &backend);
    let setup = Setup::empty().file("game.toml", &text);
    let mut first = setup.start();
    let mut command = first.command(&["top", "--interval", "100ms", "--json"]);
    let mut top = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let views = lines_of(top.stdout.take().unwrap());
    let said = lines_of(top.stderr.take().unwrap());
    let pid = |line: String| serde_json::from_str::<Value>(&line).unwrap()["pid"].clone();
    assert_eq!(pid(views.next().unwrap()), first.pid());
    assert_eq!(first.terminate(), 0);
    assert!(said.next().unwrap().contains("no lockgate runs on this state directory"));
    let next = setup.start();
    let mut seen = pid(views.next().unwrap());
    while seen != next.pid() {
        seen = pid(views.next().unwrap());
    }
    kill_process(Pid::from_child(&top), Signal::INT).unwrap();
    assert_eq!(top.wait().unwrap().code(), Some(0));
}
