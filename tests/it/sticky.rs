//! Sticky cookies (SEMANTICS CI and CR, DESIGN 4.3 and 4.4): a client comes
//! back to the backend it was on.

use crate::support::{Backend, Lockgate, Port, Response, Setup, Site, SiteBuilder, http_listener};

mod admin_state;
mod balance;
mod insert;
mod rewrite;
mod standing;

/// Three backends, called B1, B2 and B3.
fn three() -> [Backend; 3] {
    ["B1", "B2", "B3"].map(Backend::named)
}

/// The group of a site, with `[group.web.sticky]`.
fn sticky(site: SiteBuilder, backends: &[Backend], keys: &str) -> Site {
    let site = backends.iter().fold(site, SiteBuilder::backend);
    site.more(&format!("[group.web.sticky]\n{keys}\n")).start()
}

/// The value a response sets a cookie to, if it sets one.
#[track_caller]
fn set(response: &Response, name: &str) -> Option<String> {
    let all = response.values("set-cookie");
    let ours: Vec<&str> =
        all.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
    assert!(ours.len() < 2, "{all:?}");
    ours.first().map(|line| line.split(';').next().unwrap_or_default().to_owned())
}

/// `GET` on a connection of its own, with this `Cookie`.
#[track_caller]
fn get(site: &Site, target: &str, cookie: &str) -> Response {
    ask(&mut site.connect(), target, cookie)
}

#[track_caller]
fn ask(client: &mut crate::support::Client, target: &str, cookie: &str) -> Response {
    let field = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
    client.request(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{field}\r\n"))
}

/// What a new client gets: its backend's name, and `SERVERID=…`.
#[track_caller]
fn newcomer(site: &Site) -> (String, String) {
    let response = site.get("/").expect(200);
    let value = set(&response, "SERVERID").expect("a cookie");
    (response.backend(), format!("SERVERID={value}"))
}

/// A number of `/status.json`, by its pointer.
#[track_caller]
fn status(lockgate: &Lockgate, pointer: &str) -> u64 {
    let response = lockgate.admin().get(&lockgate.admin_host(), "/status.json").expect(200);
    let status: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let number = status.pointer(pointer).and_then(serde_json::Value::as_u64);
    number.unwrap_or_else(|| panic!("no number at {pointer} in {status:#}"))
}

/// A game whose file is written anew between two starts.
struct Game {
    setup: Setup,
    port: Port,
}

impl Game {
    fn new() -> Self {
        Game { setup: Setup::empty(), port: Port::reserve() }
    }

    /// Starts lockgate with these backends, each with its keys, and more text
    /// behind them.
    #[track_caller]
    fn start(&self, backends: &[(&Backend, &str)], more: &str) -> Lockgate {
        let backends: Vec<String> = backends
            .iter()
            .map(|(backend, keys)| {
                let comma = if keys.is_empty() { "" } else { ", " };
                format!("{{ address = \"{}\"{comma}{keys} }}", backend.address())
            })
            .collect();
        let listener = http_listener("a.test", &self.port, "group = \"web\"");
        let text = format!(
            "{listener}[group.web]\nbackends = [{}]\n[group.web.sticky]\nmode = \"insert\"\n{more}\n",
            backends.join(", ")
        );
        std::fs::create_dir_all(self.setup.path().join("listeners.d")).unwrap();
        std::fs::write(self.setup.path().join("listeners.d/game.toml"), text).unwrap();
        self.setup.start()
    }

    #[track_caller]
    fn get(&self, cookie: &str) -> Response {
        ask(&mut crate::support::Client::plain(self.port.number()), "/", cookie)
    }

    /// Asks as a new client until it is this backend that answers; gives the
    /// cookie.
    #[track_caller]
    fn bound_to(&self, name: &str) -> String {
        for _ in 0..20 {
            let response = self.get("").expect(200);
            if response.backend() == name {
                return format!("SERVERID={}", set(&response, "SERVERID").expect("a cookie"));
            }
        }
        panic!("nobody gets to {name}");
    }
}
