//! A drop-in stands alone (DESIGN 4.2), and keeps what it has (4.1): its last
//! good version serves on, also after a restart; nobody takes its domain.

use std::fs;

use crate::support::{
    Backend, Client, Lockgate, Port, Setup, authority, group, http_listener, https_listener,
};

fn game(domain: &str, port: &Port, backend: &Backend) -> String {
    http_listener(domain, port, "group = \"web\"") + &group("web", backend)
}

fn served(port: &Port, domain: &str) -> String {
    Client::plain(port.number()).get(domain, "/").expect(200).backend()
}

#[test]
fn the_last_good_version_serves_after_a_restart() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (plain, secure) = (Port::reserve(), Port::reserve());
    let text = https_listener("a.test", &secure, "group = \"web\"") + &group("web", &b1);
    let setup = Setup::empty().file("a.toml", &text).file("b.toml", &game("b.test", &plain, &b2));
    assert_eq!(setup.start().terminate(), 0);
    // The certificate is gone too: it fits the version that serves.
    fs::write(setup.path().join("listeners.d/a.toml"), "rubbish").unwrap();
    fs::remove_file(setup.path().join("certs/a.test.key")).unwrap();
    let mut lockgate = setup.start();
    assert_eq!(
        Client::tls(secure.number(), "a.test").get("a.test", "/").expect(200).backend(),
        "B1"
    );
    assert_eq!(served(&plain, "b.test"), "B2");
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("a: refused: its last good version, of "), "{said}");
    let log = lockgate.log_to_the_end();
    assert!(log.contains("a.toml:1:"), "{log}");
    setup.run(&["check"]).expect(1);
}

#[test]
fn a_game_that_was_removed_stays_away() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let setup = Setup::empty()
        .file("a.toml", &game("a.test", &port, &b1))
        .file("b.toml", &game("b.test", &port, &b2));
    assert_eq!(setup.start().terminate(), 0);
    fs::remove_file(setup.path().join("listeners.d/a.toml")).unwrap();
    let mut lockgate = setup.start();
    Client::plain(port.number()).get("a.test", "/").expect(421);
    assert_eq!(served(&port, "b.test"), "B2");
    assert_eq!(lockgate.terminate(), 0);
    // A new one of the name that is bad has nothing that could stand in.
    fs::write(setup.path().join("listeners.d/a.toml"), "rubbish").unwrap();
    let lockgate = setup.start();
    Client::plain(port.number()).get("a.test", "/").expect(421);
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("a: refused: nothing of it serves"), "{said}");
    // What was wrong with it goes with it.
    fs::remove_file(setup.path().join("listeners.d/a.toml")).unwrap();
    lockgate.reload();
}

/// `a.toml` comes first by its name, and later by the clock.
#[test]
fn nobody_takes_a_domain_that_another_file_has() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let setup = Setup::empty().file("z.toml", &game("a.test", &port, &b1));
    let mut lockgate = setup.start();
    lockgate.write("listeners.d/a.toml", game("a.test", &port, &b2));
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("a.test` on port") && said.contains("z.toml:"), "{said}");
    assert_eq!(served(&port, "a.test"), "B1");
    // Nor after a restart, nor while the owner is broken.
    assert_eq!(lockgate.terminate(), 0);
    fs::write(setup.path().join("listeners.d/z.toml"), "rubbish").unwrap();
    let lockgate = setup.start();
    assert_eq!(served(&port, "a.test"), "B1");
    // It gives it up.
    lockgate.write("listeners.d/z.toml", game("z.test", &port, &b1));
    lockgate.reload();
    assert_eq!((served(&port, "a.test"), served(&port, "z.test")), ("B2".into(), "B1".into()));
}

