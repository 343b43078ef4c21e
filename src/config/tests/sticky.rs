//! Sticky cookies: what a group says of its own, and whose names collide.

use super::*;
use crate::policy::sticky::Life;

/// The smallest game with these lines in its group's sticky table.
fn sticky(lines: &str) -> String {
    smallest() + "[group.web.sticky]\n" + lines + "\n"
}

/// What is said of it, and what arrives when it is not refused.
fn read(lines: &str) -> (Vec<String>, Option<Sticky>) {
    let dir = dir(&[("a.toml", &sticky(lines))]);
    let loaded = load(dir.path());
    let said = said(&dir, &loaded);
    let game = loaded.config.and_then(|config| config.games.into_iter().next());
    (said, game.and_then(|game| game.groups[0].sticky.clone()))
}

fn good(lines: &str) -> Sticky {
    match read(lines) {
        (said, Some(sticky)) if said.is_empty() => sticky,
        other => panic!("{lines}: {other:?}"),
    }
}

fn inserted(lines: &str) -> (Life, CookieAttributes) {
    match good(&format!("mode = \"insert\"\n{lines}")).mode {
        StickyMode::Insert { life, attributes } => (life, attributes),
        StickyMode::Rewrite => panic!("{lines}"),
    }
}

#[test]
fn an_inserted_cookie_has_the_defaults_of_the_design() {
    let is = good("mode = \"insert\"");
    assert_eq!(is.cookie, "SERVERID");
    let attributes = CookieAttributes {
        domain: None,
        path: "/".to_owned(),
        secure: None,
        http_only: true,
        same_site: None,
        partitioned: false,
    };
    let life = Life { idle: 3600, max_life: None };
    assert_eq!(is.mode, StickyMode::Insert { life, attributes });
    let is = good("mode = \"rewrite\"\ncookie = \"SESSION\"");
    assert_eq!(is, Sticky { cookie: "SESSION".to_owned(), mode: StickyMode::Rewrite });
    let dir = dir(&[("a.toml", &smallest())]);
    assert_eq!(load(dir.path()).config.unwrap().games[0].groups[0].sticky, None);
}

#[test]
fn every_attribute_arrives() {
    let (life, attributes) = inserted(
        "idle = \"30m\"\nmax_life = \"7d\"\ndomain = \".A.com\"\npath = \"/g/\"\nsecure = false\n\
         http_only = false\nsame_site = \"lax\"",
    );
    assert_eq!(life, Life { idle: 1800, max_life: Some(7 * 86_400) });
    assert_eq!((attributes.domain.as_deref(), &*attributes.path), (Some("a.com"), "/g/"));
    assert_eq!((attributes.secure, attributes.http_only), (Some(false), false));
    assert_eq!(attributes.same_site, Some(SameSite::Lax));
    let (_, attributes) = inserted("partitioned = true\nsame_site = \"strict\"");
    assert!(attributes.partitioned);
    assert_eq!(attributes.same_site, Some(SameSite::Strict));
}

/// The longest is 30 days, as `Retired keys verify for 30 days`.
#[test]
fn ci_20_idle_has_a_range() {
    for (text, seconds) in [("1s", 1), ("30d", 2_592_000), ("86401s", 86_401)] {
        assert_eq!(inserted(&format!("idle = \"{text}\"")).0.idle, seconds);
    }
    for text in ["0s", "999ms", "30d1s", "31d"] {
        let (said, _) = read(&format!("mode = \"insert\"\nidle = \"{text}\""));
        assert_eq!(said, [format!("a.toml:11:8 error `idle` is out of range: `{text}`")]);
    }
    let (said, _) = read("mode = \"insert\"\nidle = \"1s500ms\"");
    assert_eq!(said, ["a.toml:11:8 error `idle` counts whole seconds"]);
    let (said, _) = read("mode = \"insert\"\nidle = \"2h\"\nmax_life = \"1h\"");
    assert_eq!(said, ["a.toml:12:12 error `max_life` is shorter than `idle`"]);
    assert_eq!(inserted("max_life = \"1h\"").0.max_life, Some(3600));
}

