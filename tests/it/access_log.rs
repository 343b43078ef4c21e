//! The access log: a line for every request, whatever became of it, in a file
//! that can be renamed, changed, full or slow without anybody noticing.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Backend, H2, Lockgate, Port, Site, SiteBuilder, eventually, group, http_listener,
};

const LOG: &str = "[log]\naccess = \"access.log\"\n";

/// The lines of a file so far; each is whole, and JSON.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Waits until there are so many.
#[track_caller]
fn wait_for(lockgate: &Lockgate, file: &str, count: usize) -> Vec<Value> {
    let path = lockgate.path().join(file);
    eventually(&format!("{count} lines in {file}"), || lines(&path).len() >= count);
    let lines = lines(&path);
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

/// What a line has of these keys.
fn some<const N: usize>(line: &Value, keys: [&str; N]) -> [String; N] {
    keys.map(|key| match &line[key] {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    })
}

fn logged(site: SiteBuilder) -> SiteBuilder {
    site.process(LOG)
}

#[test]
fn every_request_has_a_line_also_those_that_were_none() {
    let b1 = Backend::named("B1");
    let rule = "path = \"/gone/\"\nrespond = { status = 410, body = \"gone\" }";
    let mut site = logged(Site::https().backend(&b1).rule(rule)).start();
    let answer = site.post("/a?b=%00", b"12345").expect(200);
    site.get("/gone/x").expect(410);
    let refused = site.request("GET / HTTP/1.1\r\nHost: a.test\r\nA\x1b: b\r\n\r\n").expect(400);
    let mut h2 = H2::to(&site);
    h2.get("/h2").expect(200);
    drop(h2);
    assert_eq!(site.lockgate.terminate(), 0);
    let [post, gone, bad, h2] = &wait_for(&site.lockgate, "access.log", 4)[..] else { panic!() };
    assert_eq!(
        some(post, ["method", "path", "host", "protocol", "status", "game", "rule", "group"]),
        ["POST", "/a?b=%00", "a.test", "HTTP/1.1", "200", "game", "/", "web"]
    );
    assert_eq!(
        some(post, ["listener", "client", "received", "generation"]),
        ["a.test", "127.0.0.1", "5", "1"]
    );
    assert_eq!((&post["sent"], &post["port"]), (&answer.body.len().into(), &site.port().into()));
    assert_eq!(
        (&post["tls"]["name"], &post["attempts"][0]["status"]),
        (&"a.test".into(), &200.into())
    );
    // They began and ended together.
    assert_eq!(post["attempts"][0]["ms"], post["ms"]);
    assert!(post["ms"].as_f64().unwrap() > 0.0 && post["peer"].as_str().unwrap().len() > 10);
    assert_eq!(some(gone, ["status", "rule", "group", "sent"]), ["410", "/gone/", "null", "4"]);
    assert_eq!(
        some(bad, ["status", "cause", "phase", "method", "path", "host"]),
        ["400", "malformed", "request", "GET", "/", "null"]
    );
    let id = bad["request_id"].as_str().unwrap();
    assert!(refused.text().ends_with(&format!("request id {id}\n")));
    assert_eq!(some(h2, ["status", "protocol", "path"]), ["200", "HTTP/2.0", "/h2"]);
}

#[test]
fn refusals_before_a_head_was_parsed_have_their_status() {
    let b1 = Backend::named("B1");
    let site =
        Site::http().process("[limits]\nheader_size = \"1KiB\"\nheader_timeout = \"200ms\"\n");
    let mut site = logged(site.backend(&b1)).start();
    let long = "x".repeat(2000);
    site.request(format!("GET / HTTP/1.1\r\nHost: a.test\r\nA: {long}\r\n\r\n")).expect(431);
    let mut slow = site.connect();
    slow.send("GET / HT");
    slow.read().expect(408);
    let mut h2 = site.connect();
    h2.request("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n").expect(405);
    assert_eq!(site.lockgate.terminate(), 0);
    let told: Vec<[String; 2]> = wait_for(&site.lockgate, "access.log", 3)
        .iter()
        .map(|line| some(line, ["status", "cause"]))
        .collect();
    assert_eq!(told, [["431", "limit"], ["408", "client_timeout"], ["405", "malformed"]]);
}

#[test]
fn a_retried_request_has_one_line_with_each_attempt() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let site = Site::http().address(&port.refusing_address()).backend(&b2);
    let mut site = logged(site).start();
    for _ in 0..2 {
        site.get("/").expect(200);
    }
    assert_eq!(site.lockgate.terminate(), 0);
    let lines = wait_for(&site.lockgate, "access.log", 2);
    let mut tries: Vec<usize> =
        lines.iter().map(|line| line["attempts"].as_array().unwrap().len()).collect();
    tries.sort_unstable();
    assert_eq!(tries, [1, 2]);
    let retried = lines.iter().find(|line| line["attempts"][1] != Value::Null).unwrap();
    assert_eq!(retried["attempts"][0]["cause"], "connect_refused");
    assert_eq!((&retried["status"], &retried["cause"]), (&200.into(), &Value::Null));
}

