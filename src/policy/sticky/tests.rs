//! The decisions by example, under the names of their rows.

use super::cookies::{CookieNames, token_of, token_place, values, without_ours};
use super::*;

const NOW: Seconds = 1_800_000_000;
const HOUR: Life = Life { idle: 3600, max_life: None };

fn secret(byte: u8) -> Secret {
    Secret { material: vec![byte; 32], signs_from: 0, retired: None }
}

fn ring(secrets: impl Into<Vec<Secret>>) -> KeyRing {
    KeyRing::new(secrets.into())
}

fn keys_of(ring: &KeyRing, group: &str) -> GroupKeys {
    GroupKeys::derive(ring, "youxia", group, &["b1", "b2", "b3"])
}

fn keys() -> GroupKeys {
    keys_of(&ring([secret(7)]), "web")
}

fn bound(backend: usize) -> Bound {
    Bound { backend: Some(backend), first: NOW - 500, last: NOW - 100, tag: 0xdead_beef }
}

fn insert(keys: &GroupKeys, bound: Bound) -> InsertToken {
    InsertToken::sign(keys, bound, NOW).unwrap()
}

#[test]
fn what_was_signed_is_read_again() {
    let keys = keys();
    for backend in 0..3 {
        let token = insert(&keys, bound(backend));
        assert_eq!(InsertToken::verify(&keys, token.as_bytes(), NOW), Ok(bound(backend)));
        let token = RewriteToken::sign(&keys, backend, 5, NOW).unwrap();
        let read = RewriteToken::verify(&keys, token.as_bytes(), NOW).unwrap();
        assert_eq!((read.backend, read.tag), (Some(backend), 5));
    }
    assert_eq!(InsertToken::sign(&keys, bound(3), NOW), None, "no such backend");
}

#[test]
fn the_form_is_fixed_and_shows_nothing() {
    let keys = GroupKeys::derive(&ring([secret(1)]), "f", "g", &["127.0.0.1:8080"]);
    let token = insert(&keys, bound(0));
    let text = std::str::from_utf8(token.as_bytes()).unwrap();
    assert_eq!(text.len(), 48);
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{text}");
    let token = RewriteToken::sign(&keys, 0, 1, NOW).unwrap();
    let text = std::str::from_utf8(token.as_bytes()).unwrap();
    assert_eq!(text.len(), 36);
    assert!(text.starts_with("lg-") && text.ends_with('~'), "{text}");
    let one = insert(&keys, Bound { tag: 1, ..bound(0) });
    let other = insert(&keys, Bound { tag: 2, ..bound(0) });
    assert_ne!(one, other);
}

#[test]
fn another_group_file_or_secret_takes_it_for_forged() {
    let ours = ring([secret(7)]);
    let token = insert(&keys_of(&ours, "web"), bound(0));
    let names = ["b1", "b2", "b3"];
    for keys in [
        keys_of(&ours, "other"),
        GroupKeys::derive(&ours, "youxib", "web", &names),
        // The same characters, cut elsewhere.
        GroupKeys::derive(&ours, "youxiaw", "eb", &names),
    ] {
        assert_eq!(InsertToken::verify(&keys, token.as_bytes(), NOW), Err(Reject::Forged));
    }
    let foreign = keys_of(&ring([secret(8)]), "web");
    // The numbers of these two differ, which need not be so.
    assert_eq!(InsertToken::verify(&foreign, token.as_bytes(), NOW), Err(Reject::UnknownKey));
    let none = keys_of(&ring([]), "web");
    assert_eq!(InsertToken::sign(&none, bound(0), NOW), None);
    assert_eq!(InsertToken::verify(&none, token.as_bytes(), NOW), Err(Reject::UnknownKey));
}

/// Who has cookies of two groups does not see that they name the same machine.
#[test]
fn a_backend_is_called_otherwise_in_every_group() {
    use base64::Engine as _;
    let ring = ring([secret(7)]);
    let called = |keys: &GroupKeys| {
        let token = insert(keys, bound(0));
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.as_bytes()).unwrap()[1..9]
            .to_vec()
    };
    let ours = called(&keys_of(&ring, "web"));
    assert_eq!(ours, called(&keys_of(&ring, "web")));
    assert_ne!(ours, called(&keys_of(&ring, "other")));
    assert_ne!(ours, called(&GroupKeys::derive(&ring, "youxib", "web", &["b1"])));
}

#[test]
fn the_modes_tokens_are_not_each_others() {
    let keys = keys();
    let rewrite = RewriteToken::sign(&keys, 0, 1, NOW).unwrap();
    assert_eq!(InsertToken::verify(&keys, rewrite.as_bytes(), NOW), Err(Reject::Shape));
    assert_eq!(split_rewritten(insert(&keys, bound(0)).as_bytes()), None);
}

