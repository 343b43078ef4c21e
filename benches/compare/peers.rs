//! The proxies: how each is configured and started.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::children::Child;
use crate::lab::Lab;
use crate::machine::{find, free_ports};
use crate::origin::{scratch_lines, user_line};
use crate::storm::Place;
use crate::{client, procfs};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Lockgate,
}

/// One column of the table.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// `nginx@2` is a second measurement of `nginx`.
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
}

impl Peer {
    /// `Ok(None)`: not installed.
    pub(crate) fn named(label: &str, lockgate: Option<&Path>) -> Result<Option<Self>, String> {
        if let Some(path) = lockgate.filter(|path| !path.is_file()) {
            return Err(format!("{} is not there", path.display()));
        }
        let (kind, program) = match label.split('@').next().unwrap_or_default() {
            "nginx" => (Kind::Nginx, find("nginx")),
            "haproxy" => (Kind::Haproxy, find("haproxy")),
            "lockgate" => (Kind::Lockgate, own_binary(lockgate)),
            _ => {
                return Err(format!("unknown peer {label}; there are nginx,haproxy,lockgate"));
            }
        };
        Ok(program.map(|program| Self { label: label.to_owned(), kind, program }))
    }

    pub(crate) fn version(&self) -> String {
        let flag = if self.kind == Kind::Lockgate { "--version" } else { "-v" };
        crate::machine::version(&self.program, flag)
    }

    /// Puts a cookie of its own into responses. Debian's nginx cannot.
    pub(crate) fn is_sticky(&self) -> bool {
        self.kind != Kind::Nginx
    }

    /// Starts it in a fresh folder behind `prefix` (valgrind) and waits until both ports answer.
    pub(crate) fn start(&self, lab: &Lab, prefix: &[String]) -> Result<Running, String> {
        self.start_with(lab, prefix, None)
    }

    /// Starts it before these backends, as it is best prepared for their failing.
    pub(crate) fn start_before(&self, lab: &Lab, backends: [u16; 3]) -> Result<Running, String> {
        self.start_with(lab, &[], Some(backends))
    }

    fn start_with(
        &self,
        lab: &Lab,
        prefix: &[String],
        backends: Option<[u16; 3]>,
    ) -> Result<Running, String> {
        // A port that was free may be taken a moment later.
        let mut last = String::new();
        for _ in 0..3 {
            match self.try_start(lab, prefix, backends) {
                Ok(running) => return Ok(running),
                Err(error) => last = error,
            }
        }
        Err(format!("{}: {last}", self.label))
    }

    fn try_start(
        &self,
        lab: &Lab,
        prefix: &[String],
        backends: Option<[u16; 3]>,
    ) -> Result<Running, String> {
        let folder = TempDir::new_in(lab.folder()).map_err(|error| error.to_string())?;
        let [http, https, sticky] = free_ports::<3>()?;
        let setup = Setup {
            lab,
            folder: folder.path().display().to_string(),
            http,
            https,
            sticky,
            single: !prefix.is_empty(),
        };
        let path = setup.folder.as_str();
        let in_folder = |name: &str| format!("{path}/{name}");
        let config = match backends {
            Some(backends) => Place { lab, folder: path, http, https, backends }.config(self.kind),
            None => setup.config(self.kind),
        };
        let (files, arguments): (_, Vec<String>) = match self.kind {
            Kind::Nginx => (
                vec![("nginx.conf", config)],
                ["-p", path, "-c", &in_folder("nginx.conf")].map(str::to_owned).into(),
            ),
            Kind::Haproxy => (
                vec![("haproxy.cfg", config)],
                ["-db", "-q", "-f", &in_folder("haproxy.cfg")].map(str::to_owned).into(),
            ),
            Kind::Lockgate => (
                vec![
                    ("lockgate.toml", LOCKGATE_TOML.to_owned()),
                    ("listeners.d/bench.toml", config),
                ],
                ["run", "--config", path, "--state", &in_folder("state")].map(str::to_owned).into(),
            ),
        };
        for (name, text) in files {
            let file = folder.path().join(name);
            let above = file.parent().unwrap_or(folder.path());
            fs::create_dir_all(above).map_err(|error| error.to_string())?;
            fs::write(&file, text).map_err(|error| error.to_string())?;
        }
        let mut words = prefix.to_vec();
        words.push(self.program.display().to_string());
        words.extend(arguments);
        let child = Child::start(&words, lab.cpus.proxy, &folder.path().join("output"))?;
        let sticky = (self.is_sticky() && backends.is_none()).then_some(sticky);
        let mut running = Running { child, http, https, sticky, _folder: folder };
        running.wait_until_ready(lab, if prefix.is_empty() { 10 } else { 60 })?;
        Ok(running)
    }
}

fn own_binary(given: Option<&Path>) -> Option<PathBuf> {
    let built = option_env!("CARGO_BIN_EXE_lockgate").map(PathBuf::from);
    given.map(Path::to_owned).or(built).filter(|path| path.is_file())
}

/// A started proxy; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// Where a cookie binds a client to its backend, if the peer can.
    pub(crate) sticky: Option<u16>,
    _folder: TempDir,
}

