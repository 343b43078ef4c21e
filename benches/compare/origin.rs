//! What stands behind every proxy: nginx with two ports and small fixed answers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::children::Child;
use crate::client;
use crate::machine::{find, free_ports};

/// nginx started as root would give its workers to a user who cannot see our folder.
pub(crate) fn user_line() -> &'static str {
    if rustix::process::geteuid().is_root() { "user root;" } else { "" }
}

/// Scratch paths, so that nginx touches nothing outside of its folder.
pub(crate) fn scratch_lines(folder: &str) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
        .concat()
}

/// Starts it on `cpu` and waits until it answers.
pub(crate) fn start(
    root: &Path,
    cpu: Option<usize>,
    files: u64,
) -> Result<(Child, [u16; 2]), String> {
    let program = find("nginx").ok_or("nginx is not installed")?;
    let folder = root.join("origin");
    let bodies = folder.join("bodies");
    fs::create_dir_all(&bodies).map_err(|error| error.to_string())?;
    for (name, size) in [("1k", 1 << 10), ("1m", 1 << 20)] {
        let body = b"0123456789abcdef".repeat(size / 16);
        fs::write(bodies.join(name), body).map_err(|error| error.to_string())?;
    }
    let ports = free_ports::<2>()?;
    let config = folder.join("nginx.conf");
    let text = render(&folder.display().to_string(), ports, files);
    fs::write(&config, text).map_err(|error| error.to_string())?;
    let argv = [&program, Path::new("-p"), &folder, Path::new("-c"), &config];
    let argv = argv.map(|word| word.display().to_string());
    let mut child = Child::start(&argv, cpu, &folder.join("output"))?;

    let deadline = Instant::now() + Duration::from_secs(10);
    while !ports.iter().all(|port| client::status(*port, "/0") == Some(200)) {
        if child.status().is_some() || Instant::now() > deadline {
            return Err(format!("the origin did not start: {}", child.last_words()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((child, ports))
}

/// `/upload` hands the request on inside, without its body: that is how nginx answers only after it has
/// read the whole body (a plain `return` answers first and discards what comes).
fn render(folder: &str, [first, second]: [u16; 2], files: u64) -> String {
    let (user, scratch) = (user_line(), scratch_lines(folder));
    format!(
        r#"daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
worker_rlimit_nofile {files};
events {{ worker_connections {files}; multi_accept on; }}
http {{
{scratch}
    access_log off;
    server_tokens off;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    client_max_body_size 64m;
    client_body_buffer_size 128k;
    open_file_cache max=100;
    open_file_cache_valid 3600s;
    default_type application/octet-stream;
    upstream sink {{ server unix:{folder}/sink; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen unix:{folder}/sink;
        return 204;
    }}
    server {{
        listen 127.0.0.1:{first} backlog=4096;
        listen 127.0.0.1:{second} backlog=4096;
        root {folder}/bodies;
        location = /0 {{ return 200 ""; }}
        location = /echo {{
            return 200 "for=[$http_x_forwarded_for] proto=[$http_x_forwarded_proto] port=[$server_port]";
        }}
        location = /upload {{
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_pass_request_body off;
            proxy_pass http://sink;
        }}
    }}
}}
"#
    )
}
