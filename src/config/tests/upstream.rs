//! How a group's backends are spoken to.

use super::*;

/// A directory with a game whose group holds these lines, and the certificate
/// of `web.internal`, whose dates end in this year.
fn with_group(lines: &str, until: i32) -> TempDir {
    let dir = dir(&[("a.toml", &(smallest() + lines))]);
    let mut params = rcgen::CertificateParams::new(vec!["web.internal".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 3, 4);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(path(&dir, "certs/web.crt"), certificate.pem()).unwrap();
    fs::write(path(&dir, "certs/web.key"), key.serialize_pem()).unwrap();
    dir
}

/// What is said of it, and the protocol of the group when it is not refused.
fn group(lines: &str) -> (Vec<String>, Option<Upstream>) {
    let dir = with_group(lines, 2999);
    let loaded = load(dir.path());
    let said = said(&dir, &loaded);
    let game = loaded.config.and_then(|config| config.games.into_iter().next());
    (said, game.map(|game| game.groups[0].protocol.clone()))
}

fn https(lines: &str) -> UpstreamTls {
    match group(&format!("protocol = \"https\"\n{lines}")) {
        (said, Some(Upstream::Https(tls))) if said.is_empty() => tls,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_speaks_plain_http_unless_it_says_otherwise() {
    for (lines, is) in [
        ("", "Http"),
        ("protocol = \"http\"", "Http"),
        ("protocol = \"h2c\"", "H2c"),
        ("protocol = \"https\"", "Https"),
    ] {
        let (said, upstream) = group(lines);
        assert_eq!(said, Vec::<String>::new());
        assert!(format!("{upstream:?}").starts_with(&format!("Some({is}")), "{upstream:?}");
    }
}

#[test]
fn without_a_table_the_system_is_believed_and_the_address_is_the_name() {
    for lines in ["", "tls = {}", "tls = { verify = true }"] {
        let tls = https(lines);
        assert!(tls.roots.is_none() && tls.server_name.is_none() && tls.client.is_none());
        assert!(tls.verify);
    }
    let asked = |address: &str| {
        let dir = dir(&[("a.toml", &game("a.com", 8080, address))]);
        let config = load(dir.path()).config.unwrap();
        let name = config.games[0].groups[0].backends[0].address.server_name();
        name.unwrap().to_str().into_owned()
    };
    assert_eq!(asked("Web_1.internal.:443"), "web_1.internal");
    assert_eq!(asked("10.0.0.1:443"), "10.0.0.1");
    assert_eq!(asked("[::ffff:10.0.0.1]:443"), "10.0.0.1");
    assert_eq!(asked("[fd00::1]:443"), "fd00::1");
}

#[test]
fn a_server_name_is_a_name_or_an_address() {
    let name = |text: &str| {
        let tls = https(&format!("tls = {{ server_name = \"{text}\" }}"));
        tls.server_name.unwrap().to_str().into_owned()
    };
    assert_eq!(name("Web.Internal."), "web.internal");
    assert_eq!(name("localhost"), "localhost");
    assert_eq!(name("10.0.0.1"), "10.0.0.1");
    assert_eq!(name("fd00::1"), "fd00::1");
    assert_eq!(name("[fd00::1]"), "fd00::1");
}

#[test]
fn a_client_certificate_is_named_as_a_listeners() {
    let by_name = https("tls = { client_certificate = \"web\" }");
    let by_files = https(
        "tls = { client_certificate = { chain = \"certs/web.crt\", key = \"certs/web.key\" } }",
    );
    assert!(by_name.client.is_some() && by_files.client.is_some());
}

#[test]
fn a_client_certificate_outside_its_dates_is_a_warning() {
    let dir = with_group("protocol = \"https\"\ntls.client_certificate = \"web\"", 2001);
    let loaded = load(dir.path());
    let expected = ["a.toml:10:26 warning `client_certificate` expired on 2001-03-04"];
    assert_eq!(said(&dir, &loaded), expected);
    assert_eq!(names(&loaded), ["a"]);
}

#[test]
fn certificates_that_are_not_checked_are_told() {
    let (said, upstream) = group("protocol = \"https\"\ntls.verify = false");
    let expected = "a.toml:10:14 warning the backends' certificates are not checked: \
                    whoever answers in their place is believed";
    assert_eq!(said, [expected]);
    assert!(matches!(upstream, Some(Upstream::Https(tls)) if !tls.verify));
}

#[test]
fn groups_with_the_same_file_share_the_authorities() {
    let lines = "protocol = \"https\"\ntls.ca = \"certs/web.crt\"";
    let dir = with_group(lines, 2999);
    let other = smallest().replace("a.com", "b.com") + lines;
    fs::write(path(&dir, "b.toml"), other).unwrap();
    let loaded = load(dir.path());
    assert_eq!(said(&dir, &loaded), Vec::<String>::new());
    let games = loaded.config.unwrap().games;
    let [a, b] = [0, 1].map(|at| match &games[at].groups[0].protocol {
        Upstream::Https(tls) => tls.roots.clone().unwrap(),
        other => panic!("{other:?}"),
    });
    assert!(Arc::ptr_eq(&a, &b));
}

/// Whether it leads to us is seen when it is resolved.
#[test]
fn a_name_is_not_compared_with_our_own_sockets() {
    let text = game("a.com", 8080, "localhost:8080");
    let dir = dir(&[("a.toml", &text), ("b.toml", &game("b.com", 8081, "localhost:9900"))]);
    assert_eq!(said(&dir, &load(dir.path())), Vec::<String>::new());
}

#[test]
fn http2_belongs_to_https() {
    let says = |lockgate: &str, lines: &str| {
        let dir = with_group("", 2999);
        let https = smallest().replace("protocol = \"http\"", "certificate = \"web\"");
        let https = https.replace("a.com", "web.internal").replace("8080", "8443");
        fs::write(path(&dir, "b.toml"), https.replace("port", &format!("{lines}port"))).unwrap();
        fs::write(path(&dir, "lockgate.toml"), lockgate).unwrap();
        let loaded = load(dir.path());
        assert_eq!(said(&dir, &loaded), Vec::<String>::new());
        let games = loaded.config.unwrap().games;
        [0, 1].map(|at| games[at].listeners[0].http2)
    };
    // The first is plain HTTP.
    assert_eq!(says("", ""), [false, true]);
    assert_eq!(says("", "http2 = false\n"), [false, false]);
    assert_eq!(says("[defaults.listener]\nhttp2 = false", ""), [false, false]);
    assert_eq!(says("[defaults.listener]\nhttp2 = false", "http2 = true\n"), [false, true]);
    assert_eq!(says("[defaults.listener]\nhttp2 = true", ""), [false, true]);
}
