//! What the operator says at run time: `lockgate drain`, `maint` and `ready`.

use std::os::unix::fs::PermissionsExt as _;

use super::{Game, set, three};
use crate::support::{Backend, Lockgate};

/// `game/web/BACKEND`.
fn name(backend: &Backend) -> String {
    format!("game/web/{}", backend.address())
}

/// What the status document says of the first backend: its state, and whose word
/// that is.
#[track_caller]
fn shown(lockgate: &Lockgate) -> (String, String) {
    let document = lockgate.run(&["status", "--json"]).expect(0).stdout;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let backend = &document["games"][0]["groups"][0]["backends"][0];
    let text = |key: &str| backend[key].as_str().unwrap().to_owned();
    assert_eq!(backend["state_since"].is_null(), text("state_set_by") == "file", "{backend}");
    (text("state"), text("state_set_by"))
}

fn pair(state: &str, by: &str) -> (String, String) {
    (state.to_owned(), by.to_owned())
}

/// The bound client stays on B1, and nobody new gets there.
#[track_caller]
fn assert_draining(game: &Game, cookie: &str) {
    for _ in 0..6 {
        assert_ne!(game.get("").expect(200).backend(), "B1");
        let response = game.get(cookie).expect(200);
        assert_eq!((response.backend().as_str(), set(&response, "SERVERID")), ("B1", None));
    }
}

#[test]
fn a_drain_holds_over_reload_and_restart_until_it_is_taken_back() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let all = [(b1, ""), (b2, ""), (b3, "")];
    let lockgate = game.start(&all, "");
    let cookie = game.bound_to("B1");
    assert_eq!(shown(&lockgate), pair("ready", "file"));
    let said = lockgate.run(&["drain", &name(b1)]).expect(0).stdout;
    assert!(said.starts_with(&format!("{}: drain, was ready: players of", name(b1))), "{said}");
    assert_draining(&game, &cookie);
    assert_eq!(shown(&lockgate), pair("drain", "operator"));
    let table = lockgate.run(&["status"]).expect(0).stdout;
    assert!(table.contains("drain by the operator since "), "{table}");
    let url = format!("http://a.test:{}/", game.port);
    let explained = lockgate.run(&["explain", &url]).expect(0).stdout;
    assert!(explained.contains("it is in drain, the operator says"), "{explained}");
    // A reload that has nothing to do with it, and one that says something else.
    let file = "listeners.d/game.toml";
    let text = std::fs::read_to_string(lockgate.path().join(file)).unwrap();
    lockgate.write(file, text.replace("[group.web]", "[group.web]\nmax_idle = 3"));
    lockgate.reload();
    assert_draining(&game, &cookie);
    let address = format!("address = \"{}\"", b1.address());
    lockgate.write(file, text.replace(&address, &format!("{address}, state = \"ready\"")));
    lockgate.reload();
    assert_draining(&game, &cookie);
    let kept = lockgate.path().join("state/admin-state.json");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    drop(lockgate);
    let lockgate = game.start(&all, "");
    assert_eq!(shown(&lockgate), pair("drain", "operator"));
    assert_draining(&game, &cookie);
    let said = lockgate.run(&["ready", "game/web"]).expect(0).stdout;
    assert!(said.contains(": ready, was drain (as its file says): "), "{said}");
    assert_eq!(shown(&lockgate), pair("ready", "file"));
    let _ = game.bound_to("B1");
    drop(lockgate);
    let lockgate = game.start(&all, "");
    assert_eq!(shown(&lockgate), pair("ready", "file"));
}

#[test]
fn maint_moves_the_players() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let lockgate = game.start(&[(b1, ""), (b2, ""), (b3, "")], "");
    let cookie = game.bound_to("B1");
    lockgate.run(&["maint", &name(b1)]).expect(0);
    assert_eq!(shown(&lockgate), pair("maint", "operator"));
    let response = game.get(&cookie).expect(200);
    assert_ne!(response.backend(), "B1");
    assert!(set(&response, "SERVERID").is_some(), "bound anew");
    for _ in 0..6 {
        assert_ne!(game.get("").expect(200).backend(), "B1");
    }
    // All of the game, several at once.
    let said = lockgate.run(&["maint", "game/web", &name(b2)]).expect(0);
    let warning = "warning: no backend of `game/web` takes new clients now: they get 502\n";
    assert_eq!(said.stderr, warning);
    game.get("").expect(502);
    game.get(&cookie).expect(502);
    assert_eq!(lockgate.run(&["ready", "game"]).expect(0).stderr, "");
    let _ = game.bound_to("B1");
}

