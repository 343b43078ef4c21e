//! What two files cannot both have.

use super::*;

#[test]
fn rt_15_a_domain_and_port_has_one_owner() {
    let dir = dir(&[("a.toml", &smallest()), ("b.toml", &smallest()), ("c.toml", &smallest())]);
    let loaded = load(dir.path());
    let expected = [
        "b.toml:2:10 error `a.com` on port 8080 already belongs to `a.toml:2`",
        "c.toml:2:10 error `a.com` on port 8080 already belongs to `a.toml:2`",
    ];
    assert_eq!(said(&dir, &loaded), expected);
    assert_eq!(names(&loaded), ["a"]);
    assert_eq!(refused(&loaded), ["b", "c"]);
    let related = loaded.diagnostics[0].related.as_ref().unwrap();
    assert_eq!((related.line, &related.file), (2, &path(&dir, "a.toml")));
}

#[test]
fn the_same_domain_on_another_port_is_another_thing() {
    let dir = dir(&[("a.toml", &smallest()), ("b.toml", &game("a.com", 8081, "10.0.0.1:80"))]);
    assert_eq!(names(&load(dir.path())), ["a", "b"]);
}

#[test]
fn nobody_is_refused_for_what_a_refused_file_says() {
    let bad = smallest() + "x = 1\n";
    let dir = dir(&[("a.toml", &bad), ("b.toml", &smallest()), ("c.toml", &smallest())]);
    let loaded = load(dir.path());
    let expected = [
        "a.toml:9:1 error unknown key `x` in `[group.NAME]`",
        "c.toml:2:10 error `a.com` on port 8080 already belongs to `b.toml:2`",
    ];
    assert_eq!(said(&dir, &loaded), expected);
    assert_eq!(names(&loaded), ["b"]);
}

#[test]
fn names_within_a_wildcard_are_its_owners() {
    let of = |domain: &str| game(domain, 8080, "10.0.0.1:80");
    let says = |first: &str, second: &str| {
        let dir = dir(&[("a.toml", &of(first)), ("b.toml", &of(second))]);
        said(&dir, &load(dir.path()))
    };
    let within = "b.toml:2:10 error `a.x.com` on port 8080 lies within `*.x.com` of `a.toml:2`";
    assert_eq!(says("*.x.com", "a.x.com"), [within]);
    let deeper = "b.toml:2:10 error `*.b.x.com` on port 8080 lies within `*.x.com` of `a.toml:2`";
    assert_eq!(says("*.x.com", "*.b.x.com"), [deeper]);
    let encloses =
        "b.toml:2:10 error `*.x.com` on port 8080 would enclose `b.a.x.com` of `a.toml:2`";
    assert_eq!(says("b.a.x.com", "*.x.com"), [encloses]);
    assert_eq!(says("*.x.com", "x.com"), Vec::<String>::new());
    assert_eq!(says("x.com", "*.x.com"), Vec::<String>::new());
    assert_eq!(says("*.x.com", "ax.com"), Vec::<String>::new());
    assert_eq!(says("ax.com", "*.x.com"), Vec::<String>::new());
    assert_eq!(says("*.x.com", "*.y.com"), Vec::<String>::new());
}

#[test]
fn a_file_may_name_what_lies_within_its_own_wildcard() {
    let text = smallest().replace("\"a.com\"", "[\"*.x.com\", \"a.x.com\", \"*.b.x.com\"]");
    let dir = dir(&[("a.toml", &text)]);
    assert_eq!(said(&dir, &load(dir.path())), Vec::<String>::new());
}

#[test]
fn a_port_has_one_default_one_protocol_and_one_address() {
    let default = smallest().replace("domain = \"a.com\"", "default = true");
    let other = default.replace("default = true", "default = true\naddress = \"::1\"");
    let dir = dir(&[("a.toml", &default), ("b.toml", &other)]);
    let loaded = load(dir.path());
    let expected = [
        "b.toml:2:1 error port 8080 already has a default listener: `a.toml:2`",
        "b.toml:3:11 error port 8080 is on `::1` here, but on all addresses in `a.toml:1`",
    ];
    assert_eq!(said(&dir, &loaded), expected);
    let https = game("b.com", 8080, "10.0.0.1:80").replace("protocol = \"http\"\n", "");
    fs::write(path(&dir, "b.toml"), https).unwrap();
    let said = said(&dir, &load(dir.path()));
    assert!(
        said.contains(
            &"b.toml:1:1 error port 8080 is `https` here, but `http` in `a.toml:4`".to_owned()
        ),
        "{said:?}"
    );
}