#[test]
fn cr_14_a_cookie_has_a_name_that_every_server_understands() {
    for (name, problem) in [
        ("", "a cookie's name has 1 to 200 characters, this one 0"),
        ("a;b", "`a;b` has `;`, which no cookie's name has"),
        ("a,b", "`a,b` has `,`, which no cookie's name has"),
        ("a=b", "`a=b` has `=`, which no cookie's name has"),
        ("游侠", "`游侠` has `游`, which no cookie's name has"),
        ("$a", "`$a` begins with `$`"),
        (&"a".repeat(201), "a cookie's name has 1 to 200 characters, this one 201"),
    ] {
        for mode in ["insert", "rewrite"] {
            let (said, _) = read(&format!("mode = \"{mode}\"\ncookie = \"{name}\""));
            assert_eq!(said, [format!("a.toml:11:10 error {problem}")]);
        }
    }
    for name in ["a", "a$b", "GAMES.ID!#%&'*+-^_`|~", &"a".repeat(200)] {
        assert_eq!(good(&format!("mode = \"rewrite\"\ncookie = \"{name}\"")).cookie, *name);
    }
    let (said, _) = read("mode = \"rewrite\"");
    assert_eq!(said, ["a.toml:9:1 error `mode = \"rewrite\"` needs `cookie`"]);
}

#[test]
fn the_application_says_what_its_cookie_is() {
    let (said, _) = read("mode = \"rewrite\"\ncookie = \"S\"\nidle = \"1h\"\npath = \"x\"");
    let expected = [
        "a.toml:12:1 error `idle` is used only with `mode = \"insert\"`",
        "a.toml:13:1 error `path` is used only with `mode = \"insert\"`",
    ];
    assert_eq!(said, expected);
}

/// The smallest game over `https` too, and what is said of it besides the
/// certificate it does not have.
fn says(protocol: &str, lines: &str) -> Vec<String> {
    let text = sticky(&format!("mode = \"insert\"\n{lines}"))
        .replace("\"http\"\n", &format!("\"{protocol}\"\n"));
    let dir = dir(&[("a.toml", &text)]);
    let said = said(&dir, &load(dir.path())).into_iter();
    said.filter(|line| !line.contains("certs/")).collect()
}

#[test]
fn a_cookie_is_what_its_name_promises() {
    let none = Vec::<String>::new();
    let host = "browsers refuse a cookie that begins with `__Host-`";
    let secure = "browsers refuse a cookie that begins with `__Secure-`";
    let name = |name: &str, more: &str| says("https", &format!("cookie = \"{name}\"\n{more}"));
    assert_eq!(name("__Host-S", ""), none);
    assert_eq!(name("__Secure-S", "domain = \"a.com\"\npath = \"/g\""), [""; 0]);
    let at = |column, what: &str| format!("a.toml:12:{column} error {what}");
    assert_eq!(
        name("__Host-S", "path = \"/g\""),
        [at(8, &format!("{host} and has a `Path` other than `/`"))]
    );
    assert_eq!(
        name("__HOST-S", "domain = \"a.com\""),
        [at(10, &format!("{host} and has a `Domain`"))]
    );
    for (cookie, begins) in [("__Host-S", host), ("__secure-S", secure)] {
        assert_eq!(
            name(cookie, "secure = false"),
            [at(10, &format!("{begins} and is not `Secure`"))]
        );
        let plain = says("http", &format!("cookie = \"{cookie}\""));
        let listener = "from the listener on line 1, which is `http`";
        assert_eq!(plain, [format!("a.toml:11:10 error {begins} {listener}")]);
    }
    // The application's own is the application's matter.
    good("mode = \"rewrite\"\ncookie = \"__Host-S\"");
}

