//! The application's cookie of a demo backend: set once, and as it must be.

use std::io::{BufReader, Write};
use std::net::TcpStream;

use super::*;
use crate::control::demo::backends::start;
use crate::control::demo::backends::tests::{answer, demo};
use crate::http1::{HeadLimits, parse_request};

fn application() -> Bond {
    Bond::Application { cookie: "shengji_session".into(), path: "/test/jtt/".into() }
}

fn begun(bond: &Bond, lines: &str) -> String {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let mut fields = Vec::new();
    parse_request(head.as_bytes(), &HeadLimits::default(), &mut fields).unwrap();
    bond.begin(head.as_bytes(), &fields)
}

/// The value, and what is behind it.
fn parts(line: &str) -> (&str, &str) {
    let cookie = line.strip_prefix("Set-Cookie: shengji_session=").unwrap();
    cookie.strip_suffix("\r\n").unwrap().split_once("; ").unwrap()
}

#[test]
fn a_session_begins_where_there_is_none() {
    for lines in ["", "Cookie: other=1\r\n", "Cookie: xshengji_session=1; SHENGJI_SESSION=2\r\n"] {
        let line = begun(&application(), lines);
        assert_eq!(parts(&line).1, "Path=/test/jtt/; HttpOnly", "{lines}");
    }
    for lines in
        ["Cookie: shengji_session=1\r\n", "Cookie: a=b\r\ncookie: c=d; shengji_session=\r\n"]
    {
        assert_eq!(begun(&application(), lines), "", "{lines}");
    }
}

/// Without them no frame of another site would keep it; over plain HTTP no
/// browser would.
#[test]
fn over_https_it_is_secure_and_for_frames() {
    for (proto, end) in [("https", "; Secure; SameSite=None"), ("HTTPS", "; Secure; SameSite=None")]
        .into_iter()
        .chain([("http", "")])
    {
        let line = begun(&application(), &format!("X-Forwarded-Proto: {proto}\r\n"));
        assert_eq!(parts(&line).1, format!("Path=/test/jtt/; HttpOnly{end}"));
    }
}

#[test]
fn sessions_differ() {
    let [first, second] = [(); 2].map(|()| begun(&application(), ""));
    assert_eq!(parts(&first).0.len(), 32);
    assert_ne!(first, second);
}

#[test]
fn where_lockgates_own_cookie_binds_none_is_set() {
    assert_eq!(begun(&Bond::Inserted { cookie: "SERVERID".into() }, ""), "");
}

#[test]
fn pages_set_it_and_nothing_else_does() {
    let mut one = demo("g", "jtt", "one");
    one.bond = Some(application());
    let backends = start(vec![one]).unwrap();
    let mut stream = TcpStream::connect(backends.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |target: &str, lines: &str| {
        write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n").unwrap();
        answer(&mut reader).0
    };
    for target in ["/", "/test/jtt/", "/status/404"] {
        let head = ask(target, "");
        assert_eq!(head.matches("\r\nSet-Cookie: shengji_session=").count(), 1, "{head}");
        let known = ask(target, "Cookie: shengji_session=1\r\n");
        assert!(!known.contains("Set-Cookie"), "{known}");
    }
    for target in ["/health", "/bytes/3", "/echo"] {
        let head = ask(target, "");
        assert!(!head.contains("Set-Cookie"), "{target}: {head}");
    }
}
