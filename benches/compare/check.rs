//! Right answers first: a proxy that is wrong is not measured.

use std::collections::HashSet;
use std::sync::Arc;

use crate::client::{Answer, ask, ask_with};
use crate::lab::Lab;
use crate::load::players;
use crate::peers::{Peer, Running};
use crate::{http2, websocket};

/// Starts `peer`, asks it what the workloads will ask, and says which TLS suite it picked.
pub(crate) fn check(peer: &Peer, lab: &Lab) -> Result<String, String> {
    let running = peer.start(lab, &[])?;
    let mut chosen = String::new();
    for tls in [None, Some(&lab.certificate.client)] {
        let port = running.port(tls.is_some());
        let scheme = if tls.is_some() { "https" } else { "http" };
        for (path, length) in [("/0", 0), ("/1k", 1 << 10), ("/1m", 1 << 20)] {
            // Twice, so that both backends answer.
            for _ in 0..2 {
                let answer = ask(port, tls, "GET", path, &[])?;
                expect(answer.status == 200, scheme, path, &answer)?;
                expect(answer.body.len() == length, scheme, path, &answer)?;
            }
        }
        let answer = ask(port, tls, "GET", "/echo", &[])?;
        let seen = String::from_utf8_lossy(&answer.body).into_owned();
        let forwarded =
            seen.contains("for=[127.0.0.1]") && seen.contains(&format!("proto=[{scheme}]"));
        if !forwarded {
            return Err(format!("{scheme}: the origin saw {seen}"));
        }
        chosen = answer.suite.unwrap_or_default();
    }
    let answer = ask(running.http, None, "POST", "/upload", &[b'x'; 65_536])?;
    expect(answer.status == 204, "http", "/upload", &answer)?;
    check_http2(lab, &running)?;
    if let Some(port) = running.sticky {
        check_sticky(port)?;
    }
    // Twice, so that both backends answer.
    for _ in 0..2 {
        websocket::check(running.http, None)?;
        websocket::check(running.https, Some(Arc::clone(&lab.certificate.client)))?;
    }
    Ok(chosen)
}

fn check_http2(lab: &Lab, running: &Running) -> Result<(), String> {
    let tls = &lab.certificate.client_h2;
    for _ in 0..2 {
        let body = http2::ask(running.https, tls, "/1k")?;
        if body.len() != 1 << 10 {
            return Err(format!("HTTP/2 /1k: {} bytes", body.len()));
        }
    }
    let seen = String::from_utf8_lossy(&http2::ask(running.https, tls, "/echo")?).into_owned();
    if !seen.contains("for=[127.0.0.1]") || !seen.contains("proto=[https]") {
        return Err(format!("HTTP/2: the origin saw {seen}"));
    }
    Ok(())
}

/// Some clients, of whom each comes back to the backend it was on, with no new cookie.
fn check_sticky(port: u16) -> Result<(), String> {
    let mut seen = HashSet::new();
    for cookie in players(port, 4)?.split(',') {
        let mut homes = HashSet::new();
        for _ in 0..3 {
            let answer = ask_with(port, "/echo", &format!("Cookie: {cookie}\r\n"))?;
            expect(answer.status == 200, "sticky", "/echo", &answer)?;
            if answer.head.to_ascii_lowercase().contains("set-cookie") {
                return Err(format!("a young cookie was set anew: {}", answer.head));
            }
            homes.insert(answer.body);
        }
        if homes.len() != 1 {
            return Err(format!("{cookie} was on {} backends", homes.len()));
        }
        seen.extend(homes);
    }
    if seen.len() == 2 { Ok(()) } else { Err("all clients are on one backend".to_owned()) }
}

fn expect(right: bool, scheme: &str, path: &str, answer: &Answer) -> Result<(), String> {
    if right {
        return Ok(());
    }
    let line = answer.head.lines().next().unwrap_or_default();
    Err(format!("{scheme} {path}: {line}, {} bytes", answer.body.len()))
}