#[test]
fn what_browsers_take_only_over_tls() {
    let none = Vec::<String>::new();
    let at = |column, what: &str| [format!("a.toml:11:{column} {what}")];
    let listener = "the listener on line 1, which is `http`";
    assert_eq!(says("https", "secure = true\nsame_site = \"none\"\npartitioned = true"), none);
    assert_eq!(
        says("http", "secure = true"),
        at(10, &format!("warning browsers refuse a `Secure` cookie from {listener}"))
    );
    let same_site =
        format!("warning browsers refuse `SameSite=None` without `Secure`, as from {listener}");
    assert_eq!(says("http", "same_site = \"none\""), at(13, &same_site));
    for protocol in ["http", "https"] {
        let said = says(protocol, "partitioned = true\nsecure = false");
        assert_eq!(said, at(15, "error browsers refuse `partitioned` without `Secure`"));
        let said = says(protocol, "same_site = \"none\"\nsecure = false");
        assert_eq!(
            said[..1],
            at(13, "error browsers refuse `same_site = \"none\"` without `Secure`")
        );
    }
}

#[test]
fn a_path_is_one_that_browsers_take() {
    for (path, problem) in [
        ("g", "path `g` does not start with `/`"),
        ("", "path `` does not start with `/`"),
        ("/a;b", "`;` cannot stand in the path of a cookie"),
        ("/a b", "` ` cannot stand in the path of a cookie"),
        ("/游", "`游` cannot stand in the path of a cookie"),
        (&format!("/{}", "a".repeat(1024)), "this path has 1025 bytes"),
    ] {
        assert_eq!(
            says("http", &format!("path = \"{path}\"")),
            [format!("a.toml:11:8 error {problem}")]
        );
    }
}

#[test]
fn a_domain_is_a_name_that_has_names_below_it() {
    for (domain, problem) in [
        ("com", "`com` is a whole top-level domain, which browsers refuse"),
        ("localhost", "`localhost` is a whole top-level domain, which browsers refuse"),
        ("10.0.0.1", "`10.0.0.1` is an address, and only names have hosts below them"),
        ("[::1]", "`[::1]` is an address, and only names have hosts below them"),
        ("*.a.com", "`*.a.com` has a `*`: all names below are meant without it"),
        ("..a.com", "`..a.com` is no domain: a domain has something between its dots"),
        ("", "`` is no domain: a domain is empty"),
    ] {
        let said = says("http", &format!("domain = \"{domain}\""));
        assert_eq!(said, [format!("a.toml:11:10 error {problem}")]);
    }
}

#[test]
fn the_domain_of_a_cookie_is_where_it_is_set() {
    let with = |hosts: &str, domain: &str| {
        let lines = format!("mode = \"insert\"\ndomain = \"{domain}\"");
        let dir = dir(&[("a.toml", &sticky(&lines).replace("domain = \"a.com\"", hosts))]);
        said(&dir, &load(dir.path()))
    };
    let none = Vec::<String>::new();
    let at = |severity, host| [format!("a.toml:11:10 {severity} `{host}` does not lie in `x.com`")];
    assert_eq!(with("domain = [\"x.com\", \"a.b.x.com\", \"*.x.com\"]", "x.com"), none);
    assert_eq!(with("domain = \"ax.com\"", "x.com"), at("error", "ax.com"));
    assert_eq!(with("domain = \"com\"", "x.com"), at("error", "com"));
    // Some of its hosts do.
    assert_eq!(with("domain = [\"x.com\", \"y.com\"]", "x.com"), at("warning", "y.com"));
    assert_eq!(with("domain = \"*.com\"", "x.com"), at("warning", "*.com"));
    assert_eq!(with("default = true", "x.com"), none);
    let said = with("default = true\ndomain = \"y.com\"", "x.com");
    assert_eq!(said, ["a.toml:12:10 warning `y.com` does not lie in `x.com`"]);
}

/// A game with one sticky listener for each `(domain, port, sticky)`, whose
/// group is called after its place: `g0`, `g1`.
fn games(listeners: &[(&str, u16, &str)]) -> String {
    let one = |(at, (domain, port, sticky)): (usize, &(&str, u16, &str))| {
        let domain = match *domain {
            "default" => "default = true".to_owned(),
            domain => format!("domain = \"{domain}\""),
        };
        (
            format!(
                "[[listener]]\n{domain}\nport = {port}\nprotocol = \"http\"\ngroup = \"g{at}\"\n"
            ),
            format!("[group.g{at}]\nbackends = [\"10.0.0.1:80\"]\nsticky = {{ {sticky} }}\n"),
        )
    };
    let (listeners, groups): (String, String) = listeners.iter().enumerate().map(one).unzip();
    listeners + &groups
}

