//! Drop-ins as files: the good ones load without a word, the bad ones say
//! exactly what stands in `NAME.expected`. After a change of the messages run
//! the tests with `UPDATE_EXPECTED=1` and read the difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use lockgate::config::{
    self, Action, BackendAddress, Check, Config, CookieAttributes, HttpCheck, Loaded, Probe,
    ProbeMethod, Protocol, RedirectTarget, SameSite, StickyMode, TlsPolicy, Upstream,
};
use lockgate::policy::health::Thresholds;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(ROOT).join("tests/it/config").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 3, "no fixtures in {}", dir.display());
    files
}

/// A config directory with the certificates the fixtures name, and one game
/// that is already there.
fn dir() -> &'static Path {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    DIR.get_or_init(make_dir).path()
}

fn make_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let listeners = dir.path().join("listeners.d");
    fs::create_dir(&certs).unwrap();
    fs::create_dir(&listeners).unwrap();
    let rest = Path::new(ROOT).join("tests/it/config/rest.toml");
    fs::copy(rest, listeners.join("rest.toml")).unwrap();
    let process = "[admin]\naddress = \"127.0.0.1:9900\"\n\n[owners]\n\
        \"owned*.toml\" = [\"*.owned.com:8081\"]\n\
        \"granted.toml\" = \"granted.wild.com:*\"\n";
    fs::write(dir.path().join("lockgate.toml"), process).unwrap();

    let write = |name: &str, text: String| fs::write(certs.join(name), text).unwrap();
    let (game, game_key) = certificate(&["game.com", "*.game.com"]);
    let (other, other_key) = certificate(&["other.com"]);
    let (ca, _) = certificate(&[]);
    write("game.com.crt", game.pem());
    write("game.com.key", game_key.serialize_pem());
    write("ca.pem", ca.pem());
    write("mismatch.crt", game.pem());
    write("mismatch.key", other_key.serialize_pem());
    write("order.crt", game.pem() + &other.pem());
    write("order.key", other_key.serialize_pem());
    write("empty.pem", "nothing\n".to_owned());
    let encrypted = game_key.serialize_pem().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    write("encrypted.key", encrypted);
    write(
        "damaged.pem",
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n".to_owned(),
    );
    let not_der = ["CERTIFICATE", "PRIVATE KEY"]
        .map(|label| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n"));
    write("not_der.pem", not_der.concat());
    dir
}

/// A self-signed certificate; a CA if it has no names.
fn certificate(names: &[&str]) -> (Certificate, KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let ca = names.is_empty();
    let mut params = CertificateParams::new(names).unwrap();
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

/// All diagnostics as `check` prints them, with paths that are the same
/// everywhere.
fn rendered(loaded: &Loaded, file: &Path) -> String {
    let diagnostics = loaded.diagnostics.iter();
    let texts: Vec<String> = diagnostics.map(|diagnostic| diagnostic.render(false)).collect();
    let folder = format!("{}/", file.parent().unwrap().display());
    let text = texts.join("\n\n").replace(&folder, "");
    let text = text.replace(&format!("{}/", dir().display()), "");
    // What a line ends with in an editor that strips blanks.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn invalid_drop_ins_say_what_is_expected() {
    for file in fixtures("invalid") {
        let loaded = config::load_with(dir(), std::slice::from_ref(&file));
        let text = rendered(&loaded, &file);
        let expected = file.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &text).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(text, expected, "{}", file.display());
        assert!(!loaded.diagnostics.is_empty(), "{}", file.display());
        let refused: Vec<PathBuf> = loaded.has_errors().then_some(file).into_iter().collect();
        assert_eq!(loaded.refused, refused);
        assert_eq!(loaded.files, 1);
        let games = &loaded.config.unwrap().games;
        assert!(games.iter().any(|game| &*game.name == "rest"), "the others serve");
    }
}

#[test]
fn valid_drop_ins_load_without_a_word() {
    for file in fixtures("valid") {
        let loaded = config::load_with(dir(), std::slice::from_ref(&file));
        // The certificates of the shortest examples are not worth having.
        let diagnostics: Vec<_> =
            loaded.diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
        assert!(diagnostics.is_empty(), "{}\n{}", file.display(), diagnostics.join("\n"));
        assert_eq!(loaded.config.unwrap().games.len(), 2);
    }
}