#[test]
fn what_is_cut_off_or_too_long_has_no_shape() {
    let keys = keys();
    let token = insert(&keys, bound(0));
    let mut long = token.as_bytes().to_vec();
    long.push(b'A');
    let short = &token.as_bytes()[..47];
    for value in [&b""[..], b"garbage", short, &long, &[0xff; 48], &[b' '; 48], &[b'='; 48]] {
        assert_eq!(InsertToken::verify(&keys, value, NOW), Err(Reject::Shape), "{value:?}");
    }
}

#[test]
fn a_backend_that_is_gone_is_known_to_be_gone() {
    let ring = ring([secret(7)]);
    let token = insert(&keys_of(&ring, "web"), bound(1));
    let fewer = GroupKeys::derive(&ring, "youxia", "web", &["b3", "b1"]);
    let read = InsertToken::verify(&fewer, token.as_bytes(), NOW).unwrap();
    assert_eq!(read, Bound { backend: None, ..bound(1) });
    let moved = insert(&keys_of(&ring, "web"), bound(2));
    let read = InsertToken::verify(&fewer, moved.as_bytes(), NOW).unwrap();
    assert_eq!(read.backend, Some(0), "by name, not by place");
}

#[test]
fn a_retired_secret_verifies_for_30_days() {
    let token = insert(&keys(), bound(2));
    let retired = Secret { retired: Some(NOW), ..secret(7) };
    let new = Secret { signs_from: NOW, ..secret(9) };
    // In either order.
    for secrets in [vec![retired.clone(), new.clone()], vec![new.clone(), retired]] {
        let keys = keys_of(&ring(secrets), "web");
        let verify = |now| InsertToken::verify(&keys, token.as_bytes(), now).is_ok();
        assert!(verify(NOW) && verify(NOW + VERIFIES_FOR));
        assert!(!verify(NOW + VERIFIES_FOR + 1));
        let fresh = InsertToken::sign(&keys, bound(0), NOW).unwrap();
        let only_new = keys_of(&ring([new.clone()]), "web");
        assert!(InsertToken::verify(&only_new, fresh.as_bytes(), NOW).is_ok(), "the new one signs");
    }
}

#[test]
fn a_secret_may_be_known_before_it_signs() {
    let later = NOW + 600;
    let old = Secret { retired: Some(later), ..secret(7) };
    let new = Secret { signs_from: later, ..secret(9) };
    let keys = keys_of(&ring([old, new.clone()]), "web");
    let only_new = keys_of(&ring([new]), "web");
    let by_new = |now| {
        let token = InsertToken::sign(&keys, bound(0), now).unwrap();
        InsertToken::verify(&only_new, token.as_bytes(), now).is_ok()
    };
    assert!(!by_new(NOW) && !by_new(later - 1) && by_new(later));
}

/// Of keys without times the first signs, before and after another's rotation.
#[test]
fn the_first_named_signs_until_it_is_retired() {
    let later = NOW + 600;
    let old = Secret { retired: Some(later), ..secret(7) };
    let new = Secret { signs_from: later, ..secret(9) };
    let keys = keys_of(&ring([new, old.clone(), secret(8)]), "web");
    let only_old = keys_of(&ring([old.clone()]), "web");
    let signed = InsertToken::sign(&keys, bound(0), NOW).unwrap();
    assert!(InsertToken::verify(&only_old, signed.as_bytes(), NOW).is_ok());
    // Where nobody said from when the other signs, it does from then on: what the
    // retired one signed would be worth nothing 30 days later.
    let keys = keys_of(&ring([old, secret(8)]), "web");
    for (now, by_old) in [(later - 1, true), (later, false)] {
        let signed = InsertToken::sign(&keys, bound(0), now).unwrap();
        let verified = InsertToken::verify(&only_old, signed.as_bytes(), now);
        assert_eq!(verified.is_ok(), by_old, "{now}");
    }
}

#[test]
fn a_clock_that_is_behind_leaves_nobody_without_a_key() {
    let keys = keys_of(&ring([Secret { signs_from: NOW, ..secret(7) }]), "web");
    assert!(InsertToken::sign(&keys, bound(0), 5).is_some());
}

#[test]
fn secrets_are_not_shown() {
    let text = format!("{:?} {:?}", ring([secret(7)]), keys());
    assert!(!text.contains("7, 7") && !text.contains("material"), "{text}");
}