#[test]
fn what_the_file_says_is_overruled_until_it_holds_as_written() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let lockgate = game.start(&[(b1, "state = \"drain\""), (b2, ""), (b3, "")], "");
    assert_eq!(shown(&lockgate), pair("drain", "file"));
    lockgate.run(&["ready", &name(b1)]).expect(0);
    assert_eq!(shown(&lockgate), pair("ready", "operator"));
    let cookie = game.bound_to("B1");
    let said = lockgate.run(&["ready", "--as-written", &name(b1)]).expect(0).stdout;
    assert!(said.contains(": drain, was ready (as its file says): "), "{said}");
    assert_eq!(shown(&lockgate), pair("drain", "file"));
    assert_draining(&game, &cookie);
}

/// Kept by the names, whatever becomes of the backend meanwhile.
#[test]
fn one_that_is_removed_and_comes_back_is_as_the_operator_left_it() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let lockgate = game.start(&[(b1, "name = \"one\""), (b2, ""), (b3, "")], "");
    let file = "listeners.d/game.toml";
    let with = std::fs::read_to_string(lockgate.path().join(file)).unwrap();
    let of_b1 = format!("{{ address = \"{}\", name = \"one\" }}, ", b1.address());
    let without = with.replace(&of_b1, "");
    assert_ne!(with, without);
    lockgate.run(&["drain", "game/web/one"]).expect(0);
    lockgate.write(file, &without);
    lockgate.reload();
    lockgate.run(&["ready", "game/web/one"]).expect(1);
    lockgate.write(file, &with);
    lockgate.reload();
    assert_eq!(shown(&lockgate), pair("drain", "operator"));
    for _ in 0..6 {
        assert_ne!(game.get("").expect(200).backend(), "B1");
    }
    // While it is gone the word can be taken back, too.
    lockgate.write(file, &without);
    lockgate.reload();
    lockgate.run(&["ready", "--as-written", "game/web/one"]).expect(0);
    lockgate.write(file, &with);
    lockgate.reload();
    assert_eq!(shown(&lockgate), pair("ready", "file"));
}

#[test]
fn a_name_that_means_nothing_changes_nothing() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let lockgate = game.start(&[(b1, "name = \"alpha\""), (b2, "name = \"beta\""), (b3, "")], "");
    for (wrong, says) in [
        ("gmae", "there is no game `gmae`: did you mean `game`?"),
        ("game/wbe", "`game` has no group `wbe`: did you mean `web`?"),
        ("game/web/aplha", "`game/web` has no backend `aplha`: did you mean `alpha`?"),
        ("game/web/", "`game/web` has no backend ``: the backends are `alpha`, `beta`, "),
        ("", "there is no game ``: the games are `game`; write GAME, "),
    ] {
        let refused = lockgate.run(&["drain", "game/web/alpha", wrong]).expect(1);
        assert!(refused.stderr.contains(says), "{wrong}: {}", refused.stderr);
        assert_eq!(shown(&lockgate), pair("ready", "file"));
    }
    lockgate.run(&["drain"]).expect(2);
}

#[test]
fn a_file_that_cannot_be_used_is_told_and_keeps_nobody_from_serving() {
    let backends = three();
    let [b1, b2, b3] = &backends;
    let game = Game::new();
    let all = [(b1, ""), (b2, ""), (b3, "")];
    let lockgate = game.start(&all, "");
    lockgate.run(&["maint", &name(b1)]).expect(0);
    let kept = lockgate.path().join("state/admin-state.json");
    drop(lockgate);
    std::fs::write(&kept, "{\"version\": 1, \"backends\": [{").unwrap();
    let lockgate = game.start(&all, "");
    lockgate.wait_for_log(&["admin-state.json", "cannot be used"]);
    assert_eq!(shown(&lockgate), pair("ready", "file"));
    lockgate.run(&["drain", &name(b1)]).expect(0);
    drop(lockgate);
    // One that cannot be written: it holds, and it is said for how long.
    let lockgate = game.start(&all, "");
    assert_eq!(shown(&lockgate), pair("drain", "operator"));
    std::fs::remove_file(&kept).unwrap();
    std::fs::create_dir_all(kept.join("full")).unwrap();
    let said = lockgate.run(&["maint", &name(b1)]).expect(1);
    assert!(said.stderr.contains("only until lockgate ends"), "{}", said.stderr);
    assert_eq!(shown(&lockgate), pair("maint", "operator"));
}