fn every_key() -> Config {
    let file = Path::new(ROOT).join("tests/it/config/valid/every_key.toml");
    config::load_with(dir(), std::slice::from_ref(&file)).config.unwrap()
}

#[test]
fn every_key_of_a_listener_arrives() {
    let config = every_key();
    let game = &config.games[0];
    assert_eq!(&*game.name, "every_key");
    let listener = &game.listeners[0];
    let domains: Vec<String> = listener.domains.iter().map(ToString::to_string).collect();
    assert_eq!(domains, ["game.com", "*.game.com"]);
    assert_eq!((listener.line, listener.default), (3, true));
    assert_eq!(listener.ports, [8030, 8443]);
    assert_eq!(listener.protocol(), Protocol::Https);
    assert_eq!(listener.address, Some("10.0.0.5".parse().unwrap()));
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.policy, TlsPolicy::Tls13);
    assert_eq!(tls.client_ca.as_ref().unwrap().len(), 1);
    assert!(!listener.http2);
    let may = |address: &str| listener.access.permits(address.parse().unwrap());
    assert!(may("10.9.9.9") && may("192.168.1.7") && may("fd12::1"));
    assert!(!may("10.0.0.13") && !may("192.168.1.8"));
    assert!(listener.trusted_proxies.contains("10.1.2.3".parse().unwrap()));
    let timeouts = [
        listener.idle_timeout,
        listener.header_timeout,
        listener.body_timeout,
        listener.write_timeout,
    ];
    assert_eq!(timeouts.map(|timeout| timeout.as_millis()), [15_000, 90_000, 500, 3_600_000]);
    assert_eq!(listener.max_body, Some(10 << 30));
    assert_eq!(listener.max_requests, Some(1000));
    let fields: Vec<&str> = listener.forwarded.names().collect();
    assert_eq!(fields, ["x-forwarded-for", "forwarded", "via"]);
}

#[test]
fn every_key_of_a_rule_arrives() {
    let config = every_key();
    let [rules, plain] = [0, 1].map(|at| &config.games[0].listeners[at].rules);
    let paths: Vec<&str> = rules.iter().map(|rule| rule.path.as_str()).collect();
    assert_eq!(paths, ["/api/", "/old/", "/health", "/"]);
    assert_eq!(rules[0].action, Action::Forward(0));
    assert_eq!(rules[3].action, Action::Forward(1));
    assert_eq!(rules[0].request_headers.set, [("X-Game".to_owned(), "game".to_owned())]);
    assert_eq!(rules[0].request_headers.remove, ["x-debug"]);
    assert_eq!(rules[0].response_headers.remove, ["server"]);
    assert_eq!(rules[0].response_timeout.unwrap().as_secs(), 300);
    assert_eq!(rules[0].max_body, Some(Some(65536)));
    let Action::Redirect(redirect) = &rules[1].action else {
        panic!("{:?}", rules[1].action);
    };
    assert_eq!(redirect.code, 308);
    assert_eq!(redirect.to, RedirectTarget::Url("https://game.com:8030/new/".to_owned()));
    assert_eq!(rules[2].action, Action::Respond { status: 200, body: "fine\n".to_owned() });
    assert_eq!(rules[2].max_body, Some(None));
    let Action::Redirect(redirect) = &plain[0].action else {
        panic!("{:?}", plain[0].action);
    };
    assert_eq!(redirect.code, 302);
    let to = RedirectTarget::SameHost { protocol: Protocol::Https, port: 8030 };
    assert_eq!(redirect.to, to);
}

