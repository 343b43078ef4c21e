//! Chromium: both games of the port, one of them in a frame of a third site.

use std::collections::BTreeSet;

use super::{GROUPS, Games, only, session};
use crate::clients::browser::believe;
use crate::clients::tools::{Player, node};

/// A page that stays open: its URL, and the group that answers it.
struct Seat {
    url: String,
    group: String,
}

/// Game A as the page itself, game B in a frame of the third site.
fn seats(games: &Games) -> Vec<Seat> {
    let seat = |(site, game): (&str, &str)| {
        let port = games.https.number();
        GROUPS.map(|(group, path)| Seat {
            url: format!("https://{site}:{port}{path}"),
            group: format!("{game}/{group}"),
        })
    };
    [("a.test", "a.test"), ("portal.test", "b.test")].map(seat).into_iter().flatten().collect()
}

/// What a browser does with the cookies of other sites in its frames.
#[derive(Clone, Copy)]
enum Others {
    Allowed,
    /// It keeps those that are partitioned.
    Blocked,
}

fn chromium(games: &Games, others: Others) -> Player {
    let home = games.setup.path();
    believe(home);
    let others = match others {
        Others::Allowed => "allowed",
        Others::Blocked => "blocked",
    };
    let mut command = node("sticky_browser.js", home);
    command.args(["-", "-", others]);
    Player::start(command)
}

/// Opens a seat's page; gives the names of who answered its requests.
fn open(browser: &mut Player, seat: &Seat) -> String {
    browser.told(&format!("open {} {}", seat.group, seat.url))
}

#[track_caller]
fn all_stay(browser: &mut Player, seats: &[Seat], homes: &[String]) {
    for (seat, home) in seats.iter().zip(homes) {
        for order in ["again", "inside"] {
            let names = browser.told(&format!("{order} {}", seat.group));
            assert_eq!(only(&names), *home, "{} {order}", seat.group);
        }
    }
}

/// Over a restart of lockgate, and over the drain of their backends.
#[track_caller]
fn everybody_stays(partitioned: bool, others: Others) {
    let mut games = Games::start(partitioned);
    let mut browser = chromium(&games, others);
    let seats = seats(&games);
    let homes: Vec<String> = seats.iter().map(|seat| only(&open(&mut browser, seat))).collect();
    all_stay(&mut browser, &seats, &homes);
    games.restart();
    all_stay(&mut browser, &seats, &homes);
    games.drain(seats.iter().zip(&homes).map(|(seat, home)| format!("{} {home}", seat.group)));
    games.restart();
    all_stay(&mut browser, &seats, &homes);
    for (seat, home) in seats.iter().zip(&homes) {
        // As many as there are backends: one would get there.
        for _ in 0..3 {
            let names = browser.told(&format!("newcomer {}", seat.url));
            let elsewhere = names.split(' ').all(|name| name != home);
            assert!(elsewhere, "{}: {home} drains, but {names}", seat.group);
        }
    }
    browser.end();
    games.assert_own_cookies();
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn players_stay_in_pages_and_in_frames() {
    everybody_stays(false, Others::Allowed);
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn partitioned_cookies_hold_where_those_of_other_sites_are_blocked() {
    everybody_stays(true, Others::Blocked);
}

/// The page is loaded again, its script fetches and opens a WebSocket: the player
/// sees none of it.
#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn a_player_moves_when_the_backend_is_killed() {
    let games = Games::start(false);
    let mut browser = chromium(&games, Others::Allowed);
    let seat = &seats(&games)[0];
    let home = only(&open(&mut browser, seat));
    games.backend(&home).kill();
    let next = only(&browser.told(&format!("again {}", seat.group)));
    assert_ne!(next, home);
    all_stay(&mut browser, std::slice::from_ref(seat), std::slice::from_ref(&next));
    browser.end();
}

/// What `partitioned` is for: nobody holds a client that is given no cookie to
/// keep.
#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn other_cookies_do_not_hold_there() {
    let games = Games::start(false);
    let mut browser = chromium(&games, Others::Blocked);
    for seat in seats(&games) {
        let names = open(&mut browser, &seat);
        let all: BTreeSet<&str> = names.split(' ').collect();
        let in_frame = seat.group.starts_with("b.test");
        assert_eq!(all.len(), if in_frame { 3 } else { 1 }, "{}: {names}", seat.url);
    }
    browser.end();
}

/// The application's cookie as its script in the page sees it: with our token
/// in front. The backend gets what the script makes of the value behind it.
#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn the_pages_script_may_change_the_applications_cookie() {
    let games = Games::start(false);
    let mut browser = chromium(&games, Others::Blocked);
    let seats = seats(&games);
    let seat = seats.iter().find(|seat| seat.group == "a.test/app").unwrap();
    let home = only(&open(&mut browser, seat));
    let seen = browser.told("cookies a.test/app");
    let token = seen.strip_prefix("session=lg-").unwrap();
    let token = token.strip_suffix(&format!("~{}", session(&home))).unwrap();
    assert!(!token.contains('~') && !token.is_empty(), "{seen}");

    let written = browser.told("append a.test/app +more");
    assert_eq!(written, format!("{seen}+more"));
    let before = games.backend(&home).executions();
    all_stay(&mut browser, std::slice::from_ref(seat), std::slice::from_ref(&home));
    browser.end();
    let requests = games.backend(&home).requests().split_off(before);
    let app = requests.iter().filter(|request| request.target().starts_with("/app/"));
    let cookies: BTreeSet<String> = app.map(|request| request.value("cookie")).collect();
    assert_eq!(cookies, BTreeSet::from([format!("session={}+more", session(&home))]));
}
