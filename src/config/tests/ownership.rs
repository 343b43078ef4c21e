//! Random sequences of file sets: nothing ever has two owners, and an owner
//! keeps what it has while it goes on claiming it, whatever the others do.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::directory::{keep, serving, verdicts};
use super::*;

const FILES: [&str; 4] = ["a", "b", "c", "d"];
const DOMAINS: [&str; 5] = ["x.com", "*.x.com", "y.x.com", "*.y.x.com", "z.com"];

/// What a file is at one time.
#[derive(Clone, Debug)]
enum Text {
    Absent,
    Bad,
    /// Pairs of a domain and a port, by number.
    Claims(BTreeSet<(usize, u16)>),
}

fn text() -> impl Strategy<Value = Text> {
    let claims = proptest::collection::btree_set((0..DOMAINS.len(), 8080_u16..8082), 1..4);
    prop_oneof![1 => Just(Text::Absent), 1 => Just(Text::Bad), 6 => claims.prop_map(Text::Claims)]
}

fn pairs(claims: &BTreeSet<(usize, u16)>) -> BTreeSet<(String, u16)> {
    claims.iter().map(|(domain, port)| (DOMAINS[*domain].to_owned(), *port)).collect()
}

fn written(claims: &BTreeSet<(usize, u16)>) -> String {
    let listener = |(domain, port): &(usize, u16)| {
        let domain = DOMAINS[*domain];
        format!(
            "[[listener]]\ndomain = \"{domain}\"\nport = {port}\nprotocol = \"http\"\ngroup = \"g\"\n"
        )
    };
    let listeners: String = claims.iter().map(listener).collect();
    listeners + "[group.g]\nbackends = [\"10.0.0.1:80\"]\n"
}

type Owned = BTreeMap<String, BTreeSet<(String, u16)>>;

fn owned(reading: &Reading) -> Owned {
    let mut owned = Owned::new();
    for game in reading.config.iter().flat_map(|config| &config.games) {
        let own = owned.entry(game.name.to_string()).or_default();
        for listener in &game.listeners {
            for domain in &listener.domains {
                own.extend(listener.ports.iter().map(|port| (domain.to_string(), *port)));
            }
        }
    }
    owned
}

fn below(one: &str, other: &str) -> bool {
    other.strip_prefix('*').is_some_and(|parent| one != other && one.ends_with(parent))
}

fn check(steps: &[[Text; 4]]) -> Result<(), TestCaseError> {
    let dir = dir(&[]);
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    let mut kept = BTreeMap::new();
    let mut before = Owned::new();
    let ask = Ask { all: false, allow_empty: true };
    for step in steps {
        for (name, text) in FILES.iter().zip(step) {
            let file = path(&dir, &format!("{name}.toml"));
            match text {
                Text::Absent => drop(fs::remove_file(file)),
                Text::Bad => fs::write(file, "bad").unwrap(),
                Text::Claims(claims) => fs::write(file, written(claims)).unwrap(),
            }
        }
        let reading = directory.read(ask);
        keep(&mut kept, &reading);
        let now = owned(&reading);
        for (name, text) in FILES.iter().zip(step) {
            let empty = BTreeSet::new();
            let had = before.get(*name).unwrap_or(&empty);
            let has = now.get(*name).unwrap_or(&empty);
            match text {
                Text::Absent => prop_assert!(has.is_empty()),
                Text::Bad => prop_assert_eq!(has, had),
                Text::Claims(claims) => {
                    let claims = pairs(claims);
                    prop_assert!(claims.intersection(had).all(|pair| has.contains(pair)));
                    prop_assert!(*has == claims || has == had, "all of a version or nothing");
                }
            }
            for (other, others) in now.iter().filter(|(other, _)| *other < &(*name).to_owned()) {
                for ((domain, port), (another, other_port)) in
                    has.iter().flat_map(|one| others.iter().map(move |two| (one, two)))
                {
                    let apart =
                        domain != another && !below(domain, another) && !below(another, domain);
                    prop_assert!(
                        port != other_port || apart,
                        "{domain} of {name}, {another} of {other}"
                    );
                }
            }
        }
        // Nothing was left undone, and a start comes to the same.
        let again = directory.read(ask);
        prop_assert!(!verdicts(&again).iter().any(|line| line.ends_with("accepted")));
        prop_assert_eq!(&owned(&again), &now);
        let cold = Directory::new(dir.path(), kept.clone()).read(ask);
        prop_assert_eq!(&owned(&cold), &now, "{:?}", serving(&cold));
        before = now;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn an_owner_keeps_what_it_claims(
        steps in proptest::collection::vec([text(), text(), text(), text()], 1..8)
    ) {
        check(&steps)?;
    }
}
