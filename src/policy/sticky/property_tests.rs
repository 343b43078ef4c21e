//! A cookie that was not given out binds nobody, whatever its bytes.

use proptest::prelude::*;

use super::cookies::{CookieNames, token_of, token_place, values, without_ours};
use super::*;

const NOW: Seconds = 1_800_000_000;

fn keys(byte: u8, group: &str) -> GroupKeys {
    let secret = Secret { material: vec![byte; 32], signs_from: 0, retired: None };
    GroupKeys::derive(&KeyRing::new(vec![secret]), "f", group, &["b1", "b2"])
}

fn good(tag: u32, backend: usize) -> (InsertToken, RewriteToken) {
    let bound = Bound { backend: Some(backend), first: NOW, last: NOW, tag };
    let keys = keys(1, "g");
    let insert = InsertToken::sign(&keys, bound, NOW).unwrap();
    (insert, RewriteToken::sign(&keys, backend, tag, NOW).unwrap())
}

proptest! {
    #[test]
    fn random_bytes_bind_nobody(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let keys = keys(1, "g");
        prop_assert!(InsertToken::verify(&keys, &bytes, NOW).is_err());
        prop_assert!(RewriteToken::verify(&keys, &bytes, NOW).is_err());
    }

    #[test]
    fn random_text_of_the_right_shape_binds_nobody(
        insert in "[A-Za-z0-9_-]{48}",
        rewrite in "lg-[A-Za-z0-9_-]{32}~",
    ) {
        let keys = keys(1, "g");
        prop_assert!(InsertToken::verify(&keys, insert.as_bytes(), NOW).is_err());
        prop_assert!(RewriteToken::verify(&keys, rewrite.as_bytes(), NOW).is_err());
        prop_assert!(split_rewritten(rewrite.as_bytes()).is_some());
    }

    /// Any byte of a good one made another.
    #[test]
    fn a_changed_cookie_binds_nobody(
        tag in any::<u32>(),
        backend in 0_usize..2,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let keys = keys(1, "g");
        let (insert, rewrite) = good(tag, backend);
        let mut changed = insert.as_bytes().to_vec();
        let at_insert = at.index(changed.len());
        prop_assume!(changed[at_insert] != byte);
        changed[at_insert] = byte;
        prop_assert!(InsertToken::verify(&keys, &changed, NOW).is_err());
        let mut changed = rewrite.as_bytes().to_vec();
        // The mark and the `~` are looked at by `split_rewritten`.
        let at_rewrite = 3 + at.index(32);
        prop_assume!(changed[at_rewrite] != byte);
        changed[at_rewrite] = byte;
        prop_assert!(RewriteToken::verify(&keys, &changed, NOW).is_err());
    }

    #[test]
    fn two_halves_of_good_ones_bind_nobody(
        one in any::<u32>(),
        other in any::<u32>(),
        cut in 1_usize..47,
    ) {
        prop_assume!(one != other);
        let (a, b) = (good(one, 0).0, good(other, 1).0);
        let mixed = [&a.as_bytes()[..cut], &b.as_bytes()[cut..]].concat();
        prop_assume!(mixed != a.as_bytes() && mixed != b.as_bytes());
        prop_assert!(InsertToken::verify(&keys(1, "g"), &mixed, NOW).is_err());
    }

    #[test]
    fn another_groups_or_secrets_cookie_binds_nobody(tag in any::<u32>()) {
        let (insert, rewrite) = good(tag, 0);
        for keys in [keys(2, "g"), keys(1, "h")] {
            prop_assert!(InsertToken::verify(&keys, insert.as_bytes(), NOW).is_err());
            prop_assert!(RewriteToken::verify(&keys, rewrite.as_bytes(), NOW).is_err());
        }
    }

    /// Whatever else stands in the field, what is left is the other cookies, and
    /// nothing of ours.
    #[test]
    fn other_cookies_survive(
        others in prop::collection::vec(("[a-z]{1,4}", "[ -:<-~]{0,6}"), 0..5),
        at in any::<prop::sample::Index>(),
    ) {
        let (insert, _) = good(7, 0);
        let ours = format!("SID={}", std::str::from_utf8(insert.as_bytes()).unwrap());
        let mut pairs: Vec<String> =
            others.iter().map(|(name, value)| format!("{name}={}", value.trim())).collect();
        let clean = pairs.join("; ");
        pairs.insert(at.index(pairs.len() + 1), ours);
        let names = CookieNames { inserted: vec!["SID".into()], rewritten: Vec::new() };
        let field = pairs.join("; ");
        let left = without_ours(field.as_bytes(), &names).unwrap();
        prop_assert_eq!(String::from_utf8(left).unwrap(), clean.trim());
    }

    /// What an application sets is what it gets back.
    #[test]
    fn the_applications_value_comes_back(value in "[!#-:<-~]{0,20}|\"[!#-:<-~ ]{0,20}\"") {
        let (_, token) = good(7, 1);
        let field = format!("id={value}; Path=/; Weird=\u{e9}");
        let place = token_place(field.as_bytes(), b"id").unwrap();
        let (before, after) = field.as_bytes().split_at(place);
        let sent = [before, token.as_bytes(), after].concat();
        // A browser keeps what stands between `=` and the first `;`.
        let end = sent.iter().position(|byte| *byte == b';').unwrap();
        let kept = &sent[..end];
        let held: Vec<_> = values(kept, b"id").collect();
        prop_assert_eq!(token_of(held[0]), Some(token.as_bytes()));
        let names = CookieNames { inserted: Vec::new(), rewritten: vec!["id".into()] };
        let back = without_ours(kept, &names).unwrap();
        prop_assert_eq!(String::from_utf8(back).unwrap(), format!("id={value}"));
    }

    #[test]
    fn nothing_panics(field in prop::collection::vec(any::<u8>(), 0..200)) {
        let names = CookieNames { inserted: vec!["a".into()], rewritten: vec!["b".into()] };
        let _ = without_ours(&field, &names);
        let _ = token_place(&field, b"a");
        let _ = values(&field, b"a").map(token_of).count();
    }
}