const INSERT: &str = "mode = \"insert\"";
const WIDE: &str = "mode = \"insert\", domain = \"x.com\"";
const OTHER: &str = "mode = \"insert\", cookie = \"B\"";
const REWRITE: &str = "mode = \"rewrite\", cookie = \"SERVERID\"";

/// The host under which the first file's groups collide, or those of two files
/// with one listener each. The same whichever stands first.
fn collision(one: (&str, u16, &str), two: (&str, u16, &str)) -> Option<String> {
    let host = |said: Vec<String>, file: &str| -> Option<String> {
        assert!(said.len() < 2, "{said:?}");
        let said = said.first()?;
        assert!(said.starts_with(&format!("{file}.toml:")) && said.contains(" error "), "{said}");
        let (_, rest) = said.split_once("under ").unwrap();
        Some(
            rest.split(['`']).nth(1).filter(|_| rest.starts_with('`')).unwrap_or("none").to_owned(),
        )
    };
    let within = |first, second| {
        let dir = dir(&[("a.toml", &games(&[first, second]))]);
        host(said(&dir, &load(dir.path())), "a")
    };
    let across = |first, second| {
        let dir = dir(&[("a.toml", &games(&[first])), ("b.toml", &games(&[second]))]);
        let loaded = load(dir.path());
        let found = host(said(&dir, &loaded), "b");
        assert_eq!(refused(&loaded).len(), usize::from(found.is_some()));
        found
    };
    let found = within(one, two);
    assert_eq!(within(two, one), found, "{one:?} {two:?}");
    // Within another's wildcard on the same port nobody else may be.
    if one.1 != two.1 || !(one.0.contains('*') || two.0.contains('*')) {
        assert_eq!(across(one, two), found, "{one:?} {two:?}");
        assert_eq!(across(two, one), found, "{two:?} {one:?}");
    }
    found
}

#[test]
fn one_host_has_one_cookie_of_a_name() {
    let meet = |one: (&str, u16), two: (&str, u16)| {
        collision((one.0, one.1, INSERT), (two.0, two.1, INSERT))
    };
    let under = |host: &str| Some(host.to_owned());
    // A browser does not tell ports apart.
    assert_eq!(meet(("x.com", 80), ("x.com", 81)), under("x.com"));
    assert_eq!(meet(("x.com", 80), ("y.com", 80)), None);
    assert_eq!(meet(("x.com", 80), ("a.x.com", 81)), None);
    assert_eq!(meet(("*.x.com", 80), ("a.x.com", 81)), under("a.x.com"));
    assert_eq!(meet(("*.x.com", 80), ("*.x.com", 81)), under("*.x.com"));
    assert_eq!(meet(("*.x.com", 80), ("*.b.x.com", 81)), under("*.b.x.com"));
    assert_eq!(meet(("*.x.com", 80), ("x.com", 81)), None);
    assert_eq!(meet(("*.x.com", 80), ("ax.com", 81)), None);
    // The closer domain takes all of its hosts' requests.
    assert_eq!(meet(("*.x.com", 80), ("a.x.com", 80)), None);
    assert_eq!(meet(("*.x.com", 80), ("*.b.x.com", 80)), None);
    assert_eq!(meet(("default", 80), ("x.com", 80)), None);
    assert_eq!(meet(("default", 80), ("x.com", 81)), None);
    assert_eq!(meet(("default", 80), ("default", 81)), under("none"));
}

#[test]
fn another_name_or_mode_is_another_cookie() {
    let meet = |one: &str, two: &str| collision(("x.com", 80, one), ("x.com", 81, two));
    let under = Some("x.com".to_owned());
    assert_eq!(meet(INSERT, OTHER), None);
    assert_eq!(meet(INSERT, INSERT), under);
    assert_eq!(meet(INSERT, REWRITE), under);
    assert_eq!(meet(REWRITE, REWRITE), None);
}

