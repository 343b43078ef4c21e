//! By example.

use super::*;

pub(super) fn host(authority: &str) -> Option<String> {
    HostName::parse(authority.as_bytes()).map(|host| host.as_str().to_owned())
}

pub(super) fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// A table whose values are the domains as written.
pub(super) fn owners<'a>(domains: &[&'a str]) -> HostTable<&'a str> {
    let mut table = HostTable::new();
    for text in domains {
        assert_eq!(table.insert(&domain(text), *text), None, "{text}");
    }
    table
}

/// A table whose values are the prefixes.
fn rules(prefixes: &[&str]) -> PathTable<String> {
    let rules = prefixes.iter().map(|prefix| (prefix.as_bytes().to_vec(), (*prefix).to_owned()));
    PathTable::build(rules.collect()).unwrap()
}

pub(super) fn normal(path: &str) -> Result<String, PathError> {
    let mut scratch = b"left over".to_vec();
    let path = normalize_path(path.as_bytes(), &mut scratch)?;
    Ok(String::from_utf8(path.to_vec()).unwrap())
}

#[test]
fn rt_01_each_domain_has_its_owner() {
    let table = owners(&["a.test", "b.test"]);
    assert_eq!(table.find("a.test"), Some(&"a.test"));
    assert_eq!(table.find("b.test"), Some(&"b.test"));
    assert_eq!(table.find("c.test"), None);
}

#[test]
fn rt_02_exact_beats_wildcard() {
    let table = owners(&["*.x.test", "www.x.test"]);
    assert_eq!(table.find("www.x.test"), Some(&"www.x.test"));
    assert_eq!(table.find("ww.x.test"), Some(&"*.x.test"));
}

#[test]
fn rt_03_longest_wildcard_wins() {
    let table = owners(&["*.x.test", "*.m.x.test"]);
    assert_eq!(table.find("i.m.x.test"), Some(&"*.m.x.test"));
    assert_eq!(table.find("m.x.test"), Some(&"*.x.test"));
}

#[test]
fn rt_04_wildcard_does_not_cover_the_bare_name() {
    let mut table = owners(&["*.x.test"]);
    assert_eq!(table.set_default("default"), None);
    assert_eq!(table.find("x.test"), None);
    assert_eq!(table.resolve("x.test"), Some(&"default"));
    assert_eq!(table.resolve("yx.test"), Some(&"default"));
    assert!(!domain("*.x.test").covers("x.test"));
    assert!(!domain("*.x.test").covers("yx.test"));
}

#[test]
fn rt_05_wildcard_covers_several_labels() {
    let table = owners(&["*.x.test"]);
    assert_eq!(table.find("p.q.x.test"), Some(&"*.x.test"));
    assert!(domain("*.x.test").covers("p.q.x.test"));
}

#[test]
fn rt_06_case_port_and_trailing_dot_are_ignored() {
    for authority in ["A.TEST", "a.test:9030", "a.test.", "a.TEST.:9030", "a.test:"] {
        assert_eq!(host(authority).as_deref(), Some("a.test"), "{authority}");
    }
}

#[test]
fn rt_07_default_takes_unknown_hosts_and_addresses() {
    let mut table = owners(&["a.test"]);
    assert_eq!(table.resolve("unknown.test"), None);
    table.set_default("default");
    for authority in ["unknown.test", "10.0.0.1:80", "[::1]:80"] {
        let name = HostName::parse(authority.as_bytes()).unwrap();
        assert_eq!(table.resolve(name.as_str()), Some(&"default"), "{authority}");
    }
    assert_eq!(table.default(), Some(&"default"));
    assert_eq!(table.resolve("a.test"), Some(&"a.test"));
}

#[test]
fn rt_08_longest_prefix_wins() {
    let table = rules(&["/abc", "/abcd"]);
    assert_eq!(table.find(b"/abcde").unwrap(), "/abcd");
    assert_eq!(table.find(b"/abcx").unwrap(), "/abc");
    assert_eq!(table.find(b"/abc").unwrap(), "/abc");
}

#[test]
fn rt_10_prefix_is_a_plain_string() {
    assert_eq!(rules(&["/", "/admin"]).find(b"/administrator").unwrap(), "/admin");
}

#[test]
fn rt_11_shorter_prefix_takes_the_rest() {
    assert_eq!(rules(&["/", "/api"]).find(b"/other").unwrap(), "/");
    assert_eq!(rules(&["/", "/api"]).find(b"/ap").unwrap(), "/");
}