#[test]
fn without_a_drop_in_everything_stays_unless_that_is_meant() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let setup = Setup::empty().file("a.toml", &game("a.test", &port, &b1));
    let mut lockgate = setup.start();
    let folder = setup.path().join("listeners.d");
    fs::rename(&folder, setup.path().join("unmounted")).unwrap();
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("this directory does not exist"), "{said}");
    assert_eq!(served(&port, "a.test"), "B1");
    // Nor does a start need it.
    assert_eq!(lockgate.terminate(), 0);
    let lockgate = setup.start();
    assert_eq!(served(&port, "a.test"), "B1");
    fs::create_dir(&folder).unwrap();
    lockgate.run(&["reload"]).expect(1);
    assert_eq!(served(&port, "a.test"), "B1");
    let said = lockgate.run(&["reload", "--allow-empty"]).expect(0).stdout;
    assert!(said.contains("a: removed"), "{said}");
    // That is remembered: it is what a reload and a start find good.
    lockgate.reload();
    let mut lockgate = lockgate;
    assert_eq!(lockgate.terminate(), 0);
    setup.run(&["check"]).expect(0);
    let mut lockgate = setup.start();
    assert!(lockgate.listening().is_empty());
    let status = lockgate.admin().get(&lockgate.admin_host(), "/status.json").expect(200).text();
    assert!(status.contains("\"games\": []"), "{status}");
    // And back, into a running process as into one that starts.
    lockgate.write("listeners.d/a.toml", game("a.test", &port, &b1));
    lockgate.reload();
    assert_eq!(served(&port, "a.test"), "B1");
    fs::remove_file(folder.join("a.toml")).unwrap();
    lockgate.run(&["reload", "--allow-empty"]).expect(0);
    assert_eq!(lockgate.terminate(), 0);
    fs::write(folder.join("a.toml"), game("a.test", &port, &b1)).unwrap();
    let mut lockgate = setup.start();
    assert_eq!(served(&port, "a.test"), "B1");
    // From now on an empty directory is a mistake again.
    fs::remove_file(folder.join("a.toml")).unwrap();
    assert_eq!(lockgate.terminate(), 0);
    let _lockgate = setup.start();
    assert_eq!(served(&port, "a.test"), "B1");
}

/// What `check` says is what `reload` would say: it knows who has what.
#[test]
fn check_knows_the_last_good_versions() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (port, secure) = (Port::reserve(), Port::reserve());
    let certified = https_listener("s.test", &secure, "group = \"web\"") + &group("web", &b1);
    let setup =
        Setup::empty().file("z.toml", &game("a.test", &port, &b1)).file("s.toml", &certified);
    assert_eq!(setup.start().terminate(), 0);
    setup.run(&["check"]).expect(0);
    // The earlier name is the later claim, and the owner is broken.
    fs::write(setup.path().join("listeners.d/a.toml"), game("a.test", &port, &b2)).unwrap();
    fs::write(setup.path().join("listeners.d/z.toml"), "rubbish").unwrap();
    let said = setup.run(&["check"]).expect(1).stderr;
    assert!(said.contains("already belongs to") && said.contains("z.toml:2"), "{said}");
    assert!(said.contains("its last good version, of "), "{said}");
    // Where it lies does not matter, and what is wrong with the rest is not told.
    let beside = setup.path().join("beside.toml");
    fs::write(&beside, game("a.test", &port, &b2)).unwrap();
    let said = setup.run(&["check", &beside.to_string_lossy()]).expect(1).stderr;
    assert!(said.contains("beside.toml:2") && said.contains("z.toml:2"), "{said}");
    assert!(!said.contains("last good version"), "{said}");
    // The new version of the owner may have it, and may give it up.
    fs::create_dir(setup.path().join("staged")).unwrap();
    let staged = setup.path().join("staged/z.toml");
    for domain in ["a.test", "z.test"] {
        fs::write(&staged, game(domain, &port, &b2)).unwrap();
        setup.run(&["check", &staged.to_string_lossy()]).expect(0);
    }
    fs::remove_file(setup.path().join("listeners.d/a.toml")).unwrap();
    fs::write(setup.path().join("listeners.d/z.toml"), game("a.test", &port, &b1)).unwrap();
    let expired = authority().expired(&["s.test"]);
    fs::write(setup.path().join("certs/s.test.crt"), &expired.chain_pem).unwrap();
    fs::write(setup.path().join("certs/s.test.key"), &expired.key_pem).unwrap();
    let said = setup.run(&["check"]).expect(1).stderr;
    assert!(said.contains("would replace a certificate that is valid until"), "{said}");
}

