//! By example, and what always holds.

use proptest::prelude::*;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The client when `peer` sends these values of `X-Forwarded-For` and
/// 10.0.0.0/8 and fd00::/8 are trusted.
fn client(peer: &str, field_value: &str) -> IpAddr {
    let trusted = Networks::new(nets(&["10.0.0.0/8", "fd00::/8"]));
    client_address(ip(peer), &trusted, entries_from_right(field_value.as_bytes()))
}

#[test]
fn deny_wins() {
    let access = Access::new(nets(&["10.0.0.0/8"]), nets(&["10.1.0.0/16"]));
    assert!(access.permits(ip("10.2.0.1")));
    assert!(!access.permits(ip("10.1.0.1")));
}

#[test]
fn allow_denies_the_rest() {
    let access = Access::new(nets(&["10.0.0.0/8"]), Vec::new());
    assert!(access.permits(ip("10.255.255.255")));
    assert!(!access.permits(ip("11.0.0.0")));
    assert!(!access.permits(ip("9.255.255.255")));
    assert!(!access.permits(ip("::1")));
    assert!(!access.is_open());
}

#[test]
fn deny_alone_lets_the_rest_in() {
    let access = Access::new(Vec::new(), nets(&["10.0.0.1/32", "2001:db8::/32"]));
    assert!(!access.permits(ip("10.0.0.1")));
    assert!(!access.permits(ip("2001:db8::1")));
    assert!(access.permits(ip("10.0.0.2")));
    assert!(access.permits(ip("2001:db9::1")));
    assert!(!access.is_open());
}

#[test]
fn nothing_listed_is_open() {
    let access = Access::new(Vec::new(), Vec::new());
    assert!(access.is_open() && access.permits(ip("1.2.3.4")) && access.permits(ip("::1")));
    assert!(Access::default().is_open());
}

#[test]
fn mapped_addresses_are_ipv4() {
    let v4 = Networks::new(nets(&["10.0.0.0/8"]));
    assert!(v4.contains(ip("::ffff:10.1.2.3")));
    let mapped = Networks::new(nets(&["::ffff:10.0.0.0/104"]));
    assert_eq!(mapped, v4);
    assert_eq!(Networks::new(nets(&["::ffff:0:0/96"])), Networks::new(nets(&["0.0.0.0/0"])));
    let v6 = Networks::new(nets(&["::/0"]));
    assert!(
        v6.contains(ip("::1"))
            && !v6.contains(ip("::ffff:10.1.2.3"))
            && !v6.contains(ip("1.2.3.4"))
    );
}

#[test]
fn networks_reach_both_ends() {
    let all = Networks::new(nets(&["0.0.0.0/0", "::/0", "255.255.255.255/32", "ffff::/16"]));
    for text in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
        assert!(all.contains(ip(text)), "{text}");
    }
    // Neighbours become one range.
    let halves = Networks::new(nets(&["128.0.0.0/1", "0.0.0.0/1"]));
    assert_eq!(halves, Networks::new(nets(&["0.0.0.0/0"])));
    // Host bits that are set do not count.
    assert!(Networks::new(nets(&["10.0.0.7/8"])).contains(ip("10.0.0.1")));
    assert!(Networks::new(Vec::new()).is_empty() && !halves.is_empty());
    assert!(!Networks::new(nets(&["::/0"])).is_empty());
}

#[test]
fn client_is_the_peer_unless_it_is_trusted() {
    assert_eq!(client("1.2.3.4", "5.6.7.8"), ip("1.2.3.4"));
    assert_eq!(client("10.0.0.1", "5.6.7.8"), ip("5.6.7.8"));
    assert_eq!(client("::ffff:10.0.0.1", "5.6.7.8"), ip("5.6.7.8"));
    assert_eq!(client("::ffff:1.2.3.4", "5.6.7.8"), ip("1.2.3.4"));
}

#[test]
fn client_is_the_rightmost_untrusted_entry() {
    assert_eq!(client("10.0.0.1", "6.6.6.6, 5.6.7.8, 10.0.0.3,10.0.0.2"), ip("5.6.7.8"));
    assert_eq!(client("10.0.0.1", "2001:db8::1 ,fd00::2"), ip("2001:db8::1"));
}