#[test]
fn rt_12_no_rule_where_no_prefix_fits() {
    assert_eq!(rules(&["/api"]).find(b"/other"), None);
    assert_eq!(rules(&["/api"]).find(b"/a"), None);
    assert_eq!(rules(&["/api"]).find(b"/z"), None);
    assert_eq!(rules(&[]).find(b"/"), None);
}

#[test]
fn rt_14_query_is_not_matched() {
    assert_eq!(normal("/x?p=/abc").unwrap(), "/x");
    assert_eq!(normal("/abc?q=1").unwrap(), "/abc");
    assert_eq!(normal("/?%zz/../..").unwrap(), "/");
    assert_eq!(normal("/a/./b?c/../d").unwrap(), "/a/b");
}

#[test]
fn rt_15_duplicate_prefix_is_refused() {
    let rules = ["/b", "/a", "/b/", "/b", "/c"];
    let rules = rules.map(|prefix| (prefix.as_bytes().to_vec(), ()));
    assert_eq!(PathTable::build(rules.to_vec()).unwrap_err(), 3);
}

#[test]
fn a_sibling_that_sorts_between_does_not_hide_the_parent() {
    let table = rules(&["/a", "/ab", "/ab/c/d", "/ab/c/e"]);
    assert_eq!(table.find(b"/ab/c/dz").unwrap(), "/ab/c/d");
    assert_eq!(table.find(b"/ab/c/ea").unwrap(), "/ab/c/e");
    assert_eq!(table.find(b"/ab/c/f").unwrap(), "/ab");
    assert_eq!(table.find(b"/az").unwrap(), "/a");
    assert_eq!(table.len(), 4);
    let prefixes: Vec<&[u8]> = table.iter().map(|(prefix, _)| prefix).collect();
    assert_eq!(prefixes, [&b"/a"[..], b"/ab", b"/ab/c/d", b"/ab/c/e"]);
}

#[test]
fn insert_gives_the_previous_owner() {
    let mut table = owners(&["a.test"]);
    assert_eq!(table.insert(&domain("A.test."), "other"), Some("a.test"));
    assert_eq!(table.insert(&domain("*.a.test"), "wild"), None);
    assert_eq!(table.get(&domain("a.test")), Some(&"other"));
    assert_eq!(table.get(&domain("*.a.test")), Some(&"wild"));
    assert_eq!(table.set_default("one"), None);
    assert_eq!(table.set_default("two"), Some("one"));
    assert_eq!(table.len(), 2);
}

#[test]
fn first_by_name_does_not_depend_on_the_order_of_insertion() {
    let sorted = ["*.a.test", "b.test", "*.b.test", "c.test"];
    for turn in 0..sorted.len() {
        let mut domains = sorted;
        domains.rotate_left(turn);
        let table = owners(&domains);
        assert_eq!(table.first_by_name(), Some(&"*.a.test"));
        assert!(table.iter().map(|(_, value)| *value).eq(sorted), "{table:?}");
        assert!(table.iter().all(|(domain, value)| domain.to_string() == *value));
    }
    assert_eq!(owners(&[]).first_by_name(), None);
    assert!(owners(&[]).is_empty());
}

#[test]
fn host_name_knows_what_is_none() {
    let bad = [
        "",
        ".",
        ":80",
        "a..",
        "a..b",
        ".a",
        "a:b",
        "a:80:80",
        "a:65536",
        "a:-1",
        "a b",
        "a/b",
        "u@a",
        "a#",
        "a\\b",
        "a\0",
        "ä.test",
        "[::1",
        "[::1]x",
        "[::1]:x",
        "[]",
        "[v1.x]",
        "[1.2.3.4]",
        "::1",
    ];
    for authority in bad {
        assert_eq!(host(authority), None, "{authority}");
    }
    let long = "a.".repeat(126) + "a";
    assert_eq!(host(&long), Some(long.clone()));
    assert_eq!(host(&format!("{long}.")), Some(long.clone()));
    assert_eq!(host(&format!("{long}b")), None);
}

#[test]
fn host_name_writes_an_ipv6_address_one_way() {
    assert_eq!(host("[2001:DB8:0:0::1]:443").as_deref(), Some("[2001:db8::1]"));
    assert_eq!(host("[::]").as_deref(), Some("[::]"));
    let longest = "[1111:2222:3333:4444:5555:6666:7777:8888]";
    assert_eq!(host(longest).as_deref(), Some(longest));
    assert_eq!(domain("2001:DB8::0:1").to_string(), "[2001:db8::1]");
    assert_eq!(domain("[2001:DB8::0:1]").to_string(), "[2001:db8::1]");
}

