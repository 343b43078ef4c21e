//! The demo page: its values escaped, its links those of the shipped games.

use std::sync::atomic::AtomicU64;

use tokio::sync::{Semaphore, watch};

use super::*;
use crate::http1::{HeadLimits, parse_request};

fn backend(game: &str) -> Backend {
    let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    Backend {
        game: game.to_owned(),
        group: "web".to_owned(),
        peers: vec![
            ("127.0.0.1:18030".to_owned(), address(18030)),
            ("second".to_owned(), address(18031)),
        ],
        place: 1,
        bond: None,
        connections: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        streams: Semaphore::new(1),
        leaving: watch::channel(false).1,
    }
}

fn shown(backend: &Backend, head: &[u8], see: impl Fn(&Exchange<'_>) -> String) -> String {
    let mut fields = Vec::new();
    let request = parse_request(head, &HeadLimits::default(), &mut fields).unwrap();
    see(&Exchange {
        backend,
        head,
        request: &request,
        fields: &fields,
        body: 0,
        requests: 7,
        connection: 2,
        on_connection: 3,
        status: 200,
        waited: Duration::ZERO,
    })
}

#[test]
fn every_name_of_the_template_is_filled() {
    let page = shown(&backend("youxia"), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", |it| it.html());
    assert!(!page.contains("{{"));
    // What stands between two marks is always written by an arm of `html`.
    let _ = fill(TEMPLATE, |name, _| {
        let known = "game group backend hue emblem icon number backends facts method target \
                     version fields note size head ways bond";
        assert!(known.split_whitespace().any(|one| one == name), "{name}");
    });
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let head = b"GET /<script>'\"&{{game}} HTTP/1.1\r\nHost: a\r\nX-A: <img src=x> \xff\r\n\r\n";
    let page = shown(&backend("<b>\"'&"), head, |it| it.html());
    assert!(page.contains("/&lt;script&gt;&#39;&quot;&amp;{{game}}"));
    assert!(page.contains("&lt;img src=x&gt; \\xff"));
    assert!(page.contains("<h1>&lt;b&gt;&quot;&#39;&amp;</h1>"));
    assert!(!page.contains("<img") && !page.contains("<b>\""));
}

#[test]
fn forwarding_fields_are_explained_whatever_their_spelling() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-FOR: 192.0.2.1\r\n\r\n";
    let page = shown(&backend("g"), head, |it| it.html());
    assert!(page.contains("class=\"forwarding\"><th") && page.contains("x-forwarded-FOR</th>"));
    assert!(page.contains("The tinted fields"));

    let page = shown(&backend("g"), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", |it| it.html());
    assert!(page.contains("No forwarding field arrived"));
    assert!(!page.contains("class=\"forwarding\">"));
}

#[test]
fn one_backend_is_the_one_that_answered() {
    let page = shown(&backend("g"), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", |it| it.html());
    assert_eq!(page.matches("aria-current=\"true\"").count(), 1);
    assert!(page.contains("Answered by group web"));
    assert!(page.contains("Request 7 of this backend, number 3 on its connection 2. No body."));
}

#[test]
fn the_shipped_rules_that_are_linked_exist() {
    for (game, path, _) in RULES {
        let (_, drop_in) = crate::control::demo::shipped::DROP_INS
            .iter()
            .find(|(file, _)| file.strip_suffix(".toml") == Some(game))
            .unwrap();
        assert!(drop_in.contains(&format!("\"{path}\"")), "{game} has no {path}");
    }
}

#[test]
fn text_is_the_head_and_who_answered() {
    let head = b"POST /a?b HTTP/1.1\r\nHost: a\r\nX-B: \x80\r\n\r\n";
    let text = shown(&backend("g"), head, |it| it.text());
    assert_eq!(
        text,
        "game:    g\ngroup:   web\nbackend: second\n\nPOST /a?b HTTP/1.1\nHost: a\nX-B: \\x80\n"
    );
}

#[test]
fn control_and_reordering_characters_are_made_visible() {
    let mut text = String::new();
    visible("a\u{202e}b\u{1b}ü\n".as_bytes(), &mut text);
    assert_eq!(text, "a\\xe2\\x80\\xaeb\\x1bü\\x0a");
}

/// What is said of the bond, as HTML and as text.
fn bound(bond: Bond, lines: &str) -> (String, String) {
    let backend = Backend { bond: Some(bond), ..backend("g") };
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let page = shown(&backend, head.as_bytes(), |it| it.html());
    let (_, said) = page.split_once(" id=\"bond\">").unwrap_or_default();
    let said = said.split("</p>").next().unwrap_or_default().to_owned();
    let text = shown(&backend, head.as_bytes(), |it| it.text());
    let line = text.lines().find(|line| line.starts_with("sticky: ")).unwrap_or_default();
    (said, line.to_owned())
}

#[test]
fn it_says_what_binds_the_client() {
    let proxied = "X-Forwarded-Proto: https\r\n";
    let inserted = || Bond::Inserted { cookie: "SERVER&ID".into() };
    let (said, line) = bound(inserted(), proxied);
    assert!(said.contains("lockgate\u{2019}s own cookie <code>SERVER&amp;ID</code>"), "{said}");
    assert_eq!(line, "sticky:  by lockgate's cookie SERVER&ID");

    let set = || Bond::Application { cookie: "session".into(), path: "/".into() };
    let (said, line) = bound(set(), proxied);
    assert!(said.contains("<code>session</code>, which this answer sets"), "{said}");
    assert_eq!(line, "sticky:  by the application's cookie session");
    let (said, _) = bound(set(), &format!("{proxied}Cookie: a=b; session=c\r\n"));
    assert!(said.contains("<code>session</code>. Lockgate took off"), "{said}");

    for bond in [inserted(), set()] {
        assert_eq!(bound(bond, ""), Default::default(), "no proxy, no bond");
    }
}
