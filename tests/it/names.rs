//! Backends by name (DESIGN 3.3): resolved before the first request and again
//! when the answer expires; what the name servers' failures do, and do not.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Answer, Backend, Client, Kind, NameServer, Port, Setup, Silent, Site, SiteBuilder, TlsBackend,
    TlsServer, authority, eventually, group, http_listener,
};

/// Two of this machine's addresses: one name, one port, two backends.
const HERE: &str = "127.0.0.1";
const THERE: &str = "127.0.0.2";
/// The listener of tests that have two: where no name is needed.
const OTHER: &str = "[[listener]]\ndomain = \"o.test\"\nprotocol = \"http\"\ngroup = \"other\"\n";

/// A group with one backend, `web.internal` at this port.
fn builder(dns: &NameServer, port: &Port) -> SiteBuilder {
    Site::http().process(&dns.table()).address(&format!("web.internal:{port}"))
}

/// 502, because the name has no address.
#[track_caller]
fn assert_no_address(site: &Site) {
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["status=502", "cause=dns", "phase=connect", "web.internal"]);
}

#[test]
fn a_name_is_resolved_before_the_first_request() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 300);
    let port = Port::reserve();
    let b1 = Backend::at("B1", HERE, port.number());
    let site = builder(&dns, &port).start();
    // No request waits for a name server, and none asks it.
    let asked = dns.asked("web.internal");
    assert!(asked > 0);
    for _ in 0..3 {
        assert_eq!(site.get("/").expect(200).backend(), "B1");
    }
    assert_eq!(b1.connections(), 1);
    assert_eq!(dns.asked("web.internal"), asked);
}

#[test]
fn a_name_is_written_in_any_case_with_a_dot_or_without() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 300);
    let port = Port::reserve();
    let _b1 = Backend::at("B1", HERE, port.number());
    let builder = Site::http().process(&dns.table()).address(&format!("Web.Internal.:{port}"));
    builder.start().get("/").expect(200);
}

#[test]
fn a_new_address_is_used_when_the_old_one_expires() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 1);
    let port = Port::reserve();
    let (b1, _b2) =
        (Backend::at("B1", HERE, port.number()), Backend::at("B2", THERE, port.number()));
    let site = builder(&dns, &port).group("keepalive = false").start();
    let mut client = site.connect();
    assert_eq!(client.get("a.test", "/").expect(200).backend(), "B1");
    dns.points("web.internal", &[THERE], 1);
    eventually("the new address is used", || {
        client.get("a.test", "/").expect(200).backend() == "B2"
    });
    // For good.
    let before = b1.executions();
    for _ in 0..5 {
        assert_eq!(client.get("a.test", "/").expect(200).backend(), "B2");
    }
    dns.wait_until_asked("web.internal", 2);
    assert_eq!(client.get("a.test", "/").expect(200).backend(), "B2");
    assert_eq!(b1.executions(), before);
    site.lockgate.wait_for_log(&["resolved", THERE, "web.internal", "game=game group=web"]);
}

#[test]
fn every_worker_hears_of_a_new_address() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 1);
    let port = Port::reserve();
    let (_b1, _b2) =
        (Backend::at("B1", HERE, port.number()), Backend::at("B2", THERE, port.number()));
    let site = builder(&dns, &port).group("keepalive = false").workers(2).start();
    dns.points("web.internal", &[THERE], 1);
    eventually("the new address is used", || site.get("/").expect(200).backend() == "B2");
    for _ in 0..30 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
}

#[test]
fn a_name_that_does_not_exist_is_down_and_its_file_is_served() {
    let dns = NameServer::start();
    let (web, other) = (Port::reserve(), Port::reserve());
    let _b1 = Backend::at("B1", HERE, web.number());
    let o1 = Backend::named("O1");
    let more = format!("{OTHER}port = {other}\n{}", group("other", &o1));
    let site = builder(&dns, &web).more(&more).start();
    assert_no_address(&site);
    let table = site.lockgate.run(&["status"]).expect(0).stdout;
    assert!(table.contains(" no address ") && table.contains("game/web: nobody serves"), "{table}");
    // The same file's other group has nothing to do with it.
    assert_eq!(Client::plain(other.number()).get("o.test", "/").expect(200).backend(), "O1");
    dns.points("web.internal", &[HERE], 300);
    eventually("the name is found", || site.get("/").status == 200);
    assert_eq!(site.get("/").expect(200).backend(), "B1");
}