#[test]
fn every_key_of_a_group_arrives() {
    let config = every_key();
    let groups = &config.games[0].groups;
    let names: Vec<&str> = groups.iter().map(|group| &*group.name).collect();
    assert_eq!(names, ["api", "web"]);
    let web = &groups[1];
    assert_eq!(web.balance.name(), "hash");
    assert!(!web.keepalive);
    assert_eq!(web.max_idle, 0);
    let timeouts = [web.idle_timeout, web.connect_timeout, web.response_timeout];
    assert_eq!(timeouts.map(|timeout| timeout.as_millis()), [30_000, 100, 10_000]);
    let Upstream::Https(tls) = &web.protocol else {
        panic!("{:?}", web.protocol);
    };
    assert_eq!(tls.roots.as_ref().unwrap().len(), 1);
    assert_eq!(tls.server_name.as_ref().unwrap().to_str(), "web-1.internal");
    assert_eq!(tls.client.as_ref().unwrap().cert.len(), 1);
    assert!(tls.verify);
    assert!(matches!(groups[0].protocol, Upstream::H2c));
    let [one, two, three, four] = [0, 1, 2, 3].map(|at| &web.backends[at]);
    assert_eq!((&*four.name, four.address.port()), ("web.internal:9030", 9030));
    let name = BackendAddress::Name { host: "web.internal".into(), port: 9030 };
    assert_eq!((&four.address, four.address.socket()), (&name, None));
    assert_eq!(one.address.socket(), Some("10.0.0.21:9030".parse().unwrap()));
    assert_eq!((&*one.name, one.weight, one.backup), ("10.0.0.21:9030", 100, false));
    assert_eq!((&*two.name, two.weight, two.max_connections), ("two", 0, Some(500)));
    assert_eq!(two.state, config::AdminState::Maint);
    assert_eq!(four.state, config::AdminState::Drain);
    assert!(three.backup);
    assert_eq!((three.max_connections, three.state), (None, config::AdminState::Ready));
}

#[test]
fn every_key_of_probe_arrives() {
    let config = every_key();
    let probe = config.games[0].groups[1].probe.as_ref().unwrap();
    let expected = Probe {
        check: Check::Http(HttpCheck {
            method: ProbeMethod::Get,
            path: "/health?deep=1".to_owned(),
            host: Some("hc.game.com:8080".to_owned()),
            expect: vec![200..=299, 404..=404, 418..=418],
        }),
        port: Some(8081),
        interval: Duration::from_secs(3600),
        timeout: Duration::from_millis(10),
        thresholds: Thresholds { healthy: 1, unhealthy: 100 },
    };
    assert_eq!(*probe, expected);
    assert!(config.games[0].groups[0].probe.is_none());
}

#[test]
fn every_key_of_sticky_arrives() {
    let config = every_key();
    let [api, web] = [0, 1].map(|at| config.games[0].groups[at].sticky.as_ref().unwrap());
    assert_eq!((&*api.cookie, &api.mode), ("GAMEID2", &StickyMode::Rewrite));
    assert_eq!(web.cookie, "GAMEID");
    let StickyMode::Insert { life, attributes } = &web.mode else {
        panic!("{:?}", web.mode);
    };
    assert_eq!((life.idle, life.max_life), (30 * 86_400, Some(60 * 86_400)));
    let expected = CookieAttributes {
        domain: Some("game.com".to_owned()),
        path: "/game/".to_owned(),
        secure: Some(true),
        http_only: false,
        same_site: Some(SameSite::Strict),
        partitioned: true,
    };
    assert_eq!(*attributes, expected);
}

/// The documentation's examples are good, by themselves and together.
#[test]
fn the_shipped_drop_ins_load() {
    let temporary = tempfile::tempdir().unwrap();
    let certs = temporary.path().join("certs");
    fs::create_dir(&certs).unwrap();
    for game in ["youxia", "youxib"] {
        let names = [format!("{game}.com"), format!("{game}.localhost")];
        let (chain, key) = certificate(&[&names[0], &names[1]]);
        fs::write(certs.join(format!("{game}.com.crt")), chain.pem()).unwrap();
        fs::write(certs.join(format!("{game}.com.key")), key.serialize_pem()).unwrap();
    }
    let shipped = Path::new(ROOT).join("listeners.d");
    std::os::unix::fs::symlink(shipped, temporary.path().join("listeners.d")).unwrap();
    let loaded = config::load(temporary.path());
    assert_eq!(loaded.diagnostics, []);
    let games = loaded.config.unwrap().games;
    let names: Vec<&str> = games.iter().map(|game| &*game.name).collect();
    assert_eq!(names, ["youxia", "youxib"]);
    assert_eq!(games[0].listeners[0].ports, [8030, 8443]);
    assert_eq!(games[1].listeners[0].ports, [9030, 8443]);
}