#[test]
fn a_cookie_with_a_domain_stands_under_all_names_below_it() {
    let meet = |one: &str, two: (&str, u16, &str)| collision((one, 80, WIDE), two);
    let under = |host: &str| Some(host.to_owned());
    assert_eq!(meet("a.x.com", ("b.x.com", 80, INSERT)), under("b.x.com"));
    assert_eq!(meet("a.x.com", ("b.x.com", 81, REWRITE)), under("b.x.com"));
    assert_eq!(meet("a.x.com", ("x.com", 80, INSERT)), under("x.com"));
    assert_eq!(meet("a.x.com", ("b.x.com", 80, WIDE)), under("x.com"));
    assert_eq!(meet("a.x.com", ("*.b.x.com", 80, INSERT)), under("*.b.x.com"));
    assert_eq!(meet("a.x.com", ("*.com", 81, INSERT)), under("x.com"));
    assert_eq!(meet("a.x.com", ("y.com", 80, INSERT)), None);
    assert_eq!(meet("a.x.com", ("b.x.com", 80, OTHER)), None);
    let narrower = "mode = \"insert\", domain = \"b.x.com\"";
    assert_eq!(meet("a.x.com", ("b.x.com", 80, narrower)), under("b.x.com"));
    assert_eq!(collision(("a.x.com", 80, INSERT), ("b.x.com", 80, narrower)), None);
}

/// The names between a wildcard and a host decide who gets its requests.
#[test]
fn a_name_that_is_taken_on_the_wildcards_port_is_not_the_wildcards() {
    let listeners = [("*.x.com", 80, INSERT), ("a.x.com", 81, INSERT), ("a.x.com", 80, OTHER)];
    let faults = |listeners: &[(&str, u16, &str)]| {
        let dir = dir(&[("a.toml", &games(listeners))]);
        said(&dir, &load(dir.path())).len()
    };
    // The third takes the host on the wildcard's port.
    assert_eq!(faults(&listeners), 0);
    assert_eq!(faults(&listeners[..2]), 1);
    let listeners = [("*.x.com", 80, INSERT), ("a.b.x.com", 81, INSERT), ("*.b.x.com", 80, OTHER)];
    assert_eq!(faults(&listeners), 0);
    assert_eq!(faults(&listeners[..2]), 1);
}

#[test]
fn a_refused_file_takes_no_name_from_a_wildcard() {
    let dir = dir(&[
        ("a.toml", &games(&[("*.x.com", 80, INSERT)])),
        ("b.toml", &games(&[("a.x.com", 80, OTHER)])),
        ("c.toml", &games(&[("a.x.com", 81, INSERT)])),
    ]);
    let loaded = load(dir.path());
    assert_eq!(refused(&loaded), ["b", "c"]);
    assert!(said(&dir, &loaded)[1].contains("under `a.x.com` two groups insert"));
}

#[test]
fn who_may_not_have_the_domain_is_told_that_alone() {
    let game = games(&[("x.com", 80, INSERT)]);
    let dir = dir(&[("a.toml", &game), ("b.toml", &game)]);
    let expected = "b.toml:2:10 error `x.com` on port 80 already belongs to `a.toml:2`";
    assert_eq!(said(&dir, &load(dir.path())), [expected]);
}

#[test]
fn a_collision_names_both_groups_and_a_free_name() {
    let dir = dir(&[
        ("a.toml", &games(&[("x.com", 80, INSERT)])),
        (
            "b.toml",
            &games(&[
                ("x.com", 81, INSERT),
                ("y.com", 81, "mode = \"insert\", cookie = \"SERVERID_g0\""),
            ]),
        ),
    ]);
    let loaded = load(dir.path());
    let expected = "b.toml:13:10 error under `x.com` two groups insert a cookie `SERVERID`: this one and `g0`, `a.toml:8`";
    assert_eq!(said(&dir, &loaded), [expected]);
    let hint = loaded.diagnostics[0].hint.as_deref().unwrap();
    assert!(hint.starts_with("write `cookie = \"SERVERID_b_g0\"`"), "{hint}");
    assert_eq!(loaded.diagnostics[0].related.as_ref().unwrap().line, 8);
    assert_eq!(names(&loaded), ["a"]);
}