#[test]
fn a_name_that_does_not_exist_is_asked_for_again_soon() {
    let dns = NameServer::start();
    dns.says("web.internal", &Answer::NoSuchNameFor(3600));
    let port = Port::reserve();
    let _b1 = Backend::at("B1", HERE, port.number());
    let site = builder(&dns, &port).start();
    assert_no_address(&site);
    dns.points("web.internal", &[HERE], 300);
    eventually("the name is found", || site.get("/").status == 200);
}

#[test]
fn a_name_without_an_address_is_told_of_at_the_start() {
    let dns = NameServer::start();
    let site = builder(&dns, &Port::reserve()).start();
    let whose = ["game=game", "group=web", "backend=\"web.internal:"];
    site.lockgate.wait_for_log(&[&["WARN", "no address"], &whose[..]].concat());
}

#[test]
fn a_name_that_goes_away_is_down_until_it_comes_back() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 1);
    let port = Port::reserve();
    let _b1 = Backend::at("B1", HERE, port.number());
    let site = builder(&dns, &port).group("keepalive = false").start();
    site.get("/").expect(200);
    // The name exists still, without an address; then it does not.
    for gone in [Answer::Addresses(Vec::new(), 1), Answer::NoSuchName] {
        dns.says("web.internal", &gone);
        eventually("the name is down", || site.get("/").status == 502);
        assert_no_address(&site);
        site.lockgate.wait_for_log(&["web.internal", "no address"]);
        dns.points("web.internal", &[HERE], 1);
        eventually("the name is found again", || site.get("/").status == 200);
    }
}

#[test]
fn the_last_addresses_stay_while_the_name_server_fails() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 1);
    let port = Port::reserve();
    let (_b1, _b2) =
        (Backend::at("B1", HERE, port.number()), Backend::at("B2", THERE, port.number()));
    let site = builder(&dns, &port).group("keepalive = false").start();
    dns.says("web.internal", &Answer::ServerFailure);
    site.lockgate.wait_for_log(&["game=game", "group=web", "web.internal", "not resolved"]);
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    dns.wait_until_asked("web.internal", 2);
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    dns.points("web.internal", &[THERE], 1);
    eventually("the new address is used", || site.get("/").expect(200).backend() == "B2");
}

#[test]
fn the_last_addresses_stay_while_the_name_server_is_silent() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 1);
    let port = Port::reserve();
    let (_b1, _b2) =
        (Backend::at("B1", HERE, port.number()), Backend::at("B2", THERE, port.number()));
    let site = builder(&dns, &port).group("keepalive = false").start();
    dns.says("web.internal", &Answer::Silence);
    dns.wait_until_asked("web.internal", 1);
    // While it waits for an answer, and once it has given up.
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    let end = std::time::Instant::now() + crate::support::DEADLINE * 6;
    while !site.lockgate.log().contains("not resolved") {
        assert!(std::time::Instant::now() < end, "silence is never told of");
        assert_eq!(site.get("/").expect(200).backend(), "B1");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    dns.points("web.internal", &[THERE], 1);
    eventually("the new address is used", || site.get("/").expect(200).backend() == "B2");
}

/// As does the next process, after an end of whatever kind and after an upgrade.
#[test]
fn a_start_goes_on_with_the_last_addresses() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 300);
    let (port, at) = (Port::reserve(), Port::reserve());
    let (_b1, _b2) = (Backend::at("B1", HERE, at.number()), Backend::at("B2", THERE, at.number()));
    let web = format!("[group.web]\nbackends = [\"web.internal:{at}\"]\nkeepalive = false\n");
    let text = http_listener("a.test", &port, "group = \"web\"") + &web;
    let setup = Setup::empty().file("game.toml", &text).process(&dns.table());
    let get = || Client::plain(port.number()).get("a.test", "/").expect(200).backend();
    let mut lockgate = setup.start();
    assert_eq!(get(), "B1");
    eventually("it is kept", || setup.path().join("state/names/last.json").exists());
    dns.says("web.internal", &Answer::Silence);
    assert_eq!(lockgate.terminate(), 0);
    lockgate = setup.start();
    assert_eq!(get(), "B1");
    // Killed.
    drop(lockgate);
    let lockgate = setup.start();
    assert_eq!(get(), "B1");
    lockgate.run(&["upgrade"]).expect(0);
    let heir = lockgate.run(&["status", "--json"]).expect(0).stdout;
    let heir: serde_json::Value = serde_json::from_str(&heir).unwrap();
    let heir = Ends(Pid::from_raw(heir["pid"].as_i64().unwrap().try_into().unwrap()).unwrap());
    assert_eq!(get(), "B1");
    dns.points("web.internal", &[THERE], 1);
    eventually("the new address is used", || get() == "B2");
    drop(heir);
}