#[test]
fn hostile_bytes_are_escaped_in_both_formats() {
    let b1 = Backend::named("B1");
    let request = "GET /\u{9b}31m\u{fc}\"\\ HTTP/1.1\r\nHost: a.test\r\nUser-Agent: a\u{9b}\"\tb\r\n\
                   Referer: \\x\r\n\r\n";
    for (format, expected) in [
        ("json", r#""path":"/\\xc2\\x9b31m\\xc3\\xbc\\\"\\\\""#),
        ("combined", r#""GET /\xC2\x9B31m\xC3\xBC\x22\x5C HTTP/1.1" 200 "#),
    ] {
        let process = format!("{LOG}format = \"{format}\"\n");
        let mut site = Site::http().process(&process).backend(&b1).start();
        site.request(request).expect(200);
        assert_eq!(site.lockgate.terminate(), 0);
        let text = fs::read_to_string(site.lockgate.path().join("access.log")).unwrap();
        assert!(text.contains(expected), "{text}");
        let line = text.strip_suffix('\n').unwrap();
        assert!(line.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{line}");
        if format == "combined" {
            assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
            assert!(line.ends_with(r#" "\x5Cx" "a\xC2\x9B\x22\x09b""#), "{line}");
        }
    }
}

#[test]
fn a_tunnel_has_a_line_at_each_end() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.switch();
        exchange.mirror();
    });
    let mut site = logged(Site::https().backend(&b1)).start();
    let mut client = site.connect();
    client.switch();
    assert_eq!(client.swap(b"hello", 5), b"hello");
    let open = wait_for(&site.lockgate, "access.log", 1).remove(0);
    assert_eq!(some(&open, ["tunnel", "status", "ended"]), ["open", "101", "null"]);
    client.half_close();
    client.assert_ends_cleanly();
    let closed = wait_for(&site.lockgate, "access.log", 2).remove(1);
    assert_eq!(
        some(&closed, ["tunnel", "ended", "received", "sent", "game"]),
        ["closed", "client", "5", "5", "game"]
    );
    assert_eq!(closed["request_id"], open["request_id"]);
    assert!(closed["ms"].as_f64().unwrap() >= 0.0);
    // One that the end of the process ends, over HTTP/2.
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_websocket("/");
    assert_eq!(stream.head().status, 200);
    wait_for(&site.lockgate, "access.log", 3);
    site.lockgate.signal(Signal::TERM);
    site.lockgate.wait_for_log(&["stopping"]);
    site.lockgate.signal(Signal::TERM);
    assert_eq!(site.lockgate.exit_code(), 3);
    let cut = wait_for(&site.lockgate, "access.log", 4).remove(3);
    assert_eq!(some(&cut, ["tunnel", "ended"]), ["closed", "cut"]);
}

#[test]
fn usr1_opens_the_file_anew() {
    let b1 = Backend::named("B1");
    let mut site = logged(Site::http().backend(&b1)).start();
    let path = site.lockgate.path().join("access.log");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    site.get("/1").expect(200);
    wait_for(&site.lockgate, "access.log", 1);
    fs::rename(&path, path.with_extension("1")).unwrap();
    site.lockgate.signal(Signal::USR1);
    eventually("the file is there again", || path.exists());
    site.get("/2").expect(200);
    assert_eq!(site.lockgate.terminate(), 0);
    assert_eq!(wait_for(&site.lockgate, "access.1", 1)[0]["path"], "/1");
    assert_eq!(wait_for(&site.lockgate, "access.log", 1)[0]["path"], "/2");
}

#[test]
fn a_reload_switches_it() {
    let b1 = Backend::named("B1");
    let mut site = Site::http().backend(&b1).start();
    let toml = fs::read_to_string(site.lockgate.path().join("lockgate.toml")).unwrap();
    let change = |log: &str| site.lockgate.write("lockgate.toml", format!("{toml}\n{log}"));
    site.get("/off").expect(200);
    change(LOG);
    site.lockgate.reload();
    site.get("/on").expect(200);
    change("[log]\naccess = \"no/such/folder/access.log\"\n");
    let refused = site.lockgate.run(&["reload"]).expect(1).stdout;
    let line = toml.lines().count() + 3;
    assert!(refused.contains("error: `access`: `"), "{refused}");
    assert!(refused.contains(&format!("lockgate.toml:{line}:")), "{refused}");
    // It did not go there.
    assert!(!refused.contains("[log]"), "{refused}");
    assert!(refused.contains("cannot be written: No such file or directory"), "{refused}");
    site.get("/still").expect(200);
    change("[log]\naccess = \"other.log\"\nformat = \"combined\"\n");
    site.lockgate.reload();
    site.get("/other").expect(200);
    change("");
    site.lockgate.reload();
    site.get("/off").expect(200);
    assert_eq!(site.lockgate.terminate(), 0);
    let paths: Vec<Value> = wait_for(&site.lockgate, "access.log", 2)
        .into_iter()
        .map(|mut line| line["path"].take())
        .collect();
    assert_eq!(paths, ["/on", "/still"]);
    let other = fs::read_to_string(site.lockgate.path().join("other.log")).unwrap();
    assert!(
        other.lines().count() == 1 && other.contains("\"GET /other HTTP/1.1\" 200 "),
        "{other}"
    );
}

#[test]
fn a_file_that_cannot_be_written_ends_the_start() {
    let b1 = Backend::named("B1");
    let text = http_listener("a.test", &Port::reserve(), "group = \"web\"") + &group("web", &b1);
    let setup = Lockgate::with("game.toml", &text)
        .process("[log]\naccess = \"/no/such/folder/access.log\"\n");
    let told = setup.run(&["run"]).expect(1).stderr;
    assert!(
        told.contains("lockgate.toml:") && told.contains("`/no/such/folder/access.log`"),
        "{told}"
    );
}

#[test]
fn a_full_disk_is_told_once_and_costs_no_request() {
    let b1 = Backend::named("B1");
    let mut site = Site::http().process("[log]\naccess = \"/dev/full\"\n").backend(&b1).start();
    site.get("/1").expect(200);
    site.lockgate.wait_for_log(&["access log: cannot be written", "No space left"]);
    site.get("/2").expect(200);
    let log = site.lockgate.log_to_the_end();
    assert_eq!(log.matches("access log: cannot be written").count(), 1, "{log}");
}

/// A reader that does not read keeps nobody waiting: what does not fit is counted.
#[test]
fn a_reader_that_stands_still_costs_lines_and_no_request() {
    let b1 = Backend::named("B1");
    let path = "x".repeat(1900);
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let process = format!("[log]\naccess = \"{}\"\n", pipe.display());
    let rule = "path = \"/\"\nrespond = { status = 200, body = \"\" }";
    let mut site = Site::http().process(&process).rule(rule).backend(&b1).start();
    let ask = format!("GET /{path} HTTP/1.1\r\nHost: a.test\r\n\r\n").repeat(50);
    let mut client = site.connect();
    eventually("lines are dropped", || {
        client.send(&ask);
        (0..50).for_each(|_| drop(client.read().expect(200)));
        site.lockgate.log().contains("access log: cannot keep up")
    });
    drop(client);
    // Whoever reads on gets whole lines, and hears how many were lost.
    let reading = std::thread::spawn(move || {
        let (mut reader, mut all) = (reader, vec![0; 1 << 20]);
        let mut count = 0;
        while let Ok(n) = reader.read(&mut all) {
            count += all[..n].iter().filter(|byte| **byte == b'\n').count();
            if all[..n].ends_with(b"the end\n") {
                break;
            }
        }
        count
    });
    site.lockgate.wait_for_log(&["access log: lines were dropped", "lost="]);
    assert_eq!(site.lockgate.terminate(), 0);
    OpenOptions::new().write(true).open(&pipe).unwrap().write_all(b"the end\n").unwrap();
    assert!(reading.join().unwrap() > 1000);
}

#[test]
fn standard_output_will_do() {
    let b1 = Backend::named("B1");
    let mut site = Site::http().process("[log]\naccess = \"stdout\"\n").backend(&b1).start();
    site.get("/out").expect(200);
    assert_eq!(site.lockgate.terminate(), 0);
    let line = site.lockgate.next_line();
    let line: Value = serde_json::from_str(&line).expect(&line);
    assert_eq!(line["path"], "/out");
}

#[test]
fn a_trusted_peer_names_its_requests() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let trusting = "trusted_proxies = [\"127.0.0.1\"]";
    for (lines, given, kept) in
        [(trusting, "Root=1-abc", true), (trusting, "a b", false), ("", "Root=1-abc", false)]
    {
        let mut site = logged(Site::http().listener(lines).backend(&b1)).start();
        let ask = |target: &str| {
            site.request(format!(
                "GET {target} HTTP/1.1\r\nHost: a.test\r\nX-REQUEST-ID: {given}\r\n\r\n"
            ))
        };
        ask("/").expect(200);
        let sent = b1.requests().pop().unwrap().value("x-request-id");
        assert_eq!(sent == given, kept, "{sent}");
        assert!(kept || (sent.len() == 16 && u64::from_str_radix(&sent, 16).is_ok()), "{sent}");
        assert_eq!(site.lockgate.terminate(), 0);
        let line = &wait_for(&site.lockgate, "access.log", 1)[0];
        assert_eq!(line["request_id"], sent);
    }
    let site = Site::http().listener(trusting).address(&port.refusing_address()).start();
    let body =
        site.request("GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: mine~1\r\n\r\n").expect(502);
    assert!(body.text().ends_with("request id mine~1\n"), "{}", body.text());
    site.lockgate.wait_for_log(&["request_id=mine~1", "connect_refused"]);
    let told = site.lockgate.run(&["why", "mine~1"]).expect(0).stdout;
    assert!(told.starts_with("request mine~1 at "), "{told}");
}

#[test]
fn a_line_tells_the_client_from_the_peer() {
    let b1 = Backend::named("B1");
    let trusting = "trusted_proxies = [\"127.0.0.1\"]";
    let mut site = logged(Site::http().listener(trusting).backend(&b1)).start();
    let ask = |method: &str| {
        site.request(format!(
            "{method} / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 2001:db8::1\r\n\r\n"
        ))
    };
    ask("GET").expect(200);
    // Found is its listener, but no rule of it.
    ask("TRACE").expect(405);
    assert_eq!(site.lockgate.terminate(), 0);
    let [get, trace] = &wait_for(&site.lockgate, "access.log", 2)[..] else { panic!() };
    for line in [get, trace] {
        assert_eq!(some(line, ["client", "game"]), ["2001:db8::1", "game"]);
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
    assert_eq!(some(get, ["listener", "rule", "group"]), ["a.test", "/", "web"]);
    assert_eq!(some(trace, ["listener", "rule", "group"]), ["a.test", "null", "null"]);
}

#[test]
fn without_its_name_in_forwarded_an_id_passes_as_it_came() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("forwarded = []").backend(&b1).start();
    site.request("GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: a b\r\n\r\n").expect(200);
    assert_eq!(b1.requests().pop().unwrap().values("x-request-id"), ["a b"]);
    site.get("/").expect(200);
    assert!(b1.requests().pop().unwrap().values("x-request-id").is_empty());
}

#[test]
fn a_trace_is_passed_on_or_begun() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let valid = format!("00-{TRACE}-b7ad6b7169203331-01");
    let begins = "forwarded = [\"traceparent\"]";
    let removes =
        "path = \"/\"\ngroup = \"web\"\nremove_headers.request = [\"traceparent\", \"tracestate\"]";
    let b1 = Backend::named("B1");
    for (lines, rule, sent, passes) in [
        ("", "", valid.as_str(), Some(valid.as_str())),
        ("", "", "rubbish", Some("rubbish")),
        (begins, "", valid.as_str(), Some(valid.as_str())),
        (begins, "", "rubbish", None),
        (begins, removes, valid.as_str(), None),
    ] {
        let site = Site::http().listener(lines).backend(&b1);
        let site = if rule.is_empty() { site } else { site.rule(rule) };
        let mut site = logged(site).start();
        site.request(format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\ntraceparent: {sent}\r\ntracestate: x=1\r\n\r\n"
        ))
        .expect(200);
        let seen = b1.requests().pop().unwrap();
        let [parent] = &seen.values("traceparent")[..] else { panic!("{seen:?}") };
        assert_eq!(seen.values("tracestate").len(), usize::from(passes.is_some()));
        assert_eq!(site.lockgate.terminate(), 0);
        let told = wait_for(&site.lockgate, "access.log", 1)[0]["trace_id"].clone();
        match passes {
            Some(passed) => {
                assert_eq!(parent, passed);
                assert_eq!(told == TRACE, passed == valid, "{told}");
            }
            None => {
                assert!(parent.len() == 55 && parent.starts_with("00-") && parent.ends_with("-01"));
                assert_eq!(told, parent[3..35]);
                assert!(told != TRACE);
            }
        }
    }
}