#[test]
fn domain_is_written_as_it_is_read() {
    for text in ["a.test", "*.a.test", "a", "*.localhost", "_x.a-b.test", "10.0.0.1", "[::1]"] {
        assert_eq!(domain(text).to_string(), text);
        assert_eq!(domain(&text.to_uppercase()).to_string(), text);
    }
    assert_eq!(domain("*.X.test."), Domain::Wildcard("x.test".into()));
    let host = HostName::parse(b"X.test").unwrap();
    assert_eq!(format!("{host} {host:?}"), r#"x.test HostName("x.test")"#);
}

#[test]
fn domain_errors_say_what_is_wrong() {
    let long_label = "a".repeat(64);
    let long_name = "a.".repeat(126) + "ab";
    let cases = [
        ("", DomainError::Empty),
        ("https://a.test", DomainError::Scheme),
        ("a.test/x", DomainError::Path),
        ("a.test:80", DomainError::Port),
        ("*.a.test:", DomainError::Port),
        ("[::1]:80", DomainError::Port),
        ("1:2:3", DomainError::Address),
        ("[a.test]:x", DomainError::Address),
        ("游侠.test", DomainError::NotAscii),
        (&long_name, DomainError::TooLong(254)),
        (".a.test", DomainError::EmptyLabel),
        ("a..test", DomainError::EmptyLabel),
        (".", DomainError::EmptyLabel),
        (&long_label, DomainError::LongLabel(long_label.as_str().into())),
        ("-a.test", DomainError::Hyphen("-a".into())),
        ("a-.test", DomainError::Hyphen("a-".into())),
        ("a b.test", DomainError::Character(' ')),
        ("*", DomainError::OnlyWildcard),
        ("*.", DomainError::OnlyWildcard),
        ("a.*", DomainError::WildcardPlace),
        ("*a.test", DomainError::WildcardPlace),
        ("*.*.test", DomainError::WildcardPlace),
        ("10.0.0.300", DomainError::Address),
        ("*.10.0.0.1.9", DomainError::Address),
    ];
    for (text, error) in cases {
        assert_eq!(Domain::parse(text), Err(error.clone()), "{text}");
        let message = error.to_string();
        assert!(!message.ends_with('.') && message.len() < 160, "{message}");
    }
    assert!(DomainError::NotAscii.to_string().contains("punycode"));
    assert_eq!(domain(&long_label[1..]).to_string().len(), 63);
}

#[test]
fn path_in_normal_form_is_borrowed() {
    for path in ["/", "/a/b/", "/a%2Fb", "/.a/..b/...", "/a.", "/a%20", "/a/b?c=//../%zz"] {
        let mut scratch = Vec::new();
        let normal = normalize_path(path.as_bytes(), &mut scratch).unwrap();
        assert_eq!(normal.as_ptr(), path.as_ptr(), "{path}");
        assert_eq!(normal, path.split('?').next().unwrap().as_bytes());
        assert_eq!(scratch.capacity(), 0);
    }
}

#[test]
fn path_is_cleaned() {
    let cases = [
        ("//", "/"),
        ("/a//b///c//", "/a/b/c/"),
        ("/.", "/"),
        ("/./", "/"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a/b/../../c", "/c"),
        ("/a//../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e/b", "/a/b"),
        ("/a/..?x", "/"),
        ("/a/.?x", "/a/"),
        ("/%7euser/%41%2D%5f", "/~user/A-_"),
        ("/a%2fb%2F..%2f", "/a%2Fb%2F..%2F"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/a/%2e%2e%2fb", "/a/..%2Fb"),
        ("/a/..b/.c/...", "/a/..b/.c/..."),
        ("/%c3%a4", "/%C3%A4"),
    ];
    for (path, want) in cases {
        assert_eq!(normal(path).as_deref(), Ok(want), "{path}");
    }
}

#[test]
fn path_errors() {
    for path in ["/..", "/../", "/a/../..", "/%2e%2e/a", "/a/../../b", "//../b", "/./.."] {
        assert_eq!(normal(path), Err(PathError::ClimbsAboveRoot), "{path}");
    }
    for path in ["/%", "/%2", "/%zz", "/a%2", "/%2?0", "/%+1", "/a//%g0"] {
        assert_eq!(normal(path), Err(PathError::BadEscape), "{path}");
    }
    for path in ["", "*", "a/b", "?", "http://a/", "%2Fa"] {
        assert_eq!(normal(path), Err(PathError::NotAbsolute), "{path}");
    }
    assert!(PathError::ClimbsAboveRoot.to_string().contains("root"));
}