#[test]
fn client_is_the_leftmost_when_all_are_trusted() {
    assert_eq!(client("10.0.0.1", "10.0.0.3, 10.0.0.2"), ip("10.0.0.3"));
    let nobody = client_address(ip("10.0.0.1"), &Networks::default(), std::iter::empty());
    assert_eq!(nobody, ip("10.0.0.1"));
}

#[test]
fn client_entry_may_have_a_port() {
    let cases = [
        ("5.6.7.8:567", "5.6.7.8"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:567", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[::ffff:5.6.7.8]:1", "5.6.7.8"),
        ("::ffff:5.6.7.8", "5.6.7.8"),
    ];
    for (entry, want) in cases {
        assert_eq!(client("10.0.0.1", entry), ip(want), "{entry}");
    }
}

#[test]
fn an_entry_that_is_no_address_ends_the_walk() {
    let bad = [
        "",
        "unknown",
        "_x",
        "5.6.7",
        "5.6.7.8:",
        "5.6.7.8:70000",
        "[5.6.7.8]",
        "[::1",
        "\"5.6.7.8\"",
        "ä",
    ];
    for entry in bad {
        let value = format!("5.6.7.8, {entry}, 10.0.0.2");
        assert_eq!(client("10.0.0.1", &value), ip("10.0.0.2"), "{entry}");
    }
    let trusted = Networks::new(nets(&["10.0.0.0/8"]));
    let bytes: [&[u8]; 2] = [b"\xff", b"5.6.7.8"];
    assert_eq!(client_address(ip("10.0.0.1"), &trusted, bytes.into_iter()), ip("10.0.0.1"));
}

/// Networks that meet one another often.
fn close_nets() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (0..64_u32, 26..=32_u8)
        .prop_map(|(low, len)| IpNet::new(IpAddr::V4((0x0a00_0000 + low).into()), len));
    let v6 =
        (0..64_u128, 122..=128_u8).prop_map(|(low, len)| IpNet::new(IpAddr::V6(low.into()), len));
    prop::collection::vec(prop_oneof![v4, v6].prop_map(Result::unwrap), 0..12)
}

fn close_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..64_u32).prop_map(|low| IpAddr::V4((0x0a00_0000 + low).into())),
        (0..64_u128).prop_map(|low| IpAddr::V6(low.into())),
    ]
}

proptest! {
    #[test]
    fn networks_agree_with_a_scan(networks in close_nets(), addresses in prop::collection::vec(close_ip(), 1..30)) {
        let set = Networks::new(networks.clone());
        prop_assert_eq!(set.is_empty(), networks.is_empty());
        for address in addresses {
            let want = networks.iter().any(|network| network.contains(&address));
            prop_assert_eq!(set.contains(address), want, "{}", address);
        }
    }

    #[test]
    fn client_is_trusted_only_if_all_are(
        peer in close_ip(),
        entries in prop::collection::vec(close_ip(), 0..8),
        networks in close_nets(),
    ) {
        let trusted = Networks::new(networks);
        let texts: Vec<String> = entries.iter().map(IpAddr::to_string).collect();
        let client = client_address(peer, &trusted, texts.iter().map(String::as_bytes));
        let mut way = std::iter::once(peer).chain(entries.iter().copied());
        let want = way.clone().find(|address| !trusted.contains(*address));
        if trusted.contains(client) {
            prop_assert!(way.all(|address| trusted.contains(address)));
        }
        prop_assert_eq!(client, want.or(entries.last().copied()).unwrap_or(peer));
    }
}

#[test]
fn a_verdict_says_which_list_it_is_by() {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>();
    let judge = |allow: &[&str], deny: &[&str], client: &str| {
        Access::new(nets(allow), nets(deny)).judge(client.parse().unwrap())
    };
    let (ten, bad) = (["10.0.0.0/8"], ["10.0.0.9/32"]);
    assert_eq!(judge(&[], &[], "10.0.0.9"), Verdict::Open);
    assert_eq!(judge(&[], &bad, "10.0.0.8"), Verdict::Open);
    assert_eq!(judge(&ten, &bad, "10.0.0.8"), Verdict::Allowed);
    assert_eq!(judge(&ten, &bad, "10.0.0.9"), Verdict::Denied);
    assert_eq!(judge(&ten, &bad, "11.0.0.9"), Verdict::NotAllowed);
}
