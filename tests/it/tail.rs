//! `lockgate tail`: requests as they end, live.

use std::process::{Child, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Backend, Lines, Port, Site, eventually, lines_of};

/// A reader, killed when dropped.
#[derive(Debug)]
struct Tail {
    child: Child,
    /// Read from the first time that a line is asked for.
    out: Option<ChildStdout>,
    lines: Option<Lines>,
}

impl Tail {
    /// From when this returns on it hears of every request.
    fn of(site: &Site, arguments: &[&str]) -> Tail {
        let mut command = site.lockgate.command(&["tail"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = lines_of(child.stderr.take().unwrap()).next();
        assert_eq!(said.as_deref(), Some("reading along; Ctrl-C ends it"));
        Tail { out: child.stdout.take(), child, lines: None }
    }

    fn lines(&mut self) -> &Lines {
        let out = &mut self.out;
        self.lines.get_or_insert_with(|| lines_of(out.take().unwrap()))
    }

    fn line(&mut self) -> String {
        self.lines().next().unwrap_or_default()
    }

    fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn rest(&mut self) -> Vec<String> {
        let lines = self.lines();
        std::iter::from_fn(|| lines.next()).collect()
    }

    fn exit_code(&mut self) -> Option<i32> {
        let mut ended = None;
        eventually("the reader's end", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.and_then(|ended| ended.code())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_request_is_a_line_as_soon_as_it_is_done() {
    let backend = Backend::named("B1");
    let site = Site::http().backend(&backend).workers(2).start();
    let (mut text, mut json) = (Tail::of(&site, &[]), Tail::of(&site, &["--json"]));
    for n in 0..8 {
        site.get(&format!("/{n}")).expect(200);
        let line = json.json();
        assert_eq!((&line["path"], &line["status"]), (&format!("/{n}").into(), &200.into()));
        let line = text.line();
        let start = format!("127.0.0.1  GET  game/web  {}  a.test", backend.address());
        assert!(line.contains(" 200 ") && line.contains(&start), "{line}");
        assert!(line.ends_with(&format!("/{n}")) && !line.contains('\x1b'), "{line}");
    }
}

#[test]
fn only_what_the_filter_takes_is_told() {
    let (port, backend) = (Port::reserve(), Backend::named("B1"));
    let site = Site::http()
        .backend(&backend)
        .rule("path = \"/down\"\ngroup = \"down\"")
        .rule("path = \"/none\"\nrespond = { status = 404, body = \"\" }")
        .more(&format!("[group.down]\nbackends = [\"{}\"]\n", port.refusing_address()))
        .start();
    let refusing = port.refusing_address();
    let cases: [(&[&str], &str); 8] = [
        (&["--status", "5xx"], "/down"),
        (&["--status", "404", "--status", "499"], "/none"),
        (&["--cause", "dns,connect_refused"], "/down"),
        (&["--backend", &refusing], "/down"),
        (&["--group", "game/web"], "/web"),
        (&["--path", "/no"], "/none"),
        (&["--failed", "--game", "game"], "/down"),
        (&["--slower-than", "0ms"], "/none"),
    ];
    let mut tails: Vec<Tail> = cases
        .iter()
        .map(|(arguments, _)| Tail::of(&site, &[arguments, &["--json"][..]].concat()))
        .collect();
    let mut nothing = Tail::of(&site, &["--path", "/other"]);
    for (path, status) in [("/none", 404), ("/down", 502), ("/web", 200)] {
        site.get(path).expect(status);
    }
    let Site { mut lockgate, .. } = site;
    for (tail, (arguments, path)) in tails.iter_mut().zip(cases) {
        assert_eq!(tail.json()["path"], path, "{arguments:?}");
    }
    assert_eq!(lockgate.terminate(), 0);
    for (tail, (arguments, _)) in tails.iter_mut().zip(cases).take(7) {
        assert!(tail.rest().is_empty(), "{arguments:?}");
    }
    assert_eq!((nothing.rest().len(), nothing.exit_code()), (0, Some(0)));
}

#[test]
fn every_attempt_of_a_retried_request_is_shown() {
    let (port, backend) = (Port::reserve(), Backend::named("B1"));
    let site = Site::http().address(&port.refusing_address()).backend(&backend).start();
    let mut tail = Tail::of(&site, &["--cause", "connect_refused"]);
    // One of two finds the other backend first.
    for _ in 0..2 {
        site.get("/").expect(200);
    }
    let line = tail.line();
    let first = format!("[{} connect_refused ", port.refusing_address());
    let second = format!(" ms, then {} 200 ", backend.address());
    assert!(line.contains(&first) && line.contains(&second), "{line}");
    let (_, id) = line.trim_end().split_once("  id ").unwrap();
    site.lockgate.run(&["why", id]).expect(0);
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let backend = Backend::named("B1");
    let site = Site::before(&backend);
    for (arguments, said) in [
        (["--cause", "refused"], "connect_refused"),
        (["--status", "6xx"], "404 or 5xx"),
        (["--slower-than", "5"], "500ms"),
        (["--game", "gaem"], "there is no game `gaem`: did you mean `game`?"),
        (["--group", "game/wob"], "there is no group `wob`: did you mean `web`?"),
        (["--backend", "other"], "there is no backend `other`"),
        (["--path", "api"], "write `/api`"),
    ] {
        let mut all = vec!["tail"];
        all.extend(arguments);
        let error = site.lockgate.run(&all).expect(1).stderr;
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn what_was_no_request_is_told_too() {
    let backend = Backend::named("B1");
    let site = Site::before(&backend);
    let mut failed = Tail::of(&site, &["--cause", "malformed", "--json"]);
    let mut of_game = Tail::of(&site, &["--game", "game", "--json"]);
    site.request("GET / HTTP/9.9\r\n\r\n").expect(400);
    site.get("/").expect(200);
    let line = failed.json();
    assert_eq!((&line["status"], &line["path"]), (&400.into(), &"/".into()), "{line}");
    assert_eq!(line.get("game"), None, "{line}");
    assert_eq!(of_game.json()["path"], "/");
}

#[test]
fn it_ends_with_lockgate_and_holds_up_nothing() {
    let backend = Backend::named("B1");
    let mut site = Site::before(&backend);
    let mut tail = Tail::of(&site, &[]);
    site.get("/").expect(200);
    assert_eq!(site.lockgate.terminate(), 0);
    assert_eq!(tail.rest().len(), 1);
    assert_eq!(tail.exit_code(), Some(0));
}

#[test]
fn ctrl_c_and_a_closed_pipe_are_no_failures() {
    let backend = Backend::named("B1");
    let site = Site::before(&backend);
    let mut interrupted = Tail::of(&site, &[]);
    kill_process(Pid::from_child(&interrupted.child), Signal::INT).unwrap();
    assert_eq!(interrupted.exit_code(), Some(0));

    let mut head = Tail::of(&site, &[]);
    let mut other = Tail::of(&site, &[]);
    site.get("/").expect(200);
    drop(head.out.take());
    let mut ended = None;
    eventually("the end of who writes to nobody", || {
        site.get("/").expect(200);
        ended = head.child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.and_then(|ended| ended.code()), Some(0));
    // Others go on.
    assert!(!other.line().is_empty());
}

#[test]
fn what_a_slow_reader_cannot_take_is_left_out_and_counted() {
    let backend = Backend::named("B1");
    let site = Site::http().backend(&backend).start();
    let mut slow = Tail::of(&site, &["--json"]);
    let filler = "x".repeat(2000);
    // More than its queue and the buffers on the way hold.
    let sent = 2500;
    let mut client = site.connect();
    for _ in 0..sent {
        client.get("a.test", &format!("/{filler}")).expect(200);
    }
    let (mut told, mut left_out) = (0, 0);
    while told + left_out < sent {
        match slow.json()["left_out"].as_u64() {
            Some(more) => left_out += more,
            None => told += 1,
        }
    }
    assert_eq!(told + left_out, sent);
    assert!(left_out > 0 && told > 1000, "{told} told, {left_out} left out");
}

/// Its end is told as the access log has it, also to who came after its beginning.
#[test]
fn a_websocket_has_a_line_at_each_end() {
    let backend = Backend::scripted("B1", |exchange| {
        exchange.switch();
        exchange.mirror();
    });
    let site = Site::before(&backend);
    let mut early = Tail::of(&site, &["--path", "/ws", "--backend", &backend.address()]);
    let mut client = site.connect();
    client.switch();
    assert_eq!(client.swap(b"hello", 5), b"hello");
    let opened = early.line();
    let (_, id) = opened.trim_end().split_once("  WebSocket open  id ").unwrap();
    let mut late = Tail::of(&site, &["--group", "web", "--status", "101", "--json"]);
    let mut other = Tail::of(&site, &["--path", "/other"]);
    let mut elsewhere = Tail::of(&site, &["--path", "/wss"]);
    client.half_close();
    client.assert_ends_cleanly();
    let line = early.line();
    let said = format!("  WebSocket closed (client), 5 bytes from the client, 5 to it  id {id}");
    assert!(line.contains(" 101 ") && line.contains("  game/web  "), "{line}");
    assert!(line.trim_end().ends_with(&said), "{line}");
    let line = late.json();
    assert_eq!((&line["tunnel"], &line["ended"]), (&"closed".into(), &"client".into()));
    assert_eq!((&line["request_id"], &line["received"]), (&id.into(), &5.into()));
    assert!(line["ms"].as_f64().is_some_and(|ms| ms > 0.0), "{line}");
    let Site { mut lockgate, .. } = site;
    assert_eq!(lockgate.terminate(), 0);
    assert!(other.rest().is_empty() && elsewhere.rest().is_empty());
}