#[test]
fn check_does_without_a_state_directory_and_writes_nothing() {
    let b1 = Backend::named("B1");
    let setup = Setup::empty().file("a.toml", &game("a.test", &Port::reserve(), &b1));
    assert!(!setup.run(&["check"]).expect(0).text().contains("note:"));
    let state = setup.path().join("state");
    assert!(!state.exists());
    fs::create_dir(&state).unwrap();
    // It cannot be read.
    fs::write(state.join("good"), "").unwrap();
    let said = setup.run(&["check"]).expect(0).stderr;
    assert!(said.contains("note:") && said.contains("no last good version is known"), "{said}");
    assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
}

#[test]
fn an_expired_certificate_does_not_replace_a_valid_one() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let text = https_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    let lockgate = Setup::empty().file("a.toml", &text).start();
    let old = Client::tls(port.number(), "a.test").certificate();
    let expired = authority().expired(&["a.test"]);
    lockgate.write("certs/a.test.crt", &expired.chain_pem);
    lockgate.write("certs/a.test.key", &expired.key_pem);
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("expired on"), "{said}");
    assert_eq!(Client::tls(port.number(), "a.test").certificate(), old);
}

#[test]
fn a_bad_lockgate_toml_changes_nothing() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let lockgate = Setup::empty().file("a.toml", &game("a.test", &port, &b1)).start();
    let good = fs::read_to_string(lockgate.path().join("lockgate.toml")).unwrap();
    lockgate.write("lockgate.toml", "workers = \"many\"\n");
    lockgate.write("listeners.d/a.toml", game("a.test", &port, &b2));
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    assert!(said.contains("lockgate.toml:1:"), "{said}");
    assert_eq!(served(&port, "a.test"), "B2");
    lockgate.write("lockgate.toml", good);
    lockgate.reload();
}

#[test]
fn owners_say_who_may_claim_what() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let owners = format!("[owners]\n\"b*.toml\" = [\"*.b.test:{port}\"]\n");
    let lockgate =
        Setup::empty().process(&owners).file("a.toml", &game("a.test", &port, &b1)).start();
    lockgate.write("listeners.d/b.toml", game("x.b.test", &port, &b2));
    lockgate.write("listeners.d/c.toml", game("y.b.test", &port, &b2));
    lockgate.write("listeners.d/b2.toml", game("c.test", &port, &b2));
    let said = lockgate.run(&["reload"]).expect(1).stdout;
    for refused in ["b2: refused", "c: refused"] {
        assert!(said.contains(refused), "{said}");
    }
    assert_eq!(served(&port, "x.b.test"), "B2");
    for domain in ["c.test", "y.b.test"] {
        Client::plain(port.number()).get(domain, "/").expect(421);
    }
}

/// What a deployment does: a folder beside, and a link that is turned round.
#[test]
fn changed_files_are_applied_with_watch() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let setup = Setup::empty().top("watch = true\n").file("a.toml", &game("a.test", &port, &b1));
    let folder = setup.path().join("listeners.d");
    fs::rename(&folder, setup.path().join("one")).unwrap();
    std::os::unix::fs::symlink("one", &folder).unwrap();
    let lockgate: Lockgate = setup.start();
    assert_eq!(served(&port, "a.test"), "B1");
    fs::create_dir(setup.path().join("two")).unwrap();
    fs::write(setup.path().join("two/a.toml"), game("a.test", &port, &b2)).unwrap();
    // What an editor leaves beside is none.
    fs::write(setup.path().join("two/.a.toml.swp"), "rubbish").unwrap();
    fs::write(setup.path().join("two/a.toml~"), "rubbish").unwrap();
    std::os::unix::fs::symlink("two", setup.path().join("next")).unwrap();
    fs::rename(setup.path().join("next"), &folder).unwrap();
    lockgate.wait_for_log(&["INFO reloaded", "generation=2"]);
    assert_eq!(served(&port, "a.test"), "B2");
    // In place, too.
    fs::write(setup.path().join("two/a.toml"), game("a.test", &port, &b1)).unwrap();
    lockgate.wait_for_log(&["INFO reloaded", "generation=3"]);
    assert_eq!(served(&port, "a.test"), "B1");
}