#[test]
fn ci_07_and_08_idle_slides() {
    let at = |last| Bound { first: NOW, last, ..bound(0) };
    assert_eq!(HOUR.check(at(NOW), NOW + 3600), Ok(at(NOW)));
    assert_eq!(HOUR.check(at(NOW), NOW + 3601), Err(Reject::Expired));
    assert!(HOUR.check(at(NOW + 3600), NOW + 7200).is_ok());
    let short = Life { max_life: Some(7000), ..HOUR };
    assert!(short.check(at(NOW + 3600), NOW + 7000).is_ok());
    assert_eq!(short.check(at(NOW + 3600), NOW + 7001), Err(Reject::Expired));
}

#[test]
fn five_minutes_ahead_count_as_now() {
    let at = |last| Bound { first: NOW, last, ..bound(0) };
    assert!(HOUR.check(at(NOW + 300), NOW).is_ok());
    assert_eq!(HOUR.check(at(NOW + 301), NOW), Err(Reject::Future));
    assert_eq!(HOUR.check(Bound { first: NOW + 301, ..at(NOW) }, NOW), Err(Reject::Future));
    let session = Session { bound: Some(at(NOW + 300)), stays: false, tag: 0 };
    assert_eq!(session.after(0, HOUR, NOW), (Bound { last: NOW, ..at(NOW) }, false));
    let ahead = Bound { first: NOW + 9, ..at(NOW + 300) };
    let session = Session { bound: Some(ahead), ..session };
    assert_eq!(session.after(1, HOUR, NOW).0.first, NOW);
}

#[test]
fn a_cookie_is_renewed_after_a_tenth_of_idle() {
    for (idle, passed, due) in
        [(3600, 359, false), (3600, 360, true), (60, 6, true), (60, 5, false), (3, 0, false)]
    {
        assert_eq!(Life { idle, max_life: None }.is_due(NOW, NOW + passed), due, "{idle} {passed}");
    }
    assert!(Life { idle: 1, max_life: None }.is_due(NOW, NOW + 1));
    assert!(!HOUR.is_due(NOW + 300, NOW), "from the future");
}

#[test]
fn ci_12_ci_14_where_a_bound_request_goes() {
    let ready = Standing::default();
    let ejected = |why| Standing { ejected: Some(why), ..ready };
    let wanted = |admin| Standing { admin, ..ready };
    for (standing, direction, takes_new) in [
        (ready, Direction::Home, true),
        (ejected(Ejection::Failing), Direction::Home, false),
        (ejected(Ejection::Unreachable), Direction::Anew, false),
        (Standing { down: true, ..ready }, Direction::Anew, false),
        (wanted(AdminState::Maint), Direction::Anew, false),
        (wanted(AdminState::Drain), Direction::Home, false),
        (Standing { full: true, ..ready }, Direction::Elsewhere, false),
        (Standing { full: true, ..wanted(AdminState::Drain) }, Direction::Elsewhere, false),
        (Standing { full: true, ..ejected(Ejection::Failing) }, Direction::Elsewhere, false),
        // What sends it away for good counts more than what is over soon.
        (Standing { full: true, down: true, ..ready }, Direction::Anew, false),
        (Standing { full: true, ..wanted(AdminState::Maint) }, Direction::Anew, false),
    ] {
        assert_eq!(standing.direction(), direction, "{standing:?}");
        assert_eq!(standing.takes_new(), takes_new, "{standing:?}");
    }
}

#[test]
fn the_binding_after_an_answer() {
    let new = Session { bound: None, stays: false, tag: 9 };
    let fresh = Bound { backend: Some(2), first: NOW, last: NOW, tag: 9 };
    assert_eq!(new.after(2, HOUR, NOW), (fresh, true));

    let old = Bound { backend: Some(0), first: NOW - 5000, last: NOW - 60, tag: 4 };
    let home = Session { bound: Some(old), stays: false, tag: 9 };
    assert_eq!(home.after(0, HOUR, NOW), (Bound { last: NOW, ..old }, false));
    let later = NOW + 300;
    assert_eq!(home.after(0, HOUR, later), (Bound { last: later, ..old }, true));

    let moved = Bound { backend: Some(1), last: NOW, ..old };
    assert_eq!(home.after(1, HOUR, NOW), (moved, true), "the first time and the tag are kept");
    let gone = Session { bound: Some(Bound { backend: None, ..old }), ..home };
    assert_eq!(gone.after(1, HOUR, NOW), (moved, true));

    let once = Session { stays: true, ..home };
    assert_eq!(once.after(1, HOUR, NOW), (Bound { last: NOW, ..old }, false));
    assert_eq!(once.after(1, HOUR, later), (Bound { last: later, ..old }, true));
}

