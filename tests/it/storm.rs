//! The storm: backends that are real processes die, freeze and come back one after
//! another under load (DESIGN 4.5 and 4.7). No request that may be sent again
//! fails, and none that may not is executed twice.
//!
//! `STORM_SECONDS=600 cargo test --test it storm:: -- --nocapture` lasts longer.

mod engine;

use std::process::Command;
use std::time::Duration;

use crate::support::{Lockgate, Port, h2_config, http_listener, https_listener};
use engine::{Backend, Executed, Plan, Tally, Target, storm};

/// Tells the process of a backend its name and port.
const ROLE: &str = "STORM_BACKEND";

/// No test: what the backends' processes run.
#[test]
fn backend_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (name, port) = role.split_once(' ').expect("a name and a port");
    engine::serve(name, port.parse().expect("a port")).expect("it serves until it is ended");
}

/// This program once more, as a backend.
fn launch(name: &str, port: u16) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "storm::backend_process"]).env(ROLE, format!("{name} {port}"));
    command
}

/// The next fault comes when lockgate uses the last one's backend again.
#[test]
fn one_backend_after_the_other_dies_and_freezes() {
    let plan = Plan { faults: 12, time: seconds(), hits: 300, hasty: false };
    blow("", plan);
}

/// The next fault comes as soon as the last one's backend is there again: lockgate
/// may still keep it out.
#[test]
fn they_do_before_the_last_one_is_trusted_again() {
    let plan = Plan { faults: 12, time: seconds(), hits: 300, hasty: true };
    blow("all_down = \"try\"", plan);
}

/// Requests share a connection to each backend.
#[test]
fn h2c_backends_do() {
    let plan = Plan { faults: 12, time: seconds(), hits: 300, hasty: false };
    blow("protocol = \"h2c\"", plan);
}

fn seconds() -> Duration {
    let seconds = std::env::var("STORM_SECONDS").ok();
    Duration::from_secs(seconds.map_or(0, |text| text.parse().expect("a number of seconds")))
}

/// A storm over lockgate with two groups, one of them sticky.
fn blow(keys: &str, plan: Plan) {
    let ports = [Port::reserve(), Port::reserve(), Port::reserve()];
    let executed = Executed::default();
    let backends: Vec<Backend> = (ports.iter().zip(["B1", "B2", "B3"]))
        .map(|(port, name)| Backend::start(name, port.number(), launch, &executed).unwrap())
        .collect();
    let (plain, secure) = (Port::reserve(), Port::reserve());
    let listener = "group = \"free\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
                    [[listener.rule]]\npath = \"/bound\"\ngroup = \"bound\"";
    let backend = |port: &Port| {
        format!("{{ address = \"{}\", fail_timeout = \"400ms\" }}", port.refusing_address())
    };
    let group = |name: &str| {
        let list = ports.iter().map(backend).collect::<Vec<_>>().join(", ");
        format!(
            "[group.{name}]\nbackends = [{list}]\nresponse_timeout = \"500ms\"\n\
             connect_timeout = \"500ms\"\n{keys}\n[group.{name}.retry]\nbudget = \"100%\"\n"
        )
    };
    let text = http_listener("storm.test", &plain, listener)
        + &https_listener("storm.test", &secure, listener)
        + &group("free")
        + &group("bound")
        + "[group.bound.sticky]\nmode = \"insert\"\n";
    let mut lockgate = Lockgate::with("storm.toml", &text).workers(2).start();
    let target = Target {
        plain: plain.number(),
        secure: secure.number(),
        host: "storm.test".to_owned(),
        tls: h2_config(),
        sticky: true,
    };
    let tally = storm(&target, plan, backends, &executed).unwrap();
    judge(&tally, &lockgate.log_to_the_end(), keys.contains("h2c"));
}

#[track_caller]
fn judge(tally: &Tally, log: &str, in_frames: bool) {
    eprintln!("{}", summary(tally, log));
    assert!(tally.requests("GET") > 500 && tally.requests("POST") > 300, "{:?}", tally.asked);
    assert!(tally.wrong.is_empty(), "answers of other requests: {:#?}", tally.wrong);
    assert!(tally.twice.is_empty(), "{:#?}", tally.twice);
    let failed: Vec<&str> = tally.failed_idempotent().map(|failure| &*failure.what).collect();
    assert!(failed.is_empty(), "requests that may be sent again failed: {failed:#?}");
    // A short answer of HTTP/1.1 is there at once; of HTTP/2 its head may be alone.
    let cut: Vec<&str> = tally.cut().map(|failure| &*failure.what).collect();
    assert!(in_frames || cut.iter().all(|what| what.contains("/long")), "{cut:#?}");
    // Those that a backend may have executed, and no others.
    let allowed = |status, cause: &str| match status {
        Some(502) => cause.contains("closed_before_header"),
        Some(504) => cause.contains("header_timeout"),
        _ => false,
    };
    let wrong: Vec<&str> = tally
        .failed_posts()
        .filter(|failure| !allowed(failure.status, &failure.cause))
        .map(|failure| &*failure.what)
        .collect();
    assert!(wrong.is_empty(), "POSTs that had to go elsewhere: {wrong:#?}");
    assert!(log.contains("attempt failed"), "nothing was ever sent again");
}

/// What happened, in figures.
fn summary(tally: &Tally, log: &str) -> String {
    let mut text = format!("storm: {} faults, {} requests\n", tally.faults, tally.requests(""));
    for (kind, count) in &tally.asked {
        text += &format!("  {count:8} {kind}\n");
    }
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for failure in &tally.failures {
        let status = failure.status.map_or("cut".to_owned(), |status| status.to_string());
        *kinds.entry(format!("{} {status} {}", failure.method, failure.cause)).or_default() += 1;
    }
    for (kind, count) in kinds {
        text += &format!("  {count:8} failed: {kind}\n");
    }
    let count = |part: &str| log.matches(part).count();
    text + &format!(
        "  {} failed POSTs were executed, {} POSTs twice; log: {} attempts went elsewhere, \
         {} ejections, {} returns",
        tally.unheard,
        tally.twice.len(),
        count("attempt failed"),
        count("backend ejected"),
        count("backend serves again")
    )
}