#[test]
fn the_admin_port_is_taken() {
    let says = |admin: &str, address: &str| {
        let admin = format!("[admin]\naddress = \"{admin}\"\n");
        let text = smallest().replace("port", &format!("address = \"{address}\"\nport"));
        let dir = dir(&[("lockgate.toml", &admin), ("a.toml", &text)]);
        let loaded = load(dir.path());
        let related = loaded.diagnostics.first().and_then(|fault| fault.related.clone());
        assert!(
            related.is_none_or(|place| place.line == 2 && place.file.ends_with("lockgate.toml"))
        );
        said(&dir, &loaded)
    };
    let taken = "a.toml:4:8 error port 8080 is taken by the admin address `127.0.0.1:8080`";
    assert_eq!(says("127.0.0.1:8080", "127.0.0.1"), [taken]);
    assert_eq!(says("127.0.0.1:8080", "0.0.0.0"), [taken]);
    assert_eq!(says("127.0.0.1:8080", "::"), [taken]);
    assert_eq!(says("0.0.0.0:8080", "10.0.0.5").len(), 1);
    assert_eq!(says("127.0.0.1:8080", "10.0.0.5"), Vec::<String>::new());
    assert_eq!(says("127.0.0.1:8081", "127.0.0.1"), Vec::<String>::new());
    assert_eq!(says("127.0.0.1:0", "127.0.0.1"), Vec::<String>::new());
}

#[test]
fn no_backend_is_lockgate_itself() {
    let says = |backend: &str, address: &str| {
        let first = smallest().replace("port", &format!("address = \"{address}\"\nport"));
        let dir = dir(&[("a.toml", &first), ("b.toml", &game("b.com", 8081, backend))]);
        said(&dir, &load(dir.path()))
    };
    let fault = |backend: &str| {
        format!("b.toml:8:13 error backend `{backend}` is lockgate itself, `a.toml:3`")
    };
    assert_eq!(says("127.0.0.1:8080", "0.0.0.0"), [fault("127.0.0.1:8080")]);
    assert_eq!(says("127.9.9.9:8080", "::"), [fault("127.9.9.9:8080")]);
    assert_eq!(says("[::1]:8080", "::"), [fault("[::1]:8080")]);
    assert_eq!(says("10.0.0.5:8080", "10.0.0.5"), [fault("10.0.0.5:8080")]);
    assert_eq!(says("10.0.0.6:8080", "10.0.0.5"), Vec::<String>::new());
    assert_eq!(says("10.0.0.6:8080", "::"), Vec::<String>::new());
    assert_eq!(says("127.0.0.1:8082", "::"), Vec::<String>::new());
    let admin = "b.toml:8:13 error backend `127.0.0.1:9900` is lockgate's own admin address";
    assert_eq!(says("127.0.0.1:9900", "::"), [admin]);
}

#[test]
fn a_port_does_not_take_the_place_of_an_earlier_backend() {
    let first = game("a.com", 8080, "127.0.0.1:8081");
    let dir = dir(&[("a.toml", &first), ("b.toml", &game("b.com", 8081, "10.0.0.1:80"))]);
    let expected =
        "b.toml:3:8 error port 8081 would take the place of backend `127.0.0.1:8081` of `a.toml:8`";
    let loaded = load(dir.path());
    assert_eq!(said(&dir, &loaded), [expected]);
    assert_eq!(names(&loaded), ["a"]);
    // One that is refused does not hide the one that serves.
    fs::write(path(&dir, "Z.toml"), first + "x = 1").unwrap();
    let said = said(&dir, &load(dir.path()));
    assert_eq!(said.last().map(String::as_str), Some(expected));
}
