//! Each proxy before three backends of which one is dead or frozen: half a second to
//! connect and to answer, the next backend where the proxy holds that for safe.

use crate::lab::Lab;
use crate::origin::{scratch_lines, user_line};
use crate::peers::Kind;

/// Where a proxy is and what is behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) folder: &'a str,
    pub(crate) http: u16,
    pub(crate) https: u16,
    pub(crate) backends: [u16; 3],
}

impl Place<'_> {
    pub(crate) fn config(&self, kind: Kind) -> String {
        match kind {
            Kind::Nginx => self.nginx(),
            Kind::Haproxy => self.haproxy(),
            Kind::Lockgate => self.lockgate(),
        }
    }

    fn lockgate(&self) -> String {
        let Self { lab, http, https, backends: [one, two, three], .. } = self;
        let (chain, key) = (lab.certificate.chain.display(), lab.certificate.key.display());
        format!(
            r#"[[listener]]
default = true
address = "127.0.0.1"
port = {http}
protocol = "http"
group = "storm"

[[listener]]
default = true
address = "127.0.0.1"
port = {https}
protocol = "https"
certificate = {{ chain = "{chain}", key = "{key}" }}
group = "storm"

[group.storm]
all_down = "try"
connect_timeout = "500ms"
response_timeout = "500ms"
backends = [
    {{ address = "127.0.0.1:{one}", fail_timeout = "1s" }},
    {{ address = "127.0.0.1:{two}", fail_timeout = "1s" }},
    {{ address = "127.0.0.1:{three}", fail_timeout = "1s" }},
]
[group.storm.retry]
budget = "100%"
"#
        )
    }

    fn nginx(&self) -> String {
        let Self { lab, folder, http, https, backends: [one, two, three] } = self;
        let (user, scratch) = (user_line(), scratch_lines(folder));
        let files = lab.files;
        let (chain, key) = (lab.certificate.chain.display(), lab.certificate.key.display());
        format!(
            r#"daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log stderr crit;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
{scratch}
    access_log off;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    ssl_protocols TLSv1.3;
    upstream storm {{
        server 127.0.0.1:{one} max_fails=1 fail_timeout=1s;
        server 127.0.0.1:{two} max_fails=1 fail_timeout=1s;
        server 127.0.0.1:{three} max_fails=1 fail_timeout=1s;
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{http};
        listen 127.0.0.1:{https} ssl http2;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://storm;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_connect_timeout 500ms;
            proxy_send_timeout 500ms;
            proxy_read_timeout 500ms;
            proxy_next_upstream error timeout;
        }}
    }}
}}
"#,
            connections = files.min(16_384),
        )
    }

    /// Its manual warns of `retry-on` for what is not safe to repeat, hence
    /// `disable-l7-retry`; what it sends again has to fit one buffer. Checks are HTTP: a frozen process still takes connections.
    fn haproxy(&self) -> String {
        let Self { lab, http, https, backends: [one, two, three], .. } = self;
        let both = lab.certificate.both.display();
        let connections = (lab.files / 2).saturating_sub(200).min(8192);
        format!(
            r#"global
    nbthread 1
    maxconn {connections}
    tune.bufsize 32768
defaults
    mode http
    timeout connect 500ms
    timeout client 3600s
    timeout server 500ms
    timeout check 500ms
    timeout http-keep-alive 3600s
    option http-keep-alive
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response response-timeout 0rtt-rejected
frontend front
    bind 127.0.0.1:{http}
    bind 127.0.0.1:{https} ssl crt {both} alpn h2,http/1.1
    default_backend back
backend back
    balance roundrobin
    http-request disable-l7-retry if METH_POST
    option httpchk GET /
    default-server check inter 500ms fall 1 rise 1
    server first 127.0.0.1:{one}
    server second 127.0.0.1:{two}
    server third 127.0.0.1:{three}
"#
        )
    }
}