impl Running {
    /// All its processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        procfs::tree(self.child.pid())
    }

    pub(crate) fn port(&self, tls: bool) -> u16 {
        if tls { self.https } else { self.http }
    }

    fn wait_until_ready(&mut self, lab: &Lab, seconds: u64) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let tls = Some(&lab.certificate.client);
            let secure = || {
                client::ask(self.https, tls, "GET", "/0", &[])
                    .is_ok_and(|answer| answer.status == 200)
            };
            if client::status(self.http, "/0") == Some(200) && secure() {
                return Ok(());
            }
            if let Some(status) = self.child.status() {
                return Err(format!("ended at once, {status}: {}", self.child.last_words()));
            }
            if Instant::now() > deadline {
                return Err(format!("not ready after {seconds} s: {}", self.child.last_words()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Port 0: the system picks the admin port, nobody asks for it here.
const LOCKGATE_TOML: &str = "workers = 1\n\n[admin]\naddress = \"127.0.0.1:0\"\n";

/// Upstream connections that each keeps, so that no row opens new ones: `h2` has 1,024 requests under
/// way. HAProxy keeps as many as there were.
const KEPT: usize = 1024;

struct Setup<'a> {
    lab: &'a Lab,
    folder: String,
    http: u16,
    https: u16,
    sticky: u16,
    /// One process only.
    single: bool,
}

impl Setup<'_> {
    fn config(&self, kind: Kind) -> String {
        match kind {
            Kind::Nginx => self.nginx(),
            Kind::Haproxy => self.haproxy(),
            Kind::Lockgate => self.drop_in(),
        }
    }

    fn drop_in(&self) -> String {
        let Self { lab, http, https, sticky, .. } = self;
        let ([first, second], [echo, other]) = (lab.origin, lab.echo);
        let (chain, key) = (lab.certificate.chain.display(), lab.certificate.key.display());
        format!(
            r#"[[listener]]
default = true
address = "127.0.0.1"
port = {http}
protocol = "http"
group = "origin"
[[listener.rule]]
path = "/ws"
group = "echo"

[[listener]]
default = true
address = "127.0.0.1"
port = {https}
protocol = "https"
certificate = {{ chain = "{chain}", key = "{key}" }}
group = "origin"
[[listener.rule]]
path = "/ws"
group = "echo"

[[listener]]
default = true
address = "127.0.0.1"
port = {sticky}
protocol = "http"
group = "sticky"

[group.origin]
balance = "rr"
backends = ["127.0.0.1:{first}", "127.0.0.1:{second}"]

[group.sticky]
balance = "rr"
backends = ["127.0.0.1:{first}", "127.0.0.1:{second}"]
[group.sticky.sticky]
mode = "insert"
cookie = "SERVERID"

[group.echo]
balance = "rr"
backends = ["127.0.0.1:{echo}", "127.0.0.1:{other}"]
"#,
        )
    }

    fn nginx(&self) -> String {
        let Self { lab, folder, http, https, .. } = self;
        let (user, scratch) = (user_line(), scratch_lines(folder));
        let ([first, second], [echo, other]) = (lab.origin, lab.echo);
        let files = lab.files;
        let (chain, key) = (lab.certificate.chain.display(), lab.certificate.key.display());
        format!(
            r#"daemon off;
{user}
{master}
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
{scratch}
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    client_max_body_size 64m;
    client_body_buffer_size 128k;
    ssl_protocols TLSv1.3;
    ssl_session_cache off;
    upstream origin {{
        server 127.0.0.1:{first};
        server 127.0.0.1:{second};
        keepalive {KEPT};
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    upstream echo {{
        server 127.0.0.1:{echo};
        server 127.0.0.1:{other};
    }}
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' close;
    }}
    server {{
        listen 127.0.0.1:{http} backlog=4096;
        listen 127.0.0.1:{https} ssl http2 backlog=4096;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffer_size 16k;
            proxy_buffers 8 16k;
            proxy_busy_buffers_size 32k;
            proxy_max_temp_file_size 0;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
        location /ws {{
            proxy_pass http://echo;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_read_timeout 3600s;
        }}
    }}
}}
"#,
            connections = files.min(16_384),
            // callgrind_control reaches no process that was forked.
            master = if self.single { "master_process off;" } else { "" },
        )
    }

    fn haproxy(&self) -> String {
        let Self { lab, http, https, sticky, .. } = self;
        let ([first, second], [echo, other]) = (lab.origin, lab.echo);
        let both = lab.certificate.both.display();
        // Two descriptors a connection, and some of its own.
        let connections = (lab.files / 2).saturating_sub(200).min(8192);
        format!(
            r#"global
    nbthread 1
    maxconn {connections}
    ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    timeout http-keep-alive 3600s
    timeout tunnel 3600s
    option http-keep-alive
    http-reuse always
frontend front
    bind 127.0.0.1:{http} backlog 4096
    bind 127.0.0.1:{https} ssl crt {both} alpn h2,http/1.1 backlog 4096
    option forwardfor
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
    http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
    use_backend echo if {{ path /ws }}
    default_backend back
frontend sticky
    bind 127.0.0.1:{sticky} backlog 4096
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    default_backend sticky
backend sticky
    balance roundrobin
    cookie SERVERID insert indirect nocache
    server first 127.0.0.1:{first} cookie first
    server second 127.0.0.1:{second} cookie second
backend back
    balance roundrobin
    server first 127.0.0.1:{first}
    server second 127.0.0.1:{second}
backend echo
    balance roundrobin
    server first 127.0.0.1:{echo}
    server second 127.0.0.1:{other}
"#
        )
    }
}
