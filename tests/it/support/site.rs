//! The usual case: one listener for `a.test`, one group `web`.

use super::{Backend, Client, Leaf, Lockgate, Port, Response, Setup};

/// A running lockgate with one listener.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) lockgate: Lockgate,
    port: Port,
    tls: bool,
}

/// What a [`Site`] will be.
#[derive(Debug)]
pub(crate) struct SiteBuilder {
    tls: bool,
    listener: String,
    rules: String,
    group: String,
    backends: Vec<String>,
    more: String,
    setup: Setup,
}

impl Site {
    /// Plain HTTP.
    pub(crate) fn http() -> SiteBuilder {
        SiteBuilder {
            tls: false,
            listener: String::new(),
            rules: String::new(),
            group: String::new(),
            backends: Vec::new(),
            more: String::new(),
            setup: Setup::empty(),
        }
    }

    /// HTTPS with a certificate for `a.test`.
    pub(crate) fn https() -> SiteBuilder {
        SiteBuilder { tls: true, ..Self::http() }
    }

    /// Plain HTTP before this backend, everything at its default.
    pub(crate) fn before(backend: &Backend) -> Self {
        Self::http().backend(backend).start()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// A new connection, over TLS where the listener speaks it.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        if self.tls { Client::tls(self.port(), "a.test") } else { Client::plain(self.port()) }
    }

    /// `GET` on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.connect().get("a.test", target)
    }

    /// `POST` on a connection of its own.
    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: &[u8]) -> Response {
        self.connect().post("a.test", target, body)
    }

    /// These bytes on a connection of their own.
    #[track_caller]
    pub(crate) fn request(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.connect().request(bytes)
    }
}

impl SiteBuilder {
    /// Lines of the `[[listener]]`.
    pub(crate) fn listener(mut self, lines: &str) -> Self {
        self.listener.push_str(&format!("{lines}\n"));
        self
    }

    /// Lines of the `[group.web]`.
    pub(crate) fn group(mut self, lines: &str) -> Self {
        self.group.push_str(&format!("{lines}\n"));
        self
    }

    /// One `[[listener.rule]]` with these lines.
    pub(crate) fn rule(mut self, lines: &str) -> Self {
        self.rules.push_str(&format!("[[listener.rule]]\n{lines}\n"));
        self
    }

    pub(crate) fn backend(self, backend: &Backend) -> Self {
        self.address(&backend.address())
    }

    /// A backend with more keys, written as in a drop-in.
    pub(crate) fn backend_with(mut self, backend: &Backend, keys: &str) -> Self {
        self.backends.push(format!("{{ address = \"{}\", {keys} }}", backend.address()));
        self
    }

    /// A backend that is no [`Backend`], with more keys.
    pub(crate) fn address_with(mut self, address: &str, keys: &str) -> Self {
        self.backends.push(format!("{{ address = \"{address}\", {keys} }}"));
        self
    }

    /// A backend that is no [`Backend`].
    pub(crate) fn address(mut self, address: &str) -> Self {
        self.backends.push(format!("\"{address}\""));
        self
    }

    /// Tables after all others.
    pub(crate) fn more(mut self, text: &str) -> Self {
        self.more.push_str(text);
        self
    }

    /// Keys at the top of `lockgate.toml`.
    pub(crate) fn top(mut self, text: &str) -> Self {
        self.setup = self.setup.top(text);
        self
    }

    /// Tables of `lockgate.toml`.
    pub(crate) fn process(mut self, text: &str) -> Self {
        self.setup = self.setup.process(text);
        self
    }

    /// A file anywhere in the directory.
    pub(crate) fn any_file(mut self, name: &str, text: &str) -> Self {
        self.setup = self.setup.any_file(name, text);
        self
    }

    /// `certs/NAME.crt` and `certs/NAME.key`.
    pub(crate) fn leaf(mut self, name: &str, leaf: &Leaf) -> Self {
        self.setup = self.setup.leaf(name, leaf);
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.setup = self.setup.env(name, value);
        self
    }

    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.setup = self.setup.workers(workers);
        self
    }

    pub(crate) fn descriptors(mut self, limit: u32) -> Self {
        self.setup = self.setup.descriptors(limit);
        self
    }

    /// Writes `game.toml` and starts lockgate on it.
    #[track_caller]
    pub(crate) fn start(self) -> Site {
        let Self { tls, listener, rules, group, backends, more, setup } = self;
        let port = Port::reserve();
        let protocol = if tls { "https" } else { "http" };
        let backends = backends.join(", ");
        let text = format!(
            "[[listener]]\ndomain = \"a.test\"\nport = {port}\nprotocol = \"{protocol}\"\n\
             group = \"web\"\n{listener}\n{rules}\n[group.web]\nbackends = [{backends}]\n{group}\n\
             {more}\n"
        );
        Site { lockgate: setup.file("game.toml", &text).start(), port, tls }
    }
}

/// A plain `[[listener]]` with more lines.
pub(crate) fn http_listener(domain: &str, port: &Port, lines: &str) -> String {
    format!("[[listener]]\ndomain = \"{domain}\"\nport = {port}\nprotocol = \"http\"\n{lines}\n\n")
}

/// An HTTPS `[[listener]]` with more lines.
pub(crate) fn https_listener(domain: &str, port: &Port, lines: &str) -> String {
    format!("[[listener]]\ndomain = \"{domain}\"\nport = {port}\n{lines}\n\n")
}

/// A `[group.NAME]` with one backend.
pub(crate) fn group(name: &str, backend: &Backend) -> String {
    format!("[group.{name}]\nbackends = [\"{}\"]\n\n", backend.address())
}