/// A process that is no child of the test.
struct Ends(Pid);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[test]
fn the_last_addresses_stay_while_only_ipv4_fails() {
    // That there is no IPv6 address says nothing about the others.
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 1);
    let port = Port::reserve();
    let _b1 = Backend::at("B1", HERE, port.number());
    let site = builder(&dns, &port).group("keepalive = false").start();
    dns.says_of("web.internal", Kind::A, Answer::ServerFailure);
    dns.wait_until_asked("web.internal", 4);
    assert_eq!(site.get("/").expect(200).backend(), "B1");
}

#[test]
fn ipv4_addresses_are_used_while_only_ipv6_fails() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 1);
    dns.says_of("web.internal", Kind::Aaaa, Answer::ServerFailure);
    let port = Port::reserve();
    let (_b1, _b2) =
        (Backend::at("B1", HERE, port.number()), Backend::at("B2", THERE, port.number()));
    let site = builder(&dns, &port).group("keepalive = false").start();
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    let new = Answer::Addresses(vec![THERE.parse().unwrap()], 1);
    dns.says_of("web.internal", Kind::A, new);
    eventually("the new address is used", || site.get("/").expect(200).backend() == "B2");
}

#[test]
fn of_several_addresses_the_next_is_tried() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE, THERE, "127.0.0.3"], 300);
    let port = Port::reserve();
    // Nobody listens on the first and the last.
    let b2 = Backend::at("B2", THERE, port.number());
    let site = builder(&dns, &port).group("keepalive = false").start();
    for _ in 0..3 {
        site.get("/").expect(200);
        site.post("/", b"body").expect(200);
    }
    assert_eq!((b2.executions(), b2.connections()), (6, 6));
    drop(b2);
    eventually("all of them refuse", || {
        site.get("/").expect(502);
        site.lockgate.log().contains("cause=connect_refused")
    });
}

#[test]
fn of_several_addresses_ipv6_is_one() {
    let port = Port::reserve();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("no IPv6 here: an IPv6 address is not tried");
        return;
    }
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE, "::1"], 300);
    let _b6 = Backend::at("B6", "::1", port.number());
    let site = builder(&dns, &port).start();
    assert_eq!(site.get("/").expect(200).backend(), "B6");
}

/// A site whose name has these addresses, at the port of `silent`.
fn with_silence(dns: &NameServer, silent: &Silent, addresses: &[&str]) -> Site {
    dns.points("web.internal", addresses, 300);
    Site::http()
        .process(&dns.table())
        .address(&format!("web.internal:{}", silent.port()))
        .group("connect_timeout = \"900ms\"")
        .start()
}

#[test]
fn an_address_that_does_not_answer_is_a_timeout() {
    let (dns, silent) = (NameServer::start(), Silent::new());
    let site = with_silence(&dns, &silent, &[HERE]);
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["cause=connect_timeout", "web.internal"]);
}

#[test]
fn after_an_address_that_does_not_answer_the_next_is_tried() {
    let (dns, silent) = (NameServer::start(), Silent::new());
    let b2 = Backend::at("B2", THERE, silent.port());
    let site = with_silence(&dns, &silent, &[HERE, THERE]);
    assert_eq!(site.get("/").expect(200).backend(), "B2");
    assert_eq!(b2.executions(), 1);
}