fn names(inserted: &[&str], rewritten: &[&str]) -> CookieNames {
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    CookieNames { inserted: list(inserted), rewritten: list(rewritten) }
}

fn edited(field: &str, names: &CookieNames) -> Option<String> {
    without_ours(field.as_bytes(), names).map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn ci_19_the_cookie_is_found_by_its_whole_name() {
    let found = |field: &'static str| values(field.as_bytes(), b"SERVERID").collect::<Vec<_>>();
    assert_eq!(found("a=1; SERVERID=x; b=2"), [b"x"]);
    assert_eq!(found("XSERVERID=junk; SERVERID=x"), [b"x"]);
    assert_eq!(found("SERVERID=x;SERVERID=\"y\""), [&b"x"[..], b"\"y\""]);
    assert_eq!(found(" SERVERID = x ;b"), [b"x"]);
    assert_eq!(found("serverid=x; SERVERIDX=y; a=SERVERID=z; SERVERID"), [b""; 0]);
    assert_eq!(found(""), [b""; 0]);
}

#[test]
fn inserted_cookies_are_taken_out() {
    let ours = names(&["SERVERID"], &[]);
    for (field, left) in [
        ("a=1; SERVERID=x; b=2", "a=1; b=2"),
        ("SERVERID=x; a=1", "a=1"),
        ("a=1; SERVERID=x", "a=1"),
        ("SERVERID=x", ""),
        ("SERVERID=x; SERVERID=y", ""),
        ("SERVERID=x;;", ""),
        ("a=1;SERVERID=x;b=2", "a=1;b=2"),
        ("a=\u{e9}; SERVERID=x; b=\"q\"", "a=\u{e9}; b=\"q\""),
        ("a; SERVERID=x; =b", "a; =b"),
    ] {
        assert_eq!(edited(field, &ours).as_deref(), Some(left), "{field}");
    }
    for field in ["a=1; b=2", "XSERVERID=x", "", "SERVERID", "a=SERVERID=x"] {
        assert_eq!(edited(field, &ours), None, "{field}");
    }
    assert_eq!(edited("SERVERID=x", &names(&[], &[])), None);
}

#[test]
fn tokens_are_taken_off_by_their_shape() {
    let keys = keys();
    let signed = RewriteToken::sign(&keys, 1, 3, NOW).unwrap();
    let token = std::str::from_utf8(signed.as_bytes()).unwrap();
    // Of the right shape, signed by nobody.
    let forged = format!("lg-{}~", "A".repeat(32));
    let ours = names(&[], &["id", "__Host-s"]);
    for token in [token, &forged] {
        for (field, left) in [
            (format!("id={token}abc"), "id=abc"),
            (format!("a=1; id={token}abc; b=2"), "a=1; id=abc; b=2"),
            (format!("id={token}"), "id="),
            (format!("id=\"{token}a b\""), "id=\"a b\""),
            (format!("__Host-s={token}x; id={token}y; id=z"), "__Host-s=x; id=y; id=z"),
            (format!("id={token}a~b=c"), "id=a~b=c"),
        ] {
            assert_eq!(edited(&field, &ours).as_deref(), Some(left), "{field}");
        }
    }
    for field in [
        "id=abc".to_string(),
        format!("other={token}abc"),
        format!("id={}", &token[..35]),
        format!("id=x{token}abc"),
        format!("id=lg-{}!~x", "A".repeat(31)),
    ] {
        assert_eq!(edited(&field, &ours), None, "{field}");
    }
    let quoted = format!("\"{token}abc\"");
    assert_eq!(token_of(quoted.as_bytes()), Some(signed.as_bytes()));
}

#[test]
fn both_at_once() {
    let token = format!("lg-{}~", "_".repeat(32));
    let field = format!("S=1; id={token}v; S=2; c=d");
    assert_eq!(edited(&field, &names(&["S"], &["id"])).as_deref(), Some("id=v; c=d"));
}

#[test]
fn the_token_goes_before_the_value_of_the_right_set_cookie() {
    for (field, place) in [
        ("id=abc; Path=/", Some(3)),
        ("id=", Some(3)),
        ("  id  =  abc", Some(9)),
        ("id=\"a b\"; HttpOnly", Some(4)),
        ("id=\"abc", Some(3)),
        ("id=a=b", Some(3)),
        ("ID=abc", None),
        ("xid=abc", None),
        ("id; Path=/", None),
        ("x; id=abc", None),
        ("other=1; id=abc", None),
        ("", None),
    ] {
        assert_eq!(token_place(field.as_bytes(), b"id"), place, "{field}");
    }
}
