//! `lockgate explain`: what it says is what happens, asked of the running
//! process as of the files, and nothing happens by asking.

use serde_json::Value;

use crate::support::{
    Backend, Client, Lockgate, Port, Response, Setup, eventually, http_listener, https_listener,
};

/// One game with rules of every kind, one beside it on the same ports.
struct World {
    lockgate: Lockgate,
    plain: Port,
    tls: Port,
    backends: [Backend; 3],
}

impl World {
    fn start(more: &str) -> World {
        let (plain, tls, own) = (Port::reserve(), Port::reserve(), Port::reserve());
        let backends = ["B1", "B2", "B3"].map(Backend::named);
        let entry = |backend: &Backend, keys: &str| {
            format!(
                "{{ address = \"{}\", name = \"{}\"{keys} }}",
                backend.address(),
                backend.name()
            )
        };
        let [one, two, three] = [0, 1, 2].map(|at| entry(&backends[at], ""));
        let rules = format!(
            "group = \"web\"\nforwarded = [\"x-forwarded-proto\", \"forwarded\", \"via\"]\n\
             [[listener.rule]]\npath = \"/api/\"\ngroup = \"api\"\n\
             set_headers = {{ request = {{ X-Game = \"a\" }}, response = {{ X-Out = \"o\" }} }}\n\
             remove_headers = {{ request = [\"X-Debug\"] }}\n\
             [[listener.rule]]\npath = \"/old/\"\nredirect = \"https:{tls}\"\nredirect_code = 308\n\
             [[listener.rule]]\npath = \"/health\"\nrespond = {{ status = 203, body = \"fine\" }}\n\
             set_headers = {{ response = {{ X-Fine = \"yes\" }} }}\n"
        );
        let game = http_listener("a.test", &plain, &rules)
            + &https_listener("a.test", &tls, "group = \"web\"")
            + &http_listener(
                "none.test",
                &plain,
                "[[listener.rule]]\npath = \"/x/\"\ngroup = \"web\"",
            )
            + &http_listener("mine.test", &plain, "deny = [\"127.0.0.1\"]\ngroup = \"web\"")
            + &http_listener("hash.test", &plain, "group = \"hash\"")
            + &format!(
                "[group.web]\nbackends = [{one}, {two}]\n{more}\n\
                 [group.api]\nbackends = [{three}]\n[group.api.retry]\ntries = 1\n\
                 [group.hash]\nbalance = \"hash\"\nhash_key = \"header:X-Player\"\n\
                 backends = [{one}, {two}, {three}]\n"
            );
        let beside = http_listener("*.wild.test", &plain, "group = \"web\"")
            + &http_listener("only.test", &own, "group = \"web\"")
            + "[group.web]\nbackends = [\"127.0.0.1:9\"]\n";
        let lockgate = Setup::empty().file("game.toml", &game).file("other.toml", &beside).start();
        World { lockgate, plain, tls, backends }
    }

    fn url(&self, rest: &str) -> String {
        format!("http://a.test:{}{rest}", self.plain)
    }

    #[track_caller]
    fn explain(&self, arguments: &[&str]) -> Value {
        explain(&self.lockgate, arguments)
    }
}