#[test]
fn an_address_that_is_our_own_listener_is_not_used() {
    let dns = NameServer::start();
    let (own, plain) = (Port::reserve(), Port::reserve());
    // All of this machine's loopback, in either family: that is us.
    dns.points("web.internal", &[HERE, "127.0.0.9", "::1"], 300);
    let b1 = Backend::named("B1");
    let text = http_listener("a.test", &own, "group = \"web\"")
        + &format!("[group.web]\nbackends = [\"web.internal:{own}\"]\n\n")
        + &http_listener("o.test", &plain, "group = \"other\"")
        + &group("other", &b1);
    let mut lockgate = Setup::empty().process(&dns.table()).file("game.toml", &text).start();
    Client::plain(own.number()).get("a.test", "/").expect(502);
    lockgate.wait_for_log(&["cause=dns", "web.internal"]);
    Client::plain(plain.number()).get("o.test", "/").expect(200);
    let log = lockgate.log_to_the_end();
    assert_eq!(log.matches("request failed").count(), 1, "{log}");
}

#[test]
fn our_own_listener_is_left_out_of_several_addresses() {
    let dns = NameServer::start();
    let own = Port::reserve();
    dns.points("web.internal", &[HERE, THERE], 300);
    // We listen on one of the two only, the backend on the other.
    let b2 = Backend::at("B2", THERE, own.number());
    let lines = format!("group = \"web\"\naddress = \"{HERE}\"");
    let text = http_listener("a.test", &own, &lines)
        + &format!("[group.web]\nbackends = [\"web.internal:{own}\"]\nkeepalive = false\n");
    let lockgate = Setup::empty().process(&dns.table()).file("game.toml", &text).start();
    for _ in 0..3 {
        let response = Client::plain(own.number()).get("a.test", "/").expect(200);
        // Once through us, not twice.
        assert_eq!(response.backend(), "B2");
    }
    assert_eq!(b2.requests()[0].value("x-forwarded-for"), HERE);
    drop(lockgate);
}

#[test]
fn a_start_does_not_wait_for_silent_name_servers() {
    let dns = NameServer::start();
    dns.says("web.internal", &Answer::Silence);
    let port = Port::reserve();
    let _b1 = Backend::at("B1", HERE, port.number());
    let site = builder(&dns, &port).start();
    // It serves before the name server is given up, and can be asked.
    let ready = site.lockgate.wait_for_log(&["INFO ready"]);
    site.lockgate.run(&["status"]).expect(0);
    let log = site.lockgate.log();
    assert!(!log.split(&ready).next().unwrap().contains("not resolved"), "{log}");
    assert!(dns.asked("web.internal") > 0);
    assert_no_address(&site);
    dns.points("web.internal", &[HERE], 300);
    let end = std::time::Instant::now() + crate::support::DEADLINE * 6;
    while site.get("/").status != 200 {
        assert!(std::time::Instant::now() < end, "the name is never found");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_name_server_that_refuses_delays_nothing() {
    // A name server has the TCP port of its UDP port: none is here.
    let nobody = Port::reserve();
    let table = format!("[dns]\nservers = [\"127.0.0.1:{nobody}\"]\n");
    let o1 = Backend::named("O1");
    let other = Port::reserve();
    let more = format!("{OTHER}port = {other}\n{}", group("other", &o1));
    let site = Site::http().process(&table).address("web.internal:1").more(&more).start();
    assert_no_address(&site);
    Client::plain(other.number()).get("o.test", "/").expect(200);
}

#[test]
fn an_https_backends_name_is_the_one_to_show() {
    let dns = NameServer::start();
    dns.points("web.internal", &[HERE], 300);
    let server = TlsServer::with(&authority().server(&["web.internal"]));
    let b1 = TlsBackend::named("B1", server);
    let https = |address: String| {
        Site::http()
            .any_file("ca.pem", authority().pem())
            .process(&dns.table())
            .group("protocol = \"https\"\ntls = { ca = \"ca.pem\" }")
            .address(&address)
            .start()
    };
    https(format!("web.internal:{}", b1.port())).get("/").expect(200);
    assert_eq!(b1.handshakes()[0].server_name.as_deref(), Some("web.internal"));
    dns.points("not.internal", &[HERE], 300);
    let site = https(format!("not.internal:{}", b1.port()));
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["cause=tls_handshake", "not.internal"]);
    assert_eq!(b1.executions(), 1);
}