#[test]
fn what_nobody_reaches_or_is_refused_collides_with_nobody() {
    let unused = smallest()
        + "sticky = { mode = \"insert\" }\n[group.unused]\nbackends = [\"10.0.0.1:80\"]\nsticky = { mode = \"insert\" }\n";
    let bad = games(&[("a.com", 81, INSERT)]) + "x = 1\n";
    let last = games(&[("a.com", 82, INSERT)]);
    let dir = dir(&[("a.toml", &bad), ("b.toml", &unused), ("c.toml", &last)]);
    let expected = [
        "a.toml:9:1 error unknown key `x` in `[group.NAME]`",
        "b.toml:10:8 warning group `unused` is used by no rule",
        "c.toml:8:10 error under `a.com` two groups insert a cookie `SERVERID`: this one and `web`, `b.toml:9`",
    ];
    assert_eq!(said(&dir, &load(dir.path())), expected);
}

#[test]
fn two_rules_of_one_listener_are_under_one_host() {
    let text = sticky(INSERT).replace("[group.web]", "[[listener.rule]]\npath = \"/b/\"\ngroup = \"b\"\n[[listener.rule]]\npath = \"/c/\"\ngroup = \"web\"\n[group.web]")
        + "[group.b]\nbackends = [\"10.0.0.1:80\"]\nsticky = { mode = \"insert\" }\n";
    let dir = dir(&[("a.toml", &text)]);
    let expected = "a.toml:19:10 error under `a.com` two groups insert a cookie `SERVERID`: this one and `web`, line 15 of this file";
    assert_eq!(said(&dir, &load(dir.path())), [expected]);
}

#[test]
fn too_many_hosts_and_sticky_groups_are_refused() {
    let hosts: Vec<String> = (0..40).map(|n| format!("\"h{n}.com\"")).collect();
    let rules = |n| format!("[[listener.rule]]\npath = \"/{n}/\"\ngroup = \"g{n}\"\n");
    let group = |n| {
        format!(
            "[group.g{n}]\nbackends = [\"10.0.0.1:80\"]\nsticky = {{ mode = \"rewrite\", cookie = \"c{n}\" }}\n"
        )
    };
    let with = |count: u32| {
        let text = format!(
            "[[listener]]\ndomain = [{}]\nport = 80\nprotocol = \"http\"\n",
            hosts.join(", ")
        ) + &(0..count).map(rules).collect::<String>()
            + &(0..count).map(group).collect::<String>();
        let dir = dir(&[("a.toml", &text)]);
        said(&dir, &load(dir.path()))
    };
    assert_eq!(with(2500), Vec::<String>::new());
    let expected = "a.toml:2:11 error with this listener the file has 100040 pairs of a domain and a sticky group";
    assert_eq!(with(2501), [expected]);
}

#[test]
fn drain_is_a_state_that_takes_no_new_clients() {
    let with = |one: &str, two: &str| {
        let backends = format!(
            "{{ address = \"10.0.0.1:80\", {one} }}, {{ address = \"10.0.0.2:80\", {two} }}"
        );
        let dir = dir(&[("a.toml", &smallest().replace("\"10.0.0.1:80\"", &backends))]);
        let loaded = load(dir.path());
        let state =
            loaded.config.as_ref().map(|config| config.games[0].groups[0].backends[0].state);
        (said(&dir, &loaded), state)
    };
    assert_eq!(with("state = \"drain\"", "weight = 1"), (Vec::new(), Some(AdminState::Drain)));
    let nobody = "a.toml:8:1 warning no backend of this group takes new clients: each has `weight = 0`, or `state` `\"drain\"` or `\"maint\"`";
    assert_eq!(with("state = \"drain\"", "weight = 0").0, [nobody]);
}
