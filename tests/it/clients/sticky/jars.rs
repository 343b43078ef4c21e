//! Cookie jars of programs: curl's, and Python's behind urllib and httpx.

use std::path::PathBuf;

use super::{GROUPS, Games};
use crate::clients::tools::{Player, program, python, run, trusted};

/// A client with a cookie jar, at `a.test`.
trait Jar {
    /// Who answers this path.
    fn get(&mut self, path: &str) -> String;
    /// From now on it was never here.
    fn forget(&mut self);
}

/// One curl a request; what they share is a file.
struct Curl {
    home: PathBuf,
    origin: String,
}

impl Jar for Curl {
    fn get(&mut self, path: &str) -> String {
        let (_, address) = self.origin.split_once("://").unwrap();
        let jar = self.home.join("jar");
        let mut command = program("curl", &self.home);
        command
            .args(["--disable", "--silent", "--show-error", "--fail", "--max-time", "50"])
            .arg("--cacert")
            .arg(trusted(&self.home))
            .args(["--resolve", &format!("{address}:127.0.0.1")])
            .arg("--cookie")
            .arg(&jar)
            .arg("--cookie-jar")
            .arg(&jar)
            .arg(format!("{}{path}", self.origin));
        run(command)
    }

    fn forget(&mut self) {
        std::fs::remove_file(self.home.join("jar")).unwrap();
    }
}

impl Jar for Player {
    fn get(&mut self, path: &str) -> String {
        self.told(path)
    }

    fn forget(&mut self) {
        assert_eq!(self.told("new"), "new");
    }
}

fn origin(games: &Games, protocol: &str) -> String {
    let port = if protocol == "https" { &games.https } else { &games.http };
    format!("{protocol}://a.test:{port}")
}

#[track_caller]
fn stays(mut games: Games, jar: &mut dyn Jar) {
    let paths = GROUPS.map(|(group, path)| (format!("a.test/{group}"), format!("{path}who")));
    let homes = paths.each_ref().map(|(_, path)| jar.get(path));
    let all_stay = |jar: &mut dyn Jar| {
        for ((_, path), home) in paths.iter().zip(&homes) {
            let names = [(); 4].map(|()| jar.get(path));
            assert!(names.iter().all(|name| name == home), "{path}: {home}, then {names:?}");
        }
    };
    all_stay(jar);
    games.restart();
    all_stay(jar);
    games.drain(paths.iter().zip(&homes).map(|((group, _), home)| format!("{group} {home}")));
    games.restart();
    all_stay(jar);
    for _ in 0..4 {
        jar.forget();
        let names = paths.each_ref().map(|(_, path)| jar.get(path));
        for (name, home) in names.iter().zip(&homes) {
            assert_ne!(name, home, "it drains");
        }
    }
    games.assert_own_cookies();
}

#[test]
#[ignore = "needs curl, which .ci/run installs"]
fn curls_file_of_cookies() {
    for protocol in ["https", "http"] {
        let games = Games::start(false);
        let home = games.setup.path().to_owned();
        let mut curl = Curl { home, origin: origin(&games, protocol) };
        stays(games, &mut curl);
    }
}

#[track_caller]
fn pythons(client: &str, protocol: &str) {
    let games = Games::start(false);
    let home = games.setup.path();
    let mut command = python("sticky_client.py", home);
    command.arg(origin(&games, protocol)).arg(trusted(home)).arg(client);
    let mut player = Player::start(command);
    stays(games, &mut player);
    player.end();
}

#[test]
#[ignore = "needs Python and httpx, which .ci/run installs"]
fn pythons_cookiejar_in_urllib() {
    for protocol in ["https", "http"] {
        pythons("urllib", protocol);
    }
}

#[test]
#[ignore = "needs Python and httpx, which .ci/run installs"]
fn pythons_cookiejar_in_httpx() {
    for (version, protocol) in [("http1", "https"), ("http1", "http"), ("http2", "https")] {
        pythons(version, protocol);
    }
}