#[track_caller]
fn explain(lockgate: &Lockgate, arguments: &[&str]) -> Value {
    let all = [&["explain", "--json"], arguments].concat();
    let finished = lockgate.run(&all).expect(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// As the files have it, less what says that.
#[track_caller]
fn offline(lockgate: &Lockgate, arguments: &[&str]) -> Value {
    let mut told = explain(lockgate, &[&["--offline"], arguments].concat());
    assert_eq!(told["offline"], true);
    told["offline"] = false.into();
    told
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path} of {value:#}"))
}

fn names(value: &Value, path: &str) -> Vec<String> {
    let list = value.pointer(path).and_then(Value::as_array).into_iter().flatten();
    list.map(|one| one["backend"].as_str().unwrap().to_owned()).collect()
}

/// What a client of this world gets.
fn ask(world: &World, tls: bool, head: &str) -> Response {
    let mut client = match tls {
        true => Client::tls(world.tls.number(), "a.test"),
        false => Client::plain(world.plain.number()),
    };
    client.request(head)
}

/// Asked in both ways and then made: what was said happens.
#[test]
fn what_is_explained_is_what_happens() {
    let world = World::start("");
    let (plain, tls) = (&world.plain, &world.tls);
    let cases: [(&str, &str, &str, &[&str]); 20] = [
        ("GET", "http://a.test", "/", &[]),
        ("GET", "http://a.test", "/api/x?y=1", &["X-Debug: 1", "X-Game: mine", "Via: 1.0 q"]),
        ("GET", "http://a.test", "/api", &[]),
        ("GET", "http://a.test", "//api/./x/%2e%2e/%61", &[]),
        ("GET", "http://a.test", "/../x", &[]),
        ("GET", "http://a.test", "/%zz", &[]),
        ("GET", "http://a.test", "/old/x?y", &[]),
        ("POST", "http://a.test", "/health/x", &[]),
        ("TRACE", "http://a.test", "/", &[]),
        ("POST", "http://a.test", "/", &["Connection: X-Mine", "X-Mine: 1"]),
        ("GET", "http://b.test", "/", &[]),
        ("GET", "http://a.test", "/", &["Host: A.test."]),
        ("GET", "http://none.test", "/y", &[]),
        ("GET", "http://none.test", "/x", &[]),
        ("GET", "http://mine.test", "/", &[]),
        ("GET", "http://a.test", "/", &["Host: none.test"]),
        ("GET", "https://a.test", "/", &[]),
        ("GET", "https://a.test", "/", &["Host: b.test"]),
        ("GET", "http://hash.test", "/", &["X-Player: one"]),
        ("GET", "http://hash.test", "/", &["X-Player: two"]),
    ];
    for (method, origin, target, headers) in cases {
        let is_tls = origin.starts_with("https");
        let port = if is_tls { tls } else { plain };
        let url = format!("{origin}:{port}{target}");
        let mut arguments = vec!["--method", method, url.as_str()];
        headers.iter().for_each(|field| arguments.extend(["--header", field]));
        let told = world.explain(&arguments);
        assert_eq!(offline(&world.lockgate, &arguments), told, "{url}");

        let (_, name) = origin.split_once("://").unwrap();
        let own = headers.iter().any(|field| field.starts_with("Host:"));
        let host = if own { String::new() } else { format!("Host: {name}:{port}\r\n") };
        let more: String = headers.iter().map(|field| format!("{field}\r\n")).collect();
        let head = format!("{method} {target} HTTP/1.1\r\n{host}{more}\r\n");
        let response = ask(&world, is_tls, &head);

        let what = format!("{method} {url}\n{told:#}");
        if text(&told, "/outcome/kind") != "forward" {
            assert_eq!(told["outcome"]["status"], response.status, "{what}");
            let location = told["outcome"]["location"].as_str();
            assert_eq!(location, response.values("location").first().map(String::as_str), "{what}");
            for field in told["to_client"].as_array().unwrap() {
                let [name, value] = ["name", "value"].map(|key| field[key].as_str().unwrap());
                assert!(value == "…" || response.value(name) == value, "{name}: {what}");
            }
            continue;
        }
        assert_eq!(response.status, 200, "{what}");
        let by = response.backend();
        assert!(names(&told, "/pick/candidates").contains(&by), "{by}: {what}");
        let backend = world.backends.iter().find(|one| one.name() == by).unwrap();
        let seen = backend.requests().last().unwrap().fields();
        for field in told["to_backend"].as_array().unwrap() {
            let pair = ["name", "value"].map(|key| field[key].as_str().unwrap().to_owned());
            // What is another each time is shown as such.
            let same = |value: &String| *value == pair[1] || pair[1] == "…";
            let has = seen.iter().any(|(name, value)| *name == pair[0] && same(value));
            assert_eq!(has, field["set"], "{pair:?} {seen:?}");
        }
        assert_eq!(response.values("x-out").len(), usize::from(by == "B3" && name == "a.test"));
    }
}

#[test]
fn a_limit_that_refuses_is_told() {
    let world = World::start("");
    let told = world.explain(&[&world.url(&format!("/{}", "x".repeat(33_000)))]);
    assert_eq!((&told["outcome"]["status"], text(&told, "/outcome/cause")), (&414.into(), "limit"));
    let field = format!("X-Long: {}", "x".repeat(33_000));
    let told = world.explain(&[&world.url("/"), "--header", &field]);
    assert_eq!((&told["outcome"]["status"], text(&told, "/outcome/cause")), (&431.into(), "limit"));
}

/// What only the connection shows.
#[test]
fn what_never_becomes_a_request() {
    let world = World::start("");
    let (plain, tls, free) = (&world.plain, &world.tls, Port::reserve());
    for (url, kind, part, hint) in [
        (format!("http://a.test:{free}/"), "no_connection", "nothing listens", plain.to_string()),
        (
            format!("https://a.test:{plain}/"),
            "no_handshake",
            "speaks plain HTTP",
            format!("http://a.test:{plain}/"),
        ),
        (
            format!("http://a.test:{tls}/"),
            "refuse",
            "speaks HTTPS",
            format!("https://a.test:{tls}/"),
        ),
        (
            format!("https://a.tset:{tls}/"),
            "no_handshake",
            "unrecognized_name",
            "a.test?".to_owned(),
        ),
        (
            format!("https://only.test:{tls}/"),
            "no_handshake",
            "unrecognized_name",
            "has port".to_owned(),
        ),
    ] {
        let told = world.explain(&[&url]);
        assert_eq!(offline(&world.lockgate, &[&url]), told, "{url}");
        assert_eq!(text(&told, "/outcome/kind"), kind, "{url}");
        assert!(text(&told, "/outcome/detail").contains(part), "{told:#}");
        assert!(text(&told, "/outcome/hint").contains(&hint), "{told:#}");
        assert_eq!(told["listener"], Value::Null);
    }
}

#[test]
fn every_rule_says_why() {
    let world = World::start("");
    let told = world.explain(&[&world.url("/api")]);
    let rules: Vec<[&str; 3]> = told["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| ["path", "action", "why"].map(|key| rule[key].as_str().unwrap()))
        .collect();
    let redirect = format!("redirect 308 https:{}", world.tls);
    assert_eq!(
        rules,
        [
            ["/api/", "group api", "the path does not end in `/`"],
            ["/old/", &redirect, "the path does not begin with it"],
            ["/health", "respond 203", "the path does not begin with it"],
            ["/", "group web", "the longest that the path begins with"],
        ]
    );
    assert!(text(&told, "/rules/0/place").ends_with("listeners.d/game.toml:7"), "{told:#}");
    assert!(text(&told, "/rules/3/place").ends_with("listeners.d/game.toml:5"), "{told:#}");
    let told = world.explain(&[&world.url("/api/")]);
    assert_eq!(text(&told, "/rules/3/why"), "`/api/` is longer");
    assert!(told["rules"][3]["fits"] == true && told["rules"][3]["wins"] == false);
    // A path that no rule takes has a neighbour.
    let url = format!("http://none.test:{}/x", world.plain);
    let told = world.explain(&[&url]);
    assert_eq!(text(&told, "/outcome/cause"), "no_rule");
    assert_eq!(text(&told, "/outcome/hint"), "the nearest rule is /x/");
}

#[test]
fn who_may_come_in_is_judged_by_the_address_given() {
    let world = World::start("");
    let url = format!("http://mine.test:{}/", world.plain);
    for (address, access, kind) in [
        ("127.0.0.1", "denied", "refuse"),
        ("::1", "open", "forward"),
        ("10.1.1.1", "open", "forward"),
    ] {
        let told = world.explain(&[&url, "--client-ip", address]);
        assert_eq!((text(&told, "/client/access"), text(&told, "/outcome/kind")), (access, kind));
        assert_eq!(text(&told, "/client/peer"), address);
    }
    let told = world.explain(&[&url, "--client-ip", "::1"]);
    let fields = told["to_backend"].to_string();
    assert!(fields.contains("X-Forwarded-For") && fields.contains("\"::1\""), "{told:#}");
}

/// Each of a worker's requests goes on in its cycle; a question does not.
#[test]
fn asking_moves_no_cycle() {
    let world = World::start("");
    let url = world.url("/");
    let mut last =
        ask(&world, false, &format!("GET / HTTP/1.1\r\nHost: a.test:{}\r\n\r\n", world.plain));
    for _ in 0..4 {
        for _ in 0..3 {
            let told = world.explain(&[&url]);
            assert_eq!(names(&told, "/pick/candidates"), ["B1", "B2"]);
            assert_eq!(told["pick"]["candidates"][0]["share"], 0.5);
        }
        let next = Client::plain(world.plain.number()).get("a.test", "/");
        assert_ne!(next.backend(), last.backend());
        last = next;
    }
    assert_eq!(world.backends[0].executions() + world.backends[1].executions(), 5);
}

/// Every word about a cookie is what a request with it meets.
#[test]
fn a_cookie_is_judged_as_by_a_request() {
    let world = World::start("sticky = { mode = \"insert\", idle = \"2s\" }");
    let url = world.url("/");
    let told = world.explain(&[&url]);
    assert_eq!(text(&told, "/sticky/verdict"), "absent");
    let set = told["to_client"].to_string();
    assert!(set.contains("SERVERID=…; HttpOnly; Path=/"), "{set}");

    let response = Client::plain(world.plain.number()).get("a.test", "/");
    let value = response.value("set-cookie");
    let cookie = value.split(';').next().unwrap();
    let told = world.explain(&[&url, "--cookie", cookie]);
    assert_eq!(offline(&world.lockgate, &[&url, "--cookie", cookie])["pick"], told["pick"]);
    assert_eq!((text(&told, "/sticky/verdict"), &told["pick"]["bound"]), ("good", &true.into()));
    assert_eq!(text(&told, "/sticky/backend"), response.backend());
    assert_eq!(names(&told, "/pick/candidates"), [response.backend()]);
    let gone = told["to_backend"].as_array().unwrap().iter().any(|one| one["name"] == "Cookie");
    assert!(gone, "no backend gets to see it: {told:#}");
    // If its backend fails the other one has it.
    let next = names(&told, "/failures/0/next");
    assert!(next.len() == 1 && next[0] != response.backend(), "{told:#}");

    let mut forged = cookie.to_owned();
    let flipped = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(flipped);
    for (cookie, verdict) in
        [(forged.as_str(), "forged"), ("SERVERID=x", "shape"), ("X=y", "absent")]
    {
        let told = world.explain(&[&url, "--cookie", cookie]);
        assert_eq!(
            (text(&told, "/sticky/verdict"), &told["pick"]["bound"]),
            (verdict, &false.into())
        );
        assert_eq!(names(&told, "/pick/candidates").len(), 2);
    }
    eventually("it expires", || {
        text(&world.explain(&[&url, "--cookie", cookie]), "/sticky/verdict") == "expired"
    });
    let printed = world.lockgate.run(&["explain", &url, "--cookie", cookie]).expect(0).stdout;
    assert!(printed.contains("SERVERID (insert): expired: as if absent"), "{printed}");
}

#[test]
fn a_rewritten_cookie_is_judged_too() {
    let plain = Port::reserve();
    let set = "HTTP/1.1 200 OK\r\nSet-Cookie: SESSION=abc; Path=/\r\nContent-Length: 0\r\n\r\n";
    let backends = ["B1", "B2"].map(|name| Backend::answering(name, set));
    let entries = backends.each_ref().map(|one| format!("\"{}\"", one.address())).join(", ");
    let game = http_listener("a.test", &plain, "group = \"web\"")
        + &format!(
            "[group.web]\nbackends = [{entries}]\nsticky = {{ mode = \"rewrite\", cookie = \"SESSION\" }}\n"
        );
    let lockgate = Setup::empty().file("game.toml", &game).start();
    let response = Client::plain(plain.number()).get("a.test", "/");
    let value = response.value("set-cookie");
    let cookie = value.split(';').next().unwrap();
    assert!(cookie.ends_with("~abc"), "{cookie}");
    let url = format!("http://a.test:{plain}/");
    let told = explain(&lockgate, &[&url, "--cookie", cookie]);
    assert_eq!(offline(&lockgate, &[&url, "--cookie", cookie]), told);
    let home = backends.iter().find(|one| one.executions() == 1).unwrap();
    assert_eq!((text(&told, "/sticky/mode"), text(&told, "/sticky/verdict")), ("rewrite", "good"));
    assert_eq!(text(&told, "/sticky/backend"), home.address());
    assert!(told["to_backend"].to_string().contains("SESSION=abc"), "{told:#}");
    assert!(told["to_client"].to_string().contains("SESSION=…~"), "{told:#}");
    let told = explain(&lockgate, &[&url, "--cookie", "SESSION=abc"]);
    assert_eq!(text(&told, "/sticky/verdict"), "shape");
}

/// A running process knows more than the files; asking does not use it up.
#[test]
fn an_ejected_backend_says_until_when_and_keeps_its_trial() {
    let (plain, alive, dead) = (Port::reserve(), Backend::named("B1"), Port::reserve());
    let dead = dead.refusing_address();
    let game = http_listener("a.test", &plain, "group = \"web\"")
        + &format!(
            "[group.web]\nbackends = [\"{}\", {{ address = \"{dead}\", fail_timeout = \"1s\" }}]\n",
            alive.address()
        );
    let lockgate = Setup::empty().file("game.toml", &game).start();
    let url = format!("http://a.test:{plain}/");
    let offline_before = offline(&lockgate, &[&url]);
    assert_eq!(explain(&lockgate, &[&url]), offline_before);
    let trial = |told: &Value| told["group"]["backends"][1]["ejected"]["milliseconds"].as_u64();
    eventually("it is ejected", || {
        Client::plain(plain.number()).get("a.test", "/").expect(200);
        let told = explain(&lockgate, &[&url]);
        let out = trial(&told).is_some_and(|left| left > 0);
        if out {
            assert_eq!(text(&told, "/group/backends/1/ejected/why"), "unreachable");
            assert_eq!(told["group"]["backends"][1]["available"], false);
            assert_eq!(names(&told, "/pick/candidates"), [alive.address()]);
            assert_eq!(text(&told, "/failures/0/why"), "nobody else may have it");
        }
        out
    });
    assert_eq!(offline(&lockgate, &[&url]), offline_before, "the files know nothing of it");
    eventually("its trial is due", || trial(&explain(&lockgate, &[&url])) == Some(0));
    for _ in 0..3 {
        let told = explain(&lockgate, &[&url]);
        assert_eq!(trial(&told), Some(0), "a question is no trial");
        assert_eq!(names(&told, "/pick/candidates").len(), 2);
    }
    let printed = lockgate.run(&["explain", &url]).expect(0).stdout;
    assert!(printed.contains("the next request is its trial"), "{printed}");
}

#[test]
fn a_backend_says_why_it_takes_nobody() {
    let (plain, dead) = (Port::reserve(), Port::reserve());
    let alive = ["B1", "B2", "B3"].map(Backend::named);
    let mut addresses = alive.iter().map(Backend::address);
    let mut entry = |name: &str, keys: &str| {
        let address = addresses.next().unwrap();
        format!("{{ address = \"{address}\", name = \"{name}\"{keys} }}")
    };
    let game = http_listener("a.test", &plain, "group = \"web\"")
        + &format!(
            "[group.web]\nbackends = [{}, {}, {}, {{ address = \"{}\", name = \"dead\" }}]\n\
             [group.web.probe]\ntype = \"tcp\"\ninterval = \"100ms\"\nunhealthy_threshold = 1\n",
            entry("maint", ", state = \"maint\""),
            entry("drain", ", state = \"drain\""),
            entry("none", ", weight = 0"),
            dead.refusing_address()
        );
    let lockgate = Setup::empty().file("game.toml", &game).start();
    let url = format!("http://a.test:{plain}/");
    let mut told = Value::Null;
    eventually("the probe found it down", || {
        told = explain(&lockgate, &[&url]);
        told["group"]["backends"][3]["probe"]["up"] == false
    });
    let why: Vec<&str> =
        (0..4).map(|at| text(&told, &format!("/group/backends/{at}/why_not"))).collect();
    assert_eq!(
        why,
        ["it is in maint", "it is in drain", "its weight is 0", "its probes found it down"]
    );
    let last = text(&told, "/group/backends/3/probe/last");
    assert!(last.starts_with("connect_refused"), "{last}");
    assert_eq!(told["outcome"]["status"], 502);
    assert_eq!(text(&told, "/outcome/cause"), "no_available_backend");
    Client::plain(plain.number()).get("a.test", "/").expect(502);
}

#[test]
fn what_follows_a_failure_is_what_retry_says() {
    let world = World::start("retry = { on = [\"error\", \"http_503\"] }");
    let why = |told: &Value, cause: &str, sent: bool| {
        let all = told["failures"].as_array().unwrap();
        let found = all.iter().find(|one| one["cause"] == cause && one["sent"] == sent).unwrap();
        (
            found["why"].as_str().unwrap().to_owned(),
            found["status"].clone(),
            found["next"].as_array().unwrap().len(),
        )
    };
    let get = world.explain(&[&world.url("/")]);
    let kind = "`retry.on` does not list it".to_owned();
    let another = |more: &str| format!("another of them{more}");
    assert_eq!(why(&get, "connect_refused", false), (another(""), 502.into(), 2));
    assert_eq!(
        why(&get, "closed_before_header", true),
        (another(", out of the budget"), 502.into(), 2)
    );
    assert_eq!(why(&get, "http_503", true), (another(", out of the budget"), 503.into(), 2));
    assert_eq!(why(&get, "header_timeout", true), (kind, 504.into(), 0));
    assert_eq!(get["replays_left"], 100);
    let post = world.explain(&[&world.url("/"), "--method", "POST"]);
    assert_eq!(why(&post, "connect_refused", false), (another(""), 502.into(), 2));
    let stop = "it may have been executed, and its method is not idempotent".to_owned();
    assert_eq!(why(&post, "closed_before_header", true), (stop, 502.into(), 0));
    let api = world.explain(&[&world.url("/api/")]);
    let tries = "`retry.tries` allows no other".to_owned();
    assert_eq!(why(&api, "connect_refused", false), (tries, 502.into(), 0));
}

#[test]
fn the_certificate_is_named() {
    let world = World::start("");
    let told = world.explain(&[&format!("https://a.test:{}/", world.tls)]);
    let certificate = &told["certificate"];
    assert_eq!(
        (&certificate["asked_name"], &certificate["covers_host"]),
        (&"a.test".into(), &true.into())
    );
    assert!(certificate["days"].as_i64().is_some_and(|days| days > 0), "{certificate}");
    // A client asks for no name where the host is an address.
    let told = world.explain(&[&format!("https://127.0.0.1:{}/", world.tls)]);
    assert_eq!(told["certificate"]["asked_name"], Value::Null);
    assert_eq!(told["certificate"]["covers_host"], false);
    assert_eq!(told["outcome"]["status"], 421);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let world = World::start("");
    for (bad, part) in [
        ("a.test", "https://"),
        ("ftp://a.test/", "https://"),
        ("http://a.test:99999/", "host or port"),
        ("http://a.test/\u{1b}[31m", "control"),
    ] {
        let finished = world.lockgate.run(&["explain", bad]).expect(2);
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
        assert!(!finished.stderr.contains('\u{1b}'), "{}", finished.stderr);
    }
    for more in [["--client-ip", "x"], ["--method", "get"], ["--header", "nothing"]] {
        let [key, value] = more;
        world.lockgate.run(&["explain", "http://a.test/", key, value]).expect(2);
    }
    let World { mut lockgate, plain, .. } = world;
    let url = format!("http://a.test:{plain}/");
    assert_eq!(lockgate.terminate(), 0);
    let finished = lockgate.run(&["explain", &url]).expect(1);
    assert!(finished.stderr.contains("--offline"), "{}", finished.stderr);
    lockgate.run(&["explain", "--offline", &url]).expect(0);
}

/// What a reload refused is not what serves, and a start would serve the same.
#[test]
fn a_refused_file_is_explained_by_its_last_good_version() {
    let (plain, backend) = (Port::reserve(), Backend::named("B1"));
    let text_of = |rule: &str| {
        http_listener("a.test", &plain, &format!("group = \"web\"\n{rule}"))
            + &format!("[group.web]\nbackends = [\"{}\"]\n", backend.address())
    };
    let lockgate = Setup::empty().file("game.toml", &text_of("")).start();
    let url = format!("http://a.test:{plain}/x");
    let before = explain(&lockgate, &[&url]);
    let expect = format!("[[expect]]\nurl = \"{url}\"\nstatus = 404\n");
    let rule = "[[listener.rule]]\npath = \"/x\"\nrespond = { status = 403 }\n";
    lockgate.write("listeners.d/game.toml", text_of(rule) + &expect);
    let refused = lockgate.run(&["reload"]).expect(1);
    let said = "expected status 404, but `/x` is answered with 403";
    assert!(refused.text().contains(said), "{}", refused.text());
    let mut after = explain(&lockgate, &[&url]);
    after["generation"] = before["generation"].clone();
    assert_eq!(after, before);
    let told = offline(&lockgate, &[&url]);
    assert_eq!(text(&told, "/outcome/kind"), "forward");
    let good = text_of(rule) + &expect.replace("404", "403");
    lockgate.write("listeners.d/game.toml", good);
    lockgate.reload();
    let told = explain(&lockgate, &[&url]);
    assert_eq!((&told["outcome"]["status"], &told["generation"]), (&403.into(), &3.into()));
}
