//! Players who stay: two games on one port, each with a group that inserts its
//! cookie and one that rewrites the application's, and clients with cookie jars
//! of their own. Lockgate starts anew under them, and their backends drain.

use std::collections::BTreeSet;

use tungstenite::handshake::derive_accept_key;

use crate::support::{Backend, Exchange, Lockgate, Port, Setup};

mod browser;
mod jars;

/// The path of each group.
const GROUPS: [(&str, &str); 2] = [("web", "/"), ("app", "/app/")];

/// `a.test` and `b.test`, and `portal.test`, which shows the second in a frame.
struct Games {
    setup: Setup,
    https: Port,
    http: Port,
    partitioned: bool,
    games: [(&'static str, [Backend; 3]); 2],
    portal: Backend,
    /// Group and name, such as `a.test/web A1`.
    draining: BTreeSet<String>,
    lockgate: Option<Lockgate>,
}

impl Games {
    /// `partitioned`: their cookies are.
    fn start(partitioned: bool) -> Self {
        let (https, http) = (Port::reserve(), Port::reserve());
        let port = https.number();
        let mut games = Self {
            setup: Setup::empty(),
            https,
            http,
            partitioned,
            games: [("a.test", 'A'), ("b.test", 'B')].map(|(domain, letter)| {
                let backend = |number| game_backend(format!("{letter}{number}"), partitioned);
                (domain, [1, 2, 3].map(backend))
            }),
            portal: Backend::scripted("portal", move |exchange| {
                let target = exchange.request().target();
                let frame = format!("<iframe src=\"https://b.test:{port}{target}\"></iframe>");
                page(exchange, "", &format!("<title>portal</title>{frame}"));
            }),
            draining: BTreeSet::new(),
            lockgate: None,
        };
        games.restart();
        games
    }

    /// With the files as they are to be now; the state directory stays, and so
    /// do the ports.
    fn restart(&mut self) {
        if let Some(mut lockgate) = self.lockgate.take() {
            assert_eq!(lockgate.terminate(), 0);
        }
        let setup = std::mem::replace(&mut self.setup, Setup::empty());
        let files =
            self.games.iter().map(|(domain, backends)| (*domain, self.file(domain, backends)));
        let portal = format!(
            "[[listener]]\ndomain = \"portal.test\"\nport = {}\ngroup = \"web\"\n\
             [group.web]\nbackends = [\"{}\"]\n",
            self.https,
            self.portal.address()
        );
        let files = files.chain([("portal.test", portal)]);
        let setup =
            files.fold(setup, |setup, (domain, text)| setup.file(&format!("{domain}.toml"), &text));
        self.lockgate = Some(setup.start());
        self.setup = setup;
    }

    /// A game's drop-in.
    fn file(&self, domain: &str, backends: &[Backend]) -> String {
        let listener = |port: &Port, protocol: &str| {
            format!(
                "[[listener]]\ndomain = \"{domain}\"\nport = {port}\nprotocol = \"{protocol}\"\n\
                 group = \"web\"\n[[listener.rule]]\npath = \"/app/\"\ngroup = \"app\"\n"
            )
        };
        let group = |name: &str| {
            let backends = backends.iter().map(|backend| {
                let drains = self.draining.contains(&format!("{domain}/{name} {}", backend.name()));
                let state = if drains { "drain" } else { "ready" };
                format!("{{ address = \"{}\", state = \"{state}\" }}", backend.address())
            });
            format!("[group.{name}]\nbackends = [{}]\n", backends.collect::<Vec<_>>().join(", "))
        };
        [
            listener(&self.https, "https"),
            listener(&self.http, "http"),
            group("web"),
            format!("[group.web.sticky]\nmode = \"insert\"\npartitioned = {}\n", self.partitioned),
            group("app"),
            "[group.app.sticky]\nmode = \"rewrite\"\ncookie = \"session\"\n".to_owned(),
        ]
        .concat()
    }

    /// These drain from the next start on: group and name.
    fn drain(&mut self, homes: impl IntoIterator<Item = String>) {
        self.draining = homes.into_iter().collect();
    }

    fn backend(&self, name: &str) -> &Backend {
        let mut all = self.games.iter().flat_map(|(_, backends)| backends);
        all.find(|backend| backend.name() == name).unwrap()
    }

    /// What a backend got: no cookie but the application's, and that with the
    /// value the backend itself gave it.
    #[track_caller]
    fn assert_own_cookies(&self) {
        for backend in self.games.iter().flat_map(|(_, backends)| backends) {
            let session = format!("session={}", session(backend.name()));
            for request in backend.requests() {
                let cookies = request.values("cookie");
                let good = match cookies.as_slice() {
                    [] => true,
                    [one] => *one == session && request.target().starts_with("/app/"),
                    _ => false,
                };
                assert!(good, "{} got {cookies:?} at {}", backend.name(), request.target());
            }
        }
    }
}

/// A value with the mark in it that stands between our token and the value.
fn session(name: &str) -> String {
    format!("of~{name}~")
}

/// Answers with its name: as a page, to `who`, and in a WebSocket. Below
/// `/app/` it is an application that sets a cookie.
fn game_backend(name: String, partitioned: bool) -> Backend {
    let by = name.clone();
    Backend::scripted(&by, move |exchange| {
        let request = exchange.request();
        exchange.read_body();
        if let [key] = request.values("sec-websocket-key").as_slice() {
            return socket(exchange, &name, key);
        }
        let knows = request.values("cookie").concat().contains("session=");
        let set = if request.target().starts_with("/app/") && !knows {
            let secure = match request.value("x-forwarded-proto").as_str() {
                "https" if partitioned => "; Secure; SameSite=None; Partitioned",
                "https" => "; Secure; SameSite=None",
                _ => "",
            };
            format!("Set-Cookie: session={}; Path=/app/{secure}\r\n", session(&name))
        } else {
            String::new()
        };
        if request.target().ends_with("who") {
            exchange.send(format!(
                "HTTP/1.1 200 OK\r\n{set}Content-Length: {}\r\n\r\n{name}",
                name.len()
            ));
        } else {
            page(exchange, &set, &format!("<title>{name}</title>"));
        }
    })
}

fn page(exchange: &mut Exchange<'_>, lines: &str, html: &str) {
    let html = format!("<!DOCTYPE html>{html}");
    exchange.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{lines}Content-Length: {}\r\n\r\n{html}",
        html.len()
    ));
}

/// A WebSocket in which one message is sent.
fn socket(exchange: &mut Exchange<'_>, text: &str, key: &str) {
    let accept = derive_accept_key(key.as_bytes());
    exchange.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ));
    let mut frames = vec![0x81, u8::try_from(text.len()).unwrap()];
    frames.extend_from_slice(text.as_bytes());
    frames.extend_from_slice(&[0x88, 0]);
    exchange.send(frames);
    // The other side's close: no more than a head and a mask.
    exchange.read_raw(6);
    exchange.close();
}

/// The one backend that all of these names are.
#[track_caller]
fn only(names: &str) -> String {
    let all: BTreeSet<&str> = names.split(' ').collect();
    assert_eq!(all.len(), 1, "not one but several: {names}");
    all.into_iter().collect()
}
