//! The admin page, in Chromium.

use std::fmt::Write as _;

use rustix::process::Signal;

use super::tools::{Player, node};
use crate::support::{Backend, Client, Lockgate, Port, Site, group, http_listener, https_listener};

/// A browser before the page; what it complains of is asked for at the end.
struct Operator(Player);

impl Operator {
    #[track_caller]
    fn before(lockgate: &Lockgate) -> Self {
        let mut command = node("page.js", lockgate.path());
        command.arg(format!("http://{}", lockgate.admin_host())).arg("-");
        Self(Player::start(command))
    }

    #[track_caller]
    fn told(&mut self, order: &str) -> String {
        self.0.told(order)
    }

    /// Waits for this text in such an element.
    #[track_caller]
    fn sees(&mut self, selector: &str, text: &str) -> String {
        self.told(&format!("see {selector} {text}"))
    }

    #[track_caller]
    fn end(mut self) {
        assert_eq!(self.told("clean"), "clean");
        self.0.end();
    }
}

const PROBED: &str = "[group.web.probe]\ninterval = \"100ms\"\nunhealthy_threshold = 2\n";

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn a_backend_that_dies_is_told_of() {
    let [b1, b2] = ["B1", "B2"].map(Backend::named);
    let site = Site::http()
        .backend_with(&b1, "name = \"first\"")
        .backend_with(&b2, "name = \"second\"")
        .more(PROBED)
        .start();
    let mut operator = Operator::before(&site.lockgate);
    assert_eq!(operator.told("open"), "All is well: 2 backends in 1 group of 1 game serve.");
    operator.sees(".backends>tbody>tr", "second");
    assert_eq!(operator.told("count #problem-list>li"), "0");
    operator.told("mark table.backends>tbody>tr");

    b2.kill();
    let verdict = operator.sees("#verdict", "down");
    assert_eq!(verdict, "game/web/second is down.");
    let problem = operator.sees("#problem-list>li", "game/web/second");
    assert!(problem.starts_with("down game/web/second probes: connect_refused"), "{problem}");
    assert!(problem.contains(" since "), "{problem}");
    // What did not change is what it was.
    assert_eq!(operator.told("marked table.backends>tbody>tr"), "true");
    // From the problem to its backend, by the keyboard.
    operator.told("tab game/web/second");
    operator.told("press Enter");
    let focus = operator.told("focus");
    assert!(focus.starts_with("seen: ") && focus.contains("second") && focus.contains("down"));

    b1.kill();
    let verdict = operator.sees("#verdict", "Nobody serves game/web");
    assert!(verdict.ends_with("2 of 2 backends are down, in game/web."), "{verdict}");
    site.get("/unlucky").expect(502);
    let failed = operator.sees("#recent>table>tbody>tr", "/unlucky");
    assert!(failed.contains("502 no_available_backend"), "{failed}");
    operator.end();
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn a_group_whose_requests_fail_is_told_of() {
    let (gone, b1) = (Port::reserve(), Backend::named("B1"));
    let site = Site::http()
        .address(&gone.refusing_address())
        .rule("path = \"/well\"\ngroup = \"well\"")
        .more(&group("well", &b1))
        .start();
    let mut operator = Operator::before(&site.lockgate);
    assert_eq!(operator.told("open"), "All is well: 2 backends in 2 groups of 1 game serve.");
    site.get("/well").expect(200);
    for _ in 0..5 {
        site.get("/").expect(502);
    }
    let verdict = operator.sees("#verdict", "fail");
    assert_eq!(verdict, "Most requests to game/web fail.");
    let problem = operator.sees("#problem-list>li", "requests fail");
    let why =
        "failing game/web requests fail: 5 of 5 requests of the last minute failed or got a 5xx";
    assert!(problem.starts_with(why), "{problem}");
    let problem = operator.sees("#problem-list>li", "attempts");
    let name = format!("failing game/web/{} ", gone.refusing_address());
    assert!(problem.starts_with(&name) && problem.contains("connect_refused"), "{problem}");
    operator.end();
}

/// What it cannot show is no reason to stop looking.
#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn an_answer_that_cannot_be_shown_is_not_the_last() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut operator = Operator::before(&site.lockgate);
    operator.told("open");
    operator.told("spoil");
    let said = operator.sees("#silence", "cannot be shown");
    assert!(said.starts_with("lockgate does not answer since "), "{said}");
    operator.told("gone #silence");
    // It complains, once.
    assert!(operator.told("clean").starts_with("error: "));
    operator.0.end();
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn a_backend_that_the_operator_sets_aside_is_no_alarm() {
    let [b1, b2] = ["B1", "B2"].map(Backend::named);
    let site = Site::http()
        .backend_with(&b1, "name = \"first\"")
        .backend_with(&b2, "name = \"second\"")
        .start();
    let mut operator = Operator::before(&site.lockgate);
    operator.told("open");
    // What came since it looked first is in its rates and latencies.
    assert_eq!(operator.told("count td[data-label=p99]:not([data-none])"), "0");
    (0..20).for_each(|_| drop(site.get("/").expect(200)));
    let row = operator.sees(".backends>tbody>tr", "ms");
    assert_eq!(row.matches(" ms").count(), 2, "p50 and p99: {row}");

    site.lockgate.run(&["drain", "game/web/second"]).expect(0);
    let verdict = operator.sees("#verdict", "drain");
    assert_eq!(verdict, "All is well: 1 backend in 1 group of 1 game serves. 1 in drain.");
    let problem = operator.sees("#problem-list>li", "game/web/second");
    let expected = "drain game/web/second set by the operator; nobody left since ";
    assert!(problem.starts_with(expected), "{problem}");
    site.lockgate.run(&["ready", "game/web/second"]).expect(0);
    operator.told("gone #problems");
    operator.end();
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn a_refused_file_and_a_reload_are_told_of() {
    let (port, backend) = (Port::reserve(), Backend::named("B1"));
    let good = http_listener("a.test", &port, "group = \"web\"") + &group("web", &backend);
    let lockgate = Lockgate::with("game.toml", &good).start();
    let mut operator = Operator::before(&lockgate);
    operator.told("open");
    operator.sees("#reloads", "None since the start.");

    lockgate.write("listeners.d/game.toml", good.replace("group = \"web\"", "group = \"wob\""));
    lockgate.run(&["reload"]).expect(1);
    assert_eq!(operator.sees("#verdict", "refused"), "game.toml is refused.");
    let problem = operator.sees("#problem-list>li", "game.toml");
    assert!(problem.starts_with("refused game.toml its last good version, of "), "{problem}");
    assert!(problem.contains("there is no group `wob` in this file"), "{problem}");
    operator.sees("#reloads>details>summary", "1 refused");

    let good = good.replace("group = \"web\"", "group = \"web\"\nmax_requests = 7");
    lockgate.write("listeners.d/game.toml", good);
    lockgate.reload();
    operator.sees("#verdict", "All is well");
    operator.told("gone #problems");
    operator.sees("#reloads>details>summary", "1 game changed");
    operator.told("tab 1 game changed");
    operator.told("press Enter");
    operator.sees("#reloads>details>pre", "max_requests none → 7");
    operator.end();
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn names_that_look_like_markup_are_text() {
    const FILE: &str = "<script>alert(1)<\u{2044}script>";
    let (port, gone) = (Port::reserve(), Port::reserve());
    let drop_in = format!(
        "{}\n[[listener.rule]]\npath = \"/a'&lt;\"\nredirect = \"https://b.test/'&amp;\"\n\
         [group.web]\nbackends = [\"{}\"]\n[group.web.probe]\ninterval = \"100ms\"\n",
        https_listener("a.test", &port, "group = \"web\""),
        gone.refusing_address()
    );
    let lockgate = Lockgate::with(&format!("{FILE}.toml"), &drop_in).start();
    let mut operator = Operator::before(&lockgate);
    operator.told("open");
    operator.sees("#verdict", &format!("Nobody serves {FILE}/web."));
    operator.sees("#problem-list>li", &format!("{FILE}/web/"));
    operator.sees(".game>summary>.name", FILE);
    operator.sees(".rules>li", "/a'&lt; → redirect https://b.test/'&amp; (301)");
    let mut client = Client::tls(port.number(), "a.test");
    let request = "GET /?<b>x</b>'\" HTTP/1.1\r\nHost: a.test\r\nX-A: <b>\r\n\r\n";
    client.request(request).expect(502);
    operator.sees("#recent>table>tbody>tr", "/?<b>x</b>'\"");
    lockgate.write(&format!("listeners.d/{FILE}.toml"), format!("'<b onclick>' = 1\n{drop_in}"));
    lockgate.run(&["reload"]).expect(1);
    operator.sees("#problem-list>li>pre", "<b onclick>");
    // Names that no file may have today, and whatever else is told.
    operator.told("poison");
    for place in [
        "#facts>div>dd",
        "#problem-list>li",
        "#problem-list>li>pre",
        ".game>summary>.name",
        ".game>summary>.state",
        ".group>h3",
        ".rules>li",
        ".backends>tbody>tr",
        "#recent>table>tbody>tr",
        "#certificates>table>tbody>tr",
    ] {
        operator.sees(place, "<img src=x onerror=alert(2)>");
    }
    for made in ["img", "iframe", "svg", "b[onclick]", "body>script:not(:last-child)"] {
        assert_eq!(operator.told(&format!("count {made}")), "0", "{made}");
    }
    operator.end();
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn a_thousand_backends_are_found_by_the_keyboard() {
    let port = Port::reserve();
    let mut drop_in = http_listener("a.test", &port, "group = \"g0\"");
    for group in 0..10 {
        let _ = writeln!(drop_in, "[group.g{group}]\nbackends = [");
        for backend in 0..100 {
            let number = group * 100 + backend;
            let _ = writeln!(
                drop_in,
                "  {{ address = \"127.0.0.1:{}\", name = \"b{number}\", state = \"{}\" }},",
                10_000 + number,
                if number == 777 { "maint" } else { "ready" },
            );
        }
        drop_in.push_str("]\n");
    }
    let (other, small) = (Port::reserve(), Backend::named("B1"));
    let other = http_listener("b.test", &other, "group = \"web\"") + &group("web", &small);
    let lockgate = Lockgate::with("big.toml", &drop_in).file("small.toml", &other).start();
    let mut operator = Operator::before(&lockgate);
    let verdict = operator.told("open");
    let expected = "All is well: 1,000 backends in 11 groups of 2 games serve. 1 in maint.";
    assert_eq!(verdict, expected);
    // So many are folded at first.
    assert_eq!(operator.told("count .backends>tbody>tr"), "0");
    operator.told("press /");
    operator.told("type b777 maint");
    assert_eq!(operator.sees("#filter-found", "of"), "1 of 1,001 backends");
    assert_eq!(operator.told("count .backends>tbody>tr"), "1");
    operator.sees(".backends>tbody>tr", "b777");
    operator.told("press Escape");
    operator.told("gone .backends");

    operator.told("tab small");
    operator.told("press Enter");
    operator.sees(".backends>tbody>tr", &small.address());
    assert_eq!(operator.told("count .backends>tbody>tr"), "1");
    operator.told("press Enter");
    operator.told("gone .backends");
    operator.told("press Shift+Tab Enter");
    assert_eq!(operator.told("count .backends>tbody>tr"), "1000");
    // The form's last two buttons.
    operator.told("press Shift+Tab Enter");
    operator.told("gone .backends");
    operator.told("press Shift+Tab Enter");
    assert_eq!(operator.told("count .backends>tbody>tr"), "1001");
    // A form's box for what needs attention, by its label.
    operator.told("press Shift+Tab Space");
    assert_eq!(operator.sees("#filter-found", "of"), "1 of 1,001 backends");
    operator.end();
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn it_is_said_loudly_that_lockgate_does_not_answer() {
    let b1 = Backend::named("B1");
    let mut site = Site::http().backend(&b1).start();
    let mut operator = Operator::before(&site.lockgate);
    operator.told("open");
    assert_eq!(operator.told("count #silence"), "0");
    site.lockgate.signal(Signal::STOP);
    let said = operator.sees("#silence", "lockgate does not answer since");
    assert!(said.contains("no answer within 5 s. What is shown is of "), "{said}");
    site.lockgate.signal(Signal::CONT);
    operator.told("gone #silence");
    assert_eq!(operator.told("clean"), "clean");
    assert_eq!(site.lockgate.terminate(), 0);
    operator.sees("#silence", "it cannot be reached");
    // That no connection is there is the browser's own complaint.
    operator.0.end();
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn a_screen_reader_and_a_phone_get_all_of_it() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).start();
    let mut operator = Operator::before(&site.lockgate);
    operator.told("open");
    for (role, name, times) in [
        ("main", "", "1"),
        ("banner", "", "1"),
        ("heading", "Games", "1"),
        ("region", "Certificates", "1"),
        ("search", "", "1"),
        ("searchbox", "Filter", "1"),
        ("table", "Certificates", "1"),
        ("table", "Backends", "1"),
        ("columnheader", "Last probe", "1"),
        ("rowheader", &b1.address(), "1"),
    ] {
        assert_eq!(operator.told(format!("role {role} {name}").trim_end()), times, "{role} {name}");
    }
    assert_eq!(operator.told("phone"), "fits");
    // It looks like no table any more, and is one.
    for (role, times) in [("table", "3"), ("columnheader", "19")] {
        assert_eq!(operator.told(&format!("role {role}")), times, "{role}");
    }
    operator.end();
}
